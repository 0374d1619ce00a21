public import Torch

/// The samplers, by the names that the command line takes.
public enum SchedulerKind: String, CaseIterable, Sendable {
  /// DPM-Solver++ multistep.
  case dpm = "dpm++"
  case ddim, pndm, euler
  case eulerAncestral = "euler-a"
  case lms, unipc, ddpm
  /// For models that were distilled to few steps.
  case lcm, tcd
}

/// Goes from noise to latents in as many steps as there are `timesteps`.
///
/// For each index, in order: `scaledInput` gives what the model is shown at `timesteps[index]`, and
/// `step` takes its output and gives the next latents.
public protocol Scheduler {
  /// In the order of the steps, falling; whole numbers but for Euler and LMS. PNDM names some twice, and so
  /// may a spread of noise levels.
  var timesteps: [Double] { get }
  /// Multiplies the standard normal noise to start from.
  var initialNoiseSigma: Double { get }
  /// How strong clean latents and standard normal noise are in the latents at `timesteps[index]`.
  func noiseLevel(at index: Int) throws -> (signal: Double, noise: Double)
  /// Leaves out the steps before `index`; called before the first step. Throws when that cannot be done.
  mutating func begin(at index: Int) throws
  /// The latents as the model expects them.
  func scaledInput(_ latents: Tensor, at index: Int) throws -> Tensor
  /// The latents of the next step.
  ///
  /// - Parameters:
  ///   - modelOutput: of the latents' shape, in fp32.
  ///   - index: into `timesteps`; multistep schedulers take them in order.
  ///   - random: for schedulers that add noise (DDPM, `euler-a`, LCM, TCD, DPM-Solver’s SDE).
  /// - Throws: `DiffusionError` when the index is out of range or order, or a random source is missing.
  mutating func step(_ modelOutput: Tensor, at index: Int, _ latents: Tensor, random: RandomSource?) throws
    -> Tensor
}

extension Scheduler {
  public var initialNoiseSigma: Double { 1 }
  public func begin(at index: Int) throws {}
  public func scaledInput(_ latents: Tensor, at index: Int) throws -> Tensor { latents }

  /// Clean latents with as much noise as there is at the `index`-th step; after the last there is none.
  func noised(_ clean: Tensor, _ noise: Tensor, at index: Int) throws -> Tensor {
    guard index < timesteps.count else { return clean }
    let level = try noiseLevel(at: index)
    return try combination([(level.signal, clean), (level.noise, noise)])
  }

  func checkIndex(_ index: Int) throws {
    guard timesteps.indices.contains(index) else {
      throw DiffusionError("step \(index) of a scheduler with \(timesteps.count) timesteps")
    }
  }
}

/// A scheduler whose latents are √ᾱ·x₀ + √(1−ᾱ)·ε.
protocol AlphaScheduler: Scheduler {
  /// ᾱ of every timestep of training.
  var alphas: [Double] { get }
}

extension AlphaScheduler {
  func noiseLevel(at index: Int) throws -> (signal: Double, noise: Double) {
    try checkIndex(index)
    let alpha = alphas[Int(timesteps[index])]
    return (alpha.squareRoot(), (1 - alpha).squareRoot())
  }
}

/// A scheduler whose latents are kept unscaled, x₀ + σ·ε.
protocol SigmaScheduler: Scheduler {
  /// σ of each step, and the one to end at.
  var sigmas: [Double] { get }
}

extension SigmaScheduler {
  func noiseLevel(at index: Int) throws -> (signal: Double, noise: Double) {
    try checkIndex(index)
    return (1, sigmas[index])
  }

  func scaledInput(_ latents: Tensor, at index: Int) throws -> Tensor {
    try checkIndex(index)
    return try latents / NoiseLevel.inputScale(sigmas[index])
  }
}

/// A scheduler of a kind for a number of steps, with the numbers of current diffusers' class of that
/// kind made by `from_config` from the same JSON.
///
/// - Throws: `DiffusionError` when `steps` or a value of the configuration is out of range or not
///   supported.
public func makeScheduler(_ kind: SchedulerKind, _ configuration: SchedulerConfiguration, steps: Int) throws
  -> any Scheduler
{
  try configuration.checkSupport(kind)
  switch kind {
  case .dpm: return try DPMSolver(configuration, steps: steps)
  case .ddim: return try DDIM(configuration, steps: steps)
  case .pndm: return try PNDM(configuration, steps: steps)
  case .euler: return try Euler(configuration, steps: steps)
  case .eulerAncestral: return try EulerAncestral(configuration, steps: steps)
  case .lms: return try LMS(configuration, steps: steps)
  case .unipc: return try UniPC(configuration, steps: steps)
  case .ddpm: return try DDPM(configuration, steps: steps)
  case .lcm: return try LCM(configuration, steps: steps)
  case .tcd: return try TCD(configuration, steps: steps)
  }
}

extension SchedulerKind {
  /// Standard normal noise like the latents, as diffusers draws it: in fp32 on the CPU.
  func noise(_ random: RandomSource?, like latents: Tensor) throws -> Tensor {
    guard let random else { throw DiffusionError("the \(rawValue) scheduler needs a random source") }
    return try random.normal(latents.shape).to(latents.dtype, device: latents.device)
  }
}

/// Σ cᵢ·xᵢ.
func combination(_ terms: [(Double, Tensor)]) throws -> Tensor {
  guard let (c, x) = terms.first else { throw DiffusionError("an empty sum of latents") }
  let sum = try x * c
  for (c, x) in terms.dropFirst() { try sum.add(x, times: c) }
  return sum
}

extension PredictionType {
  /// The clean latents that the model's output amounts to.
  ///
  /// - Parameters:
  ///   - alpha: √ᾱ of the timestep.
  ///   - sigma: √(1−ᾱ).
  func cleanLatents(_ output: Tensor, _ latents: Tensor, alpha: Double, sigma: Double) throws -> Tensor {
    switch self {
    case .epsilon: try combination([(1 / alpha, latents), (-sigma / alpha, output)])
    case .vPrediction: try combination([(alpha, latents), (-sigma, output)])
    case .sample: output
    }
  }

  /// The noise that the model's output amounts to.
  func noise(_ output: Tensor, _ latents: Tensor, alpha: Double, sigma: Double) throws -> Tensor {
    switch self {
    case .epsilon: output
    case .vPrediction: try combination([(alpha, output), (sigma, latents)])
    case .sample: try combination([(1 / sigma, latents), (-alpha / sigma, output)])
    }
  }
  /// dx/dσ of latents that are kept unscaled, x₀ + σ·ε: the noise (x − x₀)/σ in them.
  ///
  /// - Parameter sigma: √((1−ᾱ)/ᾱ).
  func derivative(_ output: Tensor, _ latents: Tensor, sigma: Double) throws -> Tensor {
    let squared = sigma * sigma + 1
    return switch self {
    case .epsilon: output
    case .vPrediction:
      try combination([(sigma / squared, latents), (1 / squared.squareRoot(), output)])
    case .sample: try combination([(1 / sigma, latents), (-1 / sigma, output)])
    }
  }
}

extension SchedulerConfiguration {
  /// The predicted clean latents within the bounds that the file asks for.
  ///
  /// - Parameter clips: whether `clip_sample` counts, and its default; nil where it is not read.
  func bounded(_ clean: Tensor, clips: Bool?) throws -> Tensor {
    if let thresholding { return try thresholding(clean) }
    guard let clips, clipSample ?? clips else { return clean }
    return try clean.clamped(-clipSampleRange, clipSampleRange)
  }
}

extension SchedulerConfiguration.Thresholding {
  /// Each image [1, …] cut off at its own quantile, when that is above 1, and divided by it.
  fileprivate func callAsFunction(_ clean: Tensor) throws -> Tensor {
    let images = try (0..<clean.size(0)).map { i in
      let image = try clean.sliced(0, i..<i + 1)
      let values = try image.doubles().map(abs).sorted()
      let place = ratio * Double(values.count - 1)
      let (low, high) = (values[Int(place)], values[min(Int(place) + 1, values.count - 1)])
      let bound = min(max(low + (high - low) * (place - place.rounded(.down)), 1), maximum)
      return try image.clamped(-bound, bound) / bound
    }
    return try .concatenated(images, 0)
  }
}
