import Torch

/// Trajectory consistency with γ = 0.3: every step but the last goes past the next timestep and adds noise up to
/// it. For models that were distilled for it.
///
/// Source: Zheng et al., arXiv 2402.19159, algorithm 4; numbers as in diffusers' `TCDScheduler`.
struct TCD: AlphaScheduler {
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
    let isLast = index + 1 == timesteps.count
    let nextTime = isLast ? 0 : timesteps[index + 1]
    // In fp32, as the reference rounds it.
    let target = alphas[Int(Float(0.7) * Float(nextTime))]
    let alpha = alphas[Int(timesteps[index])]
    let (root, rest) = (alpha.squareRoot(), (1 - alpha).squareRoot())
    let type = configuration.predictionType
    let clean = try type.cleanLatents(modelOutput, latents, alpha: root, sigma: rest)
    let noise = try type.noise(modelOutput, latents, alpha: root, sigma: rest)
    guard !isLast else {
      return try combination([(target.squareRoot(), clean), ((1 - target).squareRoot(), noise)])
    }
    let next = alphas[Int(nextTime)]
    return try combination([
      (next.squareRoot(), clean), ((next / target * (1 - target)).squareRoot(), noise),
      ((1 - next / target).squareRoot(), SchedulerKind.tcd.noise(random, like: latents)),
    ])
  }
}
