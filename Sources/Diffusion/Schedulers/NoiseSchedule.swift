import Foundation
public import Torch

/// How much noise each training timestep has: x_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε.
///
/// Source: Ho et al., "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239); numbers as in
/// diffusers' `DDPMScheduler`, which computes them in fp32.
public struct NoiseSchedule: Sendable {
  /// ᾱ_t, falling; fp32 numbers.
  public let alphasCumprod: [Double]

  /// - Throws: `DiffusionError` when the configuration's betas make no schedule.
  public init(_ configuration: SchedulerConfiguration) throws {
    try self.init(configuration, rescaled: configuration.rescaleBetasZeroSNR)
  }

  init(_ configuration: SchedulerConfiguration, rescaled: Bool) throws {
    let betas = try Self.betas(configuration)
    var cumulative = Self.cumulativeProduct(betas.map { 1 - $0 })
    if rescaled { cumulative = Self.cumulativeProduct(Self.withoutFinalSignal(cumulative)) }
    alphasCumprod = cumulative.map(Double.init)
  }

  private init(alphasCumprod: [Double]) { self.alphasCumprod = alphasCumprod }

  /// The same with a last ᾱ that is not quite zero, for schedulers that divide by it.
  func withFloor() -> NoiseSchedule {
    NoiseSchedule(alphasCumprod: alphasCumprod.dropLast() + [0x1p-24])
  }

  /// √((1−ᾱ)/ᾱ), the noise level relative to the image; fp32 numbers.
  var sigmas: [Double] {
    alphasCumprod.map { a in
      let a = Float(a)
      return Double(((1 - a) / a).squareRoot())
    }
  }

  // MARK: Training

  /// Noisy latents, one timestep for each sample.
  ///
  /// - Parameters:
  ///   - latents: [B, …], clean.
  ///   - noise: of the same shape, standard normal.
  ///   - timesteps: B of them.
  /// - Throws: `DiffusionError` when a timestep is out of range.
  public func addNoise(_ latents: Tensor, _ noise: Tensor, timesteps: [Int]) throws -> Tensor {
    let (alpha, sigma) = try coefficients(timesteps, like: latents)
    return try latents * alpha + noise * sigma
  }

  /// What a model of `v_prediction` learns: √ᾱ·ε − √(1−ᾱ)·x₀. Parameters as for `addNoise`.
  public func velocity(_ latents: Tensor, _ noise: Tensor, timesteps: [Int]) throws -> Tensor {
    let (alpha, sigma) = try coefficients(timesteps, like: latents)
    return try noise * alpha - latents * sigma
  }

  /// √ᾱ and √(1−ᾱ) as [B, 1, …].
  private func coefficients(_ timesteps: [Int], like latents: Tensor) throws -> (Tensor, Tensor) {
    guard latents.rank > 0, latents.shape[0] == timesteps.count else {
      throw DiffusionError("\(timesteps.count) timesteps for latents of shape \(latents.shape)")
    }
    let alphas = try timesteps.map { t in
      guard alphasCumprod.indices.contains(t) else {
        throw DiffusionError("timestep \(t) is outside 0…\(alphasCumprod.count - 1)")
      }
      return Float(alphasCumprod[t])
    }
    let shape = [timesteps.count] + Array(repeating: 1, count: latents.rank - 1)
    let tensor = { (values: [Float]) in
      try Tensor(values, shape).to(latents.dtype, device: latents.device)
    }
    return (try tensor(alphas.map { $0.squareRoot() }), try tensor(alphas.map { (1 - $0).squareRoot() }))
  }

  // MARK: Betas

  private static func betas(_ c: SchedulerConfiguration) throws -> [Float] {
    let count = c.numTrainTimesteps
    guard (1...SchedulerConfiguration.maximumTrainTimesteps).contains(count) else {
      throw DiffusionError(
        "scheduler_config.json: “num_train_timesteps” is \(count); it must be in "
          + "1…\(SchedulerConfiguration.maximumTrainTimesteps)")
    }
    let betas: [Float]
    if let trained = c.trainedBetas {
      guard trained.count == count else {
        throw DiffusionError(
          "scheduler_config.json: “trained_betas” has \(trained.count) entries, and "
            + "“num_train_timesteps” is \(count)")
      }
      betas = trained.map { Float($0) }
    } else {
      let (start, end) = (c.betaStart ?? 0.0001, c.betaEnd ?? 0.02)
      switch c.betaSchedule ?? .linear {
      case .linear: betas = evenSteps(Float(start), Float(end), count)
      case .scaledLinear:
        betas = evenSteps(Float(start.squareRoot()), Float(end.squareRoot()), count).map { $0 * $0 }
      case .cosine: betas = cosine(count)
      }
    }
    guard betas.allSatisfy({ $0 > 0 && $0 < 1 }) else {
      throw DiffusionError(
        "scheduler_config.json: “beta_start”, “beta_end” or “trained_betas” give a β outside 0…1")
    }
    return betas
  }

  /// From both ends to the middle, so that both are met.
  private static func evenSteps(_ start: Float, _ end: Float, _ count: Int) -> [Float] {
    guard count > 1 else { return [start] }
    let step = (end - start) / Float(count - 1)
    return (0..<count).map { i in
      i < count / 2 ? start + step * Float(i) : end - step * Float(count - 1 - i)
    }
  }

  private static func cosine(_ count: Int) -> [Float] {
    let alphaBar = { (i: Int) in
      let x = cos((Double(i) / Double(count) + 0.008) / 1.008 * .pi / 2)
      return x * x
    }
    return (0..<count).map { Float(min(1 - alphaBar($0 + 1) / alphaBar($0), 0.999)) }
  }

  /// Summed up in double and rounded at each entry, as libtorch does.
  private static func cumulativeProduct(_ values: [Float]) -> [Float] {
    var product = 1.0
    return values.map { value in
      product *= Double(value)
      return Float(product)
    }
  }

  /// The factors of ᾱ after its root is shifted to end at zero and scaled to start where it did
  /// (Lin et al., arXiv 2305.08891, algorithm 1).
  private static func withoutFinalSignal(_ cumulative: [Float]) -> [Float] {
    let roots = cumulative.map { $0.squareRoot() }
    guard let first = roots.first, let last = roots.last, first > last else { return cumulative }
    let scaled = roots.map { ($0 - last) * (first / (first - last)) }
    let bars = scaled.map { $0 * $0 }
    return bars.indices.map { i in
      let alpha = i == 0 ? bars[0] : bars[i] / bars[i - 1]
      return 1 - (1 - alpha)  // by way of β, which rounds
    }
  }
}
