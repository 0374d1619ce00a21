import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct PNGTests {
  @Test func whatIsWrittenIsReadBackExactly() throws {
    for (w, h) in [(1, 1), (64, 64), (37, 5), (301, 211)] {
      let picture = try noise(w, h)
      #expect(try Picture.decode(picture.png(), name: "own.png") == picture)
    }
  }

  @Test func theSamePictureGivesTheSameBytes() throws {
    let picture = try noise(20, 10)
    #expect(try picture.png(text: [("a", "b")]) == picture.png(text: [("a", "b")]))
    #expect(try picture.png(text: [("a", "b")]) != picture.png(text: [("a", "c")]))
  }

  @Test func textsComeBackAndStandBeforeThePixels() throws {
    let texts = [
      ("neti", #"{"prompt": "a photo of {}", "seed": 7}"#), ("Title", "Größe 3 × 4\nnext line"),
      ("prompt", "кот 🐈 — on a beach"), ("Empty", ""),
    ]
    let picture = try noise(8, 8)
    let file = try picture.png(text: texts)
    let read = try PNGText.read(file)
    #expect(read.map(\.0) == texts.map(\.0))
    #expect(read.map(\.1) == texts.map(\.1))
    #expect(try Picture.decode(file, name: "own.png") == picture)
    let ascii = String(decoding: file.map { $0 < 128 ? $0 : 63 }, as: UTF8.self)
    let order = try ["tEXtneti", "tEXtTitle", "iTXtprompt", "tEXtEmpty", "IDAT"].map {
      try #require(ascii.range(of: $0)).lowerBound
    }
    #expect(order == order.sorted())
  }

  @Test func pillowsTextsAreRead() throws {
    let read = try PNGText.read(Golden.bytes("text.png"))
    #expect(read.map(\.0) == ["parameters", "prompt"])
    #expect(read.map(\.1) == ["a photo of a cat\nseed 7", "кот 🐈"])
  }

  @Test func keywordsThatAreNoneAreRefused() throws {
    let picture = try noise(2, 2)
    let long = String(repeating: "k", count: 80)
    for keyword in ["", " a", "a ", "a  b", "ключ", "a\nb", "a\0b", long] {
      #expect(message { _ = try picture.png(text: [(keyword, "v")]) } != nil, "\(keyword)")
    }
    #expect(message { _ = try picture.png(text: [("a", "x\0y")]) } != nil)
  }

  @Test func aDamagedTextIsNoticed() throws {
    var file = try noise(2, 2).png(text: [("neti", "recipe")])
    let at = try #require(file.firstIndex(of: UInt8(ascii: "p")))
    file[at] ^= 1
    #expect(message { _ = try PNGText.read(file) }?.contains("checksum") == true)
    #expect(message { _ = try PNGText.read(Array("no PNG".utf8)) } != nil)
  }
}
