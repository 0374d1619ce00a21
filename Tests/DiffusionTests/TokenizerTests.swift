import Diffusion
import Files
import Foundation
import TestSupport
import Testing

/// The golden data of one vocabulary; see Tests/Fixtures/sections/tokenizer.py.
private struct Group: Decodable {
  struct Case: Decodable {
    let text: String
    let ids: [Int]
    let padded: [Int]?
  }
  let added: [String]
  let pad_token: String?
  let cases: [Case]

  static func load(_ path: String) throws -> [Group] {
    try JSONDecoder().decode([Group].self, from: Data(contentsOf: Fixtures.url(path)))
  }

  func tokenizer(_ folder: URL) throws -> CLIPTokenizer {
    var files = try TokenizerFiles(folder: folder)
    if let pad_token { files.specialTokens = Data("{\"pad_token\": \"\(pad_token)\"}".utf8) }
    var tokenizer = try CLIPTokenizer(files: files)
    for (i, token) in added.enumerated() {
      #expect(try tokenizer.add(token) == tokenizer.vocabularySize + i)
    }
    return tokenizer
  }
}

private let miniSD = Fixtures.miniSD.appending(path: "tokenizer")
private let clip = Fixtures.repository.appending(path: ".build/clip-tokenizer")

@Suite struct TokenizerTests {
  @Test("Ids equal the reference's on mini-sd's vocabulary, for plain and for awkward texts")
  func miniSDVocabulary() throws {
    try compare("tokenizer/mini-sd.json", miniSD)
  }

  @Test(
    "Ids equal the reference's on CLIP's own vocabulary",
    .enabled(
      if: FileManager.default.fileExists(atPath: clip.appending(path: "ready").path),
      "needs: python3 Tests/Fixtures/clip_vocabulary.py .build/clip-tokenizer"))
  func clipVocabulary() throws {
    try compare("tokenizer/clip.json", clip)
    let tokenizer = try CLIPTokenizer(folder: clip)
    #expect(tokenizer.vocabularySize == 49408)
    #expect(tokenizer.modelMaxLength == 77)
    #expect((tokenizer.bosToken, tokenizer.eosToken) == (49406, 49407))
    #expect(tokenizer.token("cat</w>") == 2368)
  }

  /// Texts with a placeholder in another case, which the reference takes for it.
  private static let inAnotherCase: Set = [
    "<TOY> <Toy> <toy >", "a <dog>, a <toy>; a <Dog>", "s* S** *S*", "a photo of zxq dog, azxqb ZXQ",
    "ÄGYPT☕",
    "caféé e\u{301}e\u{301} ÉÉ", "my  toy My Toy my toy",
  ]

  private func compare(_ golden: String, _ folder: URL) throws {
    var count = 0
    for group in try Group.load(golden) {
      let tokenizer = try group.tokenizer(folder)
      for example in group.cases where !Self.inAnotherCase.contains(example.text) {
        #expect(tokenizer.encode(example.text) == example.ids, "\(example.text.debugDescription)")
        if let padded = example.padded {
          #expect(tokenizer(example.text).ids == padded, "\(example.text.debugDescription)")
        }
        count += 1
      }
    }
    #expect(count >= 200)
  }

  // MARK: Prompts

  @Test("A prompt that is too long says what was cut off")
  func truncation() throws {
    var tokenizer = try CLIPTokenizer(folder: miniSD)
    let toy = try tokenizer.add("<toy>")
    let long = tokenizer("a photo of <toy> " + String(repeating: "cat ", count: 26) + "and a red dog <toy>")
    #expect(long.ids.count == 32)
    #expect(long.count == 32)
    #expect(long.ids.last == tokenizer.eosToken)
    #expect(long.truncatedText == "and a red dog <toy>")
    #expect(long.positions(of: toy) == [4])

    let short = tokenizer("<toy> and <toy>")
    #expect(short.count == 5)
    #expect(short.truncated.isEmpty && short.truncatedText.isEmpty)
    #expect(short.positions(of: toy) == [1, 3])
    // Padding is EOS, too, and does not count.
    #expect(short.positions(of: tokenizer.eosToken) == [4])

    let endless = tokenizer(String(repeating: " ", count: CLIPTokenizer.maximumTextLength) + "cat")
    #expect(endless.count == 2)
    #expect(endless.truncatedText == " …")
  }

  @Test("Decoding gives the text back, lower-cased with its accents")
  func decoding() throws {
    var tokenizer = try CLIPTokenizer(folder: miniSD)
    _ = try tokenizer.add("<toy>")
    #expect(tokenizer.decode(tokenizer("A Photo of <toy>, café 日 😀").ids) == "a photo of <toy> , café 日 😀")
    #expect(tokenizer.decode([-1, 1_000_000]) == "")
  }

  @Test("A word of a hundred thousand letters is encoded in reasonable time")
  func longWord() throws {
    let tokenizer = try CLIPTokenizer(folder: miniSD)
    let word = String(repeating: "monster", count: 14_000)
    #expect(tokenizer.encode(word).count < 98_000)
  }

  // MARK: Placeholders

  @Test("A placeholder that is a word of the vocabulary, empty, spaced or there already is refused")
  func refusedPlaceholders() throws {
    var tokenizer = try CLIPTokenizer(folder: miniSD)
    _ = try tokenizer.add("<toy>")
    for (token, part) in [
      ("cat", "already a word"), ("th", "already a word"), ("cat</w>", "already a word"),
      ("*", "already a word"),
      ("<toy>", "there already"), ("<|endoftext|>", "there already"),
      ("", "a placeholder token must not be empty; choose one such as <toy>"), (" <x>", "space"),
      ("<x>\n", "space"), (String(repeating: "x", count: 1000), "at most 256"),
    ] {
      let error = #expect(throws: DiffusionError.self) { try tokenizer.add(token) }
      #expect(error?.message.contains(part) == true, "\(token): \(error?.message ?? "")")
    }
    #expect(try tokenizer.add("<dog>") == tokenizer.vocabularySize + 1)
    #expect(tokenizer.token("<dog>") == tokenizer.vocabularySize + 1)
    for i in 2..<CLIPTokenizer.maximumAddedTokens { _ = try tokenizer.add("<\(i)>") }
    #expect(
      refusal { try tokenizer.add("<more>") }?.message
        == "more than 4096 placeholder tokens; use fewer concepts at once")
  }

  @Test("Tokens that a folder has added keep their ids")
  func addedByTheFolder() throws {
    var files = try TokenizerFiles(folder: miniSD)
    files.addedTokens = Data(#"{"<a>": 927, "<b>": 928}"#.utf8)
    var tokenizer = try CLIPTokenizer(files: files)
    #expect(tokenizer.vocabularySize == 929)
    #expect(tokenizer.encode("<b><a>") == [928, 927])
    #expect(try tokenizer.add("<c>") == 929)

    files.addedTokens = nil
    files.configuration = Data(
      #"{"added_tokens_decoder": {"927": {"content": "<a>", "lstrip": false}, "925": "<|startoftext|>"}}"#
        .utf8)
    #expect(try CLIPTokenizer(files: files).encode("<a>") == [927])
  }

  // MARK: Files

  @Test("Special tokens are read from strings and objects, and the map overrides the configuration")
  func specialTokens() throws {
    var files = try TokenizerFiles(folder: miniSD)
    files.configuration = Data(
      #"{"model_max_length": 1000000000000000019884624838656, "pad_token": "a", "bos_token": {"content": "<|startoftext|>"}}"#
        .utf8)
    files.specialTokens = Data(
      #"{"pad_token": {"content": "!", "single_word": false}, "eos_token": null}"#.utf8)
    #expect(try CLIPTokenizer(files: files).padToken == 0)
    #expect(try CLIPTokenizer(files: files).modelMaxLength == 77)
    #expect(try CLIPTokenizer(files: files, maxLength: 64).modelMaxLength == 64)
    files.configuration = nil
    files.specialTokens = nil
    let plain = try CLIPTokenizer(files: files, maxLength: 128)
    #expect(plain.modelMaxLength == 128)
    #expect((plain.bosToken, plain.eosToken, plain.padToken) == (925, 926, 926))
    #expect(try CLIPTokenizer(folder: miniSD, maxLength: 16).modelMaxLength == 16)
  }

  private static var hostile: [(WritableKeyPath<TokenizerFiles, Data?>, String, String)] {
    [
      (\.configuration, "{", "tokenizer_config.json: not valid JSON"),
      (\.configuration, #"{"model_max_length": "x"}"#, "“model_max_length” has the wrong type"),
      (\.configuration, #"{"model_max_length": 1}"#, "“model_max_length” is 1"),
      (\.configuration, #"{"model_max_length": -5}"#, "“model_max_length” is -5"),
      (\.configuration, #"{"model_max_length": 7.5}"#, "“model_max_length” is 7.5"),
      (\.configuration, #"{"bos_token": 3}"#, "bos_token"),
      (
        \.addedTokens, "{" + (0...4096).map { "\"<\($0)>\": \(927 + $0)" }.joined(separator: ", ") + "}",
        "4097 added tokens; at most 4096 are read"
      ),
      (\.configuration, #"{"added_tokens_decoder": {"x": "y"}}"#, "not an id"),
      (\.configuration, #"{"added_tokens_decoder": {"-1": "y"}}"#, "has the id -1"),
      (
        \.specialTokens, #"{"eos_token": "<nowhere>"}"#,
        "the eos_token “<nowhere>” is missing; does the folder belong together?"
      ),
      (\.addedTokens, #"{"<a>": 900}"#, "does not follow"),
      (\.addedTokens, #"{"": 927}"#, "the added token “” is empty or too long"),
      (\.addedTokens, #"{"\#(String(repeating: "x", count: 300))": 927}"#, "xxx…” is empty or too long"),
      (\.addedTokens, #"[1]"#, "added_tokens.json"),
    ]
  }

  @Test("A damaged folder is an error that names the file and what is wrong")
  func damagedFiles() throws {
    let files = try TokenizerFiles(folder: miniSD)
    func expect(_ files: TokenizerFiles, _ part: String) {
      let error = refusal { try CLIPTokenizer(files: files) }
      #expect(error?.message.contains(part) == true, "\(part) ≠ \(error?.message ?? "")")
      #expect(error?.message.contains("tokenizer") == true)
    }
    for (path, text, part) in Self.hostile {
      var damaged = files
      damaged[keyPath: path] = Data(text.utf8)
      expect(damaged, part)
    }
    for (text, part) in [
      ("{}", "bos_token"), ("[]", "vocab.json"), (#"{"a": "b"}"#, "“a” has the wrong type"),
      (#"{"a": -1}"#, "the id -1"), (#"{"a": 0, "b": 0}"#, "used twice"), (#"{"a": 1}"#, "too large"),
      (#"{"a": 0.5}"#, "vocab.json"), (#"{"a": 99999999999999999999}"#, "vocab.json"), ("", "vocab.json"),
    ] {
      var damaged = files
      damaged.vocabulary = Data(text.utf8)
      expect(damaged, part)
    }
    for (bytes, part) in [
      (
        Data("#version\na b\na b c\n".utf8), "merges.txt: line 3 is not two symbols with a space between them"
      ), (Data("#v\nabc".utf8), "line 2"),
      (Data([0x23, 0x0A, 0xFF, 0x20, 0x61]), "merges.txt: not UTF-8 text"),
    ] {
      var damaged = files
      damaged.merges = bytes
      expect(damaged, part)
    }
    let missing = refusal { try CLIPTokenizer(folder: Fixtures.miniSD) }
    #expect(missing?.message.contains("vocab.json") == true)
  }

  @Test("Merges may end lines as Windows does, and an empty list leaves single bytes")
  func merges() throws {
    var files = try TokenizerFiles(folder: miniSD)
    let text = String(decoding: files.merges, as: UTF8.self)
    files.merges = Data(text.replacingOccurrences(of: "\n", with: "\r\n").utf8)
    let sentence = "a photo of a monster in the jungle"
    #expect(
      try CLIPTokenizer(files: files).encode(sentence) == CLIPTokenizer(folder: miniSD).encode(sentence))
    files.merges = Data()
    #expect(try CLIPTokenizer(files: files).encode("cat").count == 3)
  }

  @Test("A folder with tokenizer.json only gives the ids of the two files, also with a token that was added")
  func oneFile() throws {
    let source = Fixtures.url("tokenizer/json")
    let two = try CLIPTokenizer(folder: source)
    let scratch = try Scratch()
    for name in ["tokenizer.json", "tokenizer_config.json"] {
      try FileManager.default.copyItem(at: source.appending(path: name), to: scratch.file(name))
    }
    let one = try CLIPTokenizer(folder: scratch.folder)
    #expect((one.vocabularySize, one.modelMaxLength) == (927, 32))
    let sentences = [
      "a photo of a red robot on the moon, it’s 1²!", "pixel art of a spotty cat <|endoftext|>", "",
    ]
    for text in sentences { #expect(one(text) == two(text)) }

    // Merges as lines, as versions before 0.20 wrote them, and a token behind the vocabulary.
    let json = try JSONSerialization.jsonObject(
      with: Data(contentsOf: source.appending(path: "tokenizer.json")))
    var file = try #require(json as? [String: Any])
    var model = try #require(file["model"] as? [String: Any])
    model["merges"] = try #require(model["merges"] as? [[String]]).map { $0.joined(separator: " ") }
    file["model"] = model
    file["added_tokens"] = try #require(file["added_tokens"] as? [Any]) + [["id": 927, "content": "<toy>"]]
    _ = try scratch.file(JSONSerialization.data(withJSONObject: file), "tokenizer.json")
    let added = try CLIPTokenizer(folder: scratch.folder)
    for text in sentences { #expect(added(text) == two(text)) }
    #expect(added.encode("a <toy>").last == 927)

    for (change, part) in [
      (
        { $0["type"] = "Unigram" },
        "“model” is “Unigram” with the suffix “</w>”; CLIP's tokenizer is byte-pair encoding with the suffix </w>"
      ),
      ({ $0["end_of_word_suffix"] = "" }, "“model” is “BPE” with the suffix “”; CLIP's tokenizer is"),
      ({ $0["merges"] = [["a", "b", "c"]] }, "“model.merges” has “a b c”, which is no pair of symbols"),
      ({ $0["merges"] = ["a  b"] }, "no pair"),
      ({ $0["vocab"] = ["a": "b"] }, "model.vocab.a"),
    ] as [((inout [String: Any]) -> Void, String)] {
      var damaged = model
      change(&damaged)
      file["model"] = damaged
      _ = try scratch.file(JSONSerialization.data(withJSONObject: file), "tokenizer.json")
      let error = refusal { try CLIPTokenizer(folder: scratch.folder) }
      #expect(error?.message.contains(part) == true, "\(error?.message ?? "")")
      #expect(error?.message.contains("tokenizer.json") == true)
    }
  }

  /// 1 when the files make a tokenizer, 0 when they are refused.
  private func attempt(_ files: TokenizerFiles) -> Int {
    do {
      return try CLIPTokenizer(files: files)("A photo of <toy>, it’s a café 中文 😀<|endoftext|>").ids.isEmpty
        ? 0 : 1
    } catch let error as any DescribedError {
      #expect(!error.message.isEmpty)
    } catch {
      Issue.record("an error without words: \(error)")
    }
    return 0
  }

  @Test("5,000 damaged tokenizer files are read or refused, never a crash")
  func mutatedFiles() throws {
    let files = try TokenizerFiles(folder: miniSD)
    var read = 0
    var damaged = files
    for data in Mutations(of: files.vocabulary, count: 1000, seed: 1) {
      damaged.vocabulary = data
      read += attempt(damaged)
    }
    damaged = files
    for data in Mutations(of: files.merges, count: 1500, seed: 2) {
      damaged.merges = data
      read += attempt(damaged)
    }
    damaged = files
    // A small vocabulary, as it is read anew each time.
    damaged.vocabulary = Data(#"{"a</w>": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}"#.utf8)
    let small = damaged
    for data in Mutations(of: files.configuration ?? Data(), count: 1000, seed: 3) {
      damaged.configuration = data
      read += attempt(damaged)
    }
    damaged = small
    for data in Mutations(of: files.specialTokens ?? Data(), count: 1000, seed: 4) {
      damaged.specialTokens = data
      read += attempt(damaged)
    }
    damaged = small
    for data in Mutations(of: Data(#"{"<a>": 3, "<toy>": 4}"#.utf8), count: 500, seed: 5) {
      damaged.addedTokens = data
      read += attempt(damaged)
    }
    #expect(read > 100)
  }

  @Test("5,000 damaged versions of tokenizer.json are read or refused, never a crash")
  func mutatedWhole() throws {
    var files = try TokenizerFiles(folder: miniSD)
    let small = #"""
      {"added_tokens": [{"id": 4, "content": "<|startoftext|>"}, {"id": 5, "content": "<|endoftext|>"},
        {"id": 6, "content": "<toy>", "special": true}],
       "model": {"type": "BPE", "end_of_word_suffix": "</w>",
        "vocab": {"a": 0, "f</w>": 1, "c": 2, "ca": 3, "<|startoftext|>": 4, "<|endoftext|>": 5},
        "merges": ["c a", ["ca", "f"]]}}
      """#
    let real = try Data(contentsOf: Fixtures.url("tokenizer/json/tokenizer.json"))
    var read = 0
    for original in [Data(small.utf8), real] {
      files.whole = original
      #expect(attempt(files) == 1)
      for data in Mutations(of: original, count: 2500, seed: 7) {
        files.whole = data
        read += attempt(files)
      }
    }
    #expect(read > 100 && read < 4900)
  }

  @Test("5,000 damaged texts are encoded within the vocabulary")
  func mutatedTexts() throws {
    var tokenizer = try CLIPTokenizer(folder: miniSD)
    let toy = try tokenizer.add("<toy>")
    let text = "A <toy> ΟΔΟΣ’s İ café e\u{301}中文 👨‍👩‍👧‍👦 हिन्दी 각 <|endoftext|>\0 1²Ⅷ don't…!!"
    for data in Mutations(of: Data(text.utf8), count: 5000, seed: 6) {
      let prompt = tokenizer(String(decoding: data, as: UTF8.self))
      #expect(prompt.ids.count == 32 && prompt.ids.allSatisfy { (0...toy).contains($0) })
    }
  }
}
