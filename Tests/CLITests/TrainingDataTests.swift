import Foundation
import Imaging
import NeTI
import TestSupport
import Testing

@Suite("neti train, the data it is given", .serialized)
struct TrainingDataTests {
  /// A folder to work in, with two images in `images`.
  private struct Place {
    private let scratch: Scratch
    var url: URL { scratch.folder }
    var images: URL { url.appending(path: "images") }
    var masks: URL { url.appending(path: "masks") }

    init() throws {
      scratch = try Scratch()
      for folder in [images, masks] {
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
      }
      for name in ["1.jpg", "2.jpg"] {
        try FileManager.default.copyItem(
          at: Fixtures.examples.appending(path: "spotty/\(name)"), to: images.appending(path: name))
      }
    }

    func caption(_ name: String, _ text: String) throws {
      try Data(text.utf8).write(to: images.appending(path: name))
    }
    func mask(_ name: String, _ colour: Colour, side: Int? = nil) throws {
      let image = try Image.load(images.appending(path: "1.jpg"))
      try Data(Image(width: side ?? image.width, height: side ?? image.height, colour: colour).png())
        .write(to: masks.appending(path: name))
    }
    func train(_ more: [String], output: String = "run") throws -> CommandLineTool.Result {
      try CommandLineTool.run(
        [
          "train", "--images", "images", "--token", "<spotty>", "--category", "monster", "--output", output,
          "--steps", "2",
        ] + more, in: url)
    }
  }

  private static let white = Colour(255, 255, 255)

  @Test("of tf32 beside bf16, which makes it void, is told once")
  func voidTf32() throws {
    let place = try Workplace()
    try place.images()
    let r = try place.run(
      Workplace.train(["--optim.allow_tf32", "true", "--optim.mixed_precision", "bf16"]))
    #expect(r.code == 0)
    #expect(r.error.matches(of: /allow_tf32/).count == 1, "\(r.error)")
  }

  @Test("says in one line what is wrong with a caption or mask, and leaves no run behind")
  func errors() throws {
    let place = try Place()
    func expect(_ words: [String], _ more: [String] = [], code: Int32 = 1) throws {
      let r = try place.train(more)
      #expect(r.code == code, "\(r.error)")
      let line = r.error.split(separator: "\n").last.map(String.init) ?? ""
      #expect(line.hasPrefix("neti: ") && words.allSatisfy(line.contains), "\(r.error)")
      #expect(!FileManager.default.fileExists(atPath: place.url.appending(path: "run/config.yaml").path))
    }
    try place.caption("1.txt", "a monster on a beach")
    try expect(["1.txt", "<spotty>"])
    try place.caption("1.txt", "a {} on a beach")
    try expect(["masks", "no JPEG"], ["--masks", "masks"])
    try place.mask("3.png", Self.white)
    try expect(["3.png", "no image"], ["--masks", "masks"])
    try FileManager.default.removeItem(at: place.masks.appending(path: "3.png"))
    try place.mask("1.png", Self.white, side: 10)
    try expect(["1.png", "10×10"], ["--masks", "masks"])
    try place.mask("1.png", Colour(0, 0, 0))
    try expect(["1.png", "black"], ["--masks", "masks"])
    try expect(["eval.validation_prompts", "{}"], ["--validation-prompt", "a monster"], code: 64)
  }

  @Test("trains with captions and masks, draws every N steps, and resumes only with the same data")
  func run() throws {
    let place = try Place()
    try place.caption("1.txt", "a photo of a {} on a beach")
    try place.mask("2.png", Self.white)
    let more = [
      "--masks", "masks", "--validate-every", "1", "--validation-prompt", "a photo of a {}",
      "--validation-prompt", "a {}, in the snow", "--eval.num_validation_images", "1",
      "--eval.num_denoising_steps", "2",
    ]
    let r = try place.train(more)
    #expect(r.code == 0, "\(r.error)")
    #expect(r.error.contains("1 with a caption, 1 with a mask"))
    let run = place.url.appending(path: "run")
    let samples = try FileManager.default.contentsOfDirectory(atPath: run.appending(path: "samples").path)
    #expect(samples.filter { $0.hasPrefix("step-000001-") }.count == 2)
    #expect(samples.filter { $0.hasPrefix("step-000002-") }.count == 2)
    let board = try FileManager.default.contentsOfDirectory(
      at: run.appending(path: "tensorboard"), includingPropertiesForKeys: nil)
    #expect(try board.contains { try Data(contentsOf: $0).firstRange(of: Data("samples/1".utf8)) != nil })

    let again = try place.train(more + ["--resume"])
    #expect(again.code == 0, "\(again.error)")
    try place.caption("1.txt", "a photo of a {} in the jungle")
    let other = try place.train(more + ["--resume"])
    #expect(other.code == 1 && other.error.contains("captions"), "\(other.error)")
  }

  @Test("`neti convert` imports an embedding, exports it, and says what an export loses")
  func convert() throws {
    let place = try Place()
    func convert(_ arguments: [String]) throws -> CommandLineTool.Result {
      try CommandLineTool.run(["convert"] + arguments, in: place.url)
    }
    let xti = Fixtures.url("community/xti.pt").path
    #expect(try convert([xti, "toy.safetensors", "--token", "<toy>"]).code == 0)
    #expect(try Concept(contentsOf: place.url.appending(path: "toy.safetensors")).about.token == "<toy>")
    let lossy = try convert(["toy.safetensors", "learned_embeds.safetensors"])
    #expect(lossy.code == 0 && lossy.error.contains("mean over 16 layers"), "\(lossy.error)")
    let whole = try convert(["toy.safetensors", "kohya.safetensors", "--format", "kohya"])
    #expect(whole.code == 0 && whole.error.isEmpty, "\(whole.error)")
    let twice = try convert(["toy.safetensors", "kohya.safetensors", "--format", "kohya"])
    #expect(twice.code == 1 && twice.error.contains("exists"))
    for wrong in [
      ["toy.safetensors", "toy.pt"], ["toy.safetensors", "a.safetensors", "--timestep", "5"],
      ["toy.safetensors", "a.safetensors", "--format", "authors"],
      ["toy.safetensors", "folder/", "--format", "kohya"],
    ] {
      #expect(try convert(wrong).code == 64, "\(wrong)")
    }
    let layer = try convert(["toy.safetensors", "b.safetensors", "--format", "a1111", "--layer", "IN03"])
    #expect(layer.code == 64 && layer.error.contains("IN03"))
  }
}
