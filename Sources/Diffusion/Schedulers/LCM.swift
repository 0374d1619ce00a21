import Torch

/// Latent consistency: every step predicts the clean latents, and every step but the last adds noise anew. For
/// models that were distilled for it, in 1 to 8 steps.
///
/// Source: Luo et al., arXiv 2310.04378, algorithm 3; numbers as in diffusers' `LCMScheduler`.
struct LCM: AlphaScheduler {
  let timesteps: [Double]
  private let configuration: SchedulerConfiguration
  let alphas: [Double]

  init(_ configuration: SchedulerConfiguration, steps: Int) throws {
    let c = configuration.distilled
    alphas = try NoiseSchedule(c).alphasCumprod
    timesteps = try Timesteps.distilled(c, steps: steps)
    self.configuration = c
  }

  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
  {
    try checkIndex(index)
    let alpha = alphas[Int(timesteps[index])]
    let clean = try configuration.bounded(
      configuration.predictionType.cleanLatents(
        modelOutput, latents, alpha: alpha.squareRoot(), sigma: (1 - alpha).squareRoot()), clips: false)
    // The boundary condition: at timestep 0 the latents are the image.
    let data = 0.5
    let time = timesteps[index] * configuration.timestepScaling
    let norm = time * time + data * data
    let (skip, out) = (data * data / norm, time / norm.squareRoot())
    guard index + 1 < timesteps.count else { return try combination([(out, clean), (skip, latents)]) }
    let next = alphas[Int(timesteps[index + 1])]
    return try combination([
      (next.squareRoot() * out, clean), (next.squareRoot() * skip, latents),
      ((1 - next).squareRoot(), SchedulerKind.lcm.noise(random, like: latents)),
    ])
  }
}

extension SchedulerConfiguration {
  /// With the defaults of LCM and TCD.
  var distilled: SchedulerConfiguration {
    var c = self
    c.betaStart = betaStart ?? 0.00085
    c.betaEnd = betaEnd ?? 0.012
    c.betaSchedule = betaSchedule ?? .scaledLinear
    return c
  }
}
