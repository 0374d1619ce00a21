import Files
public import Foundation

/// CLIP's tokenizer: text to ids, with placeholder tokens that can be added.
///
/// Placeholders, and the special tokens of the folder, are looked for first: literally, with regard to
/// case, anywhere in the text, the longest at the leftmost place. What lies between them is cut into
/// words (`WordSplitter`) and these into symbols (`BytePairEncoder`).
///
/// Source: `CLIPTokenizer` of transformers 5, but that its added tokens are found in any case.
public struct CLIPTokenizer: Sendable {
  /// Unicode scalars of a text that are read; what follows counts as cut off.
  public static let maximumTextLength = 100_000
  /// Entries that a vocabulary may have.
  public static let maximumVocabularySize = 1_000_000
  /// Tokens that may be added to a vocabulary, by its folder and by `add`.
  public static let maximumAddedTokens = 4096
  /// Unicode scalars that an added token may have.
  public static let maximumTokenLength = 256
  /// A sequence longer than this is not meant: "no limit" is written as 10³⁰.
  static let maximumSequenceLength = 100_000
  /// CLIP's, where the folder names none.
  static let usualSequenceLength = 77

  /// Ids in an encoded prompt: BOS, the text, EOS and padding.
  public let modelMaxLength: Int
  public let bosToken: Int
  public let eosToken: Int
  public let padToken: Int
  /// Ids that the folder defines: 0 ..< vocabularySize. Those of added placeholders follow.
  public let vocabularySize: Int

  private let vocabulary: [String: Int]
  private var texts: [String]
  private var literals: LiteralTokens
  private let encoder: BytePairEncoder

  /// Reads a `tokenizer/` folder of the diffusers layout: `vocab.json`, `merges.txt` and, where they
  /// are there, `tokenizer_config.json`, `special_tokens_map.json`, `added_tokens.json`; or
  /// `tokenizer.json` where one of the first two is missing.
  ///
  /// - Parameter maxLength: the text encoder's number of positions; it bounds `modelMaxLength`, and is
  ///   taken where the folder names no sensible length.
  /// - Throws: `FileError` or `DiffusionError` that names the file and what is wrong in it.
  public init(folder: URL, maxLength: Int? = nil) throws {
    try self.init(files: TokenizerFiles(folder: folder), maxLength: maxLength)
  }

  /// The same from the bytes of the files.
  package init(files: TokenizerFiles, maxLength: Int? = nil) throws {
    var configuration = TokenizerConfiguration()
    if let data = files.configuration {
      configuration = try JSONFile.decode(
        TokenizerConfiguration.self, from: data, name: files.path("tokenizer_config.json"))
    }
    if let data = files.specialTokens {
      configuration = configuration.overridden(
        by: try JSONFile.decode(
          TokenizerConfiguration.self, from: data, name: files.path("special_tokens_map.json")))
    }
    let symbols = try files.symbols()
    var vocabulary = symbols.vocabulary
    var texts = try Self.texts(vocabulary, file: symbols.file)
    let symbolCount = texts.count
    var literals = LiteralTokens()
    for (text, id) in try Self.addedTokens(files, symbols, configuration) {
      if vocabulary[text] == nil, id == texts.count {
        vocabulary[text] = id
        texts.append(text)
      }
      guard vocabulary[text] == id else {
        throw DiffusionError(
          "\(files.name): the added token \(quoted(text)) has the id \(id), which does not follow the "
            + "vocabulary's; expected \(vocabulary[text] ?? texts.count)")
      }
      if id >= symbolCount { literals.insert(text, id: id) }
    }
    let special = { (token: TokenizerConfiguration.Token?, usual: String, key: String) throws -> Int in
      let text = token?.text ?? usual
      guard let id = vocabulary[text], !text.isEmpty else {
        throw DiffusionError(
          "\(symbols.file): the \(key) \(quoted(text)) is missing; does the folder belong together?")
      }
      literals.insert(text, id: id)
      return id
    }
    bosToken = try special(configuration.bos_token, "<|startoftext|>", "bos_token")
    eosToken = try special(configuration.eos_token, "<|endoftext|>", "eos_token")
    padToken = try special(configuration.pad_token, "<|endoftext|>", "pad_token")
    let unknown = try special(configuration.unk_token, "<|endoftext|>", "unk_token")
    modelMaxLength = try Self.length(
      configuration.model_max_length, maxLength, file: files.path("tokenizer_config.json"))
    encoder = BytePairEncoder(vocabulary: vocabulary, merges: symbols.merges, unknown: unknown)
    vocabularySize = texts.count
    self.vocabulary = vocabulary
    self.texts = texts
    self.literals = literals
  }

  // MARK: Tokens

  /// The id of a symbol of the vocabulary, as it is written there (`cat</w>` is the whole word), or of
  /// an added token.
  public func token(_ text: String) -> Int? {
    vocabulary[text] ?? literals.id(of: text)
  }

  /// Adds a placeholder and returns its id, the next one after the vocabulary and those added before.
  ///
  /// - Throws: `DiffusionError` when the text is a symbol or a word of the vocabulary, was added
  ///   before, is empty, begins or ends with a space, or is too long.
  public mutating func add(_ token: String) throws -> Int {
    let scalars = token.unicodeScalars
    guard let first = scalars.first, let end = scalars.last else {
      throw DiffusionError("a placeholder token must not be empty; choose one such as <toy>")
    }
    guard scalars.count <= Self.maximumTokenLength else {
      throw DiffusionError(
        "a placeholder token of \(scalars.count) characters; at most \(Self.maximumTokenLength) are allowed")
    }
    guard !first.properties.isWhitespace, !end.properties.isWhitespace else {
      throw DiffusionError("the placeholder \(quoted(token)) begins or ends with a space; leave it out")
    }
    guard literals.id(of: token) == nil else {
      throw DiffusionError("the placeholder \(quoted(token)) is there already; choose another")
    }
    guard vocabulary[token] == nil, vocabulary[token + BytePairEncoder.endOfWord] == nil else {
      throw DiffusionError(
        "the placeholder \(quoted(token)) is already a word of the vocabulary; "
          + "choose another, such as <\(token)>")
    }
    guard texts.count - vocabularySize < Self.maximumAddedTokens else {
      throw DiffusionError(
        "more than \(Self.maximumAddedTokens) placeholder tokens; use fewer concepts at once")
    }
    let id = texts.count
    texts.append(token)
    literals.insert(token, id: id)
    return id
  }

  // MARK: Text to ids and back

  /// The ids of a text, without BOS and EOS, however many they are.
  public func encode(_ text: String) -> [Int] {
    var ids: [Int] = []
    let scalars = Array(text.unicodeScalars.prefix(Self.maximumTextLength))
    for piece in literals.split(scalars) {
      switch piece {
      case .token(let id): ids.append(id)
      case .text(let range):
        for word in WordSplitter.words(scalars[range]) { ids += encoder.encode(word) }
      }
    }
    return ids
  }

  /// A prompt as the text encoder takes it: BOS, the text's ids, EOS, padding, `modelMaxLength` in all.
  public func callAsFunction(_ text: String) -> TokenizedPrompt {
    framed(encode(text), goesOn: !text.unicodeScalars.dropFirst(Self.maximumTextLength).isEmpty)
  }

  /// The same of ids that were encoded.
  ///
  /// - Parameter goesOn: whether the text is longer than what was encoded.
  public func framed(_ ids: [Int], goesOn: Bool = false) -> TokenizedPrompt {
    let kept = ids.prefix(modelMaxLength - 2)
    let dropped = Array(ids.dropFirst(kept.count))
    let body = [bosToken] + kept + [eosToken]
    return TokenizedPrompt(
      ids: body + Array(repeating: padToken, count: modelMaxLength - body.count),
      count: body.count, truncated: dropped, truncatedText: decode(dropped) + (goesOn ? " …" : ""))
  }

  /// The text of ids, as far as it can be known: lower-cased, words apart, without BOS, EOS and padding.
  public func decode(_ ids: [Int]) -> String {
    var bytes: [UInt8] = []
    for id in ids where texts.indices.contains(id) && ![bosToken, eosToken, padToken].contains(id) {
      if literals.contains(id: id) {
        bytes += Array(" \(texts[id]) ".utf8)
        continue
      }
      let isEnd = texts[id].hasSuffix(BytePairEncoder.endOfWord)
      let symbol = texts[id].unicodeScalars.dropLast(isEnd ? BytePairEncoder.endOfWord.count : 0)
      for scalar in symbol {
        if let byte = ByteAlphabet.bytes[scalar] {
          bytes.append(byte)
        } else {
          bytes += Array(String(scalar).utf8)
        }
      }
      if isEnd { bytes.append(UInt8(ascii: " ")) }
    }
    return String(decoding: bytes, as: UTF8.self).split(separator: " ").joined(separator: " ")
  }

  // MARK: Checks

  /// The symbol of each id.
  private static func texts(_ vocabulary: [String: Int], file: String) throws -> [String] {
    guard vocabulary.count <= maximumVocabularySize else {
      throw DiffusionError(
        "\(file): \(vocabulary.count) entries; at most \(maximumVocabularySize) are read")
    }
    var texts = [String?](repeating: nil, count: vocabulary.count)
    for (text, id) in vocabulary {
      guard texts.indices.contains(id), texts[id] == nil else {
        throw DiffusionError(
          "\(file): the id \(id) of \(quoted(text)) is negative, too large or used twice; "
            + "\(vocabulary.count) entries need the ids 0 to \(vocabulary.count - 1)")
      }
      texts[id] = text
    }
    return texts.compactMap { $0 }
  }

  /// The tokens that the files add and those of the configuration, by id.
  private static func addedTokens(
    _ files: TokenizerFiles, _ symbols: TokenizerSymbols, _ configuration: TokenizerConfiguration
  ) throws -> [(String, Int)] {
    var added = symbols.addedTokens
    for (key, token) in configuration.added_tokens_decoder ?? [:] {
      guard let id = Int(key) else {
        throw DiffusionError(
          "\(files.path("tokenizer_config.json")): “added_tokens_decoder” has the key \(quoted(key)), "
            + "not an id")
      }
      added[token.text] = id
    }
    guard added.count <= maximumAddedTokens else {
      throw DiffusionError(
        "\(files.name): \(added.count) added tokens; at most \(maximumAddedTokens) are read")
    }
    for text in added.keys where text.isEmpty || text.unicodeScalars.count > maximumTokenLength {
      throw DiffusionError("\(files.name): the added token \(quoted(text)) is empty or too long")
    }
    return added.map { ($0.key, $0.value) }.sorted { $0.1 < $1.1 }
  }

  private static func length(_ stated: Double?, _ bound: Int?, file: String) throws -> Int {
    let bound = bound ?? Int.max
    let usual = Double(min(bound, usualSequenceLength))
    let length: Double
    if let stated, stated <= Double(maximumSequenceLength) {
      length = min(stated, Double(bound))
    } else {
      length = bound == Int.max ? usual : Double(bound)
    }
    guard length >= 2, length <= Double(maximumSequenceLength), length == length.rounded() else {
      throw DiffusionError("\(file): “model_max_length” is \(length); expected a whole number from 2 up")
    }
    return Int(length)
  }
}
