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

  @Test func anAnimationIsRefused() throws {
    let bytes = try Golden.bytes("animated.webp")
    let text = message {
      _ = try Image.decode(bytes, name: "a.webp")
    }
    #expect(text?.contains("a.webp: an animation") == true)
  }

  @Test func theExamplesAreReadInFull() throws {
    let folder = try ImageFolder.list(Fixtures.examples.appending(path: "ginger"))
    #expect(folder.images.count == 5)
    for url in folder.images { #expect(try Image.load(url).width >= 64) }
  }
}
