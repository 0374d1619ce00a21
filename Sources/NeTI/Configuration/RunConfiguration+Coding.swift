import Diffusion
import Files
import Foundation

extension RunConfiguration {
  /// The whole configuration as YAML, every key named; reading it back gives an equal value.
  public func resolvedYAML() -> String { ConfigurationYAML.document(self) }

  /// The configuration that `resolvedYAML` wrote; `name` stands for the text in errors.
  public init(resolvedYAML text: String, name: String = "config.yaml") throws {
    self.init()
    for entry in try ConfigurationYAML.entries(Data(text.utf8), name: name) {
      try set(entry.name, entry.value, at: "\(name), line \(entry.line)")
    }
  }

  /// Sets a key by its dotted name. Throws a `NeTIError` that begins with `place`.
  mutating func set(_ name: String, _ value: ConfigurationValue, at place: String) throws {
    if let key = Self.settingsByName[name] {
      guard key.read(&self, value) else {
        let place = place == name ? "" : place + ": "
        throw NeTIError("\(place)\(name) must be \(key.expectation), not \(shown(value, of: key, at: place))")
      }
    } else if value.isNull, Self.branches.contains(name) {
      return  // a section with nothing in it
    } else if Self.branches.contains(name) {
      throw NeTIError("\(place): \(name) holds keys, not a value")
    } else if let key = Self.settings.first(where: { name.hasPrefix($0.name + ".") }) {
      throw NeTIError("\(place): \(key.name) must be \(key.expectation), and has no keys in it")
    } else {
      let hint = Self.suggestion(for: name).map { "; did you mean \($0)?" } ?? ""
      throw NeTIError("\(place): unknown key \(quoted(name))\(hint)")
    }
  }

  /// What was written where a key takes something else: of a list its first wrong entry. How a list is written that
  /// lacks its brackets.
  private func shown(_ value: ConfigurationValue, of key: Setting, at place: String) -> String {
    func isTaken(_ value: ConfigurationValue) -> Bool {
      var other = self
      return key.read(&other, value)
    }
    var wrong = value
    if key.isList, case .list(let entries) = value {
      wrong = entries.first { !isTaken(.list([$0])) } ?? value
    }
    guard key.isList, case .word(let text) = wrong, text.contains(","),
      isTaken(.list(text.split(separator: ",").map { .word($0.trimmingCharacters(in: .whitespaces)) }))
    else { return wrong.shown }
    // A shell would look for files that are so called.
    let quote = place.hasPrefix("`") ? "'" : ""
    return "\(wrong.shown); write \(quote)[\(text)]\(quote)"
  }

  private static let branches = Set(sections + ["model.pe_sigmas"])

  // MARK: Codable, by the same table

  /// Keys that are missing keep their defaults, and unknown ones are ignored: this reads what other
  /// versions wrote. A value of the wrong type throws.
  public init(from decoder: any Decoder) throws {
    self.init()
    for (name, value) in try ConfigurationTree(from: decoder).flattened() {
      guard let key = Self.settingsByName[name] else { continue }
      guard key.read(&self, value) else {
        throw DecodingError.dataCorrupted(
          .init(codingPath: decoder.codingPath, debugDescription: "\(name) must be \(key.expectation)"))
      }
    }
  }

  public func encode(to encoder: any Encoder) throws {
    var tree = ConfigurationTree.branch([:])
    for key in Self.settings { tree.insert(key.write(self), at: key.path) }
    try tree.encode(to: encoder)
  }
}

/// Values by nested names, as in JSON.
private enum ConfigurationTree: Codable {
  case leaf(ConfigurationValue)
  case branch([String: ConfigurationTree])

  /// Levels below this are not looked at: the configuration has none.
  private static let deepest = 4

  init(from decoder: any Decoder) throws {
    if decoder.codingPath.count < Self.deepest, let inner = try? [String: ConfigurationTree](from: decoder) {
      self = .branch(inner)
    } else {
      self = .leaf((try? ConfigurationValue(from: decoder)) ?? .null)
    }
  }

  func encode(to encoder: any Encoder) throws {
    switch self {
    case .leaf(let value): try value.encode(to: encoder)
    case .branch(let inner): try inner.encode(to: encoder)
    }
  }

  mutating func insert(_ value: ConfigurationValue, at path: [String]) {
    guard let first = path.first else { return self = .leaf(value) }
    guard case .branch(var inner) = self else { return }
    inner[first, default: .branch([:])].insert(value, at: Array(path.dropFirst()))
    self = .branch(inner)
  }

  func flattened(_ prefix: String = "") -> [(String, ConfigurationValue)] {
    switch self {
    case .leaf(let value): [(prefix, value)]
    case .branch(let inner): inner.flatMap { $1.flattened(prefix.isEmpty ? $0 : prefix + "." + $0) }
    }
  }
}
