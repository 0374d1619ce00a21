import Files
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

  private func big(_ number: Int) -> [UInt8] { [24, 16, 8, 0].map { UInt8(number >> $0 & 255) } }

  private func chunk(_ kind: String, _ data: [UInt8]) -> [UInt8] {
    let body = Array(kind.utf8) + data
    return big(data.count) + body + big(Int(crc32(body)))
  }

  /// A stream of zlib's with everything as it is, and with Adler's sum.
  private func stored(_ text: String) -> [UInt8] {
    let data = Array(text.utf8)
    let size = [UInt8(data.count & 255), UInt8(data.count >> 8)]
    let start: [UInt8] = [0x78, 1, 1]
    let (a, b) = data.reduce((1, 0)) { sum, byte in
      let a = (sum.0 + Int(byte)) % 65521
      return (a, (sum.1 + a) % 65521)
    }
    return start + size + size.map { ~$0 } + data + big(b << 16 | a)
  }

  @Test func aCompressedTextIsReadWhereItIsAskedForAndNeverWithoutEnd() throws {
    let image = try noise(2, 2)
    func file(_ kind: String, _ data: [UInt8]) throws -> [UInt8] {
      let plain = try image.png(text: [("a", "b")])
      // Behind signature and IHDR.
      return Array(plain[..<33]) + chunk(kind, data) + Array(plain[33...])
    }
    let text = Array("key\0\0".utf8) + stored("Gr\u{F6}\u{DF}e 3")
    let read = try PNGText.read(file("zTXt", text), compressed: "key")
    #expect(read.map(\.0) == ["key", "a"] && read.map(\.1) == ["Gr\u{C3}\u{B6}\u{C3}\u{9F}e 3", "b"])
    #expect(try PNGText.read(file("zTXt", text)).map(\.0) == ["a"])
    for keyword in ["ke", "key2"] {
      #expect(try PNGText.read(file("zTXt", text), compressed: keyword).map(\.0) == ["a"])
    }
    // Another method of compression, and no method at all.
    for other in [Array("key\0\u{1}".utf8) + stored("x"), Array("key\0".utf8)] {
      #expect(try PNGText.read(file("zTXt", other), compressed: "key").map(\.0) == ["a"])
    }
    let cut = try file("zTXt", Array(text.dropLast(9)))
    #expect(
      message { _ = try PNGText.read(cut, compressed: "key") }
        == "PNG: a text in the PNG file cannot be read: its compressed data is damaged or cut short; replace the file"
    )
    // The pixels of a large black image, which are zlib's, too.
    let black = try Image(width: 2400, height: 2400, pixels: [UInt8](repeating: 0, count: 2400 * 2400 * 3))
      .png()
    var (at, pixels) = (8, [] as [UInt8])
    while at + 12 <= black.count {
      let size = black[at..<at + 4].reduce(0) { $0 << 8 | Int($1) }
      if black[at + 4..<at + 8].elementsEqual("IDAT".utf8) { pixels += black[at + 8..<at + 8 + size] }
      at += size + 12
    }
    #expect(pixels.count > 1000 && pixels.count < 1 << 20)
    let bomb = try file("zTXt", Array("key\0\0".utf8) + pixels)
    let said = message { _ = try PNGText.read(bomb, compressed: "key") }
    #expect(said?.contains("its compressed data has more than 16777216 bytes") == true, "\(said ?? "")")
    #expect(try PNGText.read(bomb).map(\.0) == ["a"])
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
