import Foundation
import Torch

/// A predictor that each next model output corrects, of order 1 to 3.
///
/// Source: Zhao et al., "UniPC" (arXiv 2302.04867), algorithms 5 to 8; numbers as in diffusers'
/// `UniPCMultistepScheduler`.
struct UniPC: Scheduler {
  let timesteps: [Double]
  private let configuration: SchedulerConfiguration
  /// One for each timestep and the one to end at.
  let levels: [NoiseLevel]
  /// What the last steps integrated, the latest first.
  private var past: [Tensor] = []
  /// The last step: where it started, and its order.
  private var last: (index: Int, latents: Tensor, order: Int)?

  init(_ c: SchedulerConfiguration, steps: Int) throws {
    var c = c
    // What the reference does not read.
    (c.usesLuLambdas, c.lambdaMinClipped) = (false, nil)
    let table = try SigmaTable(whole: c, steps: steps, rounds: { $0 == .karras }, endsAtOwn: true)
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
    var latents = latents
    if let last, last.index == index - 1 {
      if !configuration.uncorrectedSteps.contains(index - 1) {
        latents = try moved(last.latents, from: index - 1, past, order: last.order, end: current)
      }
    } else {
      past = []
    }
    past = Array(([current] + past).prefix(configuration.solverOrder))
    let order = order(index)
    last = (index, latents, order)
    return try moved(latents, from: index, past, order: order, end: nil)
  }

  /// What is integrated: the clean latents or the noise in them.
  private func integrand(_ output: Tensor, _ latents: Tensor, _ level: NoiseLevel) throws -> Tensor {
    let c = configuration
    let (alpha, sigma) = (level.alpha, level.sigma)
    guard c.predictsClean else {
      return try c.predictionType.noise(output, latents, alpha: alpha, sigma: sigma)
    }
    return try c.bounded(
      c.predictionType.cleanLatents(output, latents, alpha: alpha, sigma: sigma), clips: nil)
  }

  private func order(_ index: Int) -> Int {
    // A step to no noise at all, or to the same level, has no slope to follow.
    let h = levels[index + 1].lambda - levels[index].lambda
    guard h.isFinite, h != 0 else { return 1 }
    let left = configuration.lowerOrderFinal ? timesteps.count - index : 3
    return min(configuration.solverOrder, left, past.count)
  }

  /// From a level to the next, with the integrand at it and before; and at the `end` when that is known.
  private func moved(_ latents: Tensor, from index: Int, _ past: [Tensor], order: Int, end: Tensor?) throws
    -> Tensor
  {
    let (from, to) = (levels[index], levels[index + 1])
    let h = to.lambda - from.lambda
    let signed = configuration.predictsClean ? -h : h
    let scale = configuration.predictsClean ? to.alpha : to.sigma
    let kept = configuration.predictsClean ? to.sigma / from.sigma : to.alpha / from.alpha
    guard h != 0 else { return try latents * kept }
    let full = expm1(signed)
    var terms = [(kept, latents), (-scale * full, past[0])]
    let b = configuration.usesBH1 ? signed : full
    // Where the integrand is known beside the start, in units of this step.
    let places = (1..<order).map { (levels[index - $0].lambda - from.lambda) / h }
    let known = end == nil ? places : places + [1]
    let weights = Self.weights(known, signed, b)
    let values = past.dropFirst().prefix(order - 1) + (end.map { [$0] } ?? [])
    for (value, (weight, place)) in zip(values, zip(weights, known)) {
      terms += [(-scale * b * weight / place, value), (scale * b * weight / place, past[0])]
    }
    return try combination(terms)
  }

  /// The ρ that make the update exact for polynomials: Σₖ ρₖ·rₖⁱ⁻¹ = i!·φᵢ₊₁(h)·h / B(h). With one place it is ½.
  private static func weights(_ places: [Double], _ h: Double, _ b: Double) -> [Double] {
    guard places.count > 1 else { return [0.5] }
    var (phi, factorial) = (expm1(h) / h - 1, 1.0)
    var rows = places.indices.map { i in
      let row = places.map { pow($0, Double(i)) } + [phi * factorial / b]
      factorial *= Double(i + 2)
      phi = phi / h - 1 / factorial
      return row
    }
    // Gauss and Jordan; the places differ, so that no pivot is zero.
    for i in rows.indices {
      rows[i] = rows[i].map { $0 / rows[i][i] }
      for j in rows.indices where j != i { rows[j] = zip(rows[j], rows[i]).map { $0 - $1 * rows[j][i] } }
    }
    return rows.map { $0[$0.count - 1] }
  }
}
