import Files
import Foundation
import Imaging
import TestSupport
import Testing
import Torch

/// Stable Diffusion 1 and 2 at the command line, as folder and as one file.
@Suite("A model", .serialized)
struct ModelTests {
  private static let small = ["--width", "64", "--height", "64"]

  /// The only image in a folder.
  private func image(_ place: Workplace, _ folder: String) throws -> Image {
    let names = try FileManager.default.contentsOfDirectory(atPath: place.path(folder).path)
    let name = try #require(names.first { $0.hasSuffix(".png") && !$0.contains("sheet") })
    return try Image.decode(Data(contentsOf: place.path("\(folder)/\(name)")), name: name)
  }

  @Test("what train says to try next opens the run's model, when the run was gone on with, too")
  func nextLine() throws {
    let place = try Workplace()
    try place.images()
    try place.miniSD("other model")
    let trained = try place.run(Workplace.train(["--model", "other model"]))
    #expect(trained.code == 0, "\(trained.error)")
    let line = try #require(
      trained.error.split(separator: "\n").first { $0.contains(" generate --model ") }, "\(trained.error)")
    #expect(line.contains("other model' --concept run/concept.safetensors"), "\(line)")
    let resumed = try place.run(["train", "--output", "run", "--resume", "--steps", "2", "--threads", "1"])
    #expect(resumed.error.contains("other model' --concept run/concept.safetensors"), "\(resumed.error)")
    let before = try place.contents()
    try place.expectFailure(
      ["train", "--output", "run", "--resume", "--steps", "1", "--threads", "1"],
      ["run has 2 steps already, more than the 1 asked for", "--steps"])
    #expect(try place.contents() == before)
  }

  @Test("in one file draws what its folder draws, and says what it is", arguments: ["sd1", "sd2-v"])
  func sameImage(name: String) throws {
    let (place, random) = (try Workplace(), try RandomModel(name))
    try random.writeFolder(place.path("folder"))
    try Safetensors.write(Array(random.originals()), to: place.path("toys.safetensors"))
    var images: [Image] = []
    for model in ["folder", "toys.safetensors"] {
      let out = ["--model", model] + Self.small + ["--output", "out-\(images.count)"]
      let result = try place.run(
        ["generate", "--prompt", "a red robot!", "--steps", "2", "--threads", "1"] + out)
      #expect(result.code == 0, "\(result.error)")
      if model != "folder" {
        #expect(
          result.error.contains("“toys.safetensors” is Stable Diffusion \(name == "sd1" ? "1" : "2").x"))
        #expect(result.error.contains(name == "sd1" ? "(epsilon)" : "(v_prediction)"))
      }
      images.append(try image(place, "out-\(images.count)"))
    }
    #expect(images[0].width == 64 && images[0] == images[1])
  }

  @Test("of Stable Diffusion 2 learns a concept, from its file, which its folder then draws")
  func training() throws {
    let (place, random) = (try Workplace(), try RandomModel("sd2-v"))
    try place.images()
    try random.writeFolder(place.path("folder"))
    try Safetensors.write(Array(random.originals()), to: place.path("toys.safetensors"))
    let trained = try place.run(
      Workplace.train([
        "--model", "toys.safetensors", "--data.resolution", "64", "--prediction-type", "v_prediction",
      ]))
    #expect(trained.code == 0, "\(trained.error)")
    let settings = try String(contentsOf: place.path("run/config.yaml"), encoding: .utf8)
    #expect(settings.contains("prediction_type: v_prediction"))
    let drawn = try place.run(
      Workplace.generate(
        "a {} on a beach!", ["--model", "folder", "--concept", "run/concept.safetensors"] + Self.small))
    #expect(drawn.code == 0, "\(drawn.error)")
    // The same weights: no warning of another base model.
    #expect(!drawn.error.contains("warning"), "\(drawn.error)")
  }
}
