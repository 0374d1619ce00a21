import Files
package import Foundation

/// The files of a `tokenizer/` folder as they lie on the disk, to be checked by `CLIPTokenizer`.
package struct TokenizerFiles: Sendable {
  /// The folder's name, for errors.
  package var name: String
  /// `vocab.json`: a symbol's text and its id.
  package var vocabulary = Data()
  /// `merges.txt`: a version, then a pair of symbols on each line.
  package var merges = Data()
  /// `added_tokens.json`, where there is one: tokens beyond the vocabulary and their ids.
  package var addedTokens: Data?
  /// `tokenizer.json`, where it takes the place of these three.
  package var whole: Data?
  /// `tokenizer_config.json`, where there is one.
  package var configuration: Data?
  /// `special_tokens_map.json`, where there is one; it overrides the configuration.
  package var specialTokens: Data?
  /// The symbols that come with the program, where they take the place of the files.
  private var builtIn: TokenizerSymbols?

  /// CLIP's vocabulary, which comes with the program.
  ///
  /// - Parameters:
  ///   - padToken: what fills a prompt up.
  ///   - name: what errors call it.
  init(clipPaddedWith padToken: String, name: String) throws {
    self.name = name
    let ids = CLIPVocabulary.symbols.enumerated().map { ($1, $0) }
    builtIn = TokenizerSymbols(
      vocabulary: Dictionary(ids, uniquingKeysWith: { a, _ in a }),
      merges: CLIPVocabulary.merges.compactMap { SymbolPair($0.utf8) }, addedTokens: [:], file: name)
    specialTokens = try JSONEncoder().encode(["pad_token": padToken])
  }

  /// Reads the files; where the folder has only `tokenizer.json`, as transformers 5 saves it, vocabulary,
  /// merges and added tokens are in there.
  ///
  /// - Throws: `FileError` when a file is missing, too large or not readable.
  package init(folder: URL) throws {
    name = folder.lastPathComponent
    let exists = { (file: String) in
      FileManager.default.fileExists(atPath: folder.appending(path: file).path)
    }
    let read = { (file: String) in try JSONFile.read(folder.appending(path: file)) }
    configuration = exists("tokenizer_config.json") ? try read("tokenizer_config.json") : nil
    specialTokens = exists("special_tokens_map.json") ? try read("special_tokens_map.json") : nil
    if exists("tokenizer.json"), !exists("vocab.json") || !exists("merges.txt") {
      whole = try read("tokenizer.json")
      return
    }
    vocabulary = try read("vocab.json")
    merges = try read("merges.txt")
    addedTokens = exists("added_tokens.json") ? try read("added_tokens.json") : nil
  }

  /// The name of a file of the folder, for errors.
  func path(_ file: String) -> String { "\(name)/\(file)" }

  /// What the files say about symbols, in either layout.
  ///
  /// - Throws: `FileError` or `DiffusionError` that names the file and what is wrong in it.
  func symbols() throws -> TokenizerSymbols {
    if let builtIn { return builtIn }
    if let whole {
      let file = path("tokenizer.json")
      let json = try JSONFile.decode(TokenizerJSON.self, from: whole, name: file)
      return TokenizerSymbols(
        vocabulary: json.vocabulary, merges: json.merges, addedTokens: json.addedTokens, file: file)
    }
    let ids = { (data: Data, file: String) in
      try JSONFile.decode([String: Int].self, from: data, name: path(file))
    }
    return TokenizerSymbols(
      vocabulary: try ids(vocabulary, "vocab.json"),
      merges: try SymbolPair.list(merges, file: path("merges.txt")),
      addedTokens: try addedTokens.map { try ids($0, "added_tokens.json") } ?? [:], file: path("vocab.json"))
  }
}

/// A vocabulary and the order in which its symbols are joined.
struct TokenizerSymbols {
  /// A symbol's text and its id.
  var vocabulary: [String: Int]
  /// The first is joined first.
  var merges: [SymbolPair]
  /// Tokens beyond the vocabulary and their ids.
  var addedTokens: [String: Int]
  /// Where the vocabulary is from, for errors.
  var file: String
}

/// Two symbols that are joined.
struct SymbolPair: Sendable {
  let left: String
  let right: String

  /// Two symbols with blanks between them; nil when the line has not two.
  init?(_ line: some Sequence<UInt8>) {
    let parts = Array(line).split(whereSeparator: Self.isBlank)
    guard parts.count == 2 else { return nil }
    left = String(decoding: parts[0], as: UTF8.self)
    right = String(decoding: parts[1], as: UTF8.self)
  }

  /// The pairs of `merges.txt`: one on each line after the first, which holds a version.
  static func list(_ data: Data, file: String) throws -> [SymbolPair] {
    guard let text = String(data: data, encoding: .utf8) else {
      throw DiffusionError("\(file): not UTF-8 text")
    }
    let lines = text.utf8.drop(while: isBlank)
      .split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
    return try lines.dropFirst().prefix(BytePairEncoder.maximumMerges).enumerated().compactMap { i, line in
      guard !line.allSatisfy(isBlank) else { return nil }
      guard let pair = SymbolPair(line) else {
        throw DiffusionError("\(file): line \(i + 2) is not two symbols with a space between them")
      }
      return pair
    }
  }

  private static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || (0x09...0x0D).contains(byte) }
}

/// `tokenizer.json` of the library tokenizers: everything in one file.
///
/// Only what CLIP's two files hold is taken; normalisation and splitting are CLIP's own, whatever it says.
private struct TokenizerJSON: Decodable {
  let vocabulary: [String: Int]
  let merges: [SymbolPair]
  let addedTokens: [String: Int]

  private enum Key: String, CodingKey {
    case model
    case addedTokens = "added_tokens"
  }

  private struct Model: Decodable {
    var type: String?
    var end_of_word_suffix: String?
    var vocab: [String: Int]
    var merges: [Merge]
  }

  /// Two symbols: a pair, or a line with a space between them as older versions write it.
  private struct Merge: Decodable {
    let pair: SymbolPair

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      let line: String
      if let text = try? container.decode(String.self) {
        line = text
      } else {
        line = try container.decode([String].self).joined(separator: " ")
      }
      guard line.split(separator: " ", omittingEmptySubsequences: false).count == 2,
        !line.contains(where: \.isNewline), let pair = SymbolPair(line.utf8)
      else { throw DiffusionError("“model.merges” has \(quoted(line)), which is no pair of symbols") }
      self.pair = pair
    }
  }

  private struct Added: Decodable {
    let id: Int
    let content: String
  }

  init(from decoder: any Decoder) throws {
    let container = try decoder.container(keyedBy: Key.self)
    let model = try container.decode(Model.self, forKey: .model)
    guard model.type ?? "BPE" == "BPE", model.end_of_word_suffix == BytePairEncoder.endOfWord else {
      throw DiffusionError(
        "“model” is \(quoted(model.type ?? "none")) with the suffix \(quoted(model.end_of_word_suffix ?? "")); "
          + "CLIP's tokenizer is byte-pair encoding with the suffix \(BytePairEncoder.endOfWord)")
    }
    vocabulary = model.vocab
    merges = model.merges.prefix(BytePairEncoder.maximumMerges).map(\.pair)
    let added = try container.decodeIfPresent([Added].self, forKey: .addedTokens) ?? []
    addedTokens = Dictionary(added.map { ($0.content, $0.id) }, uniquingKeysWith: { $1 })
  }
}

/// What `tokenizer_config.json` and `special_tokens_map.json` may say of interest here.
struct TokenizerConfiguration: Decodable {
  /// A token is written as a string or as an object with its text in `content`.
  struct Token: Decodable {
    let text: String

    private enum Key: String, CodingKey { case content }

    init(from decoder: any Decoder) throws {
      if let text = try? decoder.singleValueContainer().decode(String.self) {
        self.text = text
      } else {
        text = try decoder.container(keyedBy: Key.self).decode(String.self, forKey: .content)
      }
    }
  }

  /// A real number: "no limit" is written as 10³⁰.
  var model_max_length: Double?
  var bos_token: Token?
  var eos_token: Token?
  var unk_token: Token?
  var pad_token: Token?
  /// By id; those of the vocabulary's special tokens are listed, too.
  var added_tokens_decoder: [String: Token]?

  init() {}

  /// The same with what `other` says put over it.
  func overridden(by other: TokenizerConfiguration) -> TokenizerConfiguration {
    var result = self
    result.bos_token = other.bos_token ?? bos_token
    result.eos_token = other.eos_token ?? eos_token
    result.unk_token = other.unk_token ?? unk_token
    result.pad_token = other.pad_token ?? pad_token
    return result
  }
}
