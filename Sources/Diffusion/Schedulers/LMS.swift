import Torch

/// Linear multistep on the noise level σ: the last four derivatives' polynomial, integrated.
///
/// Source: k-diffusion's `sample_lms`; numbers as in diffusers' `LMSDiscreteScheduler`.
struct LMS: SigmaScheduler {
  let timesteps: [Double]
  let initialNoiseSigma: Double
  private let configuration: SchedulerConfiguration
  let sigmas: [Double]
  /// The latest first.
  private var derivatives: [Tensor] = []

  init(_ configuration: SchedulerConfiguration, steps: Int) throws {
    var c = configuration
    // What the reference does not read.
    (c.rescaleBetasZeroSNR, c.finalSigmasType) = (false, .zero)
    if c.sigmaSpread == .karras { (c.sigmaMin, c.sigmaMax) = (nil, nil) }
    let table = try SigmaTable(interpolating: c, steps: steps)
    (timesteps, sigmas) = (table.timesteps, table.sigmas)
    initialNoiseSigma = table.initialNoiseSigma(c)
    self.configuration = c
  }

  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
  {
    try checkIndex(index)
    let slope = try configuration.predictionType.derivative(modelOutput, latents, sigma: sigmas[index])
    derivatives = Array(([slope] + derivatives).prefix(4))
    let order = min(index + 1, 4)
    let weights = (0..<order).map { weight(of: $0, order: order, at: index) }
    return try combination([(1.0, latents)] + Array(zip(weights, derivatives)))
  }

  /// The integral of the Lagrange polynomial of one derivative over the step; two points of Gauss are exact
  /// up to the third degree.
  private func weight(of one: Int, order: Int, at index: Int) -> Double {
    func polynomial(_ sigma: Double) -> Double {
      (0..<order).filter { $0 != one }.reduce(1) { product, k in
        product * (sigma - sigmas[index - k]) / (sigmas[index - one] - sigmas[index - k])
      }
    }
    let half = (sigmas[index + 1] - sigmas[index]) / 2
    let middle = sigmas[index] + half
    let offset = half / 3.0.squareRoot()
    return half * (polynomial(middle - offset) + polynomial(middle + offset))
  }
}
