import Foundation
import NeTI
import TestSupport
import Testing

@Suite("A training run goes on where its things lie elsewhere, and only with the same things:", .serialized)
struct MovedRunTests {
  private static let resume = ["train", "--resume", "--threads", "1"]

  /// One step of a run in `data/run`, on `data/images` and `data/model`.
  private func begun() throws -> Workplace {
    let place = try Workplace()
    try place.images(2)
    try place.miniSD("model")
    for name in ["images", "model"] { try move(place, name, "data/\(name)") }
    let r = try place.run(
      Workplace.train(images: "data/images", output: "data/run", ["--model", "data/model"]))
    #expect(r.code == 0, "\(r.error)")
    return place
  }

  private func move(_ place: Workplace, _ from: String, _ to: String) throws {
    try FileManager.default.createDirectory(
      at: place.path(to).deletingLastPathComponent(), withIntermediateDirectories: true)
    try FileManager.default.moveItem(at: place.path(from), to: place.path(to))
  }

  private func expectGoingOn(_ place: Workplace, to steps: Int = 2, _ arguments: [String]) throws {
    let r = try place.run(Self.resume + arguments + ["--steps", String(steps)])
    #expect(r.code == 0, "\(r.error)")
    #expect(r.error.contains("learning \(steps)/\(steps)"), "\(r.error)")
  }

  @Test("all of it moved together")
  func together() throws {
    let place = try begun()
    try move(place, "data", "a/b/data")
    try expectGoingOn(place, ["--output", "a/b/data/run"])
  }

  @Test("images, model or run moved: one line says which setting names them, and that is enough")
  func apart() throws {
    let place = try begun()
    try move(place, "data/images", "pictures")
    try place.expectFailure(
      Self.resume + ["--output", "data/run"], ["data/images", "--images"])
    try move(place, "data/model", "sd/other")
    try place.expectFailure(
      Self.resume + ["--output", "data/run", "--images", "pictures"], ["data/model", "--model"])
    try move(place, "data/run", "deep/er/run")
    try expectGoingOn(
      place, ["--output", "deep/er/run", "--images", "pictures", "--model", "sd/other"])
    // It knows where they are from now on.
    try expectGoingOn(place, to: 3, ["--output", "deep/er/run"])
  }

  @Test("a configuration that was changed by hand is refused where the concept would be another")
  func changedByHand() throws {
    let place = try begun()
    let file = place.path("data/run/config.yaml")
    let text = try String(contentsOf: file, encoding: .utf8)
    let changes = [
      ("representation: neti", "representation: ti", "model.representation is “ti”, was “neti”"),
      ("seed: 0", "seed: 9", "optim.seed is 9, was 0"),
      ("<toy>", "<mug>", "data.placeholder_token is “<mug>”, was “<toy>”"),
    ]
    for (old, new, words) in changes {
      #expect(text.contains(old), "\(text)")
      try Data(text.replacing(old, with: new).utf8).write(to: file)
      try place.expectFailure(
        Self.resume + ["--output", "data/run", "--steps", "2"],
        ["data/run: config.yaml was changed since step 1 was learned", words, "Change it back"])
    }
    // It is told before what does not go with it.
    let scheduler = text.replacing(#/lr_scheduler: .*/#, with: #"lr_scheduler: "cosine""#)
    try #require(scheduler != text)
    try Data(scheduler.utf8).write(to: file)
    try place.expectFailure(
      Self.resume + ["--output", "data/run", "--steps", "2"],
      ["config.yaml was changed since step 1", "optim.lr_scheduler is “cosine”", "Change it back"])
    try Data().write(to: file)
    try place.expectFailure(
      Self.resume + ["--output", "data/run"],
      ["data/run/config.yaml says nothing of a run any more", "--output"])
    // What the concept does not depend on may change, and what does nothing is told.
    let other = text.replacing("save_steps: ", with: "save_steps: 1")
      .replacing(#/target_norm: .*/#, with: "target_norm: 0.4")
    try Data(other.utf8).write(to: file)
    let r = try place.run(Self.resume + ["--output", "data/run", "--steps", "2"])
    #expect(r.code == 0 && r.error.contains("model.target_norm has no effect here"), "\(r.error)")
    #expect(r.error.split(separator: "\n").count { $0.contains("no effect") } == 1, "\(r.error)")
  }

  @Test("a run's own configuration begins another run from anywhere: its paths count from its folder")
  func ownConfiguration() throws {
    let place = try begun()
    let file = "data/run/config.yaml"
    try FileManager.default.createDirectory(at: place.path("deep/er"), withIntermediateDirectories: true)
    let train = ["train", "--threads", "1", "--config_path"]
    // The folder is that of the run, which is finished, and none outside.
    try place.expectFailure(
      train + [file], ["data/run holds a finished run", "--resume"])
    let r = try place.run(train + [file, "--log.exp_name", "other"])
    #expect(r.code == 0, "\(r.error)")
    #expect(!r.error.contains("no effect"), "\(r.error)")
    #expect(FileManager.default.fileExists(atPath: place.path("data/other/concept.safetensors").path))
    // Elsewhere its paths are those around there.
    try FileManager.default.copyItem(at: place.path(file), to: place.path("deep/er/mine.yaml"))
    try place.expectFailure(
      train + ["deep/er/mine.yaml", "--output", "third"], ["deep/model", "no such folder"])
    // What another has as relative paths counts from where one stands.
    let own = try String(contentsOf: place.path(file), encoding: .utf8)
    let theirs = own.split(separator: "\n").dropFirst().joined(separator: "\n")
      .replacing(#/exp_name: .*/#, with: "exp_name: fourth").replacing("\"../", with: "\"data/")
      .replacing(#/exp_dir: .*/#, with: "exp_dir: ./runs")
    try Data(theirs.utf8).write(to: place.path("deep/er/theirs.yaml"))
    let there = try place.run(train + ["deep/er/theirs.yaml"])
    #expect(there.code == 0, "\(there.error)")
    #expect(FileManager.default.fileExists(atPath: place.path("runs/fourth/concept.safetensors").path))
  }

  @Test("what stands in a run's file is not laid to a flag, and a file that is gone is missed")
  func damagedConfiguration() throws {
    let place = try begun()
    let file = place.path("data/run/config.yaml")
    let text = try String(contentsOf: file, encoding: .utf8)
    for (key, value, words) in [
      (
        "max_train_steps", "abc",
        ["config.yaml, line ", "optim.max_train_steps must be a whole number, not “abc”"]
      ),
      ("learning_rate", "-1", ["data/run: config.yaml: optim.learning_rate is -1.0"]),
    ] {
      let changed = text.replacing(try Regex("\(key): .*"), with: "\(key): \(value)")
      try Data(changed.utf8).write(to: file)
      try place.expectFailure(Self.resume + ["--output", "data/run", "--steps", "2"], words)
    }
    try FileManager.default.removeItem(at: file)
    try place.expectFailure(
      Self.resume + ["--output", "data/run"],
      ["data/run has checkpoints, and config.yaml is gone: put that back", "--output"])
  }

  @Test("that ended before its first step begins with another model, and says so; a folder without one, too")
  func beforeTheFirstStep() throws {
    let place = try begun()
    try FileManager.default.removeItem(at: place.path("data/run/concept.safetensors"))
    try FileManager.default.removeItem(at: place.path("data/run/checkpoints/step-000001.safetensors"))
    try place.expectFailure(
      ["inspect", "data/run"], ["data/run is the folder of a run that has learned nothing yet"])
    let weights = "unet/diffusion_pytorch_model.safetensors"
    var data = try Data(contentsOf: Fixtures.miniSD.appending(path: weights))
    data[data.count - 3] ^= 1
    try place.model(weights, data)
    let r = try place.run(Self.resume + ["--output", "data/run", "--model", "model"])
    #expect(r.code == 0 && r.error.contains("the run begins at step 1"), "\(r.error)")
    // From then on that is its model.
    try place.expectFailure(
      Self.resume + ["--output", "data/run", "--model", "data/model", "--steps", "2"],
      ["model", "began with"])
    let new = try place.run(
      Workplace.train(images: "data/images", output: "typo", ["--model", "data/model", "--resume"]))
    #expect(
      new.code == 0 && new.error.contains("there is no run in typo yet; it begins at step 1"), "\(new.error)")
  }

  @Test("the folder of a run in the place of a concept: what to name in it")
  func folderAsConcept() throws {
    let place = try begun()
    try place.expectFailure(
      ["inspect", "data/run"], ["data/run is the folder of a run; name concept.safetensors in it"])
    try FileManager.default.removeItem(at: place.path("data/run/concept.safetensors"))
    try place.expectFailure(["inspect", "data/run"], ["name checkpoints/step-000001.safetensors in it"])
  }

  @Test("without its log, that the images are the same is not known, and that is said")
  func withoutLog() throws {
    let place = try begun()
    try FileManager.default.removeItem(at: place.path("data/run/events.jsonl"))
    let r = try place.run(Self.resume + ["--output", "data/run", "--steps", "2"])
    #expect(r.code == 0 && r.error.contains("events.jsonl does not tell with which images"), "\(r.error)")
    // Now it tells.
    let images = try FileManager.default.contentsOfDirectory(atPath: place.path("data/images").path)
    try move(place, "data/images/\(try #require(images.first))", "data/other.png")
    try place.expectFailure(
      Self.resume + ["--output", "data/run", "--steps", "3"], ["the images, captions or masks are not those"])
  }

  @Test("other images or another model are refused, and the run stays as it was")
  func others() throws {
    let place = try begun()
    try FileManager.default.copyItem(
      at: Fixtures.examples.appending(path: "spotty/3.jpg"), to: try other(place).appending(path: "1.jpg"))
    try place.expectFailure(
      Self.resume + ["--output", "data/run", "--images", "other"], ["images", "began with", "--output"])
    let weights = "unet/diffusion_pytorch_model.safetensors"
    var data = try Data(contentsOf: Fixtures.miniSD.appending(path: weights))
    data[data.count - 3] ^= 1
    try place.model(weights, data)
    try place.expectFailure(
      Self.resume + ["--output", "data/run", "--model", "model"], ["model", "began with", "--model"])
    try expectGoingOn(place, ["--output", "data/run"])
  }

  @Test("a run that an earlier version began is known by its images", arguments: ["", ", model 0123"])
  func earlier(_ more: String) throws {
    let place = try begun()
    let log = place.path("data/run/events.jsonl")
    let hash = try #require(RunLog.read(log).first?.content?["images"])
    func tells(of hash: String) throws {
      let lines = try String(contentsOf: log, encoding: .utf8).split(separator: "\n").dropFirst()
      let start = #"{"kind":"start","note":"training data \#(hash)\#(more)","step":0}"#
      try (([start] + lines.map(String.init)).joined(separator: "\n") + "\n")
        .write(to: log, atomically: true, encoding: .utf8)
    }
    try tells(of: "0123")
    try place.expectFailure(Self.resume + ["--output", "data/run"], ["images", "began with"])
    try tells(of: hash)
    try expectGoingOn(place, ["--output", "data/run"])
  }

  @Test("the concept that it started from may change once a step is saved, but not be named anew")
  func start() throws {
    let place = try Workplace()
    try place.images(2)
    try place.concept()
    let named = "--model.mapper_checkpoint_path"
    let r = try place.run(Workplace.train([named, "concept.safetensors"]))
    #expect(r.code == 0, "\(r.error)")
    try place.concept { $0["neti.note"] = "other" }
    try move(place, "concept.safetensors", "other.safetensors")
    try place.expectFailure(
      Self.resume + ["--output", "run", named, "other.safetensors"], [named, "started from"])
    try move(place, "other.safetensors", "concept.safetensors")
    try expectGoingOn(place, ["--output", "run"])
  }

  private func other(_ place: Workplace) throws -> URL {
    let folder = place.path("other")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    return folder
  }
}
