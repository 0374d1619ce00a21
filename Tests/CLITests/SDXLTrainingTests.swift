import Foundation
import Imaging
import NeTI
import TestSupport
import Testing

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
}
