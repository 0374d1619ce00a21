import Diffusion
import Files
public import Foundation

/// A configuration with what is worth telling about where it came from.
public struct LoadedConfiguration: Sendable {
  public var configuration: RunConfiguration
  /// The keys that the base model's defaults decided, with their values (“optim.learning_rate 0.004”).
  public let fromModelDefaults: [String]
  /// The dotted names that the file or the flags set.
  public let named: Set<String>
  /// Those whose having no effect is told: all that are named, but for what a run's own file says as every run's does.
  fileprivate let told: Set<String>
  /// The name of the file, where it is a run's own.
  fileprivate let ofARun: String?

  /// One line for each key that was set and has no effect here, or another than its name says.
  public var notices: [String] {
    configuration.notices(named: named, told: told)
      + (ofARun.map {
        [
          "\($0) was written by a run, and its paths count from where it lies: images in \(configuration.data.trainDataDir), "
            + "the run in \(configuration.runFolder.path)"
        ]
      } ?? [])
  }
}

extension RunConfiguration {
  /// Reads a configuration: flags before a manifest's line, before the YAML file, before the base
  /// model's defaults, before the authors'.
  ///
  /// - Parameters:
  ///   - yaml: a file in the authors' structure, or nil. Relative paths count from where one stands, as in theirs;
  ///     those of a run's own `config.yaml` from its folder.
  ///   - defaults: as `overrides`, for what neither the line nor the flags say.
  ///   - entry: the line of a manifest, or nil.
  ///   - overrides: dotted names with values as on the command line (“optim.seed”, “3”); lists and
  ///     quoted texts as YAML. Later ones win.
  ///   - literal: the names among the overrides whose texts stand as they are, also those that are YAML's null.
  ///   - modelDefaults: looks up those of the base model that file and flags ask for.
  /// - Throws: a `NeTIError` that names file and line, or the flag; `FileError` when `yaml` cannot be read.
  public static func load(
    yaml: URL? = nil, defaults: [(key: String, value: String)] = [], entry: ConceptManifest.Entry? = nil,
    overrides: [(key: String, value: String)] = [], literal: Set<String> = [],
    modelDefaults: (RunConfiguration) throws -> ModelDefaults? = { _ in nil }
  ) throws -> LoadedConfiguration {
    var assignments: [(name: String, value: ConfigurationValue, place: String)] = []
    var ofARun: Set<String> = []
    if let yaml {
      let data = try readFile(yaml, limit: ConfigurationYAML.largestSize)
      let folder = RunFolder.isResolved(data) ? yaml.deletingLastPathComponent() : nil
      assignments = try ConfigurationYAML.entries(data, name: yaml.lastPathComponent).map { entry in
        let value = folder.map { located(entry.value, of: entry.name, in: $0) } ?? entry.value
        return (entry.name, value, "\(yaml.lastPathComponent), line \(entry.line)")
      }
      if folder != nil { ofARun = Set(assignments.map(\.name)) }
    }
    let written = assignments.count
    assignments += try defaults.map { ($0.key, try value(of: $0, isLiteral: true), "`" + $0.key + "`") }
    assignments += entry?.settings.map { ($0.name, $0.value, $0.written) } ?? []
    assignments += try overrides.map {
      ($0.key, try value(of: $0, isLiteral: literal.contains($0.key)), "`" + $0.key + "`")
    }
    assignments = try assignments.map {
      ($0.name, try expanded($0.value, of: $0.name, at: $0.place), $0.place)
    }

    var asked = RunConfiguration()
    for a in assignments { try asked.set(a.name, a.value, at: a.place) }
    let named = Set(assignments.map(\.name)).filter { settingsByName[$0] != nil }

    // The model's defaults come first and are written over by what is named.
    var result = RunConfiguration()
    let advice = try modelDefaults(asked)?.settings(for: asked.model.representation, named: named) ?? []
    for s in advice { try result.set(s.name, s.value, at: ModelDefaults.fileName) }
    for a in assignments { try result.set(a.name, a.value, at: a.place) }
    result.fillIn(named: named)
    try result.validate()
    let usual = ofARun.subtracting(assignments[written...].map(\.name))
      .subtracting(result.unusual.map(\.name))
    return LoadedConfiguration(
      configuration: result, fromModelDefaults: advice.map { "\($0.name) \($0.value.shown)" }, named: named,
      told: named.subtracting(usual), ofARun: ofARun.isEmpty ? nil : yaml?.lastPathComponent)
  }

  /// This configuration, of a run that goes on, with some keys set anew; see `load` for `overrides`
  /// and `literal`. The model's defaults have had their say when the run began. What its file was given since then
  /// and has no effect is told as well.
  public func resumed(
    overrides: [(key: String, value: String)], literal: Set<String> = []
  ) throws -> LoadedConfiguration {
    var result = self
    for o in overrides {
      let place = "`" + o.key + "`"
      let value = try Self.value(of: o, isLiteral: literal.contains(o.key))
      try result.set(o.key, Self.expanded(value, of: o.key, at: place), at: place)
    }
    let named = Set(overrides.map(\.key))
    // Seeds of another number of images count from 0 again.
    if named.contains("eval.num_validation_images"), !named.contains("eval.validation_seeds") {
      result.eval.validationSeeds = nil
    }
    try result.validate()
    let given = unusual.filter { $0.effect == .run }.map(\.name)
    return LoadedConfiguration(
      configuration: result, fromModelDefaults: [], named: named, told: named.union(given), ofARun: nil)
  }

  /// The settings that have another value than without a word of them; those of validation only where there is any.
  private var unusual: [Setting] {
    let usual = RunConfiguration()
    return Self.settings.filter {
      let value = $0.write(self)
      if $0.name.hasPrefix("eval."), eval.validationPrompts.isEmpty { return false }
      return !value.isNull && value != $0.write(usual)
    }
  }

  /// The pairs that `--section.key value` and `--section.key=value` name.
  public static func overrides(fromArguments arguments: [String]) throws -> [(key: String, value: String)] {
    var pairs: [(key: String, value: String)] = []
    var rest = arguments[...]
    while let argument = rest.popFirst() {
      guard argument.hasPrefix("--"), argument.contains(".") else {
        let meant = option(forFlag: argument).map { "did you mean `\($0)`?" }
        throw NeTIError(
          wrongUsage:
            "\(quoted(argument)) is no option; \(meant ?? "settings look like `optim.max_train_steps 500`")")
      }
      let body = argument.dropFirst(2)
      if let equals = body.firstIndex(of: "=") {
        pairs.append((String(body[..<equals]), String(body[body.index(after: equals)...])))
      } else if let value = rest.first, !value.hasPrefix("--") {
        pairs.append((String(body), value))
        rest = rest.dropFirst()
      } else {
        throw NeTIError(wrongUsage: "`\(body)` needs a value")
      }
    }
    return pairs
  }

  /// What a flag's text means to its key: text stands as it is, a list is YAML or one entry.
  private static func value(
    of override: (key: String, value: String), isLiteral: Bool
  ) throws -> ConfigurationValue {
    let key = settingsByName[override.key]
    // Nothing between quotes is not YAML's null: most often it is a variable of a shell that is not set.
    if let key, override.value.allSatisfy(\.isWhitespace) {
      guard key.isText, !key.isList else {
        throw NeTIError("\(key.name) is empty; it must be \(key.expectation)")
      }
      return .text(override.value)
    }
    guard let key, key.isList else {
      return isLiteral && key?.isText == true ? .text(override.value) : .word(override.value)
    }
    guard override.value.hasPrefix("["), !key.isText || override.value.hasSuffix("]") else {
      let one = ConfigurationValue.word(override.value)
      return one.isNull ? .null : .list([one])
    }
    return try ConfigurationYAML.value(override.value, name: "`" + override.key + "`")
  }

  /// A path, or several, with `~` and variables put in; other values as they are.
  private static func expanded(
    _ value: ConfigurationValue, of name: String, at place: String
  ) throws -> ConfigurationValue {
    guard settingsByName[name]?.isPath == true else { return value }
    do {
      switch value {
      case .text(let path): return .text(try expandedPath(path))
      case .word(let path): return value.isNull ? value : .word(try expandedPath(path))
      case .list(let items): return .list(try items.map { try expanded($0, of: name, at: place) })
      default: return value
      }
    } catch let e as FileError {
      throw NeTIError("\(place): \(e.message)")
    }
  }

  /// Settles what follows from other keys.
  private mutating func fillIn(named: Set<String>) {
    if optim.seed == nil { optim.seed = 0 }
    let defaultSeeds = Validation().validationSeeds?.count
    if !named.contains("eval.validation_seeds"), eval.numValidationImages != defaultSeeds {
      eval.validationSeeds = nil
    }
  }
}
