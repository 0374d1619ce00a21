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

  static func concept(_ kind: RepresentationKind = .neti, vectors count: Int = 1) throws -> Concept {
    let about = Concept.About(
      token: "<toy>", category: "toy", base: base, steps: 12, training: "optim:\n  seed: 3\n")
    let row = try RandomSource(seed: 1).normal([16])
    if kind.type != NeTIMapper.self {
      let vectors = try RandomSource(seed: 2).normal(kind == .xti ? [3, count, 16] : [count, 16])
      return Concept(
        kind == .ti
          ? try TextualInversion(vectors: vectors, layerCount: 3)
          : try ExtendedTextualInversion(vectors: vectors, layerCount: 3), about: about, placeholder: row)
    }
    var s = NeTIMapper.Settings(hiddenSize: 16, layerCount: 3)
    s.kind = kind
    s.targetNorm = 0.4
    s.vectorCount = count
    return Concept(try NeTIMapper(s, keys: RandomKeys(seed: 4)), about: about, placeholder: row)
  }

  @Test(
    "read back give the same embeddings and the same words", arguments: RepresentationKind.allCases,
    [1, 2, 16])
  func roundTrip(_ kind: RepresentationKind, _ count: Int) throws {
    let scratch = try Scratch()
    let url = scratch.file("concept.safetensors")
    let a = try Self.concept(kind, vectors: count)
    try a.write(to: url)
    let metadata = try SafetensorsFile(url).metadata
    #expect(metadata["neti.version"] == (count == 1 ? "1.0" : "2.0"))
    #expect(metadata["neti.vectors"] == (count == 1 ? nil : "\(count)"))
    let b = try Concept(contentsOf: url)
    #expect(b.representation.vectorCount == count)
    #expect(b.about == a.about)
    #expect(b.representation.kind == kind)
    #expect(try b.placeholder.floats() == a.placeholder.floats())
    let t = try Tensor([3, 700] as [Float])
    let l = try Tensor([0, 2] as [Float])
    let x = try a.representation.embeddings(timesteps: t, layers: l, mask: nil)
    let y = try b.representation.embeddings(timesteps: t, layers: l, mask: nil)
    #expect(try x.base.floats() == y.base.floats())
    #expect(try x.bypass?.floats() == y.bypass?.floats())
    #expect(x.base.shape == [2, count, 16])
    guard kind.type == NeTIMapper.self else { return }
    // Each vector has the norm of the word by itself: base and bypass together.
    let norms = try Tensor.concatenated([x.base, #require(x.bypass)], 2).norm([2], keep: false).floats()
    #expect(norms.count == 2 * count && norms.allSatisfy { abs($0 - 0.4) < 1e-5 })
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
    _ kind: RepresentationKind = .neti,
    _ change: (inout [String: String], inout [(String, Tensor)]) throws -> Void
  ) throws -> String {
    let scratch = try Scratch()
    let url = scratch.file("concept.safetensors")
    try Self.concept(kind).write(to: url)
    let good = try SafetensorsFile(url)
    var metadata = good.metadata
    var tensors = try good.entries.keys.sorted().map { ($0, try good.tensor($0).clone()) }
    try change(&metadata, &tensors)
    try Safetensors.write(tensors, metadata: metadata, to: url)
    return refusal { try Concept(contentsOf: url) }?.message ?? ""
  }

  @Test("of a newer major version are refused; a newer minor version and unknown keys are not")
  func versions() throws {
    #expect(
      try error { m, _ in m["neti.version"] = "3.0" }
        .contains("it has format version “3.0”, newer than this program reads (2.x); update neti"))
    for version in ["x", "0.9"] {
      #expect(
        try error { m, _ in m["neti.version"] = version }
          .contains("the format version “\(version)” is no version; make the file anew"))
    }
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

  @Test("say how many vectors they have in version 2 only, 2 to 16, and have as many")
  func vectors() throws {
    #expect(
      try error { m, _ in m["neti.vectors"] = "2" }
        .contains("neti.vectors is “2”; files of version 2 say 2 to 16 there, and others nothing"))
    for bad in ["1", "17", "-2", "x", ""] {
      #expect(
        try error { m, _ in
          m["neti.version"] = "2.0"
          m["neti.vectors"] = bad
        }.contains("neti.vectors"))
    }
    let other = try error { m, _ in
      m["neti.version"] = "2.0"
      m["neti.vectors"] = "2"
    }
    #expect(other.contains("output.") && other.contains("expected [64"), "\(other)")
  }

  @Test("that do not hold together are refused in one line that says why")
  func broken() throws {
    #expect(
      try error { m, _ in m["neti.representation"] = "magic" }
        .contains("unknown representation “magic”; known are neti, "))
    #expect(
      try error { m, _ in m["neti.about"] = nil }
        .hasSuffix("the entry neti.about is missing from its metadata; make the file anew"))
    #expect(
      try error { _, t in t.removeAll { $0.0 == "placeholder" } }
        .hasSuffix("the tensor placeholder is missing; make the file anew"))
    #expect(try error { m, _ in m["neti.about"] = "{" }.contains("neti.about"))
    #expect(try error { m, _ in m["neti.mapper"] = nil }.contains("neti.mapper"))
    #expect(try error { _, t in t.removeAll { $0.0 == "output.bias" } }.contains("output.bias"))
    #expect(try error { _, t in t.append(("more", try Tensor.zeros([1]))) }.contains("more"))
    #expect(try error { _, t in t[0].1 = try Tensor.full(t[0].1.shape, .nan) }.contains("finite"))
    #expect(
      try error { _, t in t[t.firstIndex { $0.0 == "placeholder" } ?? 0].1 = try Tensor.zeros([7]) }.contains(
        "fit"))
  }

  @Test("with values or shapes that no concept has are refused in one line that says why")
  func bounds() throws {
    func set(_ name: String, _ value: Tensor, in tensors: inout [(String, Tensor)]) {
      tensors.removeAll { $0.0 == name }
      tensors.append((name, value))
    }
    func neti(_ change: (inout [String: String], inout [(String, Tensor)]) throws -> Void) throws -> String {
      try error(.neti, change)
    }
    func ti(_ shape: [Int]) throws -> String {
      try error(.ti) { _, t in set("vectors", try .ones(shape), in: &t) }
    }
    for (message, words) in [
      (
        try neti { _, t in t += try (0..<4097).map { ("more-\($0)", try .ones([1])) } },
        " tensors, which no concept does"
      ),
      (
        try neti { m, _ in m["neti.about"] = m["neti.about"]?.replacing("\"<toy>\"", with: "\"\"") },
        "its token is empty; make the file anew"
      ),
      (
        try neti { m, _ in
          m["neti.mapper"] = m["neti.mapper"]?.replacing("\"hiddenSize\":16", with: "\"hiddenSize\":0")
        }, "a mapper for hidden size 0 and 3 layers is out of range"
      ),
      (
        try neti { _, t in t.removeAll { $0.0 == "frequencies" } }, "the tensor frequencies is missing"
      ),
      (
        try neti { _, t in set("frequencies", try .ones([4, 3]), in: &t) },
        "the frequencies have shape [4, 3]; expected [n, 2]"
      ),
      (try ti([2, 16]), "its tensor vectors is for 2 vectors, and neti.vectors says 1"),
      (try ti([16]), "the tensor vectors has shape [16]; expected [1 to 16, hidden size]"),
    ] {
      #expect(
        message.hasPrefix("concept.safetensors: ") && message.hasSuffix(words), "\(words) ≠ \(message)")
    }
  }

  @Test("are no checkpoints, and a checkpoint's state has the concept's shapes")
  func noCheckpoint() throws {
    let scratch = try Scratch()
    let url = scratch.file("concept.safetensors")
    try Self.concept(.ti).write(to: url)
    let words =
      "concept.safetensors: it has no optimizer.exp_avg.vectors: this is a concept, not a checkpoint to resume from"
    #expect(refusal { try Checkpoint(contentsOf: url) }?.message == words)
    let good = try SafetensorsFile(url)
    let tensors = try good.entries.keys.sorted().map { ($0, try good.tensor($0).clone()) }
    try Safetensors.write(
      tensors + [("optimizer.exp_avg.vectors", .ones([2]))], metadata: good.metadata, to: url)
    #expect(
      refusal { try Checkpoint(contentsOf: url) }?.message
        == "concept.safetensors: the tensor optimizer.exp_avg.vectors does not fit the mapper")
  }

  @Test("of vectors hold one tensor")
  func oneTensor() throws {
    let scratch = try Scratch()
    let url = scratch.file("concept.safetensors")
    try Self.concept(.ti).write(to: url)
    let good = try SafetensorsFile(url)
    let tensors =
      try good.entries.keys.sorted().map { ($0, try good.tensor($0).clone()) } + [("more", .ones([1]))]
    try Safetensors.write(tensors, metadata: good.metadata, to: url)
    let words =
      "concept.safetensors: a ti concept holds one tensor called vectors, and this one 2: “more”, “vectors”"
    #expect(refusal { try Concept(contentsOf: url) }?.message == words)
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
