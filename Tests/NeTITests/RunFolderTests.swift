import Files
import Foundation
import NeTI
import TestSupport
import Testing

@Suite struct RunFolderTests {
  private func configuration(_ folder: Scratch) throws -> RunConfiguration {
    let images = folder.file("images")
    try FileManager.default.createDirectory(at: images, withIntermediateDirectories: true)
    var c = RunConfiguration()
    c.log.expName = "run"
    c.log.expDir = folder.folder.path
    c.data.trainDataDir = images.path
    c.data.placeholderToken = "<toy>"
    c.optim.seed = 0
    return c
  }

  private func message(_ work: () throws -> Void) -> String {
    do {
      try work()
      return "no error"
    } catch {
      return (error as? NeTIError)?.message ?? "another error: \(error)"
    }
  }

  @Test func `a new run has its folders and a configuration without absolute paths`() throws {
    let folder = try Scratch()
    let c = try configuration(folder)
    let run = try RunFolder(c.runFolder, configuration: c, resume: false)
    let yaml = try String(contentsOf: run.configurationFile, encoding: .utf8)
    #expect(!yaml.contains(folder.folder.path) && yaml.contains("train_data_dir: \"../images\""))
    for inner in [run.tensorBoardFolder, run.samplesFolder, run.checkpointsFolder] {
      #expect(FileManager.default.fileExists(atPath: inner.path))
    }
    let again = try RunFolder.configuration(of: c.runFolder)
    #expect(again.differences(from: c.withResolvedLinks()).isEmpty)
    #expect(again.log.expName == "run")
  }

  @Test func `a run is not overwritten, and the message says what is there and what to do`() throws {
    let folder = try Scratch()
    let c = try configuration(folder)
    try FileManager.default.createDirectory(at: c.runFolder, withIntermediateDirectories: true)
    try Data("x".utf8).write(to: c.runFolder.appending(path: "thesis.txt"))
    let foreign = message { _ = try RunFolder(c.runFolder, configuration: c, resume: false) }
    #expect(foreign.contains("thesis.txt") && foreign.contains("`output`"))
    #expect(message { _ = try RunFolder(c.runFolder, configuration: c, resume: true) } == foreign)
    #expect(try FileManager.default.contentsOfDirectory(atPath: c.runFolder.path) == ["thesis.txt"])

    try FileManager.default.removeItem(at: c.runFolder)
    do { _ = try RunFolder(c.runFolder, configuration: c, resume: false) }
    let before = try Data(contentsOf: c.runFolder.appending(path: "config.yaml"))
    let used = message { _ = try RunFolder(c.runFolder, configuration: c, resume: false) }
    #expect(
      used.contains("an unfinished run of <toy>") && used.contains("`resume`") && used.contains("`output`"))
    try Data().write(to: c.runFolder.appending(path: "concept.safetensors"))
    #expect(
      message { _ = try RunFolder(c.runFolder, configuration: c, resume: false) }.contains("a finished run"))
    #expect(try Data(contentsOf: c.runFolder.appending(path: "config.yaml")) == before)

    let file = folder.file("file")
    try Data().write(to: file)
    #expect(message { _ = try RunFolder(file, configuration: c, resume: false) }.contains("is a file"))
  }

  @Test func `a resume takes the same settings, names those that differ, and may extend the run`() throws {
    let folder = try Scratch()
    var c = try configuration(folder)
    do { _ = try RunFolder(c.runFolder, configuration: c, resume: true) }
    c.optim.maxTrainSteps = 3000
    do { _ = try RunFolder(c.runFolder, configuration: c, resume: true) }
    #expect(try RunFolder.configuration(of: c.runFolder).optim.maxTrainSteps == 3000)
    c.optim.seed = 5
    c.optim.learningRate = 1
    let text = message { _ = try RunFolder(c.runFolder, configuration: c, resume: true) }
    #expect(text.contains("optim.learning_rate is 1.0, was 0.001; optim.seed is 5, was 0"))
    #expect(try RunFolder.configuration(of: c.runFolder).optim.seed == 0)
  }

  @Test func `a folder that moved with its images still finds them`() throws {
    let folder = try Scratch()
    let c = try configuration(folder)
    do { _ = try RunFolder(c.runFolder, configuration: c, resume: false) }
    let elsewhere = try Scratch()
    for name in ["run", "images"] {
      try FileManager.default.moveItem(at: folder.file(name), to: elsewhere.file(name))
    }
    let moved = try RunFolder.configuration(of: elsewhere.file("run"))
    #expect(FileManager.default.fileExists(atPath: moved.data.trainDataDir))
    _ = try RunFolder(elsewhere.file("run"), configuration: moved, resume: true)
  }

  @Test func `one process at a time trains in a folder`() throws {
    let folder = try Scratch()
    let c = try configuration(folder)
    let first = try RunFolder(c.runFolder, configuration: c, resume: false)
    let text = message { _ = try RunFolder(c.runFolder, configuration: c, resume: true) }
    #expect(text.contains("another process trains in"))
    withExtendedLifetime(first) {}
  }

  @Test func `the lock goes with its owner, and a killed start leaves no obstacle`() throws {
    let folder = try Scratch()
    let c = try configuration(folder)
    try FileManager.default.createDirectory(
      at: c.runFolder.appending(path: "checkpoints"), withIntermediateDirectories: true)
    let leftover = ".neti-\(UUID().uuidString).tmp"
    func isThere(_ name: String) -> Bool {
      FileManager.default.fileExists(atPath: c.runFolder.appending(path: name).path)
    }
    for name in [".lock", leftover] { try Data().write(to: c.runFolder.appending(path: name)) }
    do { _ = try RunFolder(c.runFolder, configuration: c, resume: false) }
    #expect(!isThere(leftover))
    let inner = [leftover, "checkpoints/\(leftover)", "samples/\(leftover)"]
    for name in inner { try Data().write(to: c.runFolder.appending(path: name)) }
    _ = try RunFolder(c.runFolder, configuration: c, resume: true)
    for name in inner { #expect(!isThere(name)) }
  }

  @Test func `the latest good checkpoint is found, and pruning keeps the newest`() throws {
    let folder = try Scratch()
    let c = try configuration(folder)
    let run = try RunFolder(c.runFolder, configuration: c, resume: false)
    #expect(run.latestCheckpoint { _ in true }.checkpoint == nil)
    for step in [250, 500, 1_000_000, 750] {
      try Data("\(step)".utf8).write(to: run.checkpointFile(step: step))
    }
    for other in ["step-1.safetensors", "step-000001.safetensors.bak", "notes.txt"] {
      try Data().write(to: run.checkpointsFolder.appending(path: other))
    }
    #expect(run.checkpointFile(step: 250).lastPathComponent == "step-000250.safetensors")
    #expect(run.checkpoints().map(\.step) == [1_000_000, 750, 500, 250])
    let found = run.latestCheckpoint { $0.step < 750 ? $0 : nil }
    #expect(found.checkpoint?.step == 500)
    #expect(found.broken == ["step-1000000.safetensors", "step-000750.safetensors"])
    run.prune(keeping: nil)
    #expect(run.checkpoints().count == 4)
    run.prune(keeping: 2)
    #expect(run.checkpoints().map(\.step) == [1_000_000, 750])
  }

  @Test func `a folder that cannot be made is an error with the system's reason`() throws {
    let folder = try Scratch()
    let c = try configuration(folder)
    let text = message { _ = try RunFolder(URL(filePath: "/proc/neti/run"), configuration: c, resume: false) }
    #expect(text.contains("/proc/neti/run") && !text.contains("another error"), "\(text)")
    try Data().write(to: folder.file("file"))
    let inside = message {
      _ = try RunFolder(folder.file("file").appending(path: "run"), configuration: c, resume: false)
    }
    #expect(inside.hasSuffix("/file is a file; name a folder with `output`"), "\(inside)")
    let locked = folder.file("locked")
    try FileManager.default.createDirectory(
      at: locked.appending(path: ".lock"), withIntermediateDirectories: true)
    let lock = refusal { try RunFolder(locked, configuration: c, resume: false) }?.message ?? ""
    #expect(lock == "cannot write into \(locked.path): Is a directory", "\(lock)")
  }

  @Test func `a damaged configuration of an earlier run is an error that names the file`() throws {
    let folder = try Scratch()
    let c = try configuration(folder)
    do { _ = try RunFolder(c.runFolder, configuration: c, resume: false) }
    try Data("optim: [".utf8).write(to: c.runFolder.appending(path: "config.yaml"))
    let text = message { _ = try RunFolder(c.runFolder, configuration: c, resume: true) }
    #expect(text.contains("config.yaml, line"))
    let file = c.runFolder.appending(path: "config.yaml")
    try Data([0xFF, 0xFE, 0x00]).write(to: file)
    let bytes = message { _ = try RunFolder(c.runFolder, configuration: c, resume: true) }
    #expect(bytes == "\(file.path) is not UTF-8 text; choose another `output`")
    let none = message { _ = try RunFolder.configuration(of: folder.folder) }
    #expect(none == "there is no run in \(folder.folder.path): it has no config.yaml")
  }
}

extension RunConfiguration {
  /// On macOS the temporary folder is reached through a link.
  fileprivate func withResolvedLinks() -> RunConfiguration {
    var c = self
    c.data.trainDataDir = URL(filePath: data.trainDataDir).resolvingSymlinksInPath().path
    return c
  }
}
