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
/// has its default, but a switch that is null is off; where the schedulers' defaults differ the property is optional and nil means the
/// default of the scheduler that is made. A scheduler leaves alone the keys that diffusers' does not read.
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

  /// How the noise levels are spread between the largest and the smallest, where the timesteps do not say it:
  /// the key that asks for it.
  public enum SigmaSpread: String, CaseIterable, Sendable {
    /// Evenly in σ^⅐ (Karras et al., arXiv 2206.00364, formula 5).
    case karras = "use_karras_sigmas"
    /// Evenly in log σ.
    case exponential = "use_exponential_sigmas"
    /// At the quantiles of the beta distribution with α = β = 0.6 (Lee et al., arXiv 2407.12173).
    case beta = "use_beta_sigmas"
  }

  /// The noise level after the last step: none, or that of timestep 0.
  public enum FinalSigma: String, CaseIterable, Sendable {
    case zero
    case sigmaMin = "sigma_min"
  }

  /// What a DPM-Solver integrates: the clean latents (++) or the noise; `sde` adds noise.
  public enum Algorithm: String, CaseIterable, Sendable {
    case plusPlus = "dpmsolver++"
    case noise = "dpmsolver"
    case sdePlusPlus = "sde-dpmsolver++"
    case sdeNoise = "sde-dpmsolver"
  }

  /// Bounds the predicted x₀ by its own quantile (Saharia et al., arXiv 2205.11487, section 2.3).
  public struct Thresholding: Sendable, Equatable {
    public var ratio = 0.995
    public var maximum = 1.0
  }

  /// Timesteps that the model was trained on.
  public static let maximumTrainTimesteps = 100_000

  /// The scheduler that wrote the file, where the model was distilled for it: LCM or TCD.
  public var distilledFor: SchedulerKind?

  public var numTrainTimesteps = 1000
  /// The first and the last β; 0.0001 and 0.02, for LCM and TCD 0.00085 and 0.012.
  public var betaStart: Double?
  public var betaEnd: Double?
  /// Default: `linear`, for LCM and TCD `scaledLinear`.
  public var betaSchedule: BetaSchedule?
  /// All βs, instead of the three keys above.
  public var trainedBetas: [Double]?
  /// Scales the βs so that nothing of the image is left at the last timestep. Not read by PNDM and LMS.
  public var rescaleBetasZeroSNR = false
  public var predictionType = PredictionType.epsilon
  /// Default: `leading` for DDIM, PNDM and DDPM, `linspace` for the others. Not read by LCM and TCD.
  public var timestepSpacing: Spacing?
  /// Added to every timestep; plays a part in `leading` spacing only.
  public var stepsOffset = 0
  /// DPM-Solver++, UniPC, Euler and LMS; nil leaves it to the timesteps.
  public var sigmaSpread: SigmaSpread?
  /// The ends of that spread; those of the timesteps when nil.
  public var sigmaMin: Double?
  public var sigmaMax: Double?
  /// DPM-Solver++: as `exponential`, but for the rounding of timesteps.
  public var usesLuLambdas = false
  /// DPM-Solver++, UniPC and Euler.
  public var finalSigmasType = FinalSigma.zero
  /// DDIM (default true) and PNDM (default false): ᾱ after the last step is 1, not that of timestep 0.
  public var setAlphaToOne: Bool?
  /// DDIM, DDPM (default true) and LCM (default false): bounds the predicted x₀ to ±`clipSampleRange`.
  public var clipSample: Bool?
  public var clipSampleRange = 1.0
  /// DDIM, DDPM, LCM, DPM-Solver++ and UniPC; goes before `clipSample`.
  public var thresholding: Thresholding?
  /// PNDM: without the Runge-Kutta steps at the start, as Stable Diffusion does.
  public var skipPRKSteps = false
  /// DPM-Solver++.
  public var algorithm = Algorithm.plusPlus
  /// DPM-Solver++ and UniPC: 1 to 3.
  public var solverOrder = 2
  /// DPM-Solver++: the second-order update uses Heun's rule instead of the midpoint's.
  public var usesHeun = false
  /// DPM-Solver++ with fewer than 15 steps, and UniPC: the last steps are of lower order.
  public var lowerOrderFinal = true
  /// DPM-Solver++: the last step is of first order.
  public var eulerAtFinal = false
  /// DPM-Solver++: timesteps whose log(√ᾱ/√(1−ᾱ)) is below are not used; nil: all are.
  public var lambdaMinClipped: Double?
  /// UniPC: B(h) is h, not eʰ − 1.
  public var usesBH1 = false
  /// UniPC: integrates the clean latents, not the noise.
  public var predictsClean = true
  /// UniPC: steps whose result is not corrected by the next model output.
  public var uncorrectedSteps: Set<Int> = []
  /// DDPM: the noise that is added has the variance β_t, not that of the posterior.
  public var usesLargeVariance = false
  /// LCM and TCD: the timesteps of the distillation, of which the steps are a part.
  public var originalInferenceSteps = 50
  /// LCM: what the timestep is multiplied by in the boundary condition.
  public var timestepScaling = 10.0

  /// Keys of the file that no scheduler of Stable Diffusion has, and that are not null.
  public private(set) var unknownKeys: [String] = []

  /// Switches that are not implemented here, with the schedulers that would read them.
  private var unsupported: [Unsupported] = []

  private struct Unsupported: Equatable, Sendable {
    let message: String
    let kinds: [SchedulerKind]
  }

  /// Every key absent.
  public init() {}

  public init(from decoder: any Decoder) throws {
    let keys = try Keys(ConfigurationReader(decoder))
    try readSchedule(keys)
    try readLevels(keys)
    try readBounds(keys)
    try readSolvers(keys)
  }

  /// - Throws: `DiffusionError` when the file asks `kind` for something that cannot be done; it names one that
  ///   can do it.
  func checkSupport(_ kind: SchedulerKind) throws {
    guard let reason = obstacle(to: kind) else { return }
    let other = SchedulerKind.allCases.first { obstacle(to: $0) == nil }
    let remedy = other.map { "; `scheduler \($0.rawValue)` works" } ?? ""
    throw DiffusionError("scheduler_config.json: \(reason), which \(kind.rawValue) cannot do\(remedy)")
  }

  /// What the file asks `kind` for that is not implemented, or that diffusers refuses as well.
  private func obstacle(to kind: SchedulerKind) -> String? {
    if let first = unsupported.first(where: { $0.kinds.contains(kind) }) { return first.message }
    switch kind {
    case .dpm:
      let predictsNoise = algorithm == .noise || algorithm == .sdeNoise
      let name = "“algorithm_type” is \(algorithm.rawValue)"
      if predictsNoise, finalSigmasType == .zero {
        return "\(name) while “final_sigmas_type” is not sigma_min"
      }
      if algorithm == .sdeNoise, solverOrder == 3 { return "\(name) and “solver_order” is 3" }
    case .unipc:
      if !predictsClean, finalSigmasType == .zero {
        return "“predict_x0” is false while “final_sigmas_type” is not sigma_min"
      }
    case .pndm, .eulerAncestral:
      if predictionType == .sample { return "“prediction_type” is sample" }
    case .ddim, .ddpm, .euler, .lms, .lcm, .tcd: break
    }
    // Nothing of the image is left at the last timestep, so that it cannot be told from the noise.
    if rescaleBetasZeroSNR, predictionType == .epsilon, [.ddim, .ddpm, .lcm, .tcd].contains(kind) {
      return "“rescale_betas_zero_snr” is true while the model predicts epsilon"
    }
    return nil
  }
}

// MARK: - What there is

extension SchedulerConfiguration {
  /// Schedulers whose files describe noise as Stable Diffusion's do, in diffusers' names.
  private static let knownClasses: Set<String> = {
    let names = [
      "DDIM", "DDIMInverse", "DDIMParallel", "DDPM", "DDPMParallel", "DEISMultistep", "DPMSolverMultistep",
      "DPMSolverMultistepInverse", "DPMSolverSDE", "DPMSolverSinglestep", "EulerAncestralDiscrete",
      "EulerDiscrete",
      "HeunDiscrete", "KDPM2AncestralDiscrete", "KDPM2Discrete", "LCM", "LMSDiscrete", "PNDM", "SASolver",
      "TCD",
      "UniPCMultistep",
    ]
    return Set(names.flatMap { [$0 + "Scheduler", "Flax" + $0 + "Scheduler"] })
  }()

  /// The keys that these schedulers have; those that mean nothing to the ones here are left alone.
  private static let knownKeys: Set<String> = [
    "_class_name", "_diffusers_version", "_use_default_values", "_name_or_path",
    "algorithm_type", "beta_end", "beta_schedule", "beta_start", "clip_sample", "clip_sample_range",
    "corrector_order", "disable_corrector", "dynamic_thresholding_ratio", "euler_at_final",
    "final_sigmas_type",
    "flow_shift", "interpolation_type", "lambda_min_clipped", "lower_order_final", "noise_sampler_seed",
    "num_train_timesteps", "original_inference_steps", "predict_epsilon", "predict_x0", "prediction_type",
    "predictor_order", "rescale_betas_zero_snr", "sample_max_value", "set_alpha_to_one", "shift_terminal",
    "sigma_max", "sigma_min", "skip_prk_steps", "solver_order", "solver_p", "solver_type", "steps_offset",
    "tau_func", "thresholding", "time_shift_type", "timestep_scaling", "timestep_spacing", "timestep_type",
    "trained_betas", "use_beta_sigmas", "use_dynamic_shifting", "use_exponential_sigmas", "use_flow_sigmas",
    "use_karras_sigmas", "use_lu_lambdas", "variance_type",
  ]
}

// MARK: - Reading

extension SchedulerConfiguration {
  /// The keys of the file without those that were only written down as defaults.
  private struct Keys {
    private let reader: ConfigurationReader
    private let ignored: Set<String>

    init(_ reader: ConfigurationReader) throws {
      self.reader = reader
      ignored = Set(try reader.value("_use_default_values", default: [String]()))
    }

    /// Those that are there and not among `known`.
    func unknown(_ known: Set<String>) -> [String] {
      reader.presentKeys.filter { !known.contains($0) && !ignored.contains($0) }.sorted()
    }

    func value<T: Decodable>(_ key: String, _ standard: T) throws -> T {
      ignored.contains(key) ? standard : try reader.value(key, default: standard)
    }

    func choice<T: RawRepresentable & CaseIterable>(_ key: String) throws -> T? where T.RawValue == String {
      try value(key, String?.none).map { try reader.choice(key, $0) }
    }

    /// Null is no default here but counts as false, as in Python.
    func isOn(_ key: String) throws -> Bool? {
      if ignored.contains(key) || !reader.has(key) { return nil }
      return try reader.value(key, default: false)
    }

    func positive(_ key: String, _ standard: Double) throws -> Double {
      let found = try value(key, standard)
      guard found > 0, found.isFinite else {
        throw DiffusionError("“\(key)” is \(found); it must be above 0")
      }
      return found
    }
  }

  private mutating func readSchedule(_ keys: Keys) throws {
    let name = try keys.value("_class_name", JSONValue.null)
    distilledFor = name == .string("LCMScheduler") ? .lcm : name == .string("TCDScheduler") ? .tcd : nil
    guard name == .null || Self.knownClasses.contains(where: { name == .string($0) }) else {
      throw DiffusionError(
        "“_class_name” is \(name), which is no scheduler of Stable Diffusion; take the scheduler_config.json of the "
          + "model that this one was made from")
    }
    unknownKeys = keys.unknown(Self.knownKeys)
    numTrainTimesteps = try keys.value("num_train_timesteps", 1000)
    betaStart = try keys.value("beta_start", Double?.none)
    betaEnd = try keys.value("beta_end", Double?.none)
    betaSchedule = try keys.choice("beta_schedule")
    trainedBetas = try keys.value("trained_betas", [Double]?.none)
    rescaleBetasZeroSNR = try keys.value("rescale_betas_zero_snr", false)
    predictionType = try keys.choice("prediction_type") ?? .epsilon
    timestepSpacing = try keys.choice("timestep_spacing")
    stepsOffset = try keys.value("steps_offset", 0)
  }

  private mutating func readLevels(_ keys: Keys) throws {
    let spread: [SchedulerKind] = [.dpm, .unipc, .euler, .lms]
    let asked = try SigmaSpread.allCases.filter { try keys.value($0.rawValue, false) }
    sigmaSpread = asked.first
    if asked.count > 1 {
      refuse("“\(asked[0].rawValue)” and “\(asked[1].rawValue)” are both true", spread)
    }
    usesLuLambdas = try keys.value("use_lu_lambdas", false)
    if try keys.value("sigma_min", Double?.none) != nil { sigmaMin = try keys.positive("sigma_min", 1) }
    if try keys.value("sigma_max", Double?.none) != nil { sigmaMax = try keys.positive("sigma_max", 1) }
    if let sigmaMin, let sigmaMax, sigmaMin >= sigmaMax {
      throw DiffusionError("“sigma_min” is \(sigmaMin) and “sigma_max” \(sigmaMax); it must be the larger")
    }
    finalSigmasType = try keys.choice("final_sigmas_type") ?? .zero
    try refuse(keys, "interpolation_type", "linear", [.euler], ["linear"])
    try refuse(keys, "timestep_type", "discrete", [.euler], ["discrete"])
    if try keys.value("use_flow_sigmas", false) { refuse("“use_flow_sigmas” is true", [.dpm, .unipc]) }
    if try keys.value("use_dynamic_shifting", false) { refuse("“use_dynamic_shifting” is true", [.unipc]) }
    for key in ["shift_terminal", "solver_p"] where try keys.value(key, JSONValue.null) != .null {
      refuse("“\(key)” is not null", [.unipc])
    }
  }

  private mutating func readBounds(_ keys: Keys) throws {
    setAlphaToOne = try keys.isOn("set_alpha_to_one")
    clipSample = try keys.isOn("clip_sample")
    clipSampleRange = try keys.positive("clip_sample_range", 1)
    if try keys.value("thresholding", false) {
      let found = Thresholding(
        ratio: try keys.value("dynamic_thresholding_ratio", 0.995),
        maximum: try keys.positive("sample_max_value", 1))
      guard (0...1).contains(found.ratio) else {
        throw DiffusionError("“dynamic_thresholding_ratio” is \(found.ratio); it must be in 0…1")
      }
      thresholding = found
    }
  }

  private mutating func readSolvers(_ keys: Keys) throws {
    skipPRKSteps = try keys.value("skip_prk_steps", false)
    // What DEIS writes is taken for DPM-Solver++, as the reference does.
    let algorithm = try keys.value("algorithm_type", "dpmsolver++")
    self.algorithm = Algorithm(rawValue: algorithm) ?? .plusPlus
    let algorithms = Algorithm.allCases.map(\.rawValue) + ["deis"]
    try refuse(keys, "algorithm_type", "dpmsolver++", [.dpm], algorithms)
    // The names of other solvers' types are taken for midpoint, for bh2 in UniPC.
    let solvers = ["midpoint", "heun", "logrho", "bh1", "bh2"]
    try refuse(keys, "solver_type", "midpoint", [.dpm, .unipc], solvers)
    usesHeun = try keys.value("solver_type", "midpoint") == "heun"
    usesBH1 = try keys.value("solver_type", "bh2") == "bh1"
    solverOrder = try keys.value("solver_order", 2)
    if !(1...3).contains(solverOrder) {
      refuse("“solver_order” is \(solverOrder) and not 1, 2 or 3", [.dpm, .unipc])
    }
    lowerOrderFinal = try keys.isOn("lower_order_final") ?? true
    eulerAtFinal = try keys.value("euler_at_final", false)
    let lambda = try keys.value("lambda_min_clipped", -Double.infinity)
    lambdaMinClipped = lambda == -.infinity ? nil : lambda
    predictsClean = try keys.isOn("predict_x0") ?? true
    uncorrectedSteps = Set(try keys.value("disable_corrector", [Int]()))
    originalInferenceSteps = try keys.value("original_inference_steps", 50)
    timestepScaling = try keys.positive("timestep_scaling", 10)

    let variance = try keys.value("variance_type", "fixed_small")
    usesLargeVariance = variance == "fixed_large"
    let fixed = ["fixed_small", "fixed_small_log", "fixed_large"]
    try refuse(keys, "variance_type", "fixed_small", [.ddpm], fixed)
    if variance.hasPrefix("learned") { refuse("“variance_type” is \(quoted(variance))", [.dpm]) }
  }

  private mutating func refuse(_ message: String, _ kinds: [SchedulerKind]) {
    unsupported.append(Unsupported(message: message, kinds: kinds))
  }

  private mutating func refuse(
    _ keys: Keys, _ key: String, _ standard: String, _ kinds: [SchedulerKind], _ known: [String]
  ) throws {
    let found = try keys.value(key, standard)
    guard !known.contains(found) else { return }
    refuse("“\(key)” is \(JSONValue.string(found)) and not \(known.joined(separator: ", "))", kinds)
  }
}
