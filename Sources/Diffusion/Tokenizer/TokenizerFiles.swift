import Files
package import Foundation

/// The files of a `tokenizer/` folder as they lie on the disk, to be checked by `CLIPTokenizer`.
package struct TokenizerFiles: Sendable {
  /// The folder's name, for errors.
  package var name: String
  /// `vocab.json`: a symbol's text and its id.
  package var vocabulary: Data
  /// `merges.txt`: a version, then a pair of symbols on each line.
  package var merges: Data
  /// `tokenizer_config.json`, where there is one.
  package var configuration: Data?
  /// `special_tokens_map.json`, where there is one; it overrides the configuration.
  package var specialTokens: Data?
  /// `added_tokens.json`, where there is one: tokens beyond the vocabulary and their ids.
  package var addedTokens: Data?

  /// Reads the files; where the folder has only `tokenizer.json`, as transformers 5 saves it, vocabulary,
  /// merges and added tokens are taken from there.
  ///
  /// - Throws: `FileError` when a file is missing, too large or not readable; `DiffusionError` when
  ///   `tokenizer.json` is not CLIP's.
  package init(folder: URL) throws {
    name = folder.lastPathComponent
    let optional = { (file: String) -> Data? in
      let url = folder.appending(path: file)
      return FileManager.default.fileExists(atPath: url.path) ? try JSONFile.read(url) : nil
    }
    configuration = try optional("tokenizer_config.json")
    specialTokens = try optional("special_tokens_map.json")
    let apart = ["vocab.json", "merges.txt"].map { folder.appending(path: $0) }
    let whole = folder.appending(path: "tokenizer.json")
    let exists = { (url: URL) in FileManager.default.fileExists(atPath: url.path) }
    guard !apart.allSatisfy(exists), exists(whole) else {
      vocabulary = try JSONFile.read(apart[0])
      merges = try JSONFile.read(apart[1])
      addedTokens = try optional("added_tokens.json")
      return
    }
    let file = try JSONFile.decode(TokenizerJSON.self, from: whole)
    let encoder = JSONEncoder()
    vocabulary = try encoder.encode(file.vocabulary)
    merges = Data(("#version\n" + file.merges.joined(separator: "\n")).utf8)
    addedTokens = try encoder.encode(file.addedTokens)
  }
}

/// `tokenizer.json` of the library tokenizers: everything in one file.
///
/// Only what CLIP's two files hold is taken; normalisation and splitting are CLIP's own, whatever it says.
private struct TokenizerJSON: Decodable {
  let vocabulary: [String: Int]
  /// As the lines of `merges.txt`.
  let merges: [String]
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
    let line: String

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let line = try? container.decode(String.self) {
        self.line = line
      } else {
        line = try container.decode([String].self).joined(separator: " ")
      }
      guard line.split(separator: " ", omittingEmptySubsequences: false).count == 2,
        !line.contains(where: \.isNewline)
      else { throw DiffusionError("“model.merges” has \(quoted(line)), which is no pair of symbols") }
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
    merges = model.merges.map(\.line)
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
