import Foundation
import Imaging
import TestSupport
import Testing

@Suite("Validation images that cannot be generated are known before the first step:", .serialized)
struct ValidationTests {
  private static func train(_ prompt: String, every steps: Int = 1, _ more: [String] = []) -> [String] {
    Workplace.train(
      ["--validate-every", String(steps), "--validation-prompt", prompt, "--eval.num_denoising_steps", "2"]
        + ["--eval.num_validation_images", "1"] + more)
  }

  @Test("a prompt too long; no folder is left")
  func prompts() throws {
    let place = try Workplace()
    try place.images()
    try place.expectFailure(
      Self.train(String(repeating: "red ", count: 40) + "{}"),
      ["validation images", "--eval.validation_prompts []"], code: 64)
  }

  @Test("braces and weights in prompts and captions are told, and weights can be asked for")
  func words() throws {
    let place = try Workplace()
    try place.images()
    try place.file("a <toy> {cozy} (big:1.2)", "images/1.txt")
    let prompt = "a (<toy>:1.3) in {red|blue}"
    for more in [[], ["--eval.prompt_weights", "true"]] {
      let result = try place.run(
        Workplace.train(
          output: "run\(more.count)",
          ["--validate-every", "1", "--validation-prompt", prompt, "--eval.num_denoising_steps", "1"]
            + ["--eval.num_validation_images", "1"] + more))
      #expect(result.code == 0, "\(result.error)")
      for line in ["“{cozy}” in a caption names no", "“(big:1.2)” in a caption", "“{red|blue}” in a prompt"] {
        #expect(result.error.contains("warning: " + line), "\(result.error)")
      }
      #expect(
        result.error.contains("--eval.prompt_weights true reads weights") == more.isEmpty, "\(result.error)")
    }
    let images = try ["run0", "run2"].map {
      try Image.load(place.path("\($0)/samples/step-000001-0-seed-0.png")).pixels
    }
    #expect(images[0] != images[1])
  }

  @Test("a prompt alone is drawn at the end of a short run")
  func promptAlone() throws {
    let place = try Workplace()
    try place.images()
    let result = try place.run(
      Workplace.train(
        steps: 2,
        [
          "--validation-prompt", "a {}", "--eval.num_denoising_steps", "1", "--eval.num_validation_images",
          "1",
        ]))
    #expect(result.code == 0, "\(result.error)")
    #expect(result.error.contains("warning: a single image"), "\(result.error)")
    #expect(FileManager.default.fileExists(atPath: place.path("run/samples/step-000002-0-seed-0.png").path))
    // Not every second step of a longer one.
    let longer = try place.run(["train", "--resume", "--output", "run", "--steps", "5"])
    #expect(longer.code == 0, "\(longer.error)")
    #expect(!FileManager.default.fileExists(atPath: place.path("run/samples/step-000004-0-seed-0.png").path))
    #expect(FileManager.default.fileExists(atPath: place.path("run/samples/step-000005-0-seed-0.png").path))
  }

  @Test("prompts that never come due are not asked for")
  func notDue() throws {
    let place = try Workplace()
    try place.images()
    let result = try place.run(Self.train("a {} in {red|blue}", every: 5))
    #expect(result.code == 0, "\(result.error)")
  }

  @Test("a model that asks its scheduler for what is not there is drawn with another")
  func scheduler() throws {
    let place = try Workplace()
    try place.images()
    let file = "scheduler/scheduler_config.json"
    var settings = try #require(
      JSONSerialization.jsonObject(with: Data(contentsOf: Fixtures.miniSD.appending(path: file)))
        as? [String: Any])
    settings["use_flow_sigmas"] = true
    try place.model(file, JSONSerialization.data(withJSONObject: settings))
    let result = try place.run(Self.train("a {}", ["--model", "model"]))
    #expect(result.code == 0, "\(result.error)")
    #expect(result.error.contains("ddim denoises the validation images"), "\(result.error)")
    #expect(FileManager.default.fileExists(atPath: place.path("run/samples/step-000001-0-seed-0.png").path))
  }
}
