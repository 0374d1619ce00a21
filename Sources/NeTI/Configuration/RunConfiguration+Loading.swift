import Files
public import Foundation

import Diffusion

/// A configuration with what is worth telling about where it came from.
public struct LoadedConfiguration: Sendable {
  public var configuration: RunConfiguration
  /// The keys that the base model's recipe decided, with their values (“optim.learning_rate 0.004”).
  public let fromRecipe: [String]
  /// The dotted names that the file or the flags set.
  public let named: Set<String>

  /// One line for each named key that has no effect here, or another than its name says.
  public var notices: [String] { configuration.notices(named: named) }
}

extension RunConfiguration {
  /// Reads a configuration: flags before a manifest's line, before the YAML file, before the base
  /// model's recipe, before the authors' defaults.
  ///
  /// - Parameters:
  ///   - yaml: a file in the authors' structure, or nil.
  ///   - defaults: as `overrides`, for what neither the line nor the flags say.
  ///   - entry: the line of a manifest, or nil.
  ///   - overrides: dotted names with values as on the command line (“optim.seed”, “3”); lists and
  ///     quoted texts as YAML. Later ones win.
  ///   - recipe: looks up the recipe of the base model that file and flags ask for.
  /// - Throws: a `NeTIError` that names file and line, or the flag.
  public static func load(
    yaml: URL? = nil, defaults: [(key: String, value: String)] = [], entry: ConceptManifest.Entry? = nil,
    overrides: [(key: String, value: String)] = [],
    recipe: (RunConfiguration) throws -> Recipe? = { _ in nil }
  ) throws -> LoadedConfiguration {
    var assignments: [(name: String, value: ConfigurationValue, place: String)] = []
    if let yaml {
      let data = try readFile(yaml, limit: ConfigurationYAML.largestSize)
      assignments = try ConfigurationYAML.entries(data, name: yaml.lastPathComponent)
        .map { ($0.name, $0.value, "\(yaml.lastPathComponent), line \($0.line)") }
    }
    assignments += try defaults.map { ($0.key, try value(of: $0), "--" + $0.key) }
    assignments += entry?.settings.map { ($0.name, $0.value, $0.written) } ?? []
    assignments += try overrides.map { ($0.key, try value(of: $0), "--" + $0.key) }

    var asked = RunConfiguration()
    for a in assignments { try asked.set(a.name, a.value, at: a.place) }
    let named = Set(assignments.map(\.name)).filter { keysByName[$0] != nil }

    // The recipe's settings come first and are written over by what is named.
    var result = RunConfiguration()
    let advice = try recipe(asked)?.settings(for: asked.model.representation, named: named) ?? []
    for s in advice { try result.set(s.name, s.value, at: Recipe.fileName) }
    for a in assignments { try result.set(a.name, a.value, at: a.place) }
    result.fillIn(named: named)
    try result.validate()
    return LoadedConfiguration(
      configuration: result, fromRecipe: advice.map { "\($0.name) \($0.value.shown)" }, named: named)
  }

  /// This configuration, of a run that goes on, with some keys set anew; see `load` for `overrides`.
  /// The model's recipe has had its say when the run began.
  public func resumed(overrides: [(key: String, value: String)]) throws -> LoadedConfiguration {
    var result = self
    for o in overrides { try result.set(o.key, Self.value(of: o), at: "--" + o.key) }
    let named = Set(overrides.map(\.key))
    // Seeds of another number of pictures count from 0 again.
    if named.contains("eval.num_validation_images"), !named.contains("eval.validation_seeds") {
      result.eval.validationSeeds = nil
    }
    try result.validate()
    return LoadedConfiguration(configuration: result, fromRecipe: [], named: named)
  }

  /// The pairs that `--section.key value` and `--section.key=value` name.
  public static func overrides(fromArguments arguments: [String]) throws -> [(key: String, value: String)] {
    var pairs: [(key: String, value: String)] = []
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      guard argument.hasPrefix("--"), argument.contains(".") else {
        throw NeTIError("\(quoted(argument)) is no option; settings look like --optim.max_train_steps 500")
      }
      let body = argument.dropFirst(2)
      if let equals = body.firstIndex(of: "=") {
        pairs.append((String(body[..<equals]), String(body[body.index(after: equals)...])))
      } else if let value = rest.first, !value.hasPrefix("--") {
        pairs.append((String(body), value))
        rest = rest.dropFirst()
      } else {
        throw NeTIError("--\(body) needs a value")
      }
    }
    return pairs
  }

  /// What a flag's text means to its key: text stands as it is, a list is YAML or one entry.
  private static func value(of override: (key: String, value: String)) throws -> ConfigurationValue {
    guard let key = keysByName[override.key], key.isList else { return .word(override.value) }
    guard override.value.hasPrefix("["), !key.isText || override.value.hasSuffix("]") else {
      let one = ConfigurationValue.word(override.value)
      return one.isNull ? .null : .list([one])
    }
    return try ConfigurationYAML.value(override.value, name: "--" + override.key)
  }

  /// Settles what follows from other keys.
  private mutating func fillIn(named: Set<String>) {
    if optim.seed == nil { optim.seed = 0 }
    let defaultSeeds = Validation().validationSeeds?.count
    if !named.contains("eval.validation_seeds"), eval.numValidationImages != defaultSeeds {
      eval.validationSeeds = nil
    }
  }

  fileprivate func notices(named: Set<String>) -> [String] {
    let without: [(key: String, when: Bool, reason: String)] = [
      ("log.logging_dir", true, "TensorBoard files are in tensorboard/ of the run folder"),
      ("log.report_to", log.reportTo != "tensorboard", "only TensorBoard files are written"),
      ("data.dataloader_num_workers", true, "pictures are encoded once, before the first step"),
      ("model.target_norm", model.targetNorm != nil, "the norm is that of the super-category's embedding"),
      ("model.revision", model.revision != nil, "the revision is the one in the folder or the local cache"),
      ("optim.gradient_checkpointing", optim.gradientCheckpointing, "memory is managed by itself"),
    ]
    let lines = without.filter { $0.when && named.contains($0.key) }.map {
      "\($0.key) has no effect here: \($0.reason)"
    }
    return lines + (scalingNotice(named: named).map { [$0] } ?? [])
  }

  /// That the authors' default multiplies the rate surprises whoever sets one.
  private func scalingNotice(named: Set<String>) -> String? {
    guard optim.scaleLr, optim.samplesPerStep > 1, named.contains("optim.learning_rate"),
      !named.contains("optim.scale_lr")
    else { return nil }
    func text(_ number: Double) -> String { String(format: "%g", number) }
    return "optim.learning_rate \(text(optim.learningRate)) is multiplied by batch × accumulation, "
      + "\(optim.trainBatchSize) × \(optim.gradientAccumulationSteps): the rate is "
      + "\(text(optim.learningRateSchedule().base)). --optim.scale_lr false takes it as it is"
  }
}
