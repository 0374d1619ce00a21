import Foundation
import NeTI
import TestSupport
import Testing

/// Training runs that are stopped, killed and resumed; each ends with exactly the uninterrupted concept.
@Suite("A training run that is interrupted", .serialized)
struct InterruptionTests {
  private static let concept = "run/concept.safetensors"
  /// Two seconds, and what a busy machine may add.
  private static let limit: Duration = .seconds(4)

  private func settings(_ steps: Int, _ more: [String] = []) -> [String] {
    Workplace.train(steps: steps, ["--log.save_steps", "1000"] + more)
  }

  /// The folder's only command afterwards.
  private static let resume = ["train", "--resume", "--output", "run", "--threads", "1"]

  /// The concept of a run that nothing interrupted.
  private func uninterrupted(_ arguments: [String]) throws -> Data {
    let place = try Workplace()
    try place.images(2)
    let result = try place.run(arguments)
    #expect(result.code == 0, "\(result.error)")
    return try Data(contentsOf: place.path(Self.concept))
  }

  private func checkpoints(_ place: Workplace) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: place.path("run/checkpoints").path)) ?? [])
      .sorted()
  }

  @Test(
    "by Ctrl-C, SIGTERM or SIGHUP saves the last completed step within two seconds, and --resume alone goes on",
    arguments: [SIGINT, SIGTERM, SIGHUP])
  func signals(_ signal: Int32) throws {
    let arguments = settings(10)
    let whole = try uninterrupted(arguments)
    let place = try Workplace()
    try place.images(2)
    let tool = try CommandLineTool.start(arguments, in: place.folder)
    place.wait(tool) { place.stepsLogged().count >= 3 }
    let clock = ContinuousClock.now
    tool.send(signal)
    let result = tool.wait()
    #expect(ContinuousClock.now - clock < Self.limit)
    #expect(!result.killed && result.code == 128 + signal, "\(result.error)")
    let last = try #require(place.stepsLogged().max())
    #expect(checkpoints(place) == [String(format: "step-%06d.safetensors", last)])
    #expect(result.error.contains("step \(last) is saved"), "\(result.error)")
    #expect(result.error.contains("neti train --output run --resume --threads 1"), "\(result.error)")
    #expect(!FileManager.default.fileExists(atPath: place.path(Self.concept).path))

    let resumed = try place.run(Self.resume)
    #expect(resumed.code == 0, "\(resumed.error)")
    #expect(try Data(contentsOf: place.path(Self.concept)) == whole)
    #expect(place.stepsLogged() == Array(1...10))
  }

  @Test("by SIGTERM in the midst of a long step ends at once, with the step before it")
  func longStep() throws {
    // Many seconds a step; what is left of it when the signal comes is longer than the limit.
    let arguments = settings(2, ["--optim.gradient_accumulation_steps", "60"])
    let whole = try uninterrupted(arguments)
    let place = try Workplace()
    try place.images(2)
    let tool = try CommandLineTool.start(arguments, in: place.folder)
    place.wait(tool) { !place.stepsLogged().isEmpty }
    usleep(500_000)
    let clock = ContinuousClock.now
    tool.send(SIGTERM)
    let result = tool.wait()
    #expect(ContinuousClock.now - clock < Self.limit)
    #expect(!result.killed && result.code == 143, "\(result.error)")
    #expect(place.stepsLogged() == [1])
    #expect(checkpoints(place) == ["step-000001.safetensors"])
    #expect(result.error.contains("step 1 is saved"), "\(result.error)")
    let resumed = try place.run(Self.resume)
    #expect(resumed.code == 0, "\(resumed.error)")
    #expect(try Data(contentsOf: place.path(Self.concept)) == whole)
    #expect(place.stepsLogged() == [1, 2])
  }

  @Test("before its first step ends with the signal's code, and the run can begin")
  func early() throws {
    let arguments = settings(2)
    let whole = try uninterrupted(arguments)
    let place = try Workplace()
    try place.images(2)
    let tool = try CommandLineTool.start(arguments, in: place.folder)
    place.wait(tool) { FileManager.default.fileExists(atPath: place.path("run/config.yaml").path) }
    tool.send(SIGINT)
    let result = tool.wait()
    #expect(!result.killed && result.code == 130, "\(result.error)")
    #expect(result.error.contains("stopped") && result.error.contains("--resume"))
    let resumed = try place.run(Self.resume)
    #expect(resumed.code == 0, "\(resumed.error)")
    #expect(try Data(contentsOf: place.path(Self.concept)) == whole)
  }

  @Test("while it draws validation images stops at once, too")
  func validating() throws {
    let place = try Workplace()
    try place.images(2)
    let tool = try CommandLineTool.start(settings(1000, ["--validate-every", "2"]), in: place.folder)
    place.wait(tool) { place.stepsLogged().count >= 2 }
    usleep(200_000)
    let clock = ContinuousClock.now
    tool.send(SIGTERM)
    let result = tool.wait()
    #expect(ContinuousClock.now - clock < Self.limit)
    #expect(!result.killed && result.code == 143, "\(result.error)")
    #expect(result.error.contains("step 2 is saved"), "\(result.error)")
    #expect(checkpoints(place) == ["step-000002.safetensors"])
  }

  @Test("while it draws validation images draws them when it goes on, also those that someone removed")
  func drawnAgain() throws {
    // Checkpoints come before the images of their step, which take a while.
    let arguments = settings(
      4,
      [
        "--log.save_steps", "1", "--validate-every", "2", "--validation-prompt", "a {}",
        "--eval.num_validation_images", "2", "--eval.num_denoising_steps", "40",
      ])
    let whole = try Workplace()
    try whole.images(2)
    #expect(try whole.run(arguments).code == 0)
    func images(_ place: Workplace) throws -> [String: Data] {
      try place.contents().filter { $0.key.hasPrefix("run/samples/") }
    }
    let drawn = try images(whole)
    #expect(drawn.count == 4)
    let concept = try Data(contentsOf: whole.path(Self.concept))

    let place = try Workplace()
    try place.images(2)
    // In the midst, and at the end, where no step is left to take.
    for (step, signal) in [(2, SIGKILL), (4, SIGTERM)] {
      let begun = FileManager.default.fileExists(atPath: place.path("run/config.yaml").path)
      let tool = try CommandLineTool.start(begun ? Self.resume : arguments, in: place.folder)
      place.wait(tool) { checkpoints(place).contains("step-00000\(step).safetensors") }
      tool.send(signal)
      _ = tool.wait()
      #expect(try images(place).count == step - 2)
    }
    let resumed = try place.run(Self.resume)
    #expect(resumed.code == 0, "\(resumed.error)")
    #expect(try images(place) == drawn)
    #expect(try Data(contentsOf: place.path(Self.concept)) == concept)

    let last = "run/samples/step-000004-1-seed-"
    for name in drawn.keys where name.hasPrefix(last) {
      try FileManager.default.removeItem(at: place.path(name))
    }
    #expect(try place.run(Self.resume).code == 0)
    #expect(try images(place) == drawn)
    #expect(try Data(contentsOf: place.path(Self.concept)) == concept)
  }

  @Test("by SIGHUP goes on where nohup ignores it")
  func nohup() throws {
    let place = try Workplace()
    try place.images(2)
    let tool = try RunningTool(
      URL(filePath: "/bin/sh"),
      ["-c", "trap '' HUP; exec \"$0\" \"$@\"", CommandLineTool.executable.path] + settings(5),
      in: place.folder)
    place.wait(tool) { !place.stepsLogged().isEmpty }
    tool.send(SIGHUP)
    #expect(tool.wait().code == 0)
    #expect(place.stepsLogged() == Array(1...5))
  }

  @Test("by a model file that is cut short saves the last completed step, and names the file")
  func cutShort() throws {
    let place = try Workplace()
    try place.images(2)
    let name = try place.mappedModel()
    let arguments = settings(8, ["--model", "model"])
    let whole = try place.run(arguments)
    #expect(whole.code == 0, "\(whole.error)")
    let concept = try Data(contentsOf: place.path(Self.concept))
    try FileManager.default.removeItem(at: place.path("run"))

    let bytes = try Data(contentsOf: place.path("model/\(name)"))
    let tool = try CommandLineTool.start(arguments, in: place.folder)
    place.wait(tool) { place.stepsLogged().count >= 2 }
    #expect(truncate(place.path("model/\(name)").path, off_t(bytes.count / 8)) == 0)
    let result = tool.wait()
    #expect(!result.killed && result.code == 1, "\(result.error)")
    let line = Workplace.failure(in: result.error)
    #expect(
      line.contains("model/\(name) is gone") && line.contains("is saved. Go on with"), "\(result.error)")
    #expect(checkpoints(place).count == 1)
    try bytes.write(to: place.path("model/\(name)"))
    let resumed = try place.run(Self.resume)
    #expect(resumed.code == 0, "\(resumed.error)")
    #expect(try Data(contentsOf: place.path(Self.concept)) == concept)
  }

  @Test("by SIGKILL at twenty random moments resumes each time, to exactly the uninterrupted concept")
  func kills() throws {
    let arguments = settings(16, ["--log.save_steps", "2", "--log.checkpoints_total_limit", "3"])
    let clock = ContinuousClock.now
    let whole = try uninterrupted(arguments)
    let duration =
      Double((ContinuousClock.now - clock).components.attoseconds) * 1e-18
      + Double((ContinuousClock.now - clock).components.seconds)
    let place = try Workplace()
    try place.images(2)
    var random = SplitMix64(seed: 20)
    var kills = 0
    for _ in 0..<100 where kills < 20 {
      // A process that was killed before it wrote its settings leaves nothing to resume.
      let began = FileManager.default.fileExists(atPath: place.path("run/config.yaml").path)
      let tool = try CommandLineTool.start(began ? Self.resume : arguments + ["--resume"], in: place.folder)
      usleep(UInt32(Double.random(in: 0..<duration * 0.4, using: &random) * 1e6))
      tool.send(SIGKILL)
      let result = tool.wait()
      #expect(result.killed || result.code == 0, "\(result.error)")
      kills += result.killed ? 1 : 0
      let left = try place.contents().keys.filter { $0.hasSuffix(".safetensors") }
      for name in left { #expect(throws: Never.self) { try Concept(contentsOf: place.path(name)) } }
    }
    #expect(kills == 20)
    let resumed = try place.run(Self.resume)
    #expect(resumed.code == 0, "\(resumed.error)")
    #expect(try Data(contentsOf: place.path(Self.concept)) == whole)
    #expect(place.stepsLogged() == Array(1...16))
    #expect(try !place.contents().keys.contains { $0.hasSuffix(".tmp") })
  }

  @Test("by nothing when its validation images cannot be written: that is a warning")
  func unwritable() throws {
    let arguments = settings(
      12,
      [
        "--validate-every", "12", "--validation-prompt", "a {}", "--eval.num_validation_images", "3",
        "--eval.num_denoising_steps", "1", "--optim.gradient_accumulation_steps", "4",
      ])
    let whole = try uninterrupted(arguments)
    let place = try Workplace()
    try place.images(2)
    let tool = try CommandLineTool.start(arguments, in: place.folder)
    place.wait(tool) { !place.stepsLogged().isEmpty }
    try FileManager.default.removeItem(at: place.path("run/samples"))
    try place.file("in the way", "run/samples")
    let result = tool.wait()
    #expect(result.code == 0, "\(result.error)")
    #expect(
      result.error.contains("warning: a validation image is not written: cannot write"), "\(result.error)")
    #expect(result.error.components(separatedBy: "a validation image is not written").count == 2, "told once")
    #expect(!result.error.contains("nothing was changed"))
    #expect(try Data(contentsOf: place.path(Self.concept)) == whole)
  }

  @Test("or finished, may be resumed: with nothing left to do, or for more steps")
  func finished() throws {
    let place = try Workplace()
    try place.images(2)
    #expect(try place.run(settings(3)).code == 0)
    let three = try Data(contentsOf: place.path(Self.concept))
    let again = try place.run(Self.resume)
    #expect(again.code == 0, "\(again.error)")
    #expect(try Data(contentsOf: place.path(Self.concept)) == three)
    let more = try place.run(Self.resume + ["--steps", "5"])
    #expect(more.code == 0, "\(more.error)")
    #expect(try Data(contentsOf: place.path(Self.concept)) == uninterrupted(settings(5)))
    try place.expectFailure(
      Self.resume + ["--optim.learning_rate", "0.5"], ["optim.learning_rate is 0.5, was"])
    try place.expectFailure(Self.resume + ["--token", "<other>"], ["data.placeholder_token", "<toy>"])
  }

  @Test("keeps others out of its folder while it works")
  func locked() throws {
    let place = try Workplace()
    try place.images(2)
    let tool = try CommandLineTool.start(settings(1000), in: place.folder)
    place.wait(tool) { !place.stepsLogged().isEmpty }
    let second = try place.run(Self.resume)
    #expect(second.code == 1)
    #expect(Workplace.failure(in: second.error).contains("another process trains in"), "\(second.error)")
    tool.send(SIGTERM)
    #expect(tool.wait().code == 143)
  }
}
