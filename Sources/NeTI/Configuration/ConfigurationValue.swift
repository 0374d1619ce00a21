import Diffusion
import Files
import Foundation

/// A value as it stands in a YAML file, a flag or JSON, before its key says what it must be.
enum ConfigurationValue: Equatable, Sendable {
  case null
  case bool(Bool)
  case int(Int)
  case double(Double)
  /// Text that was quoted, or is text in JSON.
  case text(String)
  /// An unquoted word of YAML or of the command line: text, number, truth value or nothing.
  case word(String)
  case list([ConfigurationValue])

  var isNull: Bool {
    switch self {
    case .null: true
    case .word(let w): ["", "~", "null", "Null", "NULL"].contains(w)
    default: false
    }
  }

  /// What was written, for an error.
  var shown: String {
    switch self {
    case .null: "null"
    case .bool(let b): String(b)
    case .int(let i): String(i)
    case .double(let d): String(d)
    case .text(let t), .word(let t): quoted(t)
    case .list: "a list"
    }
  }
}

/// A Swift type that a setting can have.
protocol ConfigurationConvertible: Equatable, Sendable {
  /// What a check looks at: the value itself, what an optional one holds, or each entry of a list.
  associatedtype Part = Self
  var parts: [Part] { get }
  init?(_ value: ConfigurationValue)
  var configurationValue: ConfigurationValue { get }
  /// Completes “… must be”.
  static var expectation: String { get }
  static var isList: Bool { get }
  static var isText: Bool { get }
}

extension ConfigurationConvertible {
  static var isList: Bool { false }
  static var isText: Bool { false }
}

extension ConfigurationConvertible where Part == Self {
  var parts: [Self] { [self] }
}

extension Bool: ConfigurationConvertible {
  static let expectation = "true or false"
  var configurationValue: ConfigurationValue { .bool(self) }

  /// The words of YAML 1.1, which the authors' reader takes.
  init?(_ value: ConfigurationValue) {
    switch value {
    case .bool(let b): self = b
    case .word(let w), .text(let w):
      switch w.lowercased() {
      case "true", "yes", "on": self = true
      case "false", "no", "off": self = false
      default: return nil
      }
    default: return nil
    }
  }
}

extension Int: ConfigurationConvertible {
  static let expectation = "a whole number"
  var configurationValue: ConfigurationValue { .int(self) }

  init?(_ value: ConfigurationValue) {
    switch value {
    case .int(let i): self = i
    case .double(let d):
      guard let i = Int(exactly: d) else { return nil }
      self = i
    case .word(let w), .text(let w):
      guard let i = Int(w.replacing("_", with: "")) else { return nil }
      self = i
    default: return nil
    }
  }
}

extension Double: ConfigurationConvertible {
  static let expectation = "a number"
  var configurationValue: ConfigurationValue { .double(self) }

  init?(_ value: ConfigurationValue) {
    switch value {
    case .int(let i): self = Double(i)
    case .double(let d): self = d
    case .word(let w), .text(let w):
      guard w.utf8.allSatisfy({ "0123456789+-.eE_".utf8.contains($0) }),
        let d = Double(w.replacing("_", with: ""))
      else { return nil }
      self = d
    default: return nil
    }
    if !isFinite { return nil }
  }
}

extension String: ConfigurationConvertible {
  static let expectation = "text"
  static let isText = true
  var configurationValue: ConfigurationValue { .text(self) }

  init?(_ value: ConfigurationValue) {
    guard !value.isNull else { return nil }
    switch value {
    case .word(let t), .text(let t): self = t
    default: return nil
    }
  }
}

extension Optional: ConfigurationConvertible where Wrapped: ConfigurationConvertible {
  static var expectation: String {
    isList ? "null or " + Wrapped.expectation : Wrapped.expectation + " or null"
  }
  static var isList: Bool { Wrapped.isList }
  static var isText: Bool { Wrapped.isText }
  var parts: [Wrapped.Part] { self?.parts ?? [] }
  var configurationValue: ConfigurationValue { self?.configurationValue ?? .null }

  init?(_ value: ConfigurationValue) {
    if value.isNull {
      self = .none
    } else {
      guard let wrapped = Wrapped(value) else { return nil }
      self = .some(wrapped)
    }
  }
}

extension Array: ConfigurationConvertible where Element: ConfigurationConvertible {
  static var expectation: String { "a list, each entry \(Element.expectation)" }
  static var isList: Bool { true }
  var parts: [Element.Part] { flatMap(\.parts) }
  var configurationValue: ConfigurationValue { .list(map(\.configurationValue)) }

  /// Nothing is an empty list.
  init?(_ value: ConfigurationValue) {
    guard !value.isNull else { self = []; return }
    guard case .list(let values) = value else { return nil }
    let converted = values.compactMap { Element($0) }
    guard converted.count == values.count else { return nil }
    self = converted
  }
}

/// A choice among names.
extension ConfigurationConvertible where Self: RawRepresentable & CaseIterable, RawValue == String {
  static var expectation: String { "one of " + allCases.map(\.rawValue).joined(separator: ", ") }
  static var isText: Bool { true }
  var configurationValue: ConfigurationValue { .text(rawValue) }

  init?(_ value: ConfigurationValue) {
    switch value {
    case .word(let t), .text(let t): self.init(rawValue: t)
    default: return nil
    }
  }
}

extension RunConfiguration.LearnableProperty: ConfigurationConvertible {}
extension RunConfiguration.MixedPrecision: ConfigurationConvertible {}
extension SchedulerKind: ConfigurationConvertible {}
extension LearningRate.Schedule: ConfigurationConvertible {}
extension RepresentationKind: ConfigurationConvertible {}
extension PredictionType: ConfigurationConvertible {}

extension ConfigurationValue: Codable {
  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    if container.decodeNil() {
      self = .null
    } else if let b = try? container.decode(Bool.self) {
      self = .bool(b)
    } else if let i = try? container.decode(Int.self) {
      self = .int(i)
    } else if let d = try? container.decode(Double.self) {
      self = .double(d)
    } else if let t = try? container.decode(String.self) {
      self = .text(t)
    } else {
      self = .list(try container.decode([ConfigurationValue].self))
    }
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    switch self {
    case .null: try container.encodeNil()
    case .bool(let b): try container.encode(b)
    case .int(let i): try container.encode(i)
    case .double(let d): try container.encode(d)
    case .text(let t), .word(let t): try container.encode(t)
    case .list(let l): try container.encode(l)
    }
  }
}
