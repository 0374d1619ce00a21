import Torch

/// Euler's method down to less noise than the next level has, and new noise up to it.
///
/// Source: Karras et al., arXiv 2206.00364, and k-diffusion's `sample_euler_ancestral`; numbers as in
/// diffusers' `EulerAncestralDiscreteScheduler`.
struct EulerAncestral: SigmaScheduler {
  let timesteps: [Double]
  let initialNoiseSigma: Double
  private let configuration: SchedulerConfiguration
  let sigmas: [Double]

  init(_ configuration: SchedulerConfiguration, steps: Int) throws {
    var c = configuration
    // What the reference does not read.
    (c.sigmaSpread, c.finalSigmasType) = (nil, .zero)
    let table = try SigmaTable(interpolating: c, steps: steps)
    (timesteps, sigmas) = (table.timesteps, table.sigmas)
    initialNoiseSigma = table.initialNoiseSigma(c)
    self.configuration = c
  }

  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
  {
    try checkIndex(index)
    let (from, to) = (sigmas[index], sigmas[index + 1])
    let up = to / from * max(from * from - to * to, 0).squareRoot()
    let down = max(to * to - up * up, 0).squareRoot()
    let slope = try configuration.predictionType.derivative(modelOutput, latents, sigma: from)
    let noise = try SchedulerKind.eulerAncestral.noise(random, like: latents)
    return try combination([(1, latents), (down - from, slope), (up, noise)])
  }
}
