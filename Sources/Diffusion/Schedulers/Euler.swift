import Torch

/// Euler's method on the noise level σ; latents are kept unscaled (x₀ + σ·ε).
///
/// Source: Karras et al., arXiv 2206.00364, algorithm 2 without churn; numbers as in diffusers'
/// `EulerDiscreteScheduler`.
struct Euler: SigmaScheduler {
  let timesteps: [Double]
  let initialNoiseSigma: Double
  private let configuration: SchedulerConfiguration
  let sigmas: [Double]

  init(_ c: SchedulerConfiguration, steps: Int) throws {
    let table = try SigmaTable(interpolating: c, steps: steps)
    (timesteps, sigmas) = (table.timesteps, table.sigmas)
    initialNoiseSigma = table.initialNoiseSigma(c)
    configuration = c
  }

  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
  {
    try checkIndex(index)
    let sigma = sigmas[index]
    let slope = try configuration.predictionType.derivative(modelOutput, latents, sigma: sigma)
    return try combination([(1, latents), (sigmas[index + 1] - sigma, slope)])
  }
}

extension SigmaTable {
  /// What the first noise is multiplied by where latents are kept unscaled.
  func initialNoiseSigma(_ c: SchedulerConfiguration) -> Double {
    let most = sigmas.max() ?? 0
    return c.timestepSpacing == .leading ? NoiseLevel.inputScale(most) : most
  }
}

extension NoiseLevel {
  /// What unscaled latents of level σ are divided by for the model.
  static func inputScale(_ sigma: Double) -> Double { (sigma * sigma + 1).squareRoot() }
}
