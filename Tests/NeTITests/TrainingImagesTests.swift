import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

@Suite("Training images")
struct TrainingImagesTests {
  /// An image whose left half has one colour and whose right half another.
  private static func halves(_ left: Colour, _ right: Colour, width: Int = 40, height: Int = 32) throws
    -> Image
  {
    var pixels: [UInt8] = []
    for _ in 0..<height {
      for x in 0..<width {
        let c = x < width / 2 ? left : right
        pixels += [c.red, c.green, c.blue]
      }
    }
    return try Image(width: width, height: height, pixels: pixels)
  }

  private static let white = Colour(255, 255, 255)
  private static let black = Colour(0, 0, 0)

  /// Folders with images 1.png and 2.png, and masks.
  private struct Files {
    let folder: Scratch
    let images: URL
    let masks: URL

    init() throws {
      folder = try Scratch()
      images = folder.file("images")
      masks = folder.file("masks")
      for url in [images, masks] {
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
      }
      for (name, red) in [("1.png", UInt8(190)), ("2.png", 200)] {
        try write(try halves(Colour(red, 30, 30), Colour(30, 30, 200)), to: images.appending(path: name))
      }
    }

    func write(_ image: Image, to url: URL) throws { try Data(image.png()).write(to: url) }
    func caption(_ name: String, _ text: String) throws {
      try Data(text.utf8).write(to: images.appending(path: name))
    }
    func load(captions: Bool = true, masks useMasks: Bool = false, crop: Bool = true) throws
      -> TrainingImages
    {
      try TrainingImages(
        folder: images, side: 16, crop: crop, captionsFor: captions ? "<toy>" : nil,
        masks: useMasks ? masks : nil)
    }
  }

  @Test("that are tiny, or so long that most of them is cut off, are named with their sizes in one line each")
  func sizes() throws {
    let files = try Files()
    for (name, width, height) in [("3.png", 5, 5), ("4.png", 300, 16), ("5.png", 6, 7)] {
      try files.write(
        Self.halves(Self.white, Colour(200, UInt8(90 + width % 60), 9), width: width, height: height),
        to: files.images.appending(path: name))
    }
    let lines = try files.load().warnings
    #expect(lines.count == 2, "\(lines)")
    #expect(
      lines.contains { $0.contains("3.png (5×5 for 16×16), 5.png (6×7 for 16×16): less than half as large") })
    #expect(lines.contains { $0.contains("4.png (5 % of it is kept): so long that most of it is cut off") })
    let squashed = try files.load(crop: false).warnings
    #expect(squashed.count == 1 && squashed[0].contains("3.png (5×5"), "\(squashed)")
    let bucketed = try TrainingImages(
      folder: files.images, side: 16, crop: false, buckets: SizeBuckets(resolution: 16, factor: 8)
    ).warnings
    #expect(bucketed.contains { $0.contains("4.png (") && $0.contains("cut off") }, "\(bucketed)")
  }

  @Test("have the captions beside them, with {} or the token in it once")
  func captions() throws {
    let files = try Files()
    try files.caption("1.txt", "\u{FEFF}a photo of {}\n  on a   table\n")
    let one = try files.load()
    #expect(one.examples.map(\.caption) == ["a photo of {} on a table", nil])
    #expect(one.summary == "2 images (1 with a caption)")
    try files.caption("2.txt", "<toy> in the snow")
    #expect(try files.load().examples[1].caption == "<toy> in the snow")
    #expect(try files.load(captions: false).examples.allSatisfy { $0.caption == nil })
    for wrong in [
      "a photo of a toy", "{} and {}", "<toy> by <toy>", "[name] and {}", "a [name], [filewords]",
    ] {
      try files.caption("2.txt", wrong)
      let e = #expect(throws: NeTIError.self) { try files.load() }
      #expect(
        e?.message.contains("2.txt") == true && e?.message.contains("`data.use_captions false`") == true)
      let words =
        wrong.contains("[filewords]")
        ? "[filewords] stands for an image's own text, and this file is that; write it in its place"
        : "a caption has the concept in it once, as {} or <toy>, and this is “\(wrong)”"
      #expect(e?.message.contains(words) == true, "\(e?.message ?? "")")
    }
    try files.caption("2.txt", String(repeating: "x", count: 20_000))
    #expect(throws: NeTIError.self) { try files.load() }
  }

  @Test("have captions in the encodings that editors write, or are told how to save them")
  func encodings() throws {
    let files = try Files()
    func load(_ bytes: [UInt8]) throws -> TrainingImages {
      try Data(bytes).write(to: files.images.appending(path: "1.txt"))
      return try files.load()
    }
    let text = "a photo of {}, café"
    let units = Array(text.utf16)
    let little = units.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
    let big = units.flatMap { [UInt8($0 >> 8), UInt8($0 & 255)] }
    for bytes in [
      Array(text.utf8), [0xEF, 0xBB, 0xBF] + Array((text + "\r\n").utf8), [0xFF, 0xFE] + little,
      [0xFE, 0xFF] + big,
    ] {
      let loaded = try load(bytes)
      #expect(loaded.examples[0].caption == text && loaded.warnings.isEmpty)
    }
    func error(_ bytes: [UInt8]) -> String { (refusal { try load(bytes) })?.message ?? "" }
    let windows = error(Array("my friend".utf8) + [0x92] + Array("s {}".utf8))
    #expect(windows.contains("byte 92 after “my friend”") && windows.contains("iconv"), "\(windows)")
    #expect(error(little).contains("without a byte-order mark"))
    #expect(error([0xFF, 0xFE, 0x61]).contains("damaged UTF-16"))
    #expect(error([0xFF, 0xFE] + little + [0, 0]).contains("or no text; save it as UTF-8"))
  }

  @Test("take webui's [name] for the concept, and built-in sentences for an empty caption, and say so")
  func templates() throws {
    let files = try Files()
    try files.caption("1.txt", "a photo of [name]")
    try files.caption("2.txt", " \n\n")
    let loaded = try files.load()
    #expect(loaded.examples.map(\.caption) == ["a photo of {}", nil])
    #expect(loaded.warnings.count == 1 && loaded.warnings[0].contains("2.txt is empty"))
  }

  @Test("find captions by any ending and Unicode form; two for one image and wrong ones are all named")
  func captionNames() throws {
    let files = try Files()
    let image = try Self.halves(Self.white, Colour(9, 9, 200))
    try files.write(image, to: files.images.appending(path: "cafe\u{301}.png"))
    try files.caption("caf\u{E9}.TXT", "{} in a café")
    try files.caption("1.Caption", "{} one")
    try files.caption("2.png.txt", "{} two")
    try files.caption("readme.txt", "nothing")
    let loaded = try files.load()
    #expect(loaded.examples.map(\.caption) == ["{} one", "{} two", "{} in a café"])
    #expect(loaded.warnings.count == 1 && loaded.warnings[0].contains("left out readme.txt"))
    #expect(try files.load(captions: false).warnings.isEmpty)

    try files.caption("1.txt", "{} one, again")
    try files.caption("2.png.txt", "two")
    let error = (refusal { try files.load() })?.message ?? ""
    #expect(error.contains("captions for the same image") && error.contains("not right either: 2.png.txt"))
  }

  @Test("have masks beside them by their names, and never learn these")
  func masksBeside() throws {
    for name in ["1-masklabel", "1_mask", "1-Mask", "1.mask", "mask_1", "1_matte"] {
      let files = try Files()
      try files.write(Self.halves(Self.white, Self.black), to: files.images.appending(path: "\(name).png"))
      let loaded = try files.load()
      #expect(loaded.examples.map(\.name) == ["1.png", "2.png"], "\(name)")
      #expect(loaded.examples[0].mask?[0, 0] == Self.white && loaded.examples[1].mask == nil)
      #expect(loaded.summary == "2 images (1 with a mask, as \(name).png beside it)")
      #expect(loaded.warnings.isEmpty)
      // The same in a folder of masks.
      try FileManager.default.moveItem(
        at: files.images.appending(path: "\(name).png"), to: files.masks.appending(path: "\(name).png"))
      #expect(try files.load(masks: true).examples[0].mask?[0, 0] == Self.white)
      // Of each image one.
      try files.write(
        Self.halves(Self.white, Self.black), to: files.images.appending(path: "1-masklabel.png"))
      #expect((refusal { try files.load(masks: true) })?.message.contains("same image") == true)
    }
  }

  @Test("that look like masks are learned with a warning; OneTrainer's masks of no image are left out")
  func suspects() throws {
    let files = try Files()
    let mask = try Self.halves(Self.white, Self.black)
    try files.write(mask, to: files.images.appending(path: "3.png"))
    try files.write(Self.halves(Colour(9, 99, 9), Self.black), to: files.images.appending(path: "mask7.png"))
    try files.write(mask, to: files.images.appending(path: "9-masklabel.png"))
    try files.write(mask, to: files.images.appending(path: "1-condlabel.png"))
    let loaded = try files.load()
    #expect(loaded.examples.map(\.name) == ["1.png", "2.png", "3.png", "mask7.png"])
    let text = loaded.warnings.joined(separator: "\n")
    #expect(text.contains("left out 1-condlabel.png, 9-masklabel.png, masks"), "\(text)")
    #expect(text.contains("3.png, mask7.png: learned as an image, and looks like a mask"), "\(text)")
  }

  @Test("that are transparent in part say how that becomes their mask, or have it")
  func transparency() throws {
    let files = try Files()
    let source = Fixtures.url("imaging/lossless-alpha.webp")
    try FileManager.default.copyItem(at: source, to: files.images.appending(path: "3.webp"))
    let plain = try files.load()
    #expect(plain.examples.allSatisfy { $0.mask == nil })
    #expect(
      plain.warnings.count { $0.contains("3.webp: transparent in part") && $0.contains("alpha_mask") } == 1)
    func load() throws -> TrainingImages {
      try TrainingImages(folder: files.images, side: 16, crop: true, alphaMask: true)
    }
    let masked = try load()
    #expect(!masked.warnings.contains { $0.contains("transparent") })
    #expect(masked.examples[0].mask == nil && masked.examples[1].mask == nil)
    // Its opacity rises by 7 a column, from 0.
    let mask = try #require(masked.examples[2].mask)
    #expect(mask[0, 5].map { $0.red < 50 } == true && mask[15, 5].map { $0.red > 180 } == true)
    // A mask of its own is the one that counts.
    let white = try Image(width: 37, height: 29, colour: Self.white)
    try files.write(white, to: files.images.appending(path: "3_mask.png"))
    #expect(try load().examples[2].mask?[0, 5] == Self.white)
    try FileManager.default.removeItem(at: files.images.appending(path: "3.webp"))
    try FileManager.default.removeItem(at: files.images.appending(path: "3_mask.png"))
    #expect(try load().warnings.contains { $0.contains("alpha_mask has no effect here") })
  }

  @Test("that are transparent everywhere are left out, or refused where nothing is left")
  func invisible() throws {
    let files = try Files()
    try PNGs.transparent(9, 7).write(to: files.images.appending(path: "3.png"))
    let loaded = try files.load()
    #expect(loaded.examples.map(\.name) == ["1.png", "2.png"])
    let line =
      "left out: \(files.images.path)/3.png: transparent everywhere, so that nothing of it is seen; save it again, or "
      + "remove it"
    #expect(loaded.warnings == [line])
    for name in ["1.png", "2.png"] {
      try FileManager.default.removeItem(at: files.images.appending(path: name))
    }
    let error = (refusal { try files.load() })?.message ?? ""
    #expect(error.contains("images holds no image that can be read") && error.contains(line), "\(error)")
  }

  @Test("that are there twice, by content or by name, are told of")
  func twice() throws {
    let files = try Files()
    let other = try Self.halves(Colour(1, 200, 3), Self.white)
    try files.write(other, to: files.images.appending(path: "1.webp"))
    try FileManager.default.createSymbolicLink(
      at: files.images.appending(path: "3.jpg"), withDestinationURL: files.images.appending(path: "1.webp"))
    let loaded = try files.load()
    #expect(loaded.examples.count == 4)
    let text = loaded.warnings.joined(separator: "\n")
    #expect(text.contains("1.png and 1.webp: one name"), "\(text)")
    #expect(
      text.contains("1.webp and 3.jpg") && text.contains("the same image, which counts twice"), "\(text)")
  }

  @Test("have the masks of their names, cropped and resized with them")
  func masks() throws {
    let files = try Files()
    try files.write(Self.halves(Self.white, Self.black), to: files.masks.appending(path: "2.png"))
    let loaded = try files.load(masks: true)
    #expect(loaded.examples[0].mask == nil)
    let mask = try #require(loaded.examples[1].mask)
    let image = loaded.examples[1].image
    #expect(mask.width == 16 && mask.height == 16)
    #expect(mask[0, 0] == Self.white && mask[15, 15] == Self.black)
    // The edge of the mask lies where the image's does.
    for x in 0..<16 { #expect(((image[x, 8]?.red ?? 0) > 115) == ((mask[x, 8]?.red ?? 0) > 127), "\(x)") }
  }

  @Test("have masks in colour told of in one line, as their brightness counts")
  func colouredMasks() throws {
    let files = try Files()
    let (red, blue) = (Colour(255, 0, 0), Colour(0, 0, 255))
    try files.write(Self.halves(red, Self.black), to: files.masks.appending(path: "1.png"))
    #expect(
      try files.load(masks: true).warnings == [
        "\(files.masks.path)/1.png: a mask in colour; what counts is how bright it is, red little and yellow much: save "
          + "it in black and white"
      ])
    try files.write(Self.halves(red, blue), to: files.masks.appending(path: "2.png"))
    let both = try files.load(masks: true).warnings
    #expect(both.count == 1 && both[0].contains("/1.png, ") && both[0].contains("/2.png: masks in colour"))
  }

  @Test("refuse masks of another size, without an image, two for one, and black ones")
  func wrongMasks() throws {
    let files = try Files()
    func error(_ pairs: [(Image, String)], crop: Bool = true) throws -> String {
      for (image, name) in pairs { try files.write(image, to: files.masks.appending(path: name)) }
      defer {
        for (_, name) in pairs { try? FileManager.default.removeItem(at: files.masks.appending(path: name)) }
      }
      let e = #expect(throws: NeTIError.self) { try files.load(masks: true, crop: crop) }
      return e?.message ?? ""
    }
    let good = try Self.halves(Self.white, Self.black)
    #expect(try error([(Self.halves(Self.white, Self.black, width: 32), "1.png")]).contains("32×32"))
    #expect(try error([(good, "3.png")]).contains("belongs to no image"))
    #expect(try error([(good, "1.png"), (good, "1.jpg")]).contains("same image"))
    #expect(try error([(Self.halves(Self.black, Self.black), "1.png")]).contains("black"))
    // White only where the crop cuts it off.
    var edge = [UInt8](repeating: 0, count: 40 * 32 * 3)
    for y in 0..<32 { for c in 0..<3 { edge[y * 40 * 3 + c] = 255 } }
    #expect(try error([(Image(width: 40, height: 32, pixels: edge), "1.png")]).contains("black"))
    #expect(throws: ImagingError.self) { try files.load(masks: true) }
    #expect(throws: NeTIError.self) {
      try TrainingImages(folder: files.images, side: 16, crop: true, masks: files.images)
    }
    try files.write(good, to: files.images.appending(path: "1_mask.png"))
    #expect(
      try TrainingImages(folder: files.images, side: 16, crop: true, masks: files.images).examples[0].mask
        != nil)
  }
}

@Suite("The weighted loss")
struct WeightedLossTests {
  @Test("is the mean over samples of mean(w·(a − b)²) / mean(w)")
  func formula() throws {
    let random = try RandomSource(seed: 3)
    let (a, b) = (try random.normal([2, 4, 3, 5]), try random.normal([2, 4, 3, 5]))
    let w = try random.uniform([2, 1, 3, 5])
    let (x, y, v) = (try a.doubles(), try b.doubles(), try w.doubles())
    var expected = 0.0
    for n in 0..<2 {
      var (sum, weight) = (0.0, 0.0)
      for i in 0..<15 {
        weight += v[n * 15 + i] / 15
        for c in 0..<4 {
          let j = (n * 4 + c) * 15 + i
          sum += v[n * 15 + i] * (x[j] - y[j]) * (x[j] - y[j]) / 60
        }
      }
      expected += sum / weight / 2
    }
    let found = try weightedSquaredError(a, b, weights: w).item()
    #expect(abs(found - expected) / expected < 1e-5)
    let plain = try meanSquaredError(a, b).item()
    let even = try weightedSquaredError(a, b, weights: .full([2, 1, 3, 5], 0.25)).item()
    #expect(abs(even - plain) / plain < 1e-5)
  }

  @Test("weighs a latent position by the mask's mean over its pixels, mirrored with the image")
  func weights() throws {
    // 4×2 pixels to 2×1 positions: one position half white, the other black.
    let pixels: [UInt8] = [255, 0, 0, 0, 255, 0, 0, 0].flatMap { [$0, $0, $0] }
    let mask = try Image(width: 4, height: 2, pixels: pixels)
    let other = try Image(width: 4, height: 2, colour: Colour(9, 9, 9))
    let weights = try #require(
      try LossWeights(
        [TrainingExample(other, mask: mask), TrainingExample(other)], sizes: [(1, 2), (1, 2)], device: .cpu))
    #expect(try weights.weights(image: 0, flipped: false).floats() == [0.5, 0])
    #expect(try weights.weights(image: 0, flipped: true).floats() == [0, 0.5])
    #expect(try weights.weights(image: 1, flipped: true).floats() == [1, 1])
    #expect(try LossWeights([TrainingExample(other)], sizes: [(1, 2)], device: .cpu) == nil)
  }
}
