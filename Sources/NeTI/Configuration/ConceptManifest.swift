import Diffusion
import Files
public import Foundation

/// A list of concepts to learn: a file with one JSON object a line.
///
///     {"images": "images/spotty", "token": "<spotty>", "category": "monster"}
///     {"images": "images/ginger", "token": "<ginger>", "category": "cat", "steps": 500}
///
/// A line has the names of `neti train`'s flags, or dotted names of the configuration. Paths start at
/// the manifest's folder and stay in it; `output` is the name of the run's folder. Everything is
/// checked before anything is done, so that a mistake in the last line costs no hour of work.
public struct ConceptManifest: Sendable {
  /// Bytes of a manifest, and concepts in it.
  public static let largestSize = 16 << 20
  public static let largestCount = 100_000
  /// Bytes of a run folder's name.
  static let longestName = 100

  /// One concept to learn.
  public struct Entry: Sendable {
    /// Where it stands, from 1.
    public let line: Int
    /// The name of its run's folder.
    public let name: String
    /// What the line sets, by dotted name, with the name as it was written; paths are absolute.
    let settings: [(name: String, value: ConfigurationValue, written: String)]
  }

  /// The file's name, for messages.
  public let name: String
  public let entries: [Entry]

  /// Reads a manifest.
  ///
  /// - Throws: a `NeTIError` that names the file and the line; `FileError` when it cannot be read.
  public init(contentsOf url: URL) throws {
    try self.init(
      readFile(url, limit: Self.largestSize), name: url.lastPathComponent,
      folder: url.standardizedFileURL.deletingLastPathComponent())
  }

  /// The same for bytes in memory; `folder` is where paths start.
  public init(_ data: Data, name: String, folder: URL) throws {
    self.name = name
    var data = data
    // Windows' editors save so; the lines of other encodings are refused by their numbers.
    if data.starts(with: [0xFF, 0xFE]) || data.starts(with: [0xFE, 0xFF]) {
      do { data = Data(try decodedText(data, name: name).utf8) } catch let e as FileError {
        throw NeTIError(e.message)
      }
    }
    var entries: [Entry] = []
    var lineOfName: [String: Int] = [:]
    let lines = data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    for (i, line) in lines.enumerated() where !line.allSatisfy({ " \t\r".utf8.contains($0) }) {
      guard entries.count < Self.largestCount else {
        throw NeTIError("\(name): more than \(Self.largestCount) concepts; split it")
      }
      let entry: Entry
      do { entry = try Self.entry(Data(line), line: i + 1, in: folder) } catch let e as NeTIError {
        throw NeTIError("\(name), line \(i + 1): \(e.message)")
      }
      // Some file systems take upper and lower case for the same.
      if let other = lineOfName.updateValue(i + 1, forKey: entry.name.lowercased()) {
        throw NeTIError(
          "\(name), line \(i + 1): \(quoted(entry.name)) is the name of line \(other), too; "
            + "give one of them another \"output\"")
      }
      entries.append(entry)
    }
    guard !entries.isEmpty else {
      throw NeTIError("\(name) is empty; each line describes a concept, such as \(Self.example)")
    }
    self.entries = entries
  }

  /// The entries of one of `count` processes: every `count`-th, from the `index`-th (from 1) on.
  public func shard(_ index: Int, of count: Int) -> [Entry] {
    stride(from: index - 1, to: entries.count, by: count).map { entries[$0] }
  }

  // MARK: A line

  private static let example = #"{"images": "my-toy", "token": "<toy>", "category": "toy"}"#

  /// The short names of a line, as the flags are called.
  private static let shortNames = Dictionary(
    uniqueKeysWithValues: RunConfiguration.settings.compactMap { s in s.short.map { ($0, s.name) } })
  private static let outputKey = "output"
  private static let required = ["images", "token", "category"]
  /// What no line can decide, and what does.
  private static let decidedElsewhere = [
    "log.exp_name": "the name of the run's folder is \"output\"",
    "log.exp_dir": "all runs are in `output`",
    "model": "one model serves all lines: give `model`",
    "model.pretrained_model_name_or_path": "one model serves all lines: give `model`",
    "model.loras": "one model serves all lines: give `lora`",
    "precision": "one model serves all lines: give `precision`",
    "optim.mixed_precision": "one model serves all lines: give `precision`",
    "model.prediction_type": "one model serves all lines: give `prediction-type`",
    "model.clip_skip": "one model serves all lines: give `clip-skip`",
  ]

  /// A value of a line; an object has no place in one.
  private enum LineValue: Decodable {
    case plain(ConfigurationValue)
    case object

    init(from decoder: any Decoder) throws {
      self = (try? ConfigurationValue(from: decoder)).map { .plain($0) } ?? .object
    }
  }

  private static func entry(_ data: Data, line: Int, in folder: URL) throws -> Entry {
    guard let text = String(data: data, encoding: .utf8) else {
      throw NeTIError("not UTF-8 text; save the file as UTF-8")
    }
    guard text.trimmingPrefix("\u{FEFF}").drop(while: \.isWhitespace).first == "{" else {
      throw NeTIError("expected a JSON object on each line, such as \(example)")
    }
    let values: [String: LineValue]
    do {
      values = try JSONFile.decode(
        [String: LineValue].self, from: Data(text.trimmingPrefix("\u{FEFF}").utf8), name: "")
    } catch {
      throw NeTIError(String(String(describing: error).trimmingPrefix(": ")))
    }
    var settings: [(name: String, value: ConfigurationValue, written: String)] = []
    for (written, value) in values.sorted(by: { $0.key < $1.key }) where written != outputKey {
      let name = shortNames[written] ?? written
      if let reason = decidedElsewhere[name] { throw NeTIError("\(written) has no place here: \(reason)") }
      if let known = RunConfiguration.sections.first(where: { $0 == written }) {
        throw NeTIError("\(known) is a section; its settings are written as \"\(known).key\"")
      }
      guard let setting = RunConfiguration.settingsByName[name] else {
        let known = [outputKey] + Array(shortNames.keys).sorted() + RunConfiguration.settings.map(\.name)
        let hint = nearest(to: written, among: known).map { "; did you mean \($0)?" } ?? ""
        throw NeTIError("unknown key \(quoted(written))\(hint)")
      }
      guard case .plain(let plain) = value else {
        throw NeTIError("\(written) must be a value, not an object")
      }
      if let other = settings.first(where: { $0.name == name }) {
        throw NeTIError("\(other.written) and \(written) are the same setting; keep one")
      }
      settings.append(
        (
          name, try setting.isPath && setting.effect == .concept ? path(plain, written, in: folder) : plain,
          written
        ))
    }
    // The decoder keeps one of two values for the same name.
    guard values.count == memberCount(data) else { throw NeTIError("a key stands there more than once") }
    for key in required where !settings.contains(where: { $0.name == shortNames[key] }) {
      throw NeTIError("\(key) is missing; a line is such as \(example)")
    }
    return Entry(line: line, name: try runName(values[outputKey], settings), settings: settings)
  }

  /// An absolute path for one that starts at the manifest, or with `~` or a variable, and does not leave its folder.
  private static func path(_ value: ConfigurationValue, _ key: String, in folder: URL) throws
    -> ConfigurationValue
  {
    // What is not text is refused by its key.
    guard case .text(let text) = value else { return value }
    var inner = text
    if text.hasPrefix("~") || text.contains("$"),
      !FileManager.default.fileExists(atPath: folder.appending(path: text).path)
    {
      do { inner = try expandedPath(text) } catch let e as FileError {
        throw NeTIError("\(key) \(e.message)")
      }
      let start = folder.standardizedFileURL.path + "/"
      if inner.hasPrefix(start) { inner.removeFirst(start.count) }
    }
    var depth = 0
    for part in inner.pathParts where !part.isEmpty && depth >= 0 {
      depth += part == ".." ? -1 : part == "." ? 0 : 1
    }
    guard inner.utf8.first != UInt8(ascii: "/"), !inner.hasPrefix("~"), depth >= 0, !inner.utf8.contains(0)
    else {
      throw NeTIError(
        "\(key) \(quoted(text)) leads out of the manifest's folder; paths start there and stay inside")
    }
    return .text(inner.isEmpty ? "" : folder.appending(path: inner).standardizedFileURL.path)
  }

  /// The name that `output` gives, else what is a letter or a number in the token.
  private static func runName(
    _ output: LineValue?, _ settings: [(name: String, value: ConfigurationValue, written: String)]
  ) throws -> String {
    guard let output else {
      let token = settings.first { $0.name == shortNames["token"] }?.value
      if let token, String(token) == nil { throw NeTIError("token must be text, not \(token.shown)") }
      let name = token.flatMap { String($0) }?.filter { $0.isLetter || $0.isNumber } ?? ""
      guard !name.isEmpty, name.utf8.count <= longestName else {
        throw NeTIError("the token gives no name for the run's folder; add \"output\"")
      }
      return name
    }
    guard case .plain(.text(let name)) = output, !name.isEmpty, name.utf8.count <= longestName,
      !name.hasPrefix("."), !name.hasSlash, name == name.trimmingCharacters(in: .whitespaces),
      name.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control })
    else {
      throw NeTIError("output must be the name of a folder, without / and not hidden")
    }
    return name
  }

  /// The members of an object that holds plain values and lists: the colons outside of its texts.
  private static func memberCount(_ data: Data) -> Int {
    var count = 0
    var inText = false
    var escaped = false
    for byte in data {
      if escaped {
        escaped = false
      } else if inText, byte == UInt8(ascii: "\\") {
        escaped = true
      } else if byte == UInt8(ascii: "\"") {
        inText.toggle()
      } else if byte == UInt8(ascii: ":"), !inText {
        count += 1
      }
    }
    return count
  }
}

extension ConceptManifest {
  /// The configuration of one entry's run in `output`: flags before the entry, before the YAML file,
  /// before the base model's defaults.
  ///
  /// - Parameters:
  ///   - defaults: what counts where neither says otherwise, before the model's defaults.
  ///   - overrides: of the command line, for every entry; see `RunConfiguration.load`, also for `literal`.
  /// - Throws: a `NeTIError` that names file and line, also when there is no folder of images; `FileError`
  ///   when `yaml` cannot be read.
  public func configuration(
    of entry: Entry, output: URL, yaml: URL? = nil, defaults: [(key: String, value: String)] = [],
    overrides: [(key: String, value: String)] = [], literal: Set<String> = [],
    modelDefaults: (RunConfiguration) throws -> ModelDefaults?
  ) throws -> LoadedConfiguration {
    let place = [("log.exp_dir", output.path), ("log.exp_name", entry.name)]
    do {
      let loaded = try RunConfiguration.load(
        yaml: yaml, defaults: defaults, entry: entry, overrides: overrides + place,
        literal: literal.union(place.map(\.0)), modelDefaults: modelDefaults)
      if let missing = loaded.configuration.missingFolder { throw NeTIError(missing.problem) }
      return loaded
    } catch let e as NeTIError {
      throw e.message.hasPrefix("`") ? e : NeTIError("\(name), line \(entry.line): \(e.message)")
    }
  }
}
