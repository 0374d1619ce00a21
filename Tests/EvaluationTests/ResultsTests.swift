import Evaluation
import Files
import Foundation
import NeTI
import TestSupport
import Testing

@Suite struct ResultsTests {
  private static func header(steps: Int = 20, clip: String = "mini-clip", heldOut: String? = "b") throws
    -> EvaluationResults.Header
  {
    let settings = """
      {"clip": "\(clip)", "clipIdentity": "0", "base": "mini-sd", "baseIdentity": "1", "precision": "float32",
       "scheduler": "dpm", "steps": \(steps), "guidance": 3, "width": 64, "height": 64}
      """
    return .init(
      settings: try JSONFile.decode(EvaluationProtocol.self, from: Data(settings.utf8), name: ""),
      token: "<a>", category: "cat", method: "neti", steps: 250, concept: "c", trained: "a", heldOut: heldOut)
  }

  private static func score(_ seed: UInt64) -> ImageScore {
    ImageScore(
      key: .init(prompt: "a {}", seed: seed, truncation: seed == 1 ? 16 : nil), trained: 0.5, heldOut: nil,
      category: 0.25, omitted: 0.125, file: "p-s\(seed).png")
  }

  @Test("Wherever a process is killed in a line, all lines before it are kept and the rest is written again")
  func tornLine() throws {
    let scratch = try Scratch()
    let header = try Self.header()
    do {
      let results = try EvaluationResults(scratch.folder, header)
      try results.add(Self.score(0))
      try results.add(Self.score(1))
    }
    let file = scratch.file("results.jsonl")
    let whole = try Data(contentsOf: file)
    let ends = whole.indices.filter { whole[$0] == UInt8(ascii: "\n") }
    #expect(ends.count == 3)
    for length in stride(from: 0, through: whole.count, by: 7) {
      try whole.prefix(length).write(to: file)
      let lines = ends.count { $0 < length }
      let read = try EvaluationResults.read(scratch.folder, header)
      #expect((read?.images.count ?? 0) == max(0, lines - 1))
      do {
        let results = try EvaluationResults(scratch.folder, header)
        #expect(results.contents.images.count == max(0, lines - 1))
        for seed in UInt64(0)..<2 where results.contents.images[Self.score(seed).key] == nil {
          try results.add(Self.score(seed))
        }
      }
      #expect(try Data(contentsOf: file) == whole)
    }
  }

  @Test("A folder that another process works in is told apart from one with an error")
  func locked() throws {
    let scratch = try Scratch()
    let results = try EvaluationResults(scratch.folder, Self.header())
    #expect(throws: RunFolderInUse.self) { try EvaluationResults(scratch.folder, Self.header()) }
    let read = try EvaluationResults.read(scratch.folder, Self.header())
    #expect(read?.images.isEmpty == true)
    withExtendedLifetime(results) {}
  }

  @Test("A file where the folder should be is one clear line")
  func noFolder() throws {
    let scratch = try Scratch()
    let folder = try scratch.file(Data(), "ginger").appending(path: "neti")
    let error = refusal { try EvaluationResults(folder, Self.header()) }
    #expect(error?.message == "\(folder.path): the folder cannot be made; choose another `output`")
  }

  @Test("Results of another version, of other settings or references, or no results are one clear line each")
  func refused() throws {
    let scratch = try Scratch()
    do { try EvaluationResults(scratch.folder, Self.header()).add(Self.score(0)) }
    func refusal(_ header: EvaluationResults.Header) -> String {
      TestSupport.refusal { try EvaluationResults(scratch.folder, header) }?.message ?? ""
    }
    #expect(try refusal(Self.header(steps: 50)).contains("steps 50 instead of 20"))
    #expect(try refusal(Self.header(clip: "other")).contains("CLIP other"))
    #expect(try refusal(Self.header(heldOut: nil)).contains("held-out images"))
    let file = scratch.file("results.jsonl")
    let text = try String(contentsOf: file, encoding: .utf8)
    for (old, new, says) in [
      ("\"evaluation\":2", "\"evaluation\":1", "another version (1, this is 2)"),
      ("\"evaluation\":2", "\"step\":1", "no results of an evaluation"),
      ("\"file\":\"p-s0.png\"", "\"file\":\"../x.png\"", "line 2: “file”"),
      ("\"category\":0.25", "\"category\":\"high\"", "line 2"),
    ] {
      let changed = text.replacing(old, with: new)
      try #require(changed != text)
      try Data(changed.utf8).write(to: file)
      let message = try refusal(Self.header())
      #expect(message.contains(says), "\(message)")
      #expect(!message.contains("\n"))
      // Nothing was changed.
      #expect(try String(contentsOf: file, encoding: .utf8) == changed)
    }
  }

  @Test("Damaged results are refused or read, and nothing else")
  func mutations() throws {
    let scratch = try Scratch()
    let header = try Self.header()
    do {
      let results = try EvaluationResults(scratch.folder, header)
      for seed in UInt64(0)..<4 { try results.add(Self.score(seed)) }
      try results.add(HeldOutScore(loss: 0.1, wordLoss: 0.2, ceiling: 0.9))
    }
    let file = scratch.file("results.jsonl")
    for damaged in Mutations(of: try Data(contentsOf: file), count: 5000, seed: 5) {
      try damaged.write(to: file)
      do { _ = try EvaluationResults.read(scratch.folder, header) } catch {
        #expect(error is any DescribedError, "\(error)")
      }
    }
  }
}
