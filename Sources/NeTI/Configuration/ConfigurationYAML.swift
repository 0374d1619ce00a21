import Diffusion
import Files
import Foundation
import Yams

/// One value of a YAML document with its dotted name and its line.
struct YAMLEntry: Equatable, Sendable {
  let name: String
  let value: ConfigurationValue
  let line: Int
}

/// Reading a configuration's YAML: mappings of mappings that end in scalars and lists of scalars.
///
/// Yams parses; tags, anchors and aliases are refused (an alias can unfold to more than any memory
/// holds), as is everything deeper than a configuration is. Types are left to the keys.
enum ConfigurationYAML {
  /// Bytes of a configuration file; the authors' have one or two thousand.
  static let largestSize = 256 * 1024
  /// The parser goes down 1,000 levels before it gives up, on a few kilobytes of stack each.
  private static let stackSize = 8 << 20
  /// Mappings inside one another: section, key, and the parts of `pe_sigmas`.
  static let deepest = 3

  /// The values of a document in the order of the file. Throws a `NeTIError` that names the line.
  static func entries(_ data: Data, name: String) throws -> [YAMLEntry] {
    guard data.count <= largestSize else {
      throw NeTIError("\(name) is larger than the \(largestSize) bytes that a configuration can have")
    }
    let text: String
    do { text = try decodedText(data, name: name) } catch let e as FileError { throw NeTIError(e.message) }
    return try withLargeStack(bytes: stackSize) { try entries(text, name: name) }
  }

  private static func entries(_ text: String, name: String) throws -> [YAMLEntry] {
    guard let root = try node(text, name: name), root.scalar.map(scalar)?.isNull != true else { return [] }
    guard case .mapping(let mapping) = root else {
      throw NeTIError("\(name): expected sections (\(RunConfiguration.sections.joined(separator: ", ")))")
    }
    try refuse(mapping.tag, except: "map", name: name)
    var found: [YAMLEntry] = []
    try collect(mapping, path: [], name: name, into: &found)
    return found
  }

  /// A single value, as after a flag: a scalar or a list.
  static func value(_ text: String, name: String) throws -> ConfigurationValue {
    guard text.utf8.count <= largestSize else {
      throw NeTIError("\(name): the value is too long; at most \(largestSize) bytes are read")
    }
    return try withLargeStack(bytes: stackSize) {
      try node(text, name: name).map { try value(of: $0, name: name) } ?? .null
    }
  }

  private static func node(_ text: String, name: String) throws -> Node? {
    if let anchor = repeatedAnchor(text) {
      throw NeTIError(
        "\(name): YAML anchors and aliases (&\(anchor), *\(anchor)) are not read; write the value out")
    }
    do {
      // The basic resolver leaves every scalar as text: the keys know what they are.
      return try Parser(yaml: text, resolver: .basic, encoding: .utf8).singleRoot()
    } catch let error as YamlError {
      throw NeTIError("\(name)\(explanation(error))")
    }
  }

  private static func collect(
    _ mapping: Node.Mapping, path: [String], name: String, into found: inout [YAMLEntry]
  ) throws {
    for (keyNode, valueNode) in mapping {
      let line = keyNode.mark?.line ?? 0
      guard case .scalar(let key) = keyNode else {
        throw NeTIError("\(name), line \(line): a key must be a word")
      }
      let whole = path + [key.string]
      if case .mapping(let inner) = valueNode {
        guard whole.count < deepest else {
          throw NeTIError("\(name), line \(line): too many levels under \(quoted(key.string))")
        }
        try refuse(inner.tag, except: "map", name: "\(name), line \(line)")
        try collect(inner, path: whole, name: name, into: &found)
      } else {
        let value = try value(of: valueNode, name: "\(name), line \(line)")
        found.append(YAMLEntry(name: whole.joined(separator: "."), value: value, line: line))
      }
    }
  }

  private static func value(of node: Node, name: String) throws -> ConfigurationValue {
    switch node {
    case .scalar(let s):
      try refuse(s.tag, except: "str", name: name)
      return scalar(s)
    case .sequence(let sequence):
      try refuse(sequence.tag, except: "seq", name: name)
      return .list(
        try sequence.map { item in
          guard case .scalar = item else { throw NeTIError("\(name): a list must hold plain values") }
          return try value(of: item, name: name)
        })
    case .mapping, .alias: throw NeTIError("\(name): expected a value or a list")
    }
  }

  /// A tag names a type of its own, which is nothing that a configuration needs.
  private static func refuse(_ tag: Tag, except usual: String, name: String) throws {
    guard ["", "!", "tag:yaml.org,2002:" + usual].contains(tag.description) else {
      throw NeTIError("\(name): YAML tags (\(quoted(tag.description))) are not read")
    }
  }

  private static func scalar(_ scalar: Node.Scalar) -> ConfigurationValue {
    scalar.style == .plain || scalar.style == .any ? .word(scalar.string) : .text(scalar.string)
  }

  /// A name that stands both after a `&` and after a `*`, as in every use of an alias.
  private static func repeatedAnchor(_ text: String) -> String? {
    func names(after mark: UInt8) -> Set<String> {
      let isName = { (c: UInt8) in
        c == UInt8(ascii: "-") || c == UInt8(ascii: "_") || (0x30...0x39).contains(c)
          || (0x41...0x5A).contains(c) || (0x61...0x7A).contains(c)
      }
      let pieces = text.utf8.split(separator: mark, omittingEmptySubsequences: false).dropFirst()
      return Set(pieces.map { String(decoding: $0.prefix(while: isName), as: UTF8.self) }).subtracting([""])
    }
    guard text.utf8.contains(UInt8(ascii: "&")), text.utf8.contains(UInt8(ascii: "*")) else { return nil }
    return names(after: UInt8(ascii: "&")).intersection(names(after: UInt8(ascii: "*"))).min()
  }

  /// The parser's message in one line.
  private static func explanation(_ error: YamlError) -> String {
    switch error {
    case .scanner(_, let problem, let mark, let text), .parser(_, let problem, let mark, let text),
      .composer(_, let problem, let mark, let text):
      return ", line \(mark.line): \(inOurWords(problem, line: mark.line, of: text))"
    case .reader(let problem, _, _, _): return ": \(problem)"
    case .duplicatedKeysInMapping(let keys, let context):
      let names = keys.map(quoted).joined(separator: ", ")
      return ", line \(context.mark.line): \(names) stands there more than once"
    default: return " is not valid YAML"
    }
  }
}

extension ConfigurationYAML {
  /// What the parser says of two mistakes that are easily made, as their owner knows them.
  private static func inOurWords(_ problem: String, line: Int, of text: String) -> String {
    if problem.contains("another document") {
      return "a second document begins with ---; a configuration is one document: take that line out"
    }
    let lines = text.split(omittingEmptySubsequences: false, whereSeparator: \.isNewline)
    let written = lines.dropFirst(max(line - 1, 0)).first ?? ""
    return written.prefix(while: \.isWhitespace).contains("\t")
      ? "a tab stands before the key; use spaces" : problem
  }
}

/// Writing a configuration's YAML.
extension ConfigurationYAML {
  /// A document with every key, in the table's order.
  static func document(_ configuration: RunConfiguration) -> String {
    var lines: [String] = []
    var open: [String] = []
    for key in RunConfiguration.settings {
      let parts = key.path
      let path = Array(parts.dropLast())
      if path != open {
        let shared = zip(path, open).prefix { $0 == $1 }.count
        for depth in shared..<path.count { lines.append(indent(depth) + path[depth] + ":") }
        open = path
      }
      lines += entry(parts[path.count], key.write(configuration), depth: path.count)
    }
    return lines.joined(separator: "\n") + "\n"
  }

  private static func indent(_ depth: Int) -> String { String(repeating: "  ", count: depth) }

  private static func entry(_ name: String, _ value: ConfigurationValue, depth: Int) -> [String] {
    guard case .list(let items) = value, !items.isEmpty else {
      return [indent(depth) + name + ": " + written(value)]
    }
    return [indent(depth) + name + ":"] + items.map { indent(depth) + "- " + written($0) }
  }

  private static func written(_ value: ConfigurationValue) -> String {
    switch value {
    case .null: return "null"
    case .bool(let b): return String(b)
    case .int(let i): return String(i)
    case .double(let d):
      // YAML 1.1 readers take an exponent for a number only behind a point.
      let text = String(d)
      return text.contains(".") ? text : text.replacing("e", with: ".0e")
    case .text(let t), .word(let t): return doubleQuoted(t)
    case .list(let items): return "[" + items.map(written).joined(separator: ", ") + "]"
    }
  }

  /// Text in double quotes, or bare where every reader takes it for text.
  private static func doubleQuoted(_ text: String) -> String {
    let bare = text.wholeMatch(of: /[A-Za-z][A-Za-z0-9_\/-]*(\.[A-Za-z0-9_\/-]+)*/) != nil
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"]
    if bare && !words.contains(text.lowercased()) { return text }
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"", "\\": result += "\\\(scalar)"
      case "\n": result += "\\n"
      case "\t": result += "\\t"
      case "\u{0}"..."\u{1F}", "\u{7F}"..."\u{A0}": result += "\\x" + hexadecimal(scalar, digits: 2)
      case "\u{2028}", "\u{2029}", "\u{FEFF}", "\u{FFFE}", "\u{FFFF}":
        result += "\\u" + hexadecimal(scalar, digits: 4)
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }

  private static func hexadecimal(_ scalar: Unicode.Scalar, digits: Int) -> String {
    let hex = String(scalar.value, radix: 16, uppercase: true)
    return String(repeating: "0", count: max(digits - hex.count, 0)) + hex
  }
}
