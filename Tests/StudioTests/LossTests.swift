import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import Studio
import TestSupport
import Testing

/// The loss that says which checkpoint is the best.
@Suite("The studio's loss", .serialized)
struct LossTests {
  private struct Point: Decodable { let step: Int, loss: Double }

  private func points(_ studio: TestStudio, _ id: String) throws -> [Point] {
    try JSONDecoder().decode([Point].self, from: studio.ask("GET", "/api/concepts/\(id)/losses").body)
  }

  @Test("is that of training: of a style its sentences, of a picture its caption and its mask")
  func asInTraining() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let side = 64
    let mask = try Image(
      width: side, height: side,
      pixels: (0..<side * side).flatMap { [UInt8](repeating: $0 % side < 20 ? 0 : 255, count: 3) })
    let part =
      #"{"part": {"x": 0.1, "y": 0, "side": 0.8, "quarters": 0, "mask": "\#(Data(try mask.png()).base64EncodedString())"}}"#
    #expect(try studio.ask("PUT", "/api/concepts/\(id)/pictures/1/part", json: part).status == 200)
    let caption = #"{"caption": "a house in the style of {}"}"#
    #expect(try studio.ask("PUT", "/api/concepts/\(id)/pictures/2/caption", json: caption).status == 200)
    try studio.learn(id, "look", steps: 2, isStyle: true)
    _ = try #require(try studio.wait(for: "learned", of: id))
    let found = try points(studio, id)
    #expect(found.map(\.step) == [2])

    let run = studio.place(id).appending(path: "look")
    let c = try RunFolder.configuration(of: run)
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let examples = try TrainingImages(c.data, on: model).examples
    #expect(examples[0].mask != nil && examples[1].caption != nil && examples[2].caption == nil)
    let concept = try Concept(contentsOf: run.appending(path: "concept.safetensors"))
    func mean(_ templates: [String], masked: Bool = true) throws -> Double {
      try examples.prefix(3).map { example in
        var example = example
        if !masked { example.mask = nil }
        return try HeldOutLoss(model, example, templates: templates, noises: 1)(concept)
      }.reduce(0, +) / 3
    }
    let wanted = try mean(Templates.style)
    #expect(abs(found[0].loss - wanted) < 1e-6 * wanted, "\(found[0].loss), \(wanted)")
    #expect(try abs(mean(Templates.object) - wanted) > 1e-4 * wanted)
    #expect(try abs(mean(Templates.style, masked: false) - wanted) > 1e-4 * wanted)
  }

  @Test("is measured later where a kill came before")
  func missing() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    try studio.learn(id, "one", steps: 11)
    try studio.wait { try $0.learning == nil || points(studio, id).contains { $0.step == 5 } }
    _ = try studio.ask("POST", "/api/concepts/\(id)/stop")
    let stopped = try #require(try studio.wait(for: "stopped", of: id))
    let before = try points(studio, id)
    #expect(before[0].step == 5 && before.last?.step == stopped.progress.step)

    let moved = studio.scratch.folder.appending(path: "moved")
    try FileManager.default.copyItem(at: studio.scratch.folder.appending(path: "studio"), to: moved)
    try FileManager.default.removeItem(at: moved.appending(path: "concepts/\(id)/fixed-loss.jsonl"))
    let next = try TestStudio { $0.folder = moved }
    #expect(try points(next, id).isEmpty)
    #expect(try next.ask("POST", "/api/concepts/\(id)/resume").status == 200)
    _ = try #require(try next.wait(for: "learned", of: id))
    let after = try points(next, id)
    #expect(after.map(\.step) == Array(Set(before.map(\.step) + [10, 11])).sorted())
    for (a, b) in zip(before, after) { #expect(a.step == b.step && a.loss == b.loss) }
  }
}
