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

  /// - Throws: `DiffusionError` when a file is missing, too large or not readable.
  package init(folder: URL) throws {
    name = folder.lastPathComponent
    let optional = { (file: String) -> Data? in
      let url = folder.appending(path: file)
      return FileManager.default.fileExists(atPath: url.path) ? try JSONFile.read(url) : nil
    }
    vocabulary = try JSONFile.read(folder.appending(path: "vocab.json"))
    merges = try JSONFile.read(folder.appending(path: "merges.txt"))
    configuration = try optional("tokenizer_config.json")
    specialTokens = try optional("special_tokens_map.json")
    addedTokens = try optional("added_tokens.json")
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
