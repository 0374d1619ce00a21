import Torch

/// Euler's method on the noise level σ = √((1−ᾱ)/ᾱ); latents are kept unscaled (x₀ + σ·ε).
///
/// Source: Karras et al., arXiv 2206.00364, algorithm 2 without churn; numbers as in diffusers'
/// `EulerDiscreteScheduler`.
struct Euler: Scheduler {
  let timesteps: [Double]
  let initialNoiseSigma: Double
  private let predictionType: PredictionType
  /// One for each timestep and the one to end at.
  private let sigmas: [Double]

  init(_ c: SchedulerConfiguration, steps: Int) throws {
    var schedule = try NoiseSchedule(c)
    if c.rescaleBetasZeroSNR { schedule = schedule.withFloor() }
    let all = schedule.sigmas
    let spacing = c.timestepSpacing ?? .linspace
    timesteps = try Timesteps.usual(c, spacing, steps: steps, whole: false)
    sigmas =
      timesteps.map { Double(Float(Self.interpolated(all, at: $0))) }
      + [c.finalSigmasType == .zero ? 0 : all[0]]
    let most = sigmas.max() ?? 0
    initialNoiseSigma = spacing == .leading ? (most * most + 1).squareRoot() : most
    predictionType = c.predictionType
  }

  private static func interpolated(_ values: [Double], at x: Double) -> Double {
    let low = min(Int(x), values.count - 1)
    let high = min(low + 1, values.count - 1)
    return values[low] + (values[high] - values[low]) * (x - Double(low))
  }

  func noiseLevel(at index: Int) throws -> (signal: Double, noise: Double) {
    try checkIndex(index)
    return (1, sigmas[index])
  }

  func scaledInput(_ latents: Tensor, at index: Int) throws -> Tensor {
    try checkIndex(index)
    return try latents * (1 / (sigmas[index] * sigmas[index] + 1).squareRoot())
  }

  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
  {
    try checkIndex(index)
    let sigma = sigmas[index]
    let change = sigmas[index + 1] - sigma
    let scale = 1 / (sigma * sigma + 1)
    // d = (x − x₀)/σ, with x₀ as the model's output gives it.
    switch predictionType {
    case .epsilon: return try combination([(1, latents), (change, modelOutput)])
    case .vPrediction:
      return try combination([
        (1 + change * (1 - scale) / sigma, latents), (change * scale.squareRoot(), modelOutput),
      ])
    case .sample: return try combination([(1 + change / sigma, latents), (-change / sigma, modelOutput)])
    }
  }
}
