import Torch

/// DDPM's ancestral sampling: every step but the last adds noise.
///
/// Source: Ho et al., arXiv 2006.11239, formula 7; numbers as in diffusers' `DDPMScheduler`.
struct DDPM: AlphaScheduler {
  let timesteps: [Double]
  private let configuration: SchedulerConfiguration
  let alphas: [Double]

  init(_ c: SchedulerConfiguration, steps: Int) throws {
    alphas = try NoiseSchedule(c).alphasCumprod
    timesteps = try Timesteps.usual(c, c.timestepSpacing ?? .leading, steps: steps)
    configuration = c
  }

  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
  {
    try checkIndex(index)
    let t = Int(timesteps[index])
    let total = alphas[t]
    let previous = index + 1 < timesteps.count ? alphas[Int(timesteps[index + 1])] : 1
    let beta = 1 - total / previous

    let clean = try configuration.bounded(
      configuration.predictionType.cleanLatents(
        modelOutput, latents, alpha: total.squareRoot(), sigma: (1 - total).squareRoot()), clips: true)
    var terms = [
      (previous.squareRoot() * beta / (1 - total), clean),
      ((1 - beta).squareRoot() * (1 - previous) / (1 - total), latents),
    ]
    if t > 0 {
      let variance = configuration.usesLargeVariance ? beta : max((1 - previous) / (1 - total) * beta, 1e-20)
      terms.append((variance.squareRoot(), try SchedulerKind.ddpm.noise(random, like: latents)))
    }
    return try combination(terms)
  }
}
