import Foundation
import NeTI
import TestSupport
import Testing

@Suite("Places that cannot be written get one clear line, and nothing there is lost:", .serialized)
struct BadPlacesTests {
  @Test("an output folder with another run in it, or with anything else")
  func taken() throws {
    let place = try Workplace()
    try place.images()
    #expect(try place.run(Workplace.train()).code == 0)
    try place.expectFailure(
      Workplace.train(token: "<other>"),
      ["run", "finished run of <toy>", "--resume and --steps N, more than 1", "--output"])
    let again = try place.run(["train", "--resume", "--output", "run", "--threads", "1"])
    #expect(
      again.code == 0 && again.error.contains("finished; --steps N, more than 1, learns on"), "\(again.error)"
    )
    let more = ["--log.save_steps", "1", "--log.checkpoints_total_limit=1"]
    let asked = try place.run(
      [
        "train", "--resume", "--output", "run", "--threads", "1", "--validation-prompt", "a {}",
        "--validate-every", "2",
      ]
        + more)
    let idle = "--validation-prompt, --log.checkpoints_total_limit, --log.save_steps have no effect"
    #expect(asked.error.contains("learns on; until then " + idle), "\(asked.error)")
    #expect(asked.error.contains("eval.validation_steps has no effect here: the run ends at step 1"))
    try place.expectFailure(
      Workplace.train(token: "<other>", ["--resume"]), ["other settings", "data.placeholder_token", "<toy>"])
    try place.expectFailure(
      ["train", "--resume", "--output", "run", "--seed", "5"], ["optim.seed is 5, was 0"])
    try place.file("mine", "notes/diary.txt")
    try place.expectFailure(Workplace.train(output: "notes"), ["notes", "diary.txt", "not empty"])
    try place.expectFailure(["train", "--resume", "--output", "notes"], ["no run in notes", "--images"])
    try place.expectFailure(["train", "--resume", "--output", "new"], ["no run in new", "--images"])
  }

  @Test("a file where a folder should be")
  func fileInTheWay() throws {
    let place = try Workplace()
    try place.images()
    try place.concept()
    try place.file("mine", "file")
    for output in ["file", "file/run"] {
      try place.expectFailure(
        Workplace.train(output: output), ["/file is a file; name a folder with --output"])
    }
    for (output, words) in [
      ("file", "neti: file is a file;"), ("file/out", "neti: file/out: file is a file;"),
    ] {
      try place.expectFailure(
        ["generate", "--prompt", "a cat", "--steps", "1", "--output", output],
        [words, "name a folder with --output"])
    }
    try FileManager.default.createSymbolicLink(
      atPath: place.path("link").path, withDestinationPath: "nowhere")
    for output in ["link", "link/run"] {
      try place.expectFailure(
        Workplace.train(output: output),
        ["/link is a link to “nowhere”, which is not there; make that folder, or choose another --output"])
    }
    try place.expectFailure(
      ["inspect", "concept.safetensors", "--plot", "file/plot.png"], ["file/plot.png", "file is a file"])
    try place.expectFailure(
      ["convert", "concept.safetensors", "nowhere/toy.safetensors"],
      ["nowhere/toy.safetensors", "there is no folder nowhere; make it"])
  }

  @Test("a folder without permission", .enabled(if: Surroundings.obeyingPermissions != nil))
  func permission() throws {
    let place = try Workplace()
    try place.images()
    try place.concept()
    try place.file("mine", "locked/file")
    let locked = place.path("locked").path
    try FileManager.default.setAttributes([.posixPermissions: 0o555], ofItemAtPath: locked)
    defer { try? FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: locked) }
    let setup = Surroundings.obeyingPermissions
    for (arguments, name) in [
      (Workplace.train(output: "locked/run"), "locked/run"),
      (["generate", "--prompt", "a cat", "--steps", "1", "--output", "locked/out"], "locked/out"),
      (["generate", "--prompt", "a cat", "--steps", "1", "--output", "locked"], "locked/a-cat-s0.png"),
      (["inspect", "concept.safetensors", "--plot", "locked/plot.png"], "locked/plot.png"),
      (["convert", "concept.safetensors", "locked/toy.safetensors"], "locked/toy.safetensors"),
    ] {
      try place.expectFailure(arguments, [name, "ermission"], setup: setup)
    }
    try FileManager.default.setAttributes([.posixPermissions: 0o300], ofItemAtPath: locked)
    let shut = try CommandLineTool.run(
      ["evaluate", "--concept", "concept.safetensors", "--images", "images", "--output", "locked"],
      in: place.folder, setup: setup ?? "")
    let line = Workplace.failure(in: shut.error)
    #expect(shut.code == 1 && line.hasPrefix("neti: cannot look into "), "\(shut.error)")
    #expect(line.hasSuffix("locked: check its permissions, or choose another --output"), "\(shut.error)")
    let secret = place.path("concept.safetensors").path
    try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: secret)
    try place.expectFailure(
      ["inspect", "concept.safetensors"], ["concept.safetensors", "ermission"], setup: setup)
  }

  @Test("a real full disk", .enabled(if: Surroundings.smallDisk != nil))
  func fullDisk() throws {
    let place = try Workplace()
    try place.images()
    try place.concept()
    try place.file("mine", "small/file")
    let full = "No space left on device"
    try place.expectFailure(
      ["convert", "concept.safetensors", "small/toy.safetensors"],
      ["cannot write", "small/toy.safetensors", full, "nothing was changed"], setup: Surroundings.smallDisk)
    try place.expectFailure(
      Workplace.train(output: "small/run"), ["writes about", "small/run", "are free there", "--output"],
      setup: Surroundings.smallDisk)
  }

  @Test(
    "another program fills the disk meanwhile: there is room held back",
    .enabled(if: Surroundings.smallDisk != nil))
  func filledMeanwhile() throws {
    let place = try Workplace()
    try place.images()
    try place.file("mine", "small/file")
    let setup = try #require(Surroundings.disk(filledOnce: "run/events.jsonl", holds: "checkpoint"))
    let words = Workplace.train(
      steps: 12, output: "small/run", ["--representation", "ti", "--log.save_steps", "3"])
    let r = try CommandLineTool.run(words, in: place.folder, setup: setup)
    #expect(r.code == 0 && r.error.contains("done: small/run/concept.safetensors"), "\(r.error)")
  }

  // Elsewhere a limit on the size of files stands for a full disk.

  @Test("a disk that fills up while a concept is learned: the step before is still there")
  func fullWhileTraining() throws {
    let place = try Workplace()
    try place.images()
    try place.expectFailure(
      Workplace.train(),
      ["cannot write", "run/concept.safetensors", "no step is saved. Begin again with", "--resume"],
      setup: "ulimit -f 64", mayAdd: "run")
    let left = try place.contents().keys.filter { $0.hasSuffix(".tmp") || $0.hasSuffix(".safetensors") }
    #expect(left == [])
    // With room again the same run goes on.
    let again = try place.run(["train", "--resume", "--output", "run"] + ["--threads", "1"])
    #expect(again.code == 0, "\(again.error)")
    #expect(FileManager.default.fileExists(atPath: place.path("run/concept.safetensors").path))
  }

  @Test("a disk that is full when images, concepts or plots are written")
  func fullWhileWriting() throws {
    let place = try Workplace()
    try place.concept()
    try place.file("mine", "out/a-cat-s0.png")
    try place.file("mine", "plot.png")
    try place.expectFailure(
      Workplace.generate("a cat"), ["cannot write", "a-cat-s0-2.png"], setup: "ulimit -f 1")
    try place.expectFailure(
      ["inspect", "concept.safetensors", "--plot", "other.png"], ["cannot write", "other.png"],
      setup: "ulimit -f 1")
    try place.expectFailure(
      ["inspect", "concept.safetensors", "--plot", "plot.png"], ["plot.png exists already", "--plot"])
    try place.expectFailure(
      ["convert", "concept.safetensors", "copy.safetensors"], ["cannot write", "copy.safetensors"],
      setup: "ulimit -f 64")
  }

  #if os(Linux)
    @Test("standard output that is full; standard error that is full stops nothing")
    func fullOutput() throws {
      let place = try Workplace()
      try place.concept()
      let inspect = ["inspect", "concept.safetensors", "--json"]
      let full = try CommandLineTool.run(inspect, in: place.folder, setup: "", redirect: ">/dev/full")
      #expect(full.code == 1 && !full.killed)
      #expect(Workplace.failure(in: full.error).contains("standard output cannot be written"))
      let silent = try CommandLineTool.run(
        Workplace.generate("a cat"), in: place.folder, setup: "", redirect: "2>/dev/full")
      #expect(silent.code == 0 && silent.output.contains("out/a-cat-s0.png"))
    }
  #endif

  @Test("a checkpoint that does not fit in the end: the concept does")
  func fullAtTheEnd() throws {
    let place = try Workplace()
    try place.images()
    // A checkpoint has three numbers for each one of the concept.
    let result = try CommandLineTool.run(Workplace.train(), in: place.folder, setup: "ulimit -f 6000")
    #expect(result.code == 0, "\(result.error)")
    #expect(result.error.contains("warning: step 1 is not saved: cannot write"), "\(result.error)")
    #expect(throws: Never.self) { try Concept(contentsOf: place.path("run/concept.safetensors")) }
  }

  @Test("a run's folder that is removed or moved while a concept is learned: it is made again")
  func folderRemoved() throws {
    let place = try Workplace()
    try place.images()
    let arguments = Workplace.train(steps: 6, ["--log.save_steps", "2"])
    #expect(try place.run(arguments).code == 0)
    let whole = try Data(contentsOf: place.path("run/concept.safetensors"))
    try FileManager.default.removeItem(at: place.path("run"))
    let tool = try CommandLineTool.start(arguments, in: place.folder)
    place.wait(tool) { !place.stepsLogged().isEmpty }
    try FileManager.default.moveItem(at: place.path("run"), to: place.path("elsewhere"))
    let result = tool.wait()
    #expect(result.code == 0, "\(result.error)")
    #expect(try Data(contentsOf: place.path("run/concept.safetensors")) == whole)
    // What was begun goes on from there, too.
    let more = try place.run(["train", "--resume", "--output", "run", "--threads", "1"])
    #expect(more.code == 0, "\(more.error)")
  }

  @Test("standard streams that are closed, and readers that went away, stop nothing")
  func closedStreams() throws {
    let place = try Workplace()
    try place.images()
    let arguments = Workplace.train(steps: 2)
    #expect(try place.run(arguments).code == 0)
    let whole = try Data(contentsOf: place.path("run/concept.safetensors"))
    for redirect in ["<&- >&- 2>&-", "2>&1 | true", "| true"] {
      try FileManager.default.removeItem(at: place.path("run"))
      _ = try CommandLineTool.run(arguments, in: place.folder, setup: "", redirect: redirect)
      #expect(try Data(contentsOf: place.path("run/concept.safetensors")) == whole, "\(redirect)")
    }
    let closed = try CommandLineTool.run(
      ["inspect", "run/concept.safetensors"], in: place.folder, setup: "", redirect: ">&-")
    #expect(closed.code == 1 && !closed.killed)
    #expect(Workplace.failure(in: closed.error).contains("standard output cannot be written"))
  }

  #if os(Linux)
    @Test("limits of files and of memory that nothing can be done with are said at once")
    func limits() throws {
      let place = try Workplace()
      try place.images()
      for (limit, words) in [
        ("-n 6", ["ulimit -n", "Too many open files"]), ("-v 600000", ["ulimit -v", "MiB"]),
      ] {
        try place.expectFailure(Workplace.train(), words, setup: "ulimit \(limit)")
      }
    }

    @Test("too few threads, where a control group can be made", .enabled(if: Surroundings.limitsThreads))
    func threads() throws {
      let place = try Workplace()
      try place.images()
      try place.expectFailure(
        Workplace.train(), ["only 4 more threads can be started, and neti needs 8: allow more (ulimit -u"],
        setup: Surroundings.threads(5))
      // Those that compute come later.
      try place.expectFailure(
        Workplace.train() + ["--threads", "64"],
        ["can be started, and neti needs 136: allow more (ulimit -u", "or give fewer --threads"],
        setup: Surroundings.threads(100))
    }
  #endif

  @Test("what was drawn before is never overwritten")
  func nothingOverwritten() throws {
    let place = try Workplace()
    #expect(try place.run(Workplace.generate("a cat", ["--seed", "0,1"])).code == 0)
    let before = try place.contents()
    #expect(before.keys.filter { $0.hasSuffix(".png") }.count == 3)
    #expect(try place.run(Workplace.generate("a cat", ["--seed", "0,1"])).code == 0)
    let after = try place.contents()
    #expect(after.keys.filter { $0.hasSuffix(".png") }.count == 6)
    for (name, data) in before { #expect(after[name] == data, "\(name)") }
  }
}
