import Foundation
import NeTI
import TestSupport
import Testing

/// `neti train --manifest` through the executable.
@Suite("Many concepts", .serialized)
struct ManifestTests {
  /// The three concepts of the tests, as their manifest's lines.
  private static let lines = [
    #"{"images": "spotty", "token": "<spotty>", "category": "monster", "seed": 1}"#,
    #"{"images": "jay", "token": "<jay>", "category": "bird", "steps": 5, "output": "my jay"}"#,
    #"{"images": "starmug", "token": "<starmug>", "category": "mug", "optim.learning_rate": 0.002, "optim.scale_lr": false}"#,
  ]
  private static let names = ["spotty", "my jay", "starmug"]

  private static func command(_ more: [String] = []) -> [String] {
    ["train", "--manifest", "list/concepts.jsonl", "--output", "out", "--log.save_steps", "2"]
      + Workplace.quickly + more
  }

  /// A folder with images of three concepts, and a manifest of them.
  private func place(_ lines: [String] = lines, steps: Int = 4) throws -> Workplace {
    let place = try Workplace()
    for example in ["spotty", "jay", "starmug"] {
      let target = place.path("list/\(example)")
      try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
      for i in 1...2 {
        try FileManager.default.copyItem(
          at: Fixtures.examples.appending(path: "\(example)/\(i).jpg"),
          to: target.appending(path: "\(i).jpg"))
      }
    }
    let text = lines.map { $0.contains("steps\"") ? $0 : $0.dropLast() + ", \"steps\": \(steps)}" }
    try place.file(text.joined(separator: "\n") + "\n", "list/concepts.jsonl")
    return place
  }

  private func concepts(_ place: Workplace) -> [Data?] {
    Self.names.map { try? Data(contentsOf: place.path("out/\($0)/concept.safetensors")) }
  }

  /// What a run that nothing disturbs gives.
  private func undisturbed(steps: Int = 4) throws -> [Data?] {
    let place = try place(steps: steps)
    let result = try place.run(Self.command())
    #expect(result.code == 0 && result.error.contains("3 learned of 3"), "\(result.error)")
    let files = concepts(place)
    #expect(!files.contains(nil))
    return files
  }

  @Test("are learned in shards, each as `neti train` alone learns it; what is finished is not touched again")
  func shards() throws {
    let place = try place()
    let first = try place.run(Self.command(["--shard", "1/2"]))
    #expect(first.code == 0 && first.error.contains("2 of 3 concepts are in shard 1/2"), "\(first.error)")
    #expect(concepts(place).map { $0 != nil } == [true, false, true])
    let second = try CommandLineTool.run(
      Self.command(["--shard", "auto/2"]), in: place.folder, environment: ["JOB_COMPLETION_INDEX": "1"])
    #expect(second.code == 0 && second.error.contains("1 learned of 1"), "\(second.error)")

    let alone = try place.run(
      ["train", "--images", "list/jay", "--token", "<jay>", "--category", "bird", "--steps", "5"]
        + ["--log.save_steps", "2"]
        + ["--output", "alone/my jay"] + Workplace.quickly)
    #expect(alone.code == 0, "\(alone.error)")
    #expect(try Data(contentsOf: place.path("alone/my jay/concept.safetensors")) == concepts(place)[1])

    let before = try place.contents()
    let again = try place.run(Self.command())
    #expect(again.code == 0 && again.error.contains("3 finished before of 3"), "\(again.error)")
    #expect(try place.contents() == before)
    // More steps are more work, and other settings another run.
    let more = try place.run(Self.command(["--steps", "6"]))
    #expect(more.code == 0 && more.error.contains("3 learned of 3"), "\(more.error)")
    let other = try place.run(Self.command(["--steps", "6", "--optim.seed", "9"]))
    #expect(other.code == 1 && other.error.contains("optim.seed is 9, was 1"), "\(other.error)")
  }

  @Test("whose process is killed at random moments go on, to exactly the same files")
  func kills() throws {
    let clock = ContinuousClock.now
    let whole = try undisturbed(steps: 8)
    let duration = Double((ContinuousClock.now - clock) / .milliseconds(1)) * 1e-3
    let place = try place(steps: 8)
    var random = SplitMix64(seed: 7)
    var kills = 0
    for _ in 0..<60 where kills < 6 {
      let tool = try CommandLineTool.start(Self.command(), in: place.folder)
      usleep(UInt32(Double.random(in: 0..<duration * 0.5, using: &random) * 1e6))
      tool.send(SIGKILL)
      let result = tool.wait()
      #expect(result.killed || result.code == 0, "\(result.error)")
      kills += result.killed ? 1 : 0
    }
    #expect(kills == 6)
    let last = try place.run(Self.command())
    #expect(last.code == 0, "\(last.error)")
    #expect(concepts(place) == whole)
    #expect(try !place.contents().keys.contains { $0.hasSuffix(".tmp") })
  }

  @Test("are not blamed for what the command line says")
  func flags() throws {
    let place = try place()
    for (more, words) in [
      (["--optim.max_train_steps", "0"], "neti: --optim.max_train_steps is 0"),
      (["--optim.seed", ""], "neti: --optim.seed is empty"), (["--optim.bogus", "3"], "“optim.bogus”"),
    ] {
      try place.expectFailure(Self.command(more), [words], code: 64)
    }
  }

  @Test("are stopped by SIGTERM after a saved step, and the same command goes on")
  func stopped() throws {
    let whole = try undisturbed(steps: 12)
    let place = try place(steps: 12)
    let tool = try CommandLineTool.start(Self.command(), in: place.folder)
    place.wait(tool) { place.stepsLogged("out/starmug").count >= 2 }
    tool.send(SIGTERM)
    let result = tool.wait()
    #expect(!result.killed && result.code == 143, "\(result.error)")
    #expect(result.error.contains("is saved. Go on with: neti train --manifest"), "\(result.error)")
    #expect(concepts(place).map { $0 != nil } == [true, true, false])
    let again = try place.run(Self.command())
    #expect(again.code == 0 && again.error.contains("1 learned, 2 finished before of 3"), "\(again.error)")
    #expect(concepts(place) == whole)
  }

  @Test("that two processes learn by mistake come to no harm")
  func twice() throws {
    let whole = try undisturbed()
    let place = try place()
    let tools = try (0..<2).map { _ in try CommandLineTool.start(Self.command(), in: place.folder) }
    let results = tools.map { $0.wait() }
    for r in results {
      #expect(!r.killed && (r.code == 0 || r.error.contains("another process works on it")), "\(r.error)")
    }
    #expect(results.contains { $0.code == 0 })
    #expect(concepts(place) == whole)
  }

  @Test("of which one fails: the others are learned, the summary tells why, and the exit code is 1")
  func failing() throws {
    let place = try place()
    try place.file("a photo of a sofa", "list/jay/1.txt")
    let result = try place.run(Self.command())
    #expect(result.code == 1 && !result.killed)
    #expect(concepts(place).map { $0 != nil } == [true, false, true])
    #expect(result.error.contains("2 learned, 1 not learned of 3"), "\(result.error)")
    #expect(result.error.contains("  my jay (line 2): ") && result.error.contains("1.txt"), "\(result.error)")
    #expect(Workplace.failure(in: result.error).contains("1 of 3 concepts were not learned"))
    try FileManager.default.removeItem(at: place.path("list/jay/1.txt"))
    let again = try place.run(Self.command())
    #expect(again.code == 0 && again.error.contains("1 learned, 2 finished before of 3"), "\(again.error)")
  }

  @Test(
    "in a manifest that is not right: one line, and nothing is begun",
    arguments: [
      (#"{"images": "none", "token": "<a>", "category": "cat"}"#, ["line 4", "list/none"]),
      (
        #"{"images": "jay", "token": "<jay>", "category": "bird", "output": "spotty"}"#, ["line 4", "line 1"]
      ),
      (#"{"images": "../list", "token": "<a>", "category": "cat"}"#, ["line 4", "leads out"]),
      (#"{"images": "jay", "token": "<a>", "category": "cat", "sed": 1}"#, ["line 4", "sed", "seed?"]),
      (#"{"images": "jay", "token": "<a>", "category": "cat", "steps": -1}"#, ["line 4", "max_train_steps"]),
    ])
  func badManifests(_ line: String, _ words: [String]) throws {
    try place(Self.lines + [line]).expectFailure(Self.command(), ["concepts.jsonl"] + words)
  }

  @Test("that cannot be found, or are not told rightly, are wrong usage")
  func usage() throws {
    let place = try place()
    try place.expectFailure(["train", "--manifest", "none.jsonl"], ["none.jsonl"])
    try place.expectFailure(["train", "--manifest", "list"], ["list", "folder"])
    for (more, words) in [
      (["--shard", "0/2"], "first number"), (["--shard", "3/2"], "first number"), (["--shard", "2"], "2/8"),
      (["--shard", "auto"], "neither SLURM_ARRAY_TASK_ID"), (["--images", "x"], "--images"),
      (["--resume"], "--resume"), (["--log.exp_name", "x"], "--output"),
    ] {
      try place.expectFailure(Self.command(more), [words], code: 64)
    }
    try place.expectFailure(["train", "--shard", "1/2", "--output", "out"], ["--manifest"], code: 64)
  }

  @Test("take their shard from Slurm's and Kubernetes' variables, and refuse what does not fit")
  func environment() throws {
    let place = try place([Self.lines[0]])
    func run(_ shard: String, _ environment: [String: String]) throws -> String {
      try CommandLineTool.run(
        Self.command(["--shard", shard]), in: place.folder,
        environment: environment
      ).error
    }
    func slurm(_ id: String, _ first: String, _ last: String, _ count: String, _ step: String = "1")
      -> [String: String]
    {
      [
        "SLURM_ARRAY_TASK_ID": id, "SLURM_ARRAY_TASK_MIN": first, "SLURM_ARRAY_TASK_MAX": last,
        "SLURM_ARRAY_TASK_COUNT": count, "SLURM_ARRAY_TASK_STEP": step,
      ]
    }
    #expect(try run("auto", slurm("8", "4", "10", "4", "2")).contains("0 of 1 concepts are in shard 3/4"))
    #expect(try run("auto/4", slurm("10", "4", "10", "4", "2")).contains("in shard 4/4"))
    #expect(
      try run("auto", slurm("3", "1", "9", "3")).contains(
        "the array's numbers are not evenly spaced; submit one such as --array=0-7, or write i/n"))
    #expect(try run("auto/10", slurm("3", "3", "3", "1")).contains("submit all of it again"))
    #expect(try run("auto/3", ["JOB_COMPLETION_INDEX": "2"]).contains("in shard 3/3"))
    #expect(try run("auto/2", ["JOB_COMPLETION_INDEX": "2"]).contains("from 0 to 1"))
    #expect(try run("auto", ["JOB_COMPLETION_INDEX": "0"]).contains("auto/N"))
    #expect(try run("auto", slurm("x", "1", "3", "3")).contains("SLURM_ARRAY_TASK_ID"))
    #expect(
      try run("auto", ["SLURM_ARRAY_TASK_ID": "1"])
        .contains("SLURM_ARRAY_TASK_COUNT, _MIN or _MAX is not set; write i/n"))
    let ranks = ["RANK": "2", "WORLD_SIZE": "2"]
    #expect(try run("auto", ranks).contains("RANK is 2, from 0 to 1 were expected by WORLD_SIZE 2"))
    let world = try run("auto/3", ["RANK": "1", "WORLD_SIZE": "2"])
    #expect(world.contains("WORLD_SIZE is 2; write auto or auto/2"), "\(world)")
    let none = try run("auto", ["RANK": "0", "WORLD_SIZE": "0"])
    #expect(none.contains("--shard auto: WORLD_SIZE is 0; at least 1 was expected"), "\(none)")
  }
}
