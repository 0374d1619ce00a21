import Foundation
import Torch

/// DPM-Solver multistep of order 1 to 3: on the predicted clean latents (++) or on the predicted noise, and
/// its SDE, which adds noise at every step.
///
/// Source: Lu et al., arXiv 2211.01095 (++ and SDE) and 2206.00927; numbers as in diffusers'
/// `DPMSolverMultistepScheduler`.
struct DPMSolver: Scheduler {
  let timesteps: [Double]
  private let configuration: SchedulerConfiguration
  /// One for each timestep and the one to end at.
  let levels: [NoiseLevel]
  /// What the last steps integrated, the latest first: as many as the order needs.
  private var past: [Tensor] = []
  private var next = 0

  init(_ c: SchedulerConfiguration, steps: Int) throws {
    let table = try SigmaTable(whole: c, steps: steps) { spread in
      (spread == .karras || spread == nil) && c.betaSchedule != .cosine
    }
    timesteps = table.timesteps
    levels = table.sigmas.map(NoiseLevel.init)
    configuration = c
  }

  func noiseLevel(at index: Int) throws -> (signal: Double, noise: Double) {
    try checkIndex(index)
    return (levels[index].alpha, levels[index].sigma)
  }

  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
  {
    try checkIndex(index)
    let current = try integrand(modelOutput, latents, levels[index])
    let order = order(index, known: index == next ? past.count : 0)
    let rule = UpdateRule(configuration, from: levels[index], to: levels[index + 1], isThird: order == 3)
    var terms = [(rule.latents, latents), (rule.value, current)]
    if order > 1 {
      // Divided differences over λ, in units of this step.
      let h = levels[index + 1].lambda - levels[index].lambda
      let r0 = (levels[index].lambda - levels[index - 1].lambda) / h
      var slope0 = rule.slope / r0
      var slope1 = 0.0
      if order == 3 {
        let r1 = (levels[index - 1].lambda - levels[index - 2].lambda) / h
        let curve = (rule.slope * r0 + rule.curvature) / (r0 + r1)
        slope0 += curve / r0
        slope1 = -curve / r1
        terms.append((-slope1, past[1]))
      }
      terms += [(slope0, current), (slope1 - slope0, past[0])]
    }
    if configuration.addsNoise {
      terms.append((rule.noise, try SchedulerKind.dpm.noise(random, like: latents)))
    }
    past = Array(([current] + (index == next ? past : [])).prefix(configuration.solverOrder - 1))
    next = index + 1
    return try combination(terms)
  }

  /// What is integrated: the clean latents or the noise in them.
  private func integrand(_ output: Tensor, _ latents: Tensor, _ level: NoiseLevel) throws -> Tensor {
    let c = configuration
    let (alpha, sigma) = (level.alpha, level.sigma)
    if c.integratesNoise, c.thresholding == nil {
      return try c.predictionType.noise(output, latents, alpha: alpha, sigma: sigma)
    }
    let clean = try c.bounded(
      c.predictionType.cleanLatents(output, latents, alpha: alpha, sigma: sigma), clips: nil)
    guard c.integratesNoise else { return clean }
    return try combination([(1 / sigma, latents), (-alpha / sigma, clean)])
  }

  /// - Parameter known: how many steps before this one are remembered.
  private func order(_ index: Int, known: Int) -> Int {
    let c = configuration
    let left = timesteps.count - index
    let isShort = c.lowerOrderFinal && timesteps.count < 15
    // Where the level stays, there is no slope to follow.
    let stays = levels[index + 1].lambda == levels[index].lambda
    if stays || left == 1 && (isShort || c.eulerAtFinal || c.finalSigmasType == .zero) { return 1 }
    return min(c.solverOrder, known + 1, left == 2 && isShort ? 2 : 3)
  }
}

/// What one step multiplies: the latents, the integrand's value, slope and curvature, and the noise.
private struct UpdateRule {
  let latents, value, slope, curvature, noise: Double

  init(_ c: SchedulerConfiguration, from: NoiseLevel, to: NoiseLevel, isThird: Bool) {
    let h = to.lambda - from.lambda
    let usesIntegral = c.usesHeun || isThird
    if c.integratesNoise {
      let e = expm1(h)
      let scale = (c.addsNoise ? -2 : -1) * to.sigma
      latents = to.alpha / from.alpha
      value = scale * e
      slope = usesIntegral ? scale * (e / h - 1) : value / 2
      curvature = scale * ((e - h) / (h * h) - 0.5)
      noise = c.addsNoise ? to.sigma * max(expm1(2 * h), 0).squareRoot() : 0
    } else {
      let span = c.addsNoise ? 2 * h : h
      let e = expm1(-span)
      latents = to.sigma / from.sigma * (c.addsNoise ? exp(-h) : 1)
      value = -to.alpha * e
      slope = usesIntegral ? to.alpha * (e / span + 1) : value / 2
      // The sign of ½ in the SDE is the reference's.
      curvature = -to.alpha * ((e + span) / (span * span) + (c.addsNoise ? 0.5 : -0.5))
      noise = c.addsNoise ? to.sigma * max(-e, 0).squareRoot() : 0
    }
  }
}

extension SchedulerConfiguration {
  fileprivate var addsNoise: Bool { algorithm == .sdePlusPlus || algorithm == .sdeNoise }
  fileprivate var integratesNoise: Bool { algorithm == .noise || algorithm == .sdeNoise }
}
