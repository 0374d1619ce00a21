import Diffusion
import Files
import Foundation
import NeTI
import Studio
import TestSupport

extension FuzzTarget {
  static func tokenizer() throws -> [FuzzTarget] {
    let files = try TokenizerFiles(folder: Fixtures.miniSD.appending(path: "tokenizer"))
    let text = "A photo of <toy>, it’s a café 中文 😀<|endoftext|>"
    let tokenizer = try CLIPTokenizer(files: files)
    return [
      FuzzTarget(name: "vocabulary", originals: [files.vocabulary], file: "vocab.json") {
        var damaged = files
        damaged.vocabulary = $0
        _ = try CLIPTokenizer(files: damaged)(text)
      },
      FuzzTarget(name: "merges", originals: [files.merges], file: "merges.txt") {
        var damaged = files
        damaged.merges = $0
        _ = try CLIPTokenizer(files: damaged)(text)
      },
      FuzzTarget(
        name: "tokenizer.json", originals: [try fixture("tokenizer/json/tokenizer.json")],
        file: "tokenizer.json"
      ) {
        var damaged = files
        damaged.whole = $0
        _ = try CLIPTokenizer(files: damaged)(text)
      },
      FuzzTarget(
        name: "tokenizer_config.json", originals: [try miniSD("tokenizer/tokenizer_config.json")],
        file: "tokenizer_config.json"
      ) {
        var damaged = files
        damaged.configuration = $0
        _ = try CLIPTokenizer(files: damaged)(text)
      },
      FuzzTarget(
        name: "special_tokens_map.json", originals: [try miniSD("tokenizer/special_tokens_map.json")],
        file: "special_tokens_map.json"
      ) {
        var damaged = files
        damaged.specialTokens = $0
        _ = try CLIPTokenizer(files: damaged)(text)
      },
      FuzzTarget(
        name: "added_tokens.json", originals: [Data(#"{"<a>": 927, "<toy>": 928}"#.utf8)],
        file: "added_tokens.json"
      ) {
        var damaged = files
        damaged.addedTokens = $0
        _ = try CLIPTokenizer(files: damaged)(text)
      },
      FuzzTarget(name: "prompt", originals: [Data(text.utf8)], file: "prompt.txt") {
        _ = tokenizer(String(decoding: $0, as: UTF8.self))
      },
    ]
  }

  /// Prompts with their concepts and weights, and captions.
  static func texts(_ folder: URL) throws -> [FuzzTarget] {
    let tokenizer = try CLIPTokenizer(
      files: TokenizerFiles(folder: Fixtures.miniSD.appending(path: "tokenizer")))
    let prompter = try ConceptPrompter(
      tokenizer, [.init(token: "<toy>", category: "toy"), .init(name: "mug", token: "mug", vectorCount: 3)])
    let prompts = [
      "a (photo:1.3) of {} and ((the [mug]:0.7)), {{words}} <lora:a:0.5> \\(x\\) café",
      "<toy> beside {mug} in (the (snow:1.1) AND rain:-2), [cat:dog:0.5]",
    ]
    let caption = "a photo of {}, its “eyes” and a café\n in the snow 中文"
    var utf16 = Data([0xFF, 0xFE])
    for unit in caption.utf16 { utf16.append(contentsOf: [UInt8(unit & 255), UInt8(unit >> 8)]) }
    let image = folder.appending(path: "1.jpg")
    let text = folder.appending(path: "1.txt")
    return [
      FuzzTarget(name: "words of a prompt", originals: prompts.map { Data($0.utf8) }, file: "words.txt") {
        let text = String(decoding: $0, as: UTF8.self)
        for weighted in [false, true] {
          // One reading may refuse what the other takes.
          do { _ = try prompter(text, weighted: weighted) } catch is any DescribedError where !weighted {}
        }
      },
      FuzzTarget(
        name: "caption", originals: [Data(caption.utf8), utf16, Data("a [name] on a beach".utf8)],
        file: "1.txt"
      ) { _ in _ = try CaptionFiles([text], of: [image], in: folder, token: "<toy>")[image] },
    ]
  }

  /// What pages, or anyone else on the line, ask the studio for.
  static func requests() -> [FuzzTarget] {
    let heads = [
      "GET /pictures/ab%20c?part=1,2&size=3%25 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nCookie: a=b; key=c\r\n"
        + "Accept: */*",
      "POST /orders HTTP/1.1\r\nHost: [::1]:80\r\nContent-Type: application/json\r\nContent-Length: 1234\r\n"
        + "Expect: 100-continue",
    ]
    return [
      FuzzTarget(name: "head of a request", originals: heads.map { Data($0.utf8) }, file: "head.txt") {
        let request = try HTTPRequest(head: $0)
        _ = request.cookie("key")
        _ = try request.contentLength(atMost: 1 << 16)
      }
    ]
  }
}
