import Files
import Foundation
import Imaging
import TestSupport
import Testing
import Torch

@Suite("What suits a model", .serialized)
struct GenerationDefaultsTests {
  private struct Report: Decodable { let metadata: [String: String] }

  private func generate(_ place: Workplace, _ more: [String] = []) throws -> ([String: String], note: String)
  {
    let result = try place.run(
      ["generate", "--prompt", "a cat", "--model", "model", "--output", "out", "--json", "--threads", "1"]
        + more)
    #expect(result.code == 0, "\(result.error)")
    let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
    return (report.metadata, result.error)
  }

  /// Replaces a value of one of the model's JSON files.
  private func set(_ place: Workplace, _ file: String, _ key: String, _ value: Any) throws {
    let url = place.path("model/" + file)
    var json = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
    json[key] = value
    try FileManager.default.removeItem(at: url)
    try JSONSerialization.data(withJSONObject: json).write(to: url)
  }

  @Test("decides steps, guidance and scheduler where no option does, in one line")
  func defaults() throws {
    let place = try Workplace()
    try place.miniSD("model")
    try place.file(
      #"{"guidance": 1, "num_denoising_steps": 2, "scheduler": "euler-a"}"#, "model/model_defaults.json")
    let (own, note) = try generate(place)
    #expect(own["steps"] == "2" && own["guidance"] == "1.0" && own["scheduler"] == "euler-a")
    #expect(note.contains("the model's defaults give --steps 2, --guidance 1, --scheduler euler-a\n"))
    let (asked, silence) = try generate(
      place, ["--steps", "3", "--guidance", "2", "--scheduler", "ddim", "--clip-skip", "2"])
    #expect(asked["steps"] == "3" && asked["guidance"] == "2.0" && asked["scheduler"] == "ddim")
    #expect(asked["clip skip"] == "2" && !silence.contains("defaults"))
  }

  @Test("is told by LCM's scheduler, and guessed aloud from a turbo model's")
  func distilled() throws {
    let place = try Workplace()
    try place.miniSD("model")
    let file = "scheduler/scheduler_config.json"
    try set(place, file, "timestep_spacing", "trailing")
    #expect(try generate(place, ["--scheduler", "ddim"]).note.contains("add --steps 4 --guidance 1\n"))
    try set(place, file, "_class_name", "LCMScheduler")
    let (own, _) = try generate(place)
    #expect(own["steps"] == "4" && own["guidance"] == "1.0" && own["scheduler"] == "lcm")
  }

  @Test(
    "of SDXL is Euler and guidance 5, and the image that of the reference's pipeline; one file has its own beside it"
  )
  func stableDiffusionXL() throws {
    let (place, random) = (try Workplace(), try RandomModel("sdxl"))
    try random.writeFolder(place.path("model"))
    try Safetensors.write(Array(random.originals()), to: place.path("one.safetensors"))
    let expected = try random.golden.tensor("image").bytes()
    for model in ["model", "one.safetensors"] {
      let result = try place.run([
        "generate", "--prompt", random.prompts[0], "--model", model, "--output", "out-\(model)", "--json",
        "--threads", "1", "--steps", "4", "--seed", "7", "--width", "64", "--height", "96",
      ])
      #expect(result.code == 0, "\(result.error)")
      let told = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8)).metadata
      #expect(told["scheduler"] == "euler" && told["guidance"] == "5.0")
      let folder = place.path("out-\(model)")
      let name = try #require(
        FileManager.default.contentsOfDirectory(atPath: folder.path).first {
          $0.hasSuffix(".png") && $0 != "sheet.png"
        })
      let made = try Image.load(folder.appending(path: name)).pixels
      #expect(made.count == expected.count)
      let near = zip(made, expected).count { abs(Int($0) - Int($1)) <= 2 }
      #expect(Double(near) >= 0.995 * Double(expected.count), "\(near) of \(expected.count)")
    }
    try place.file(#"{"guidance": 1, "num_denoising_steps": 2}"#, "one.model_defaults.json")
    let own = try place.run([
      "generate", "--prompt", "a cat", "--model", "one.safetensors", "--output", "own", "--json", "--width",
      "64",
      "--height", "64", "--threads", "1",
    ])
    #expect(
      own.error.contains("the model's defaults give --steps 2, --guidance 1, --scheduler euler\n"),
      "\(own.error)")
  }

  @Test("is refused by its key where the scheduler cannot do it, with one that can")
  func refused() throws {
    let place = try Workplace()
    try place.miniSD("model")
    try set(place, "scheduler/scheduler_config.json", "algorithm_type", "dpmsolver")
    try place.expectFailure(
      Workplace.generate("a cat", ["--model", "model"]), ["“algorithm_type”", "--scheduler ddim works"],
      mayAdd: "out")
  }
}
