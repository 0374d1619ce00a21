import Diffusion
import Files
import Foundation
import NeTI
import TestSupport
import Testing
import Torch

@Suite("Concept files")
struct ConceptFileTests {
  static let base = BaseIdentity(
    name: "some-model", hiddenSize: 16, layers: ["a", "b", "c"], tokenTableHash: "1234")

  static func concept(_ kind: RepresentationKind = .neti) throws -> Concept {
    let about = Concept.About(
      token: "<toy>", category: "toy", base: base, steps: 12, training: "optim:\n  seed: 3\n")
    let row = try RandomSource(seed: 1).normal([16])
    if kind.type != NeTIMapper.self {
      return Concept(try learnedVectors(kind, startingAt: row, layerCount: 3), about: about, placeholder: row)
    }
    var s = NeTIMapper.Settings(hiddenSize: 16, layerCount: 3)
    s.kind = kind
    s.targetNorm = 0.4
    return Concept(try NeTIMapper(s, keys: RandomKeys(seed: 4)), about: about, placeholder: row)
  }

  @Test("read back give the same embeddings and the same words", arguments: RepresentationKind.allCases)
  func roundTrip(_ kind: RepresentationKind) throws {
    let scratch = try Scratch()
    let url = scratch.file("concept.safetensors")
    let a = try Self.concept(kind)
    try a.write(to: url)
    let b = try Concept(contentsOf: url)
    #expect(b.about == a.about)
    #expect(b.representation.kind == kind)
    #expect(try b.placeholder.floats() == a.placeholder.floats())
    let t = try Tensor([3, 700] as [Float])
    let l = try Tensor([0, 2] as [Float])
    let x = try a.representation.embeddings(timesteps: t, layers: l, mask: nil)
    let y = try b.representation.embeddings(timesteps: t, layers: l, mask: nil)
    #expect(try x.base.floats() == y.base.floats())
    #expect(try x.bypass?.floats() == y.bypass?.floats())
  }

  @Test("fit a model of the same dimensions, with a warning when its weights are others")
  func checks() throws {
    let c = try Self.concept()
    #expect(try c.check(against: Self.base) == nil)
    var other = Self.base
    other.tokenTableHash = "5678"
    #expect(try c.check(against: other)?.contains("other weights") == true)
    other = Self.base
    other.hiddenSize = 768
    #expect(throws: NeTIError.self) { try c.check(against: other) }
    other = Self.base
    other.layers = ["a", "b"]
    #expect(throws: NeTIError.self) { try c.check(against: other) }
    other.layers = ["a", "b", "d"]
    #expect(throws: NeTIError.self) { try c.check(against: other) }
  }

  /// Writes a concept whose metadata or tensors were changed, and returns the error it gives.
  private func error(
    _ change: (inout [String: String], inout [(String, Tensor)]) throws -> Void
  ) throws -> String {
    let scratch = try Scratch()
    let url = scratch.file("concept.safetensors")
    try Self.concept().write(to: url)
    let good = try SafetensorsFile(url)
    var metadata = good.metadata
    var tensors = try good.entries.keys.sorted().map { ($0, try good.tensor($0).clone()) }
    try change(&metadata, &tensors)
    try Safetensors.write(tensors, metadata: metadata, to: url)
    return refusal { try Concept(contentsOf: url) }?.message ?? ""
  }

  @Test("of a newer major version are refused; a newer minor version and unknown keys are not")
  func versions() throws {
    #expect(try error { m, _ in m["neti.version"] = "2.0" }.contains("newer"))
    #expect(try error { m, _ in m["neti.version"] = "x" }.contains("version"))
    #expect(try error { m, _ in m["neti.version"] = nil }.contains("not a neti concept"))
    let scratch = try Scratch()
    let url = scratch.file("concept.safetensors")
    try Self.concept().write(to: url)
    let good = try SafetensorsFile(url)
    var metadata = good.metadata
    metadata["neti.version"] = "1.7"
    metadata["neti.future"] = "1"
    try Safetensors.write(
      good.entries.keys.sorted().map { ($0, try good.tensor($0).clone()) }, metadata: metadata, to: url)
    #expect(try Concept(contentsOf: url).about.token == "<toy>")
  }

  @Test("that do not hold together are refused in one line that says why")
  func broken() throws {
    #expect(try error { m, _ in m["neti.representation"] = "magic" }.contains("magic"))
    #expect(try error { m, _ in m["neti.about"] = "{" }.contains("neti.about"))
    #expect(try error { m, _ in m["neti.mapper"] = nil }.contains("neti.mapper"))
    #expect(try error { _, t in t.removeAll { $0.0 == "output.bias" } }.contains("output.bias"))
    #expect(try error { _, t in t.append(("more", try Tensor.zeros([1]))) }.contains("more"))
    #expect(try error { _, t in t[0].1 = try Tensor.full(t[0].1.shape, .nan) }.contains("finite"))
    #expect(
      try error { _, t in t[t.firstIndex { $0.0 == "placeholder" } ?? 0].1 = try Tensor.zeros([7]) }.contains(
        "fit"))
  }

  @Test("damaged in 5,000 ways never crash")
  func mutations() throws {
    let scratch = try Scratch()
    let url = scratch.file("concept.safetensors")
    try Self.concept(.ti).write(to: url)
    let good = try Data(contentsOf: url)
    for (i, data) in Mutations(of: good, count: 5_000, seed: 9).enumerated() {
      try data.write(to: url)
      do {
        _ = try Concept(contentsOf: url)
      } catch is any DescribedError {
      } catch {
        Issue.record("mutation \(i): \(error)")
      }
    }
  }
}
