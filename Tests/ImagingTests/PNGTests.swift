import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct PNGTests {
  @Test func whatIsWrittenIsReadBackExactly() throws {
    for (w, h) in [(1, 1), (64, 64), (37, 5), (301, 211)] {
      let image = try noise(w, h)
      #expect(try Image.decode(image.png(), name: "own.png") == image)
    }
  }

  @Test func theSameImageGivesTheSameBytes() throws {
    let image = try noise(20, 10)
    #expect(try image.png(text: [("a", "b")]) == image.png(text: [("a", "b")]))
    #expect(try image.png(text: [("a", "b")]) != image.png(text: [("a", "c")]))
  }

  @Test func textsComeBackAndStandBeforeThePixels() throws {
    let texts = [
      ("neti", #"{"prompt": "a photo of {}", "seed": 7}"#), ("Title", "Größe 3 × 4\nnext line"),
      ("prompt", "кот 🐈 — on a beach"), ("Empty", ""),
    ]
    let image = try noise(8, 8)
    let file = try image.png(text: texts)
    let read = try PNGText.read(file)
    #expect(read.map(\.0) == texts.map(\.0))
    #expect(read.map(\.1) == texts.map(\.1))
    #expect(try Image.decode(file, name: "own.png") == image)
    let ascii = String(decoding: file.map { $0 < 128 ? $0 : 63 }, as: UTF8.self)
    let order = try ["tEXtneti", "tEXtTitle", "iTXtprompt", "tEXtEmpty", "IDAT"].map {
      try #require(ascii.range(of: $0)).lowerBound
    }
    #expect(order == order.sorted())
    // They can be had without the pixels.
    let pixels = try #require((0..<file.count - 4).first { Array(file[$0..<$0 + 4]) == Array("IDAT".utf8) })
    let start = Array(file[..<(pixels + 4)])
    #expect(try PNGText.read(start, beforePixels: true).map(\.1) == texts.map(\.1))
    #expect(message { _ = try PNGText.read(start) }?.contains("cut short") == true)
    #expect(message { _ = try PNGText.read(Array(start.dropLast(60)), beforePixels: true) } != nil)
  }

  @Test func theSizeIsReadFromTheHeader() throws {
    let file = try noise(9, 5).png(text: [("neti", "recipe")])
    let size = try #require(Image.sizeOfPNG(Array(file.prefix(33))))
    #expect(size == (9, 5))
    // What is cut short, damaged, or no PNG has none.
    for count in 0..<33 { #expect(Image.sizeOfPNG(Array(file.prefix(count))) == nil) }
    for at in 8..<33 {
      var damaged = file
      damaged[at] ^= 1
      #expect(Image.sizeOfPNG(damaged) == nil, "\(at)")
    }
    #expect(try Image.sizeOfPNG(Golden.bytes("rgb420.jpg")) == nil)
  }

  @Test func pillowsTextsAreRead() throws {
    let read = try PNGText.read(Golden.bytes("text.png"))
    #expect(read.map(\.0) == ["parameters", "prompt"])
    #expect(read.map(\.1) == ["a photo of a cat\nseed 7", "кот 🐈"])
  }

  @Test func keywordsThatAreNoneAreRefused() throws {
    let image = try noise(2, 2)
    let long = String(repeating: "k", count: 80)
    for keyword in ["", " a", "a ", "a  b", "ключ", "a\nb", "a\0b", long] {
      let text = message { _ = try image.png(text: [(keyword, "v")]) }
      #expect(
        text?.hasSuffix("is no keyword; use 1 to 79 printable Latin-1 characters") == true, "\(keyword)")
    }
    let text = message { _ = try image.png(text: [("a", "x\0y")]) }
    #expect(text == "PNG text a: the value has a NUL or is too long; remove it")
  }

  @Test func aDamagedTextIsNoticed() throws {
    var file = try noise(2, 2).png(text: [("neti", "recipe")])
    let at = try #require(file.firstIndex(of: UInt8(ascii: "p")))
    file[at] ^= 1
    #expect(message { _ = try PNGText.read(file) }?.contains("(checksum); replace the file") == true)
    let none = message { _ = try PNGText.read(Array("no PNG".utf8), name: "x.png") }
    #expect(none == "x.png: not a PNG file; only PNG files hold texts that are read here")
  }
}
