import Foundation
import TestSupport
import Testing

@Suite("Validation images that cannot be generated are known before the first step:", .serialized)
struct ValidationTests {
  private static func train(_ prompt: String, every steps: Int = 1, _ more: [String] = []) -> [String] {
    Workplace.train(
      ["--validate-every", String(steps), "--validation-prompt", prompt, "--eval.num_denoising_steps", "2"]
        + ["--eval.num_validation_images", "1"] + more)
  }

  @Test(
    "a prompt too long, with other braces, with unknown words in them; no folder is left",
    arguments: [String(repeating: "red ", count: 40) + "{}", "a {} in {red|blue}", "a {} and {other}"])
  func prompts(_ prompt: String) throws {
    let place = try Workplace()
    try place.images()
    try place.expectFailure(Self.train(prompt), ["validation images", "--eval.validation_prompts []"])
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
    #expect(FileManager.default.fileExists(atPath: place.path("run/samples/step-1-0-seed-0.png").path))
  }
}
