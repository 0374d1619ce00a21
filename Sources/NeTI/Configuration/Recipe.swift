import Files
public import Foundation

import Diffusion

/// What was measured to suit a base model: `recipe.json` beside its `model_index.json`.
///
/// Any subset of the keys; it decides where neither flag nor YAML does, before the authors' defaults,
/// which are Stable Diffusion's.
public struct Recipe: Sendable, Equatable {
  public static let fileName = "recipe.json"
  /// Bytes of a recipe.
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
  /// Guidance and denoising steps of pictures.
  public var guidance: Double?
  public var denoisingSteps: Int?
  /// How it was measured, for people.
  public var note: String?

  public init() {}

  private struct Key: Sendable {
    let name: String
    let expectation: String
    let read: @Sendable (inout Recipe, ConfigurationValue) -> Bool

    init<T: ConfigurationConvertible>(_ name: String, _ path: any WritableKeyPath<Recipe, T?> & Sendable) {
      self.name = name
      expectation = T.expectation
      read = { recipe, value in
        guard let typed = T(value) else { return false }
        recipe[keyPath: path] = typed
        return true
      }
    }
  }

  private static let keys = [
    Key("learning_rate", \.learningRate), Key("ti_learning_rate", \.tiLearningRate),
    Key("xti_learning_rate", \.xtiLearningRate), Key("scale_lr", \.scaleLr),
    Key("lr_scheduler", \.lrScheduler), Key("lr_warmup_steps", \.lrWarmupSteps),
    Key("max_train_steps", \.maxTrainSteps), Key("train_batch_size", \.trainBatchSize),
    Key("gradient_accumulation_steps", \.gradientAccumulationSteps),
    Key("guidance", \.guidance), Key("num_denoising_steps", \.denoisingSteps), Key("note", \.note),
  ]

  /// The recipe in a model's folder; nil where there is none.
  public static func load(fromModelFolder folder: URL) throws -> Recipe? {
    let url = folder.appending(path: fileName)
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    return try Recipe(json: readFile(url, limit: largestSize))
  }

  /// Reads a recipe's JSON. Throws a `NeTIError` that names the key.
  public init(json: Data) throws {
    let values: [String: ConfigurationValue]
    do {
      values = try JSONFile.decode([String: ConfigurationValue].self, from: json, name: Self.fileName)
    } catch {
      throw NeTIError(String(describing: error))
    }
    for (name, value) in values.sorted(by: { $0.key < $1.key }) {
      guard let key = Self.keys.first(where: { $0.name == name }) else {
        let hint = nearest(to: name, among: Self.keys.map(\.name)).map { "; did you mean \($0)?" } ?? ""
        throw NeTIError("\(Self.fileName): unknown key \(quoted(name))\(hint)")
      }
      guard key.read(&self, value) else {
        throw NeTIError("\(Self.fileName): \(name) must be \(key.expectation), not \(value.shown)")
      }
    }
    try validate()
  }

  /// The settings for a run whose file and flags set the keys in `named`.
  ///
  /// The rate and whether it is scaled belong together: when either is named, both are left alone.
  func settings(for kind: RepresentationKind, named: Set<String>) -> [(
    name: String, value: ConfigurationValue
  )] {
    let rate = kind.type.learningRate(of: kind, in: self)
    let rateIsNamed = named.contains("optim.learning_rate") || named.contains("optim.scale_lr")
    let all: [(name: String, value: ConfigurationValue)] = [
      ("optim.learning_rate", rateIsNamed ? .null : rate.configurationValue),
      ("optim.scale_lr", rateIsNamed || rate == nil ? .null : .bool(scaleLr ?? false)),
      ("optim.lr_scheduler", lrScheduler.configurationValue),
      ("optim.lr_warmup_steps", lrWarmupSteps.configurationValue),
      ("optim.max_train_steps", maxTrainSteps.configurationValue),
      ("optim.train_batch_size", trainBatchSize.configurationValue),
      ("optim.gradient_accumulation_steps", gradientAccumulationSteps.configurationValue),
      ("eval.guidance_scale", guidance.configurationValue),
      ("eval.num_denoising_steps", denoisingSteps.configurationValue),
    ]
    return all.filter { $0.value != .null && !named.contains($0.name) }
  }

  /// The ranges are the configuration's.
  private func validate() throws {
    var trial = RunConfiguration()
    trial.log.expName = "recipe"
    trial.data.trainDataDir = "pictures"
    trial.data.placeholderToken = "<token>"
    for kind in RepresentationKind.allCases {
      for s in settings(for: kind, named: []) { try trial.set(s.name, s.value, at: Self.fileName) }
      do { try trial.validate() } catch let error as NeTIError {
        throw NeTIError("\(Self.fileName): \(error.message)")
      }
    }
  }
}
