public import Diffusion
import Files
public import Foundation

/// What was measured to suit a base model: `model_defaults.json` beside its `model_index.json`, or for a model in one
/// file `NAME.model_defaults.json` beside that.
///
/// Any subset of the keys; it decides where neither flag nor YAML does, before the authors' defaults,
/// which are Stable Diffusion's.
public struct ModelDefaults: Sendable, Equatable {
  public static let fileName = "model_defaults.json"
  /// What the file was called at first.
  private static let earlierFileName = "recipe.json"
  /// Bytes of the file.
  public static let largestSize = 64 * 1024

  /// The learning rate of the mapper (`neti`, `time`, `space`), of one learned vector and of one per
  /// layer; already scaled where `scaleLr` is false.
  public var learningRate: Double?
  public var tiLearningRate: Double?
  public var xtiLearningRate: Double?
  /// Whether the rates are multiplied by batch × accumulation; false unless it says otherwise.
  public var scaleLr: Bool?
  public var lrScheduler: LearningRate.Schedule?
  public var lrWarmupSteps: Int?
  public var maxTrainSteps: Int?
  public var trainBatchSize: Int?
  public var gradientAccumulationSteps: Int?
  /// Guidance, denoising steps and scheduler of images.
  public var guidance: Double?
  public var denoisingSteps: Int?
  public var scheduler: SchedulerKind?
  /// How it was measured, for people.
  public var note: String?

  public init() {}

  private struct Key: Sendable {
    let name: String
    /// The setting of a run that it decides; the rates and their scale are decided together.
    let setting: String?
    let expectation: String
    let read: @Sendable (inout ModelDefaults, ConfigurationValue) -> Bool
    let write: @Sendable (ModelDefaults) -> ConfigurationValue

    init<T: ConfigurationConvertible>(
      _ name: String, _ path: any WritableKeyPath<ModelDefaults, T?> & Sendable, setting: String? = nil
    ) {
      self.name = name
      self.setting = setting
      expectation = T.expectation
      read = { defaults, value in
        guard let typed = T(value) else { return false }
        defaults[keyPath: path] = typed
        return true
      }
      write = { $0[keyPath: path].configurationValue }
    }
  }

  private static let keys = [
    Key("learning_rate", \.learningRate), Key("ti_learning_rate", \.tiLearningRate),
    Key("xti_learning_rate", \.xtiLearningRate), Key("scale_lr", \.scaleLr),
    Key("lr_scheduler", \.lrScheduler, setting: "optim.lr_scheduler"),
    Key("lr_warmup_steps", \.lrWarmupSteps, setting: "optim.lr_warmup_steps"),
    Key("max_train_steps", \.maxTrainSteps, setting: "optim.max_train_steps"),
    Key("train_batch_size", \.trainBatchSize, setting: "optim.train_batch_size"),
    Key(
      "gradient_accumulation_steps", \.gradientAccumulationSteps,
      setting: "optim.gradient_accumulation_steps"),
    Key("guidance", \.guidance, setting: "eval.guidance_scale"),
    Key("num_denoising_steps", \.denoisingSteps, setting: "eval.num_denoising_steps"),
    Key("scheduler", \.scheduler), Key("note", \.note),
  ]

  /// What suits a model: what its file says, and else what its configurations do, when it was distilled to
  /// few steps, or is SDXL. nil where neither says anything.
  public static func load(_ folder: ModelFolder) throws -> ModelDefaults? {
    let measured = try load(fromModelFolder: folder.url)
    guard let distilled = try folder.distillation() else {
      guard folder.hasTwoTextEncoders else { return measured }
      // As in the reference's pipeline.
      var defaults = measured ?? ModelDefaults()
      defaults.scheduler = defaults.scheduler ?? .euler
      defaults.guidance = defaults.guidance ?? 5
      return defaults
    }
    var defaults = measured ?? ModelDefaults()
    defaults.scheduler = defaults.scheduler ?? distilled.scheduler
    defaults.denoisingSteps = defaults.denoisingSteps ?? distilled.steps
    defaults.guidance = defaults.guidance ?? distilled.guidance
    return defaults
  }

  /// The defaults in a model's folder, or beside its file; nil where there are none.
  public static func load(fromModelFolder folder: URL) throws -> ModelDefaults? {
    var isFolder: ObjCBool = false
    _ = FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder)
    let candidates =
      isFolder.boolValue
      ? [fileName, earlierFileName].map { folder.appending(path: $0) }
      : [folder.deletingPathExtension().appendingPathExtension(fileName)]
    let found = candidates.filter { FileManager.default.fileExists(atPath: $0.path) }
    guard let url = found.first else { return nil }
    guard found.count == 1 else {
      throw NeTIError(
        "\(folder.lastPathComponent): \(earlierFileName) is the earlier name of \(fileName), and both are there; "
          + "remove the one that does not count")
    }
    return try ModelDefaults(json: readFile(url, limit: largestSize), name: url.lastPathComponent)
  }

  /// Reads the file's JSON. Throws a `NeTIError` that names the file and the key.
  public init(json: Data, name file: String = fileName) throws {
    let values: [String: ConfigurationValue]
    do {
      values = try JSONFile.decode([String: ConfigurationValue].self, from: json, name: file)
    } catch {
      throw NeTIError(String(describing: error))
    }
    for (name, value) in values.sorted(by: { $0.key < $1.key }) {
      guard let key = Self.keys.first(where: { $0.name == name }) else {
        let hint = nearest(to: name, among: Self.keys.map(\.name)).map { "; did you mean \($0)?" } ?? ""
        throw NeTIError("\(file): unknown key \(quoted(name))\(hint)")
      }
      guard key.read(&self, value) else {
        throw NeTIError("\(file): \(name) must be \(key.expectation), not \(value.shown)")
      }
    }
    try validate(file)
  }

  /// The settings for a run whose file and flags set the keys in `named`.
  ///
  /// The rate and whether it is scaled belong together: when either is named, both are left alone.
  func settings(for kind: RepresentationKind, named: Set<String>) -> [(
    name: String, value: ConfigurationValue
  )] {
    var all: [(name: String, value: ConfigurationValue)] = []
    let rateIsNamed = named.contains("optim.learning_rate") || named.contains("optim.scale_lr")
    if !rateIsNamed, let rate = learningRate(of: kind) {
      all = [("optim.learning_rate", .double(rate)), ("optim.scale_lr", .bool(scaleLr ?? false))]
    }
    all += Self.keys.compactMap { key in key.setting.map { ($0, key.write(self)) } }
    return all.filter { $0.value != .null && !named.contains($0.name) }
  }

  private func learningRate(of kind: RepresentationKind) -> Double? {
    switch kind {
    case .neti, .time, .space: learningRate
    case .ti: tiLearningRate
    case .xti: xtiLearningRate
    }
  }

  /// The ranges are the configuration's.
  private func validate(_ file: String) throws {
    var trial = RunConfiguration()
    trial.log.expName = "defaults"
    trial.data.trainDataDir = "images"
    trial.data.placeholderToken = "<token>"
    for kind in RepresentationKind.allCases {
      for s in settings(for: kind, named: []) { try trial.set(s.name, s.value, at: file) }
      do { try trial.validate() } catch let error as NeTIError {
        throw NeTIError("\(file): \(error.message)")
      }
    }
  }
}
