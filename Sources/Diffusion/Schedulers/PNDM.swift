import Torch

/// Pseudo numerical methods: linear multistep (PLMS), with or without Runge-Kutta steps to begin with.
///
/// Source: Liu et al., arXiv 2202.09778, formulas 9, 12, 13; numbers as in diffusers' `PNDMScheduler`,
/// whose PLMS makes the second step twice.
struct PNDM: AlphaScheduler {
  let timesteps: [Double]
  private let configuration: SchedulerConfiguration
  let alphas: [Double]
  private let finalAlpha: Double
  private let stride: Int
  /// Runge-Kutta steps come in fours.
  private let rungeKuttaCount: Int
  private var first = 0
  private var next = 0
  private var outputs: [Tensor] = []
  /// Of the Runge-Kutta step, or of the first PLMS step.
  private var start: Tensor?
  private var mean: Tensor?

  init(_ c: SchedulerConfiguration, steps: Int) throws {
    guard c.skipPRKSteps || steps >= 4 else {
      throw DiffusionError("\(steps) steps; pndm with “skip_prk_steps” false needs 4 or more")
    }
    alphas = try NoiseSchedule(c, rescaled: false).alphasCumprod
    let falling = try Timesteps.usual(c, c.timestepSpacing ?? .leading, steps: steps)
    finalAlpha = c.setAlphaToOne ?? false ? 1 : alphas[0]
    stride = c.numTrainTimesteps / steps
    if c.skipPRKSteps {
      rungeKuttaCount = 0
      timesteps = Array(falling.prefix(2)) + falling.dropFirst()
    } else {
      // t₀, t₁ + ½, t₁ + ½, t₁; t₁, t₂ + ½, t₂ + ½, t₂; t₂, t₃ + ½, t₃ + ½, t₃; then one by one from t₃.
      let half = Double(stride / 2)
      let first = (1...3).flatMap { i -> [Double] in
        [falling[i - 1], falling[i] + half, falling[i] + half, falling[i]]
      }
      rungeKuttaCount = first.count
      timesteps = first + falling.dropFirst(3)
    }
    configuration = c
  }

  mutating func begin(at index: Int) throws {
    guard index == 0 || index == timesteps.count || rungeKuttaCount == 0 else {
      throw DiffusionError(
        "pndm with “skip_prk_steps” false cannot start in the middle, as an image at a `strength` below 1 does; "
          + "choose another scheduler")
    }
    (first, next) = (index, index)
  }

  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
  {
    try checkIndex(index)
    guard index == next else {
      throw DiffusionError("pndm takes its steps in order: \(next) is next, not \(index)")
    }
    next += 1
    return index < rungeKuttaCount
      ? try rungeKutta(modelOutput, index, latents) : try multistep(modelOutput, index, latents)
  }

  private mutating func rungeKutta(_ output: Tensor, _ index: Int, _ latents: Tensor) throws -> Tensor {
    let t = Int(timesteps[index])
    let previous = t - (index % 2 == 1 ? 0 : stride / 2)
    var used = output
    switch index % 4 {
    case 0:
      mean = try output / 6
      outputs.append(output)
      start = latents
    case 1, 2: try mean?.add(output, times: 1.0 / 3)
    default:
      if let mean { used = try combination([(1, mean), (1.0 / 6, output)]) }
      mean = nil
    }
    return try moved(start ?? latents, used, from: Int(timesteps[index / 4 * 4]), to: previous)
  }

  private mutating func multistep(_ output: Tensor, _ index: Int, _ latents: Tensor) throws -> Tensor {
    var t = Int(timesteps[index])
    var previous = t - stride
    var sample = latents
    if index == first + 1 {
      // The first step once more, with the mean of both its ends.
      (t, previous) = (t + stride, t)
    } else {
      outputs = outputs.suffix(3) + [output]
    }
    let e = Array(outputs.reversed())
    let used: Tensor
    switch e.count {
    case 1 where index == first:
      used = output
      start = latents
    case 1:
      used = try combination([(0.5, output), (0.5, e[0])])
      sample = start ?? latents
      start = nil
    case 2: used = try combination([(1.5, e[0]), (-0.5, e[1])])
    case 3: used = try combination([(23.0 / 12, e[0]), (-16.0 / 12, e[1]), (5.0 / 12, e[2])])
    default:
      used = try combination([
        (55.0 / 24, e[0]), (-59.0 / 24, e[1]), (37.0 / 24, e[2]), (-9.0 / 24, e[3]),
      ])
    }
    return try moved(sample, used, from: t, to: previous)
  }

  /// Formula 9.
  private func moved(_ latents: Tensor, _ output: Tensor, from t: Int, to previous: Int) throws -> Tensor {
    guard alphas.indices.contains(t), previous < alphas.count else {
      throw DiffusionError("pndm: timestep \(max(t, previous)) is beyond the last, \(alphas.count - 1)")
    }
    let a = alphas[t]
    let b = previous >= 0 ? alphas[previous] : finalAlpha
    let noise = try configuration.predictionType.noise(
      output, latents, alpha: a.squareRoot(), sigma: (1 - a).squareRoot())
    let divisor = a * (1 - b).squareRoot() + (a * (1 - a) * b).squareRoot()
    return try combination([((b / a).squareRoot(), latents), ((a - b) / divisor, noise)])
  }
}
