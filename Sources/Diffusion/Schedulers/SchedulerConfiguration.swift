import Files

/// What the model predicts.
public enum PredictionType: String, CaseIterable, Sendable {
  /// The noise ε.
  case epsilon
  /// The velocity √ᾱ·ε − √(1−ᾱ)·x₀ (Salimans & Ho, arXiv 2202.00512).
  case vPrediction = "v_prediction"
  /// The clean latents x₀.
  case sample
}

/// A `scheduler_config.json`, whichever scheduler wrote it: any other can be made from it, as
/// diffusers' `from_config` does. A key that is absent, null, or listed under `_use_default_values`
/// has its default; where the schedulers' defaults differ the property is optional and nil means the
/// default of the scheduler that is made.
public struct SchedulerConfiguration: Decodable, Sendable, Equatable {
  public enum BetaSchedule: String, CaseIterable, Sendable {
    /// Even steps of β.
    case linear
    /// Even steps of √β, as in Stable Diffusion.
    case scaledLinear = "scaled_linear"
    /// From a cosine-shaped ᾱ (Nichol & Dhariwal, arXiv 2102.09672).
    case cosine = "squaredcos_cap_v2"
  }

  /// How the timesteps are chosen (Lin et al., arXiv 2305.08891, table 2).
  public enum Spacing: String, CaseIterable, Sendable { case linspace, leading, trailing }

  /// The noise level after the last step: none, or that of timestep 0.
  public enum FinalSigma: String, CaseIterable, Sendable {
    case zero
    case sigmaMin = "sigma_min"
  }

  /// Timesteps that the model was trained on.
  public static let maximumTrainTimesteps = 100_000

  public var numTrainTimesteps = 1000
  /// The first and the last β.
  public var betaStart = 0.0001
  public var betaEnd = 0.02
  public var betaSchedule = BetaSchedule.linear
  /// All βs, instead of the three keys above.
  public var trainedBetas: [Double]?
  /// Scales the βs so that nothing of the image is left at the last timestep. Not read by PNDM.
  public var rescaleBetasZeroSNR = false
  public var predictionType = PredictionType.epsilon
  /// Default: `leading` for DDIM, PNDM and DDPM, `linspace` for DPM-Solver++ and Euler.
  public var timestepSpacing: Spacing?
  /// Added to every timestep; plays a part in `leading` spacing only.
  public var stepsOffset = 0
  /// DPM-Solver++ and Euler.
  public var finalSigmasType = FinalSigma.zero
  /// DDIM (default true) and PNDM (default false): ᾱ after the last step is 1, not that of timestep 0.
  public var setAlphaToOne: Bool?
  /// DDIM and DDPM: bounds the predicted x₀ to ±`clipSampleRange`.
  public var clipSample = true
  public var clipSampleRange = 1.0
  /// PNDM: without the Runge-Kutta steps at the start, as Stable Diffusion does.
  public var skipPRKSteps = false
  /// DPM-Solver++: 1 or 2.
  public var solverOrder = 2
  /// DPM-Solver++: the second-order update uses Heun's rule instead of the midpoint's.
  public var usesHeun = false
  /// DPM-Solver++: with fewer than 15 steps the last one is of first order.
  public var lowerOrderFinal = true
  /// DPM-Solver++: the last step is of first order.
  public var eulerAtFinal = false
  /// DPM-Solver++: timesteps whose log(√ᾱ/√(1−ᾱ)) is below are not used; nil: all are.
  public var lambdaMinClipped: Double?
  /// DDPM: the noise that is added has the variance β_t, not that of the posterior.
  public var usesLargeVariance = false

  /// Switches that are not implemented here, with the schedulers that would read them.
  private var unsupported: [Unsupported] = []

  private struct Unsupported: Equatable, Sendable {
    let message: String
    let kinds: [SchedulerKind]
  }

  /// Every key absent.
  public init() {}

  public init(from decoder: any Decoder) throws {
    let reader = try ConfigurationReader(decoder)
    let ignored = Set(try reader.value("_use_default_values", default: [String]()))
    func value<T: Decodable>(_ key: String, _ standard: T) throws -> T {
      ignored.contains(key) ? standard : try reader.value(key, default: standard)
    }
    func choice<T: RawRepresentable & CaseIterable>(_ key: String, _ standard: T) throws -> T
    where T.RawValue == String {
      try reader.choice(key, value(key, standard.rawValue))
    }
    numTrainTimesteps = try value("num_train_timesteps", 1000)
    betaStart = try value("beta_start", 0.0001)
    betaEnd = try value("beta_end", 0.02)
    betaSchedule = try choice("beta_schedule", .linear)
    trainedBetas = try value("trained_betas", [Double]?.none)
    rescaleBetasZeroSNR = try value("rescale_betas_zero_snr", false)
    predictionType = try choice("prediction_type", .epsilon)
    timestepSpacing = try value("timestep_spacing", String?.none)
      .map { try reader.choice("timestep_spacing", $0) }
    stepsOffset = try value("steps_offset", 0)
    finalSigmasType = try choice("final_sigmas_type", .zero)
    setAlphaToOne = try value("set_alpha_to_one", Bool?.none)
    clipSample = try value("clip_sample", true)
    clipSampleRange = try value("clip_sample_range", 1.0)
    guard clipSampleRange > 0 else {
      throw DiffusionError("“clip_sample_range” is \(clipSampleRange); it must be above 0")
    }
    skipPRKSteps = try value("skip_prk_steps", false)
    solverOrder = try value("solver_order", 2)
    lowerOrderFinal = try value("lower_order_final", true)
    eulerAtFinal = try value("euler_at_final", false)
    let lambda = try value("lambda_min_clipped", -Double.infinity)
    lambdaMinClipped = lambda == -.infinity ? nil : lambda
    usesHeun = try value("solver_type", "midpoint") == "heun"
    usesLargeVariance = try value("variance_type", "fixed_small") == "fixed_large"

    // The reference takes the names of other solvers' types for midpoint.
    try refuse(
      value("solver_type", "midpoint"), "solver_type", .dpm, ["midpoint", "heun", "logrho", "bh1", "bh2"])
    try refuse(value("algorithm_type", "dpmsolver++"), "algorithm_type", .dpm, ["dpmsolver++"])
    try refuse(value("interpolation_type", "linear"), "interpolation_type", .euler, ["linear"])
    try refuse(value("timestep_type", "discrete"), "timestep_type", .euler, ["discrete"])
    let variance = try value("variance_type", "fixed_small")
    refuse(variance, "variance_type", .ddpm, ["fixed_small", "fixed_small_log", "fixed_large"])
    if variance.hasPrefix("learned") {
      unsupported.append(Unsupported(message: "“variance_type” is \(quoted(variance))", kinds: [.dpm]))
    }
    for (key, kinds) in Self.switches {
      guard try value(key, false) else { continue }
      unsupported.append(Unsupported(message: "“\(key)” is true", kinds: kinds))
    }
  }

  private static let switches: [(String, [SchedulerKind])] = [
    ("thresholding", [.dpm, .ddim, .ddpm]), ("use_karras_sigmas", [.dpm, .euler]),
    ("use_exponential_sigmas", [.dpm, .euler]), ("use_beta_sigmas", [.dpm, .euler]),
    ("use_lu_lambdas", [.dpm]), ("use_flow_sigmas", [.dpm]), ("use_dynamic_shifting", [.dpm]),
  ]

  private mutating func refuse(_ found: String, _ key: String, _ kind: SchedulerKind, _ known: [String]) {
    guard !known.contains(found) else { return }
    let message = "“\(key)” is \(JSONValue.string(found)); supported: \(known.joined(separator: ", "))"
    unsupported.append(Unsupported(message: message, kinds: [kind]))
  }

  /// - Throws: `DiffusionError` when the file asks `kind` for something that is not implemented here.
  func checkSupport(_ kind: SchedulerKind) throws {
    if let first = unsupported.first(where: { $0.kinds.contains(kind) }) {
      throw DiffusionError(
        "scheduler_config.json: \(first.message), which \(kind.rawValue) does not support here; "
          + "choose another scheduler")
    }
  }
}
