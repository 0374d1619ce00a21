import Files

/// The settings that a checkpoint of NeTI's authors carries under `cfg`, as far as they mean something
/// here: their `training/config.py`, under the same groups and with the same defaults. Paths, logging
/// and validation are left out.
public struct AuthorsSettings: Sendable, Equatable {
  // data
  public var placeholderToken: String
  public var superCategoryToken = "object"
  /// `object` or `style`.
  public var learnableProperty = "object"
  public var repeats = 100
  public var resolution = 512
  public var centerCrop = false

  // model
  /// The base model, as a name on the hub or a path of theirs.
  public var pretrainedModel = "CompVis/stable-diffusion-v1-4"
  public var usesNestedDropout = true
  public var nestedDropoutProbability = 0.5
  public var normalizesMapperOutput = true
  /// The L2 norm that the mapper's output is scaled to; nil for none.
  public var targetNorm: Double?
  public var usesPositionalEncoding = true
  public var sigmaT = 0.03
  public var sigmaL = 2.0
  public var timeAnchors = 10
  public var outputBypass = true

  // optim
  public var maxTrainSteps = 1000
  /// As it was used: where `scalesLearningRate` is true, the scale is already in it.
  public var learningRate = 1e-3
  public var scalesLearningRate = true
  public var trainBatchSize = 2
  public var gradientAccumulationSteps = 4
  public var seed: Int?
  public var learningRateScheduler = "constant"
  public var learningRateWarmupSteps = 0
  public var adamBeta1 = 0.9
  public var adamBeta2 = 0.999
  public var adamWeightDecay = 1e-2
  public var adamEpsilon = 1e-8
  public var mixedPrecision = "no"

  public init(placeholderToken: String) { self.placeholderToken = placeholderToken }
}

extension AuthorsSettings {
  /// Reads `cfg`. What is absent has its default; a wrong type is an error that names the key.
  init(_ configuration: PickleValue) throws {
    let data = AuthorsGroup("data", configuration)
    guard let token: String = try data["placeholder_token"] else {
      throw NeTIError("it lacks the setting data.placeholder_token")
    }
    self.init(placeholderToken: token)
    try data.read("super_category_token", into: &superCategoryToken)
    try data.read("learnable_property", into: &learnableProperty)
    try data.read("repeats", into: &repeats)
    try data.read("resolution", into: &resolution)
    try data.read("center_crop", into: &centerCrop)

    let model = AuthorsGroup("model", configuration)
    try model.read("pretrained_model_name_or_path", into: &pretrainedModel)
    try model.read("use_nested_dropout", into: &usesNestedDropout)
    try model.read("nested_dropout_prob", into: &nestedDropoutProbability)
    try model.read("normalize_mapper_output", into: &normalizesMapperOutput)
    targetNorm = try model["target_norm"]
    try model.read("use_positional_encoding", into: &usesPositionalEncoding)
    let sigmas = AuthorsGroup("pe_sigmas", configuration["model"] ?? .none)
    try sigmas.read("sigma_t", into: &sigmaT)
    try sigmas.read("sigma_l", into: &sigmaL)
    try model.read("num_pe_time_anchors", into: &timeAnchors)
    try model.read("output_bypass", into: &outputBypass)
    try readOptimization(AuthorsGroup("optim", configuration))
    try check()
  }

  private mutating func readOptimization(_ optim: AuthorsGroup) throws {
    try optim.read("max_train_steps", into: &maxTrainSteps)
    try optim.read("learning_rate", into: &learningRate)
    try optim.read("scale_lr", into: &scalesLearningRate)
    try optim.read("train_batch_size", into: &trainBatchSize)
    try optim.read("gradient_accumulation_steps", into: &gradientAccumulationSteps)
    seed = try optim["seed"]
    try optim.read("lr_scheduler", into: &learningRateScheduler)
    try optim.read("lr_warmup_steps", into: &learningRateWarmupSteps)
    try optim.read("adam_beta1", into: &adamBeta1)
    try optim.read("adam_beta2", into: &adamBeta2)
    try optim.read("adam_weight_decay", into: &adamWeightDecay)
    try optim.read("adam_epsilon", into: &adamEpsilon)
    try optim.read("mixed_precision", into: &mixedPrecision)
  }

  private func check() throws {
    let numbers = [sigmaT, sigmaL, learningRate, adamBeta1, adamBeta2, adamWeightDecay, adamEpsilon]
    guard numbers.allSatisfy(\.isFinite) else {
      throw NeTIError("one of its settings is not a finite number")
    }
    guard targetNorm.map({ $0.isFinite && $0 > 0 }) ?? true else {
      throw NeTIError("its setting model.target_norm is not a positive number")
    }
    guard (1...1000).contains(timeAnchors) else {
      throw NeTIError("its setting model.num_pe_time_anchors is not between 1 and 1000")
    }
    guard (0...1).contains(nestedDropoutProbability) else {
      throw NeTIError("its setting model.nested_dropout_prob is not between 0 and 1")
    }
  }

  /// The complete `cfg` that their loader expects: it refuses fields it does not know, and needs
  /// some that mean nothing here.
  var configuration: PickleValue {
    .dictionary(
      [
        PickleEntry("log", Self.logging), PickleEntry("data", data), PickleEntry("model", model),
        PickleEntry("eval", Self.validation), PickleEntry("optim", optimization),
      ], ordered: false)
  }

  private static var logging: PickleValue {
    .settings([
      ("exp_name", .string("neti")), ("exp_dir", .string("outputs")), ("save_steps", .int(250)),
      ("logging_dir", .string("logs")), ("report_to", .string("tensorboard")),
      ("checkpoints_total_limit", .none),
    ])
  }

  private static var validation: PickleValue {
    .settings([
      ("validation_prompts", .list([.string("A photo of a {}")])), ("num_validation_images", .int(4)),
      ("validation_seeds", .list([42, 420, 501, 5456].map { .int($0) })),
      ("validation_steps", .int(100)), ("num_denoising_steps", .int(50)),
    ])
  }

  private var data: PickleValue {
    .settings([
      ("train_data_dir", .string("images")), ("placeholder_token", .string(placeholderToken)),
      ("super_category_token", .string(superCategoryToken)), ("dataloader_num_workers", .int(8)),
      ("learnable_property", .string(learnableProperty)), ("repeats", .int(repeats)),
      ("resolution", .int(resolution)), ("center_crop", .bool(centerCrop)),
    ])
  }

  private var model: PickleValue {
    .settings([
      ("pretrained_model_name_or_path", .string(pretrainedModel)),
      ("use_nested_dropout", .bool(usesNestedDropout)),
      ("nested_dropout_prob", .float(nestedDropoutProbability)),
      ("normalize_mapper_output", .bool(normalizesMapperOutput)),
      ("target_norm", targetNorm.map { .float($0) } ?? .none),
      ("use_positional_encoding", .bool(usesPositionalEncoding)),
      ("pe_sigmas", .settings([("sigma_t", .float(sigmaT)), ("sigma_l", .float(sigmaL))])),
      ("num_pe_time_anchors", .int(timeAnchors)), ("output_bypass", .bool(outputBypass)),
      ("revision", .none), ("mapper_checkpoint_path", .none),
    ])
  }

  private var optimization: PickleValue {
    .settings([
      ("max_train_steps", .int(maxTrainSteps)), ("learning_rate", .float(learningRate)),
      ("scale_lr", .bool(scalesLearningRate)), ("train_batch_size", .int(trainBatchSize)),
      ("gradient_checkpointing", .bool(false)),
      ("gradient_accumulation_steps", .int(gradientAccumulationSteps)),
      ("seed", seed.map { .int($0) } ?? .none), ("lr_scheduler", .string(learningRateScheduler)),
      ("lr_warmup_steps", .int(learningRateWarmupSteps)), ("adam_beta1", .float(adamBeta1)),
      ("adam_beta2", .float(adamBeta2)), ("adam_weight_decay", .float(adamWeightDecay)),
      ("adam_epsilon", .float(adamEpsilon)), ("mixed_precision", .string(mixedPrecision)),
      ("allow_tf32", .bool(false)),
    ])
  }
}

extension PickleValue {
  /// A dictionary with text for keys.
  static func settings(_ members: [(String, PickleValue)]) -> PickleValue {
    .dictionary(members.map { PickleEntry($0.0, $0.1) }, ordered: false)
  }
}

/// A group of settings, read by type.
private struct AuthorsGroup {
  private let name: String
  private let values: PickleValue

  init(_ name: String, _ configuration: PickleValue) {
    self.name = name
    self.values = configuration[name] ?? .none
  }

  /// The value of `key`, nil where it is absent or None.
  subscript<T: AuthorsValue>(key: String) -> T? {
    get throws {
      switch values[key] {
      case nil, .none?: return nil
      case let value?:
        guard let result = T(value) else {
          throw NeTIError("its setting \(name).\(key) has the wrong type, \(value.kind)")
        }
        return result
      }
    }
  }

  func read<T: AuthorsValue>(_ key: String, into target: inout T) throws {
    if let value: T = try self[key] { target = value }
  }
}

private protocol AuthorsValue { init?(_ value: PickleValue) }

extension String: AuthorsValue {
  fileprivate init?(_ value: PickleValue) {
    guard case .string(let text) = value else { return nil }
    self = text
  }
}

extension Bool: AuthorsValue {
  fileprivate init?(_ value: PickleValue) {
    guard case .bool(let flag) = value else { return nil }
    self = flag
  }
}

extension Int: AuthorsValue {
  fileprivate init?(_ value: PickleValue) {
    guard case .int(let number) = value else { return nil }
    self = number
  }
}

extension Double: AuthorsValue {
  fileprivate init?(_ value: PickleValue) {
    switch value {
    case .float(let number): self = number
    case .int(let number): self = Double(number)
    default: return nil
    }
  }
}
