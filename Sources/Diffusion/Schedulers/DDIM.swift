import Torch

/// DDIM without added noise (η = 0).
///
/// Source: Song et al., "Denoising Diffusion Implicit Models" (arXiv 2010.02502), formula 12; numbers as
/// in diffusers' `DDIMScheduler`.
struct DDIM: AlphaScheduler {
  let timesteps: [Double]
  private let configuration: SchedulerConfiguration
  let alphas: [Double]
  private let finalAlpha: Double
  private let stride: Int

  init(_ c: SchedulerConfiguration, steps: Int) throws {
    alphas = try NoiseSchedule(c).alphasCumprod
    timesteps = try Timesteps.usual(c, c.timestepSpacing ?? .leading, steps: steps)
    finalAlpha = c.setAlphaToOne ?? true ? 1 : alphas[0]
    stride = c.numTrainTimesteps / steps
    configuration = c
  }

  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
  {
    try checkIndex(index)
    let t = Int(timesteps[index])
    let previous = t >= stride ? alphas[t - stride] : finalAlpha
    let alpha = alphas[t].squareRoot()
    let sigma = (1 - alphas[t]).squareRoot()
    let type = configuration.predictionType
    let clean = try configuration.bounded(
      type.cleanLatents(modelOutput, latents, alpha: alpha, sigma: sigma), clips: true)
    let noise = try type.noise(modelOutput, latents, alpha: alpha, sigma: sigma)
    return try combination([(previous.squareRoot(), clean), ((1 - previous).squareRoot(), noise)])
  }
}
