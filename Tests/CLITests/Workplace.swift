import Diffusion
import Files
import Foundation
import NeTI
import TestSupport
import Testing
import Torch

/// A folder in which a test runs `neti`, with images, models and concepts to try it on.
final class Workplace {
  private let scratch: Scratch
  var folder: URL { scratch.folder }

  init() throws { scratch = try Scratch() }

  func path(_ name: String) -> URL { folder.appending(path: name) }

  @discardableResult
  func file(_ data: Data, _ name: String) throws -> URL {
    try FileManager.default.createDirectory(
      at: path(name).deletingLastPathComponent(), withIntermediateDirectories: true)
    return try scratch.file(data, name)
  }

  @discardableResult
  func file(_ text: String, _ name: String) throws -> URL { try file(Data(text.utf8), name) }

  // MARK: Things to work on

  /// The first images of an example, in the folder `images`.
  @discardableResult
  func images(_ count: Int = 1, of example: String = "spotty") throws -> URL {
    let target = path("images")
    try FileManager.default.createDirectory(at: target, withIntermediateDirectories: true)
    for i in 1...count {
      try FileManager.default.copyItem(
        at: Fixtures.examples.appending(path: "\(example)/\(i).jpg"), to: target.appending(path: "\(i).jpg"))
    }
    return target
  }

  /// mini-sd in a folder.
  func miniSD(_ name: String) throws { _ = try scratch.linkMiniSD(name) }

  /// mini-sd in the folder `model`, with one of its files replaced, or removed.
  func model(_ file: String, _ data: Data?) throws {
    let root = try scratch.linkMiniSD("model")
    try FileManager.default.removeItem(at: root.appending(path: file))
    if let data { try data.write(to: root.appending(path: file)) }
  }

  /// mini-sd in the folder `model`, with a U-Net in fp32: its weights are not copied, but read from the file in each
  /// step.
  ///
  /// - Returns: the name of that file in the model's folder.
  func mappedModel() throws -> String {
    let name = "unet/diffusion_pytorch_model.safetensors"
    let small = try SafetensorsFile(Fixtures.miniSD.appending(path: name))
    try model(name, nil)
    try Safetensors.write(
      small.entries.keys.sorted().map { ($0, try small.tensor($0).to(.float32)) }, metadata: small.metadata,
      to: path("model/\(name)"))
    return name
  }

  /// A tiny model for inpainting in the folder `model`.
  func inpaintingModel() throws { try scratch.tinyModel("model", channels: 9) }

  /// A concept of one training step, `concept.safetensors`, as the file's own text is after `change`.
  func concept(
    _ representation: String = "neti", _ settings: [String] = [],
    change: (inout [String: String]) throws -> Void = { _ in }
  ) throws {
    let source = try TrainedConcepts.shared.file(representation, settings)
    let file = try SafetensorsFile(source)
    var metadata = file.metadata
    try change(&metadata)
    try Safetensors.write(
      file.entries.keys.sorted().map { ($0, try file.tensor($0)) }, metadata: metadata,
      to: path("concept.safetensors"))
  }

  // MARK: Commands

  static let quickly = ["--threads", "1", "--optim.gradient_accumulation_steps", "1"]

  /// `neti train` on `images`, one step unless told otherwise, into `run`.
  static func train(
    images: String = "images", token: String = "<toy>", category: String = "monster", steps: Int = 1,
    output: String = "run", _ more: [String] = []
  ) -> [String] {
    ["train", "--images", images, "--token", token, "--category", category, "--steps", String(steps)]
      + ["--output", output] + quickly + more
  }

  /// `neti generate` of one image into `out`, one step unless told otherwise.
  static func generate(_ prompt: String, _ more: [String] = []) -> [String] {
    ["generate", "--prompt", prompt, "--steps", "1", "--threads", "1", "--output", "out"] + more
  }

  func run(_ arguments: [String]) throws -> CommandLineTool.Result {
    try CommandLineTool.run(arguments, in: folder)
  }

  /// Waits until something is so, for at most some minutes.
  func wait(_ tool: RunningTool, until condition: () -> Bool) {
    let start = ContinuousClock.now
    while tool.isRunning, !condition(), ContinuousClock.now - start < .seconds(300) { usleep(2_000) }
  }

  // MARK: What lies here

  /// The steps that the log of a run has.
  func stepsLogged(_ run: String = "run") -> [Int] {
    ((try? RunLog.read(path("\(run)/events.jsonl"))) ?? []).filter { $0.kind == .step }.map(\.step)
  }

  /// Every file and folder with its bytes; links with where they lead.
  func contents() throws -> [String: Data] {
    var found: [String: Data] = [:]
    let files = FileManager.default
    for name in try files.subpathsOfDirectory(atPath: folder.path) {
      let at = path(name).path
      if let link = try? files.destinationOfSymbolicLink(atPath: at) {
        found[name] = Data(link.utf8)
      } else {
        found[name] = files.contents(atPath: at) ?? Data()
      }
    }
    return found
  }

  /// Expects that a command fails with exit code 1, one line that holds `words`, and nothing changed.
  func expectFailure(
    _ arguments: [String], _ words: [String], code: Int32 = 1, setup: String? = nil,
    mayAdd added: String? = nil, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let before = try contents()
    let result =
      try setup.map { try CommandLineTool.run(arguments, in: folder, setup: $0) } ?? run(arguments)
    let after = try contents().filter { name, _ in
      before[name] != nil || added.map { !name.hasPrefix($0) } ?? true
    }
    #expect(!result.killed && result.code == code, "\(result.error)", sourceLocation: sourceLocation)
    #expect(result.output.isEmpty, sourceLocation: sourceLocation)
    #expect(
      after == before, "changed: \(Self.changes(before, after))", sourceLocation: sourceLocation)
    let line = Self.failure(in: result.error)
    #expect(!line.isEmpty && line.count < 1000, "\(result.error)", sourceLocation: sourceLocation)
    for word in words {
      #expect(line.contains(word), "“\(word)” in: \(result.error)", sourceLocation: sourceLocation)
    }
    // What leaves nothing behind is refused before it is said to begin.
    let begun = added == nil ? ["learning <"] : []
    for sign in ["Fatal error", "Stack dump", "terminate called", "Error Domain"] + begun {
      #expect(!result.error.contains(sign), "\(result.error)", sourceLocation: sourceLocation)
    }
  }

  /// The one line that says what went wrong.
  static func failure(in text: String) -> String {
    let lines = text.split(separator: "\n").filter { $0.hasPrefix("neti: ") || $0.hasPrefix("Error: ") }
    return lines.count == 1 ? String(lines[0]) : ""
  }

  private static func changes(_ a: [String: Data], _ b: [String: Data]) -> [String] {
    Set(a.keys).union(b.keys).filter { a[$0] != b[$0] }.sorted()
  }
}

/// Concepts that tests read, each trained once, for one step, by the executable.
final class TrainedConcepts: Sendable {
  static let shared = TrainedConcepts()
  private let lock = NSLock()
  nonisolated(unsafe) private var places: [String: Workplace] = [:]

  func file(_ representation: String, _ settings: [String]) throws -> URL {
    try lock.withLock {
      let key = ([representation] + settings).joined(separator: " ")
      if let place = places[key] { return place.path("run/concept.safetensors") }
      let place = try Workplace()
      try place.images()
      let result = try place.run(
        Workplace.train(["--representation", representation] + settings))
      guard result.code == 0 else { throw NeTIError(result.error) }
      places[key] = place
      return place.path("run/concept.safetensors")
    }
  }
}
