import Foundation
import Imaging
import TestSupport
import Testing

/// What ends a generation early leaves the images that are finished, and says where they are.
@Suite("A generation that is stopped", .serialized)
struct StoppedGenerationTests {
  private static let generate =
    ["generate", "--steps", "40", "--threads", "1", "--output", "out"]
    + (1...4).flatMap { ["--prompt", "a red mug, \($0)"] }
  private static let demo = ["demo", "--steps", "1", "--threads", "1", "--output", "out"]

  private func images(_ place: Workplace, in folder: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: place.path(folder).path)) ?? [])
      .filter { $0.hasSuffix(".png") }.map { "\(folder)/\($0)" }
  }

  /// “2 of 4 images are finished: out”
  private func told(_ kept: [String], of total: Int, in folder: String) -> String {
    kept.count == 1
      ? "1 of \(total) images is finished: \(kept[0])"
      : "\(kept.count) of \(total) images are finished: \(folder)"
  }

  @Test("by Ctrl-C or SIGTERM", arguments: [SIGINT, SIGTERM])
  func signals(_ signal: Int32) throws {
    let place = try Workplace()
    let tool = try CommandLineTool.start(Self.generate, in: place.folder)
    place.wait(tool) { !images(place, in: "out").isEmpty }
    tool.send(signal)
    let result = tool.wait()
    #expect(!result.killed && result.code == 128 + signal && result.output.isEmpty, "\(result.error)")
    let kept = images(place, in: "out")
    #expect((1...3).contains(kept.count))
    #expect(result.error.hasSuffix("stopped; \(told(kept, of: 4, in: "out"))\n"), "\(result.error)")
    for name in kept { _ = try Image.load(place.path(name)) }
    #expect(try !place.contents().keys.contains { $0.hasSuffix(".tmp") })
  }

  @Test("by an image that cannot be written")
  func unwritten() throws {
    let place = try Workplace()
    let tool = try CommandLineTool.start(Self.generate, in: place.folder)
    place.wait(tool) { !images(place, in: "out").isEmpty }
    try FileManager.default.moveItem(at: place.path("out"), to: place.path("moved"))
    let result = tool.wait()
    #expect(!result.killed && result.code == 1, "\(result.error)")
    #expect(result.error.contains("of 4 images"), "\(result.error)")
    #expect(try place.contents().keys.contains("moved/a-red-mug-1-s0.png"))
  }

  @Test("by a model file that is cut short, which is named")
  func cutShort() throws {
    let place = try Workplace()
    let name = try place.mappedModel()
    let file = place.path("model/\(name)")
    let size = try Data(contentsOf: file).count
    let tool = try CommandLineTool.start(Self.generate + ["--model", "model"], in: place.folder)
    place.wait(tool) { !images(place, in: "out").isEmpty }
    #expect(truncate(file.path, off_t(size / 8)) == 0)
    let result = tool.wait()
    #expect(!result.killed && result.code == 1, "\(result.error)")
    let line = Workplace.failure(in: result.error)
    #expect(line.contains("model/\(name) is gone"), "\(result.error)")
    #expect(line.hasSuffix("; \(told(images(place, in: "out"), of: 4, in: "out"))"), "\(result.error)")
  }

  @Test("in a demo, whose concept is learned by then")
  func demo() throws {
    let place = try Workplace()
    let tool = try CommandLineTool.start(Self.demo, in: place.folder)
    place.wait(tool) { !images(place, in: "out/images").isEmpty }
    tool.send(SIGINT)
    let result = tool.wait()
    #expect(!result.killed && result.code == 130 && result.output.isEmpty, "\(result.error)")
    let kept = images(place, in: "out/images")
    let learned = "; the concept is learned: out/concept.safetensors"
    #expect(
      result.error.hasSuffix("stopped; \(told(kept, of: 20, in: "out/images"))\(learned)\n"),
      "\(result.error)")
    for name in kept { _ = try Image.load(place.path(name)) }
    #expect(FileManager.default.fileExists(atPath: place.path("out/concept.safetensors").path))
  }

  @Test("in a demo, by an image that cannot be written")
  func demoUnwritten() throws {
    let place = try Workplace()
    let tool = try CommandLineTool.start(Self.demo, in: place.folder)
    place.wait(tool) { !images(place, in: "out/images").isEmpty }
    try FileManager.default.moveItem(at: place.path("out/images"), to: place.path("moved"))
    let result = tool.wait()
    #expect(!result.killed && result.code == 1, "\(result.error)")
    #expect(Workplace.failure(in: result.error).contains("cannot write"), "\(result.error)")
    #expect(result.error.contains(" of 20 images "), "\(result.error)")
    #expect(result.error.contains("; the concept is learned: out/concept.safetensors\n"), "\(result.error)")
    #expect(!images(place, in: "moved").isEmpty)
  }
}
