import Files
import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct HostileFileTests {
  private func number(_ value: Int) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
  }

  private func chunk(_ kind: String, _ data: [UInt8]) -> [UInt8] {
    let body = Array(kind.utf8) + data
    return number(data.count) + body + number(Int(crc32(body)))
  }

  private func png(_ width: Int, _ height: Int, depth: UInt8 = 8, kind: UInt8 = 2, data: [UInt8] = [])
    -> [UInt8]
  {
    [0x89, 0x50, 0x4E, 0x47, 13, 10, 26, 10]
      + chunk("IHDR", number(width) + number(height) + [depth, kind, 0, 0, 0])
      + chunk("IDAT", data) + chunk("IEND", [])
  }

  private func jpeg(_ width: Int, _ height: Int) throws -> [UInt8] {
    var bytes = try Golden.bytes("rgb420.jpg")
    let at = try #require(bytes.indices.dropLast().first { bytes[$0] == 0xFF && bytes[$0 + 1] == 0xC0 })
    bytes.replaceSubrange(
      at + 5..<at + 9, with: [UInt8(height >> 8), UInt8(height & 255), UInt8(width >> 8), UInt8(width & 255)])
    return bytes
  }

  @Test func aHeaderOfABillionPixelsIsRefused() throws {
    for bytes in [png(40_000, 25_000), png(1, 1_000_000_000), png(0x7FFF_FFFF, 0x7FFF_FFFF)] {
      let text = message { _ = try Image.decode(bytes, name: "big.png") }
      #expect(text?.contains("big.png: ") == true)
      #expect(text?.contains("megapixels") == true)
    }
    let large = try jpeg(40_000, 25_000)
    let text = message {
      _ = try Image.decode(large, name: "big.jpg")
    }
    #expect(text?.contains("40000×25000 pixels are more than the 100 megapixels") == true)
  }

  @Test func aSmallFileThatClaimsAnEnormousImageIsRefusedBeforeItIsAllocated() throws {
    let bytes = png(9_999, 9_999, depth: 16, kind: 6, data: [UInt8](repeating: 0, count: 1000))
    #expect(message { _ = try Image.decode(bytes, name: "bomb.png") }?.contains("far too short") == true)
    let large = try jpeg(9_999, 9_999)
    let text = message {
      _ = try Image.decode(large, name: "bomb.jpg")
    }
    #expect(text?.contains("far too short") == true)
  }

  @Test func nothingInTheHeaderIsRefused() throws {
    let late = [0x89, 0x50, 0x4E, 0x47, 13, 10, 26, 10] + chunk("IDAT", []) + chunk("IEND", [])
    #expect(
      message { _ = try Image.decode(late, name: "x") }
        == "x: the PNG data is damaged (it does not start with IHDR); replace the file")
    for (w, h) in [(0, 0), (5, 0), (0, 5)] {
      #expect(message { _ = try Image.decode(png(w, h), name: "x") } != nil)
    }
    for kind: UInt8 in [1, 5, 7] {
      #expect(message { _ = try Image.decode(png(4, 4, kind: kind), name: "x") } != nil)
    }
    #expect(message { _ = try Image.decode(png(4, 4, depth: 3), name: "x") } != nil)
  }

  @Test func aTruncatedFileIsRefusedWithItsName() throws {
    for file in [
      "rgb420.jpg", "progressive.jpg", "rgb8.png", "rgb16-interlaced.png", "lossy.webp", "lossless.webp",
    ] {
      let bytes = try Golden.bytes(file)
      for count in [13, 40, bytes.count / 2, bytes.count * 9 / 10] where bytes.count > count {
        let text = message { _ = try Image.decode(Array(bytes[..<count]), name: file) }
        #expect(text?.hasPrefix("\(file): ") == true, "\(file) cut to \(count)")
        #expect(text?.contains("short") == true || text?.contains("damaged") == true, "\(text ?? "")")
        #expect(text?.hasSuffix("replace the file") == true && text?.contains("\n") == false, "\(text ?? "")")
      }
    }
  }

  @Test(arguments: [8, 16] as [UInt8])
  func pixelsThatAreNoneAreRefused(_ depth: UInt8) throws {
    let text = message { _ = try Image.decode(png(4, 4, depth: depth, data: [1, 2, 3]), name: "x.png") }
    #expect(
      text?.wholeMatch(of: /x\.png: the PNG data is cut short or damaged \(.+\); replace the file/) != nil,
      "\(text ?? "")")
  }

  @Test func aFileThatIsTooLargeIsRefusedBeforeItIsRead() {
    let count = ImageLimits.fileBytes + (1 << 20)
    let text = "big.png: 257 MB are more than the 256 MB accepted for an image; make it smaller"
    // Memory that nobody touches takes no room.
    let bytes = [UInt8](unsafeUninitializedCapacity: count) { $1 = count }
    #expect(message { _ = try Image.decode(bytes, name: "big.png") } == text)
    #expect(message { _ = try Image.decode(Data(count: count), name: "big.png") } == text)
  }

  @Test func textsWithoutEndAreRefused() throws {
    let size = PNGText.maximumBytes + 1
    let long = number(size) + Array("tEXt".utf8) + [UInt8](repeating: 65, count: size) + number(0)
    var bytes = png(4, 4)
    bytes.insert(contentsOf: long, at: 33)
    #expect(
      message { _ = try PNGText.read(bytes, name: "x.png") }
        == "x.png: more than 16 MB of text; not written by this program")
  }

  @Test func unknownCriticalChunksAreRefusedByName() throws {
    var bytes = try Golden.bytes("rgb8.png")
    bytes.insert(contentsOf: chunk("CgBI", [1, 2, 3, 4]), at: 33)
    #expect(
      message { _ = try Image.decode(bytes, name: "x.png") }
        == "x.png: the PNG data needs the unknown chunk CgBI; save it as plain PNG")
  }

  /// In a file that says orientation 6, every EXIF byte is set to extremes, one after the other: offsets far
  /// outside, directories in themselves, counts without end.
  @Test func badEXIFDataOnlyLosesTheOrientation() throws {
    let bytes = try Golden.bytes("orientation6-big-endian.jpg")
    let start = try #require(
      bytes.indices.dropLast(4).first { bytes[$0..<$0 + 4].elementsEqual("Exif".utf8) })
    let upright = try Image.decode(Golden.bytes("orientation1.jpg"), name: "1")
    let turned = try Image.decode(bytes, name: "6")
    var seen: Set<Int> = []
    for at in start + 6..<start + 30 {
      for value: UInt8 in [0, 1, 0x7F, 0x80, 0xFF] {
        var changed = bytes
        changed[at] = value
        let image = try Image.decode(changed, name: "changed")
        seen.insert(image.width)
        #expect(image.width == upright.width || image.width == turned.width)
      }
    }
    #expect(seen.count == 2)
  }

  @Test(arguments: [
    "rgb420.jpg", "progressive.jpg", "cmyk.jpg", "orientation6-big-endian.jpg", "lossy-alpha.webp",
    "lossless-alpha.webp", "orientation5.webp", "palette8-trns.png", "text.png",
  ])
  func fiveThousandMutationsDoNoHarm(_ file: String) throws {
    let original = try Data(contentsOf: Fixtures.url("imaging/\(file)"))
    var refused = 0
    for (i, bytes) in Mutations(of: original, count: 5000, seed: 11).enumerated() {
      // Every other PNG gets right checksums, so that the damage reaches further.
      let changed = i % 2 == 0 ? Array(bytes) : withChecksums(Array(bytes))
      do {
        let image = try Image.decode(changed, name: file)
        #expect(image.pixels.count == image.width * image.height * 3)
      } catch is ImagingError { refused += 1 }
      if file.hasSuffix(".png") { _ = try? PNGText.read(changed) }
      if let size = Image.sizeOfPNG(changed) { #expect(size.width > 0 && size.height > 0) }
    }
    #expect(refused > 500)
  }

  private func withChecksums(_ bytes: [UInt8]) -> [UInt8] {
    var result = bytes
    var at = 8
    guard bytes.starts(with: [0x89, 0x50]) else { return bytes }
    while at + 12 <= bytes.count {
      let length = bytes[at..<at + 4].reduce(0) { $0 << 8 | Int($1) }
      guard at + 12 + length <= bytes.count else { break }
      let sum = crc32(bytes[at + 4..<at + 8 + length])
      result.replaceSubrange(at + 8 + length..<at + 12 + length, with: number(Int(sum)))
      at += 12 + length
    }
    return result
  }
}
