public import Torch

/// The samplers, by the names that the command line takes.
public enum SchedulerKind: String, CaseIterable, Sendable {
  /// DPM-Solver++ multistep, second order.
  case dpm = "dpm++"
  case ddim, pndm, euler, ddpm
}

/// Goes from noise to latents in as many steps as there are `timesteps`.
///
/// For each index, in order: `scaledInput` gives what the model is shown at `timesteps[index]`, and
/// `step` takes its output and gives the next latents.
public protocol Scheduler {
  /// In the order of the steps, falling; whole numbers but for Euler. PNDM names some twice.
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
  ///   - random: for schedulers that add noise (DDPM).
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

  /// Of ᾱ, where latents are √ᾱ·x₀ + √(1−ᾱ)·ε.
  func noiseLevel(of alpha: Double) -> (signal: Double, noise: Double) {
    (alpha.squareRoot(), (1 - alpha).squareRoot())
  }

  func checkIndex(_ index: Int) throws {
    guard timesteps.indices.contains(index) else {
      throw DiffusionError("step \(index) of a scheduler with \(timesteps.count) timesteps")
    }
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
  case .ddpm: return try DDPM(configuration, steps: steps)
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
}
