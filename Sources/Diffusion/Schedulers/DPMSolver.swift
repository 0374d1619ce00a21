import Foundation
import Torch

/// DPM-Solver++ multistep of first or second order, on the predicted clean latents.
///
/// Source: Lu et al., arXiv 2211.01095; numbers as in diffusers' `DPMSolverMultistepScheduler`.
struct DPMSolver: Scheduler {
  let timesteps: [Double]
  private let configuration: SchedulerConfiguration
  /// One for each timestep and the one to end at.
  private let levels: [Level]
  /// The step before, and the clean latents that it predicted.
  private var last: (index: Int, clean: Tensor)?

  /// √ᾱ, √(1−ᾱ) and the logarithm of their ratio.
  private struct Level {
    let alpha: Double
    let sigma: Double
    var lambda: Double { log(alpha) - log(sigma) }

    init(sigmaRatio: Double) {
      alpha = 1 / (sigmaRatio * sigmaRatio + 1).squareRoot()
      sigma = sigmaRatio * alpha
    }
  }

  init(_ c: SchedulerConfiguration, steps: Int) throws {
    guard (1...2).contains(c.solverOrder) else {
      throw DiffusionError("scheduler_config.json: “solver_order” is \(c.solverOrder); supported: 1, 2")
    }
    var schedule = try NoiseSchedule(c)
    if c.rescaleBetasZeroSNR { schedule = schedule.withFloor() }
    let sigmas = schedule.sigmas
    let end = try sigmas.count - Self.clipped(sigmas, c)
    timesteps = try Timesteps.solver(c, c.timestepSpacing ?? .linspace, steps: steps, end: end)
    guard Set(timesteps).count == timesteps.count else {
      throw DiffusionError("\(steps) steps name a timestep twice, which dpm++ cannot do; choose fewer steps")
    }
    let final = c.finalSigmasType == .zero ? 0 : sigmas[0]
    levels = (timesteps.map { sigmas[Int($0)] } + [final]).map(Level.init)
    configuration = c
  }

  /// How many timesteps at the noisy end `lambda_min_clipped` cuts off.
  private static func clipped(_ sigmas: [Double], _ c: SchedulerConfiguration) throws -> Int {
    guard let least = c.lambdaMinClipped else { return 0 }
    return sigmas.count { Level(sigmaRatio: $0).lambda < least }
  }

  func noiseLevel(at index: Int) throws -> (signal: Double, noise: Double) {
    try checkIndex(index)
    return (levels[index].alpha, levels[index].sigma)
  }

  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
  {
    try checkIndex(index)
    let from = levels[index]
    let to = levels[index + 1]
    let clean = try configuration.predictionType.cleanLatents(
      modelOutput, latents, alpha: from.alpha, sigma: from.sigma)
    let before = last
    last = (index, clean)

    let h = to.lambda - from.lambda
    let weight = -to.alpha * expm1(-h)
    var terms = [(to.sigma / from.sigma, latents), (weight, clean)]
    if h != 0, !isFirstOrder(index), let before, before.index == index - 1 {
      let ratio = (from.lambda - levels[index - 1].lambda) / h
      let slope = configuration.usesHeun ? to.alpha * (expm1(-h) / h + 1) : weight / 2
      terms += [(slope / ratio, clean), (-slope / ratio, before.clean)]
    }
    return try combination(terms)
  }

  private func isFirstOrder(_ index: Int) -> Bool {
    let c = configuration
    let isLast = index == timesteps.count - 1
    let endsLow =
      c.eulerAtFinal || (c.lowerOrderFinal && timesteps.count < 15) || c.finalSigmasType == .zero
    return c.solverOrder == 1 || (isLast && endsLow)
  }
}
