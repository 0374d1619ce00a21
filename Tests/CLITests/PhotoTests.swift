import Foundation
import Imaging
import TestSupport
import Testing

@Suite("Into a photo, on the command line:", .serialized)
struct PhotoCommandTests {
  /// `photo.jpg`, and `mask.png` of its size, white in the left half.
  private func workplace() throws -> (Workplace, photo: Image) {
    let place = try Workplace()
    let source = Fixtures.examples.appending(path: "spotty/1.jpg")
    try place.file(Data(contentsOf: source), "photo.jpg")
    let photo = try Image.load(source)
    try place.file(png(width: photo.width, height: photo.height), "mask.png")
    return (place, photo)
  }

  private func png(width: Int, height: Int) throws -> Data {
    Data(
      try Image(
        width: width, height: height,
        pixels: (0..<width * height).flatMap { i in
          Array(repeating: i % width < width / 2 ? 255 : 0, count: 3) as [UInt8]
        }
      ).png())
  }

  @Test("the image has the photo's size and says what it was made from; the mask's black part stays")
  func generates() throws {
    let (place, photo) = try workplace()
    try place.concept()
    for (more, says) in [
      (["--strength", "0.6"], ["image": "photo.jpg", "strength": "0.6"]),
      (["--mask", "mask.png"], ["image": "photo.jpg", "mask": "mask.png", "strength": "1.0"]),
    ] {
      let result = try place.run(
        Workplace.generate(
          "a photo of a {}",
          ["--concept", "concept.safetensors", "--image", "photo.jpg", "--steps", "3", "--json"] + more))
      #expect(result.code == 0, "\(result.error)")
      let report = try #require(
        JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
      let images = try #require(report["images"] as? [[String: Any]])
      let file = place.path(try #require(images.first?["file"] as? String))
      let text = Dictionary(try PNGText.read([UInt8](Data(contentsOf: file)))) { $1 }
      for (key, value) in says { #expect(text[key] == value) }
      #expect((text["mask"] != nil) == (says["mask"] != nil))
      let made = try Image.load(file)
      #expect((made.width, made.height) == (photo.width, photo.height))
      guard says["mask"] != nil else { continue }
      for y in 0..<made.height {
        for x in made.width / 2..<made.width { #expect(made[x, y] == photo[x, y]) }
      }
      #expect(made != photo)
    }
  }

  @Test("a photo of which nothing is seen is refused")
  func invisible() throws {
    let place = try Workplace()
    try place.concept()
    try place.file(PNGs.transparent(64, 64), "glass.png")
    try place.expectFailure(
      Workplace.generate("a {}", ["--concept", "concept.safetensors", "--image", "glass.png"]),
      ["glass.png: transparent everywhere", "give another image"])
  }

  @Test("a photo that its camera laid on its side is turned, and a transparent mask is told of")
  func turned() throws {
    let place = try Workplace()
    for (file, name) in [("orientation6.jpg", "side.jpg"), ("rgba8.png", "mask.png")] {
      try place.file(Data(contentsOf: Fixtures.url("imaging/\(file)")), name)
    }
    let photo = try Image.load(place.path("side.jpg"))
    let result = try place.run(Workplace.generate("a mug", ["--image", "side.jpg"]))
    #expect(result.code == 0, "\(result.error)")
    let made = try Image.load(place.path("out/a-mug-s0.png"))
    #expect((made.width, made.height) == (photo.width, photo.height))
    let masked = try place.run(Workplace.generate("a mug", ["--image", "mask.png", "--mask", "mask.png"]))
    #expect(masked.code == 0 && masked.error.contains("what is opaque"), "\(masked.error)")
    #expect(masked.error.contains("mask.png: transparent in part, and put on white\n"), "\(masked.error)")
    try place.file(
      Data(Image(width: photo.width, height: photo.height, colour: Colour(255, 255, 0)).png()), "yellow.png")
    let unmasked = try place.run(Workplace.generate("a mug", ["--image", "mask.png"]))
    #expect(
      unmasked.error.contains(
        "mask.png: transparent in part, and put on white; the same file as --mask has what is opaque generated anew\n"
      ), "\(unmasked.error)")
    let yellow = try place.run(
      Workplace.generate("a mug", ["--image", "side.jpg", "--mask", "yellow.png"]))
    #expect(
      yellow.error.contains(
        "warning: yellow.png: a mask in colour; what counts is how bright it is: save it in black and white"),
      "\(yellow.error)")
  }

  @Test("what is transparent on a mask stays, whatever its colours")
  func transparent() throws {
    let (place, photo) = try workplace()
    // White everywhere; opaque in the top rows only.
    let file = Fixtures.url("masks/opaque-above.png")
    try place.file(Data(contentsOf: file), "mask.png")
    let result = try place.run(
      Workplace.generate("a mug", ["--image", "photo.jpg", "--mask", "mask.png", "--seed", "3"]))
    #expect(result.code == 0 && result.error.contains("its transparency is the mask"), "\(result.error)")
    let made = try Image.load(place.path("out/a-mug-s3.png"))
    let edge = photo.height / 2
    for x in 0..<photo.width {
      #expect(made[x, edge] == photo[x, edge] && made[x, photo.height - 1] == photo[x, photo.height - 1])
    }
    #expect((0..<photo.width).contains { made[$0, 4] != photo[$0, 4] })
  }

  @Test("mixtures get into a photo, too")
  func mixes() throws {
    let (place, photo) = try workplace()
    try place.concept()
    let result = try place.run([
      "mix", "--geometry", "concept.safetensors", "--appearance", "concept.safetensors", "--prompt", "a {}",
      "--image", "photo.jpg", "--mask", "mask.png", "--steps", "2", "--threads", "1", "--output", "out",
    ])
    #expect(result.code == 0, "\(result.error)")
    let made = try Image.load(place.path("out/a-concept-from999-s0.png"))
    #expect(made.width == photo.width && made[photo.width - 1, 0] == photo[photo.width - 1, 0])
  }

  @Test("what contradicts itself is one line, before the model is opened")
  func wrong() throws {
    let (place, _) = try workplace()
    try place.file(png(width: 20, height: 90), "narrow.png")
    try place.file("no image", "no.png")
    for (arguments, words, code) in [
      (["--mask", "mask.png"], ["--mask", "--image"], 64),
      (["--strength", "0.5"], ["--strength", "--image"], 64),
      (["--image", "photo.jpg", "--strength", "1.5"], ["--strength 1.5", "between 0 and 1"], 64),
      (["--image", "photo.jpg", "--strength", "nan"], ["--strength", "between 0 and 1"], 64),
      (["--image", "photo.jpg", "--strength=-0.1"], ["--strength -0.1"], 64),
      (["--image", "photo.jpg", "--width", "64"], ["--width", "photo's size"], 64),
      (["--image", "photo.jpg", "--height", "64"], ["--height", "photo's size"], 64),
      (["--image", "absent.jpg"], ["absent.jpg"], 1),
      (["--image", "$NETI_NOT_SET/a.jpg"], ["the variable NETI_NOT_SET is not set"], 1),
      (["--image", "no.png"], ["no.png", "JPEG, PNG or WebP"], 1),
      (["--image", "photo.jpg", "--mask", "narrow.png"], ["20×90", "same size"], 1),
    ] as [([String], [String], Int32)] {
      // A model that is nowhere shows what is looked at first.
      try place.expectFailure(
        Workplace.generate("a mug", arguments + ["--model", "nobody/nothing"]), words, code: code)
    }
  }

  @Test(
    "a model for inpainting generates with image and mask; without, or to learn on, it is refused in a line")
  func inpainting() throws {
    let (place, _) = try workplace()
    try place.images()
    try place.inpaintingModel()
    let model = ["--model", "model"]
    let result = try place.run(
      Workplace.generate("a mug", model + ["--image", "photo.jpg", "--mask", "mask.png", "--steps", "2"]))
    #expect(result.code == 0, "\(result.error)")
    for more in [[], ["--image", "photo.jpg"]] {
      try place.expectFailure(
        Workplace.generate("a mug", model + more), ["model is an inpainting model", "--image and --mask"])
    }
    try place.expectFailure(
      Workplace.train(model), ["model is an inpainting model", "no concept can be learned"])
    try place.concept()
    let clip = Fixtures.miniSD.deletingLastPathComponent().appending(path: "mini-clip").path
    for command in [
      ["decompose", "--prompt", "a {}"],
      ["evaluate", "--images", "images", "--clip", clip, "--output", "out"],
    ] {
      try place.expectFailure(
        command + ["--concept", "concept.safetensors"] + model,
        ["model is an inpainting model", "choose a model for text to image"])
    }
  }
}
