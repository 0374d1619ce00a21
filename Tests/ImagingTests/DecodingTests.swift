import Files
import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct DecodingTests {
  /// PNG exactly, but for 16-bit alpha (its rounding, 1); lossless WebP exactly; JPEG and lossy WebP within 2, as
  /// two versions of a library may round differently.
  private func tolerance(_ file: String) -> Int {
    if file.hasSuffix(".png") { return file.contains("a16") || file.contains("alpha16") ? 1 : 0 }
    return file.hasSuffix(".jpg") || file.hasPrefix("lossy") ? 2 : 0
  }

  @Test func everyKindOfFileGivesPillowsPixels() throws {
    let golden = try Golden.read()
    #expect(golden.pictures.count > 45)
    for one in golden.pictures {
      let decoded = try Image.decode(Golden.bytes(one.file), name: one.file)
      let expected = try Golden.image(one.width, one.height, at: one.offset)
      #expect(difference(decoded, expected) <= tolerance(one.file), "\(one.file)")
    }
  }

  @Test func theEightOrientationsDiffer() throws {
    let images = try (1...8).map { try Image.decode(Golden.bytes("orientation\($0).jpg"), name: "o") }
    for i in 0..<8 {
      #expect((images[i].width == 21) == (i < 4))
      for j in 0..<i { #expect(difference(images[i], images[j]) > 50) }
    }
  }

  @Test func aFileIsLoadedByItsContentsAndNotByItsName() throws {
    let scratch = try Scratch()
    let url = scratch.folder.appending(path: "photo.jpg")
    try FileManager.default.copyItem(at: Fixtures.url("imaging/rgb8.png"), to: url)
    #expect(Image.isImage(url))
    #expect(try Image.load(url) == Image.decode(Golden.bytes("rgb8.png"), name: "rgb8.png"))
  }

  @Test func whatIsNoImageIsNamed() throws {
    #expect(!Image.isImage(Array("GIF89a and more than that".utf8)))
    #expect(!Image.isImage([UInt8]()))
    #expect(!Image.isImage(Array("RIFF....WAVE".utf8)))
    let text = message { _ = try Image.decode(Array("hello".utf8), name: "note.png") }
    #expect(text?.hasPrefix("note.png: not a JPEG, PNG or WebP image") == true)
    let missing = message { _ = try Image.load(URL(filePath: "/nowhere/cat.png")) }
    #expect(missing?.contains("/nowhere/cat.png: there is no such file") == true)
    let folder = message { _ = try Image.load(Fixtures.url("imaging")) }
    #expect(folder?.contains("not a file") == true)
  }

  @Test func transparencyIsReadBesideTheColours() throws {
    // Transparent in part, as Pillow's alpha channel says it.
    for file in ["rgba8.png", "rgba16.png", "grey-alpha8.png", "palette8-trns.png", "lossless-alpha.webp"] {
      let loaded = try Image.loadWithOpacity(Fixtures.url("imaging/\(file)"))
      let opacity = try #require(loaded.opacity, "\(file)")
      #expect(opacity.width == loaded.image.width && opacity.height == loaded.image.height)
      // Where nothing is opaque, white shows.
      for i in stride(from: 0, to: opacity.pixels.count, by: 3) {
        #expect(opacity.pixels[i] == opacity.pixels[i + 1] && opacity.pixels[i] == opacity.pixels[i + 2])
        if opacity.pixels[i] == 0 {
          #expect(loaded.image.pixels[i..<i + 3].allSatisfy { $0 >= 254 }, "\(file)")
        }
      }
      #expect(try Image.load(Fixtures.url("imaging/\(file)")) == loaded.image)
    }
    let opacity = try Image.loadWithOpacity(Fixtures.url("imaging/lossless-alpha.webp")).opacity
    for x in 0..<37 { #expect(opacity?[x, 3]?.green == UInt8(x * 7 % 256)) }
    for file in ["rgb8.png", "rgb444.jpg", "lossless.webp"] {
      #expect(try Image.loadWithOpacity(Fixtures.url("imaging/\(file)")).opacity == nil, "\(file)")
    }
  }

  @Test func anAnimationIsRefused() throws {
    let bytes = try Golden.bytes("animated.webp")
    let text = message {
      _ = try Image.decode(bytes, name: "a.webp")
    }
    #expect(text == "a.webp: an animation; save one of its frames as an image")
    // As a PNG its chunk stands before the pixels, with the number of frames first.
    let still = try noise(3, 2).png()
    func png(frames: UInt8, late: Bool = false) -> [UInt8] {
      let body = Array("acTL".utf8) + [0, 0, 0, frames, 0, 0, 0, 0]
      let sum = crc32(body)
      let chunk = [0, 0, 0, 8] + body + (0..<4).map { UInt8(truncatingIfNeeded: sum >> (24 - 8 * $0)) }
      let at = late ? still.count - 12 : 33
      return Array(still[..<at]) + chunk + still[at...]
    }
    let animated = message { _ = try Image.decode(png(frames: 2), name: "a.png") }
    #expect(animated == "a.png: an animation; save one of its frames as an image")
    for bytes in [png(frames: 1), png(frames: 2, late: true)] {
      #expect(try Image.decode(bytes, name: "a.png") == Image.decode(still, name: "a.png"))
    }
  }

  @Test func theExamplesAreReadInFull() throws {
    let folder = try ImageFolder.list(Fixtures.examples.appending(path: "ginger"))
    #expect(folder.images.count == 5)
    for url in folder.images { #expect(try Image.load(url).width >= 64) }
  }
}

@Suite struct LargeJPEGTests {
  /// A grey baseline JPEG: each block of 8×8 is two bits, “as the block before”.
  private static func grey(_ width: Int, _ height: Int) -> [UInt8] {
    func two(_ n: Int) -> [UInt8] { [UInt8(n >> 8), UInt8(n & 255)] }
    var bytes: [UInt8] = [0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0] + [UInt8](repeating: 1, count: 64)
    bytes += [0xFF, 0xC0, 0, 11, 8] + two(height) + two(width) + [1, 1, 0x11, 0]
    for table: UInt8 in [0x00, 0x10] {
      bytes += [0xFF, 0xC4, 0, 20, table, 1] + [UInt8](repeating: 0, count: 16)
    }
    bytes += [0xFF, 0xDA, 0, 8, 1, 1, 0, 0, 63, 0]
    let blocks = (width + 7) / 8 * ((height + 7) / 8)
    return bytes + [UInt8](repeating: 0, count: (blocks * 2 + 7) / 8) + [0xFF, 0xD9]
  }

  @Test func moreThanTheLimitOfPixelsIsDecodedAtHalfTheSize() throws {
    let image = try Image.decode(Self.grey(12_001, 9000), name: "phone.jpg")
    #expect(image.width == 6001 && image.height == 4500)
    #expect(image[6000, 4499] == Colour(128, 128, 128))
    let whole = try Image.decode(Self.grey(641, 480), name: "small.jpg")
    #expect(whole.width == 641 && whole.height == 480)
  }

  @Test func beyondWhatIsScaledIsRefused() {
    let text = message { _ = try Image.decode(Self.grey(20_000, 12_000), name: "huge.jpg") }
    #expect(text?.contains("20000×12000 pixels are more than") == true)
  }
}
