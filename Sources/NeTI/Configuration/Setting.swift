import Diffusion
import Files
import Foundation

/// One setting of a run: its name in files and flags, where its value is, and all that follows from it.
package struct Setting: Sendable {
  /// What another value changes.
  enum Effect: Sendable {
    /// The concept.
    case concept
    /// How long is trained, and where the learning rate depends on that, the concept.
    case length
    /// Only the run: where its files lie, what it generates meanwhile, how fast it is.
    case run
  }

  /// What the checkpoints of NeTI's authors have of it.
  enum InTheirs: Sendable {
    /// It is read and written.
    case kept
    /// Nothing of the concept depends on it, but their loader wants it: not read, and always written alike.
    case filler
    /// Ours: their loader refuses what it does not know.
    case absent
  }

  /// Why it decides nothing here, for whoever sets it.
  enum NoEffect: Sendable {
    case always(String)
    case unlessDefault(String)
    /// As the other settings are; nil where it does what it says.
    case depending(@Sendable (RunConfiguration) -> String?)
  }

  /// “section.key”.
  package let name: String
  /// What a manifest's line calls it, as the flag is called.
  package let short: String?
  package let expectation: String
  let isList: Bool
  let isText: Bool
  let isPath: Bool
  let effect: Effect
  let inTheirs: InTheirs
  let noEffect: NoEffect?
  /// Sets the value; false when it is not of the setting's type.
  let read: @Sendable (inout RunConfiguration, ConfigurationValue) -> Bool
  let write: @Sendable (RunConfiguration) -> ConfigurationValue
  /// Throws one line that names the setting, its value and what it may be.
  let check: @Sendable (RunConfiguration) throws -> Void

  /// Without `inTheirs`, what gives another concept is kept.
  init<T: ConfigurationConvertible>(
    _ name: String, _ path: any WritableKeyPath<RunConfiguration, T> & Sendable,
    _ check: SettingCheck<T.Part>? = nil, effect: Effect = .concept, inTheirs: InTheirs? = nil,
    isPath: Bool = false, short: String? = nil, noEffect: NoEffect? = nil
  ) {
    self.name = name
    self.short = short
    expectation = T.expectation
    isList = T.isList
    isText = T.isText
    self.isPath = isPath
    self.effect = effect
    self.inTheirs = inTheirs ?? (effect == .run ? .filler : .kept)
    self.noEffect = noEffect
    read = { configuration, value in
      guard let typed = T(value) else { return false }
      configuration[keyPath: path] = typed
      return true
    }
    write = { $0[keyPath: path].configurationValue }
    self.check = { configuration in
      for part in configuration[keyPath: path].parts { try check?.require(name, part) }
    }
  }

  /// The parts of the name: the section, the key, and where that holds keys, theirs.
  var path: [String] { name.split(separator: ".").map(String.init) }

  /// Why a value that was set has no effect here, if so.
  func reasonWithoutEffect(_ configuration: RunConfiguration) -> String? {
    switch noEffect {
    case .always(let reason): reason
    case .unlessDefault(let reason): write(configuration) == write(RunConfiguration()) ? nil : reason
    case .depending(let reason): reason(configuration)
    case nil: nil
    }
  }
}

extension Setting.NoEffect {
  /// A choice of what the concept is made of.
  static let onMapper = Self.depending { $0.model.reasonWithoutMapperChoice }
  static let onPositionalEncoding = Self.depending {
    $0.model.reasonWithoutMapperChoice
      ?? ($0.model.usePositionalEncoding ? nil : "model.use_positional_encoding is false")
  }
  static let onNestedDropout = Self.depending {
    if $0.model.mapperCheckpointPath != nil { return nil }
    return $0.model.reasonWithoutMapperChoice
      ?? ($0.model.useNestedDropout ? nil : "model.use_nested_dropout is false")
  }
  static let onCrop = Self.depending {
    $0.data.buckets && !$0.data.centerCrop ? "data.buckets true cuts to a size, and squashes nothing" : nil
  }
  static let onRepresentation = Self.depending { $0.model.reasonWithGivenConcept }
  static let onValidation = Self.depending {
    $0.eval.validationPrompts.isEmpty ? "there are no eval.validation_prompts" : nil
  }
  static let onValidationSteps = Self.depending { c in
    if c.eval.validationPrompts.isEmpty { return "there are no eval.validation_prompts" }
    return c.eval.validationSteps > c.optim.maxTrainSteps
      ? "the run ends at step \(c.optim.maxTrainSteps)" : nil
  }
  static let onWarmup = Self.depending {
    $0.optim.lrScheduler == .constant && $0.optim.lrWarmupSteps > 0
      ? "optim.lr_scheduler constant has no warm-up, and constant_with_warmup has one" : nil
  }
  static let onScheduler = Self.depending {
    $0.optim.lrScheduler == .constantWithWarmup && $0.optim.lrWarmupSteps == 0
      ? "constant_with_warmup is constant while optim.lr_warmup_steps is 0" : nil
  }
  static let onPrecision = Self.depending {
    $0.optim.mixedPrecision == .fp16 ? "fp16 is computed in fp32; bf16 is there, and needs less memory" : nil
  }
  static let onTF32 = Self.depending {
    $0.optim.allowTf32 && $0.optim.mixedPrecision == .bf16 ? "optim.mixed_precision is bf16" : nil
  }
}

extension RunConfiguration.Model {
  fileprivate var reasonWithGivenConcept: String? {
    mapperCheckpointPath == nil ? nil : "the concept in model.mapper_checkpoint_path decides it"
  }

  /// Why nothing is chosen of a mapper here, if so.
  fileprivate var reasonWithoutMapperChoice: String? {
    if let reasonWithGivenConcept { return reasonWithGivenConcept }
    return switch representation {
    case .neti, .time, .space: nil
    case .ti, .xti: "the representation \(representation.rawValue) has no mapper"
    }
  }
}

/// What a setting's value must be; of an optional one what it holds, of a list each entry.
struct SettingCheck<Value>: Sendable {
  /// Throws one line that begins with the setting's name.
  let require: @Sendable (_ name: String, _ value: Value) throws -> Void
}

extension SettingCheck where Value == Int {
  static func between(_ range: ClosedRange<Int>) -> Self {
    Self { name, value in
      guard range.contains(value) else {
        throw NeTIError("\(name) is \(value); it must be between \(range.lowerBound) and \(range.upperBound)")
      }
    }
  }

  /// A number of time anchors that their spacing gives.
  static var timeAnchors: Self { Self { _ = try PositionalEncoding.anchorTimesteps($1, name: $0) } }
}

extension SettingCheck where Value == Double {
  static func between(_ range: ClosedRange<Int>) -> Self {
    Self { name, value in
      guard Double(range.lowerBound) <= value, value <= Double(range.upperBound) else {
        throw NeTIError("\(name) is \(value); it must be between \(range.lowerBound) and \(range.upperBound)")
      }
    }
  }

  static var positive: Self { finite("it must be a number above 0") { $0 > 0 } }
  static var notNegative: Self { finite("it must be at least 0") { $0 >= 0 } }
  static var share: Self { finite("it must be at least 0 and below 1") { 0 <= $0 && $0 < 1 } }

  private static func finite(_ demand: String, _ holds: @escaping @Sendable (Double) -> Bool) -> Self {
    Self { name, value in
      guard value.isFinite, holds(value) else { throw NeTIError("\(name) is \(value); \(demand)") }
    }
  }
}

extension SettingCheck where Value == String {
  /// Text that can be a word or a path; `otherwise` follows the name.
  static func clean(_ otherwise: String) -> Self {
    Self { name, text in
      guard isClean(text) else { throw NeTIError("\(name) \(otherwise)") }
    }
  }

  /// A word that can stand for a concept.
  static var placeholder: Self {
    Self { name, word in
      guard !word.isEmpty else {
        throw NeTIError("\(name) is not set: choose a word for the concept, as <toy>")
      }
      guard isClean(word), !word.contains(Templates.placeholder), !word.contains(where: \.isWhitespace) else {
        throw NeTIError("\(name) \(quoted(word)) must be one word, without spaces and {}, as <toy>")
      }
    }
  }

  static var runName: Self {
    Self { name, text in
      guard !text.isEmpty else { throw NeTIError("\(name) is not set: name the run") }
      let parts = text.split(separator: "/", omittingEmptySubsequences: false)
      guard parts.allSatisfy({ !$0.isEmpty && $0 != "." && $0 != ".." }), isClean(text) else {
        throw NeTIError("\(name) \(quoted(text)) must be the name of a folder inside log.exp_dir")
      }
    }
  }

  /// A LoRA's file with its weight.
  static var lora: Self {
    Self { name, text in
      guard isClean(text), LoRAFile(text) != nil else {
        throw NeTIError("\(name) \(quoted(text)) must be a file, or FILE:WEIGHT with a number of at most 100")
      }
    }
  }

  /// Something, and nothing that a terminal or a path trips over.
  private static func isClean(_ text: String) -> Bool {
    !text.allSatisfy(\.isWhitespace) && text.utf8.count <= 4096
      && text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
  }
}
