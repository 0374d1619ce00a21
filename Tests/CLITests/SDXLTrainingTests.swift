import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

@Suite("neti train on SDXL", .serialized)
struct SDXLTrainingTests {
  /// The random SDXL, and three images of three sizes, two with a caption and one with a mask.
  private func place() throws -> Workplace {
    let place = try Workplace()
    try RandomModel("sdxl").writeFolder(place.path("model"))
    for (i, (w, h)) in [(96, 64), (70, 70), (60, 100)].enumerated() {
      let pixels = (0..<w * h * 3).map { n -> UInt8 in
        let line = n / (3 * w)
        return UInt8(truncatingIfNeeded: n * (i + 3) + line * 7)
      }
      try place.file(Data(Image(width: w, height: h, pixels: pixels).png()), "images/\(i + 1).png")
    }
    try place.file("{} on a table", "images/1.txt")
    try place.file("a drawing of {}", "images/3.txt")
    let mask = (0..<60 * 100).flatMap { n -> [UInt8] in
      [UInt8](repeating: n % 60 < 20 ? 0 : 255, count: 3)
    }
    try place.file(Data(Image(width: 60, height: 100, pixels: mask).png()), "images/3-masklabel.png")
    return place
  }

  private func train(_ place: Workplace, _ arguments: [String]) throws -> String {
    let result = try place.run(arguments)
    #expect(result.code == 0, "\(result.error)")
    return result.error
  }

  @Test(
    "with several vectors, captions, a mask and buckets, interrupted and resumed, gives the identical file",
    arguments: ["neti", "xti", "ti"])
  func resumed(kind: String) throws {
    let settings = [
      "--model", "model", "--data.resolution", "64", "--vectors", "2", "--representation", kind, "--buckets",
      "--optim.train_batch_size", "2", "--optim.gradient_accumulation_steps", "2",
    ]
    let concept = "run/concept.safetensors"
    let (whole, parts) = (try place(), try place())
    let said = try train(whole, Workplace.train(steps: 4, settings))
    #expect(
      said.contains(
        "learning <toy> from 3 images (2 with a caption, 1 with a mask, as 3-masklabel.png beside it) at 80×48 (1), "
          + "64×64 (1) and 48×80 (1) on model"), "\(said)")
    _ = try train(parts, Workplace.train(steps: 2, settings))
    let before = try Data(contentsOf: parts.path(concept))
    let resume = ["train", "--resume", "--output", "run", "--threads", "1"]
    _ = try train(parts, resume + ["--steps", "4"])
    let after = try Data(contentsOf: parts.path(concept))
    #expect(try after != before && after == Data(contentsOf: whole.path(concept)))
    // Buckets belong to what is learned.
    try parts.expectFailure(resume + ["--steps", "6", "--data.buckets", "false"], ["data.buckets"])
  }

  @Test("at a resolution that is no multiple of 64 learns at that size, in steps that divide it, and says so")
  func oddResolution() throws {
    let place = try place()
    let said = try train(
      place, Workplace.train(["--model", "model", "--buckets", "--data.resolution", "76"]))
    #expect(
      said.contains(
        "data.resolution 76 is no multiple of 64: with --buckets the square is 72×72, and the sides of all sizes are "
          + "multiples of 8"), "\(said)")
    #expect(said.contains("at 88×64 (1), 72×72 (1) and 56×96 (1) on model"), "\(said)")
    // What the resolution divides needs no word.
    #expect(
      try !train(
        place, Workplace.train(output: "other", ["--model", "model", "--buckets", "--data.resolution", "64"])
      ).contains("is no multiple of 64"))
  }

  @Test(
    "generates as diffusers does for the original size and the crop that it is told, which the image's metadata say"
  )
  func toldSizes() throws {
    let place = try place()
    let golden = try SafetensorsFile(Fixtures.url("sdxl_images/sizes.safetensors"))
    let told = ["--original-size", "420x300", "--crop", "12,40"]
    let line = [
      "generate", "--prompt", "a photo of a <toy> next to a <mug> on a beach!", "--model", "model", "--seed",
      "7",
      "--steps", "4", "--guidance", "5", "--scheduler", "euler", "--width", "96", "--height", "64",
      "--threads", "1",
    ]
    let result = try place.run(line + told + ["--json"])
    #expect(result.code == 0, "\(result.error)")
    #expect(
      result.output.contains("\"original size\" : \"420x300\"")
        && result.output.contains("\"crop\" : \"12,40\""),
      "\(result.output)")
    let folder = place.path("outputs")
    let name = try #require(
      FileManager.default.contentsOfDirectory(atPath: folder.path).first {
        $0.hasSuffix(".png") && $0 != "sheet.png"
      })
    let (made, expected) = (
      try Image.load(folder.appending(path: name)).pixels, try golden.tensor("text").bytes()
    )
    #expect(made.count == expected.count)
    let near = zip(made, expected).count { abs(Int($0) - Int($1)) <= 2 }
    #expect(Double(near) >= 0.995 * Double(expected.count))
    // Other models are told no sizes.
    for option in [0, 2].map({ Array(told[$0...$0 + 1]) }) {
      try place.expectFailure(
        Workplace.generate("a cat", option),
        ["\(option[0]) is for SDXL, which is told such sizes, and mini-sd is not"], code: 64)
    }
  }
}
