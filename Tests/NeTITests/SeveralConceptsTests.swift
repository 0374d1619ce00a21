import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

@Suite("Several concepts in one prompt")
struct SeveralConceptsTests {
  /// The mappers of the fixture (Tests/Fixtures/sections/several.py): drawn, not stored.
  static func mapper(seed: UInt64, norm: Double) throws -> NeTIMapper {
    let random = try RandomSource(seed: seed)
    var tensors: [String: Tensor] = [:]
    let frequencies = try random.normal([16, 2]) * Tensor([0.03, 2])
    for (name, rows, columns) in [
      ("input", 32, 32), ("hidden1", 128, 32), ("hidden2", 128, 128), ("output", 256, 128),
    ] {
      tensors["\(name).weight"] = try random.normal([rows, columns]) / Double(columns).squareRoot()
      tensors["\(name).bias"] = try random.normal([rows]) * 0.1
    }
    for name in ["norm1", "norm2"] {
      tensors["\(name).weight"] = try random.normal([128]) * 0.1 + 1
      tensors["\(name).bias"] = try random.normal([128]) * 0.1
    }
    var s = NeTIMapper.Settings(hiddenSize: 128, layerCount: 16)
    s.timeAnchors = 2
    s.targetNorm = norm
    return try NeTIMapper(s, tensors: tensors, frequencies: frequencies)
  }

  private static func mappers() throws -> [NeTIMapper] {
    [try mapper(seed: 21, norm: 0.45), try mapper(seed: 22, norm: 0.3)]
  }

  @Test("gives the formulas' sequences: each placeholder its own embedding and bypass, whatever their order")
  func sequences() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let golden = try SafetensorsFile(Fixtures.url("several/sequences.safetensors"))
    let prompter = try ConceptPrompter(
      model.tokenizer, [.init(name: "toy", token: "<t>"), .init(name: "mug", token: "<m>")])
    let prompts = try ["a photo of {toy} next to {mug}", "{mug} and a {toy} in the snow"].map {
      try prompter($0)
    }
    let contexts = try SpaceTimeConditioner(
      model.textEncoders, concepts: try Self.mappers(), layerCount: 16)(
        prompts, samples: [.init(prompt: 0, timestep: 3), .init(prompt: 1, timestep: 611)],
        keep: [[Int?](repeating: 40, count: 32), [Int?](repeating: nil, count: 32)])
    #expect(try relativeError(contexts[7].keys, golden.tensor("keys")) < 1e-5)
    #expect(try relativeError(contexts[7].values, golden.tensor("values")) < 1e-5)
  }

  @Test("side by side draws the image that the formulas give over diffusers")
  func image() throws {
    let f = try ConceptFactory()
    let concepts = try zip(["toy", "mug"], Self.mappers()).map {
      ConceptGenerator.Named(
        name: $0, Concept($1, about: try f.about(), placeholder: try .zeros([128])))
    }
    var request = ConceptGenerator.Request(prompts: ["a photo of {toy} next to {mug} in the snow"])
    request.seeds = [5]
    request.steps = 8
    request.guidance = 5
    let image = try ConceptGenerator(f.model, concepts: concepts)(request)[0].image
    let golden = try SafetensorsFile(Fixtures.url("several/side_by_side.safetensors")).tensor("picture")
    #expect(golden.shape == [image.height, image.width, 3])
    let differences = zip(image.pixels, try golden.bytes()).map { abs(Int($0) - Int($1)) }
    #expect(Double(differences.filter { $0 <= 2 }.count) / Double(differences.count) >= 0.995)
    #expect(Double(differences.reduce(0, +)) / Double(differences.count) < 0.5)
  }

  private func drawn(
    _ f: ConceptFactory, _ concepts: [(String, Concept)], _ prompt: String,
    change: (inout ConceptGenerator.Request) -> Void = { _ in }
  ) throws -> [GeneratedImage] {
    var request = ConceptGenerator.Request(prompts: [prompt])
    request.settings = ConceptFactory.settings
    change(&request)
    return try ConceptGenerator(f.model, concepts: concepts.map { .init(name: $0, $1) })(request)
  }

  @Test(
    "side by side, an image is the same alone and in company: guided or not, at every setting of the dial",
    arguments: SchedulerKind.allCases)
  func company(_ scheduler: SchedulerKind) throws {
    let f = try ConceptFactory()
    let pair = [("a", try f.neti(seed: 1)), ("b", try f.neti(seed: 2))]
    for guidance in [3.0, 1] {
      func images(_ seeds: [UInt64], _ truncations: [Int?]) throws -> [GeneratedImage] {
        try drawn(f, pair, "a photo of a {a} next to a {b} in the snow") {
          $0.scheduler = scheduler
          $0.guidance = guidance
          $0.seeds = seeds
          $0.truncations = truncations
        }
      }
      let together = try images([1, 2], [nil, 8])
      #expect(together.count == 4)
      for d in [together[0], together[3]] {
        let alone = try images([d.seed], [d.variant.truncation])[0]
        #expect(distance(alone.image.pixels, d.image.pixels) <= imageTolerance)
      }
      #expect(distance(together[0].image.pixels, together[2].image.pixels) > 20)
    }
  }

  @Test("side by side, the prompt's order counts, not that of the concepts, and each may be of its own kind")
  func order() throws {
    let f = try ConceptFactory()
    let (a, b) = (try f.neti(seed: 1), try f.vectors(.ti, word: "mug"))
    let d = try drawn(f, [("a", a), ("b", b)], "{a} and {b}")[0].image
    #expect((d.width, d.height) == (208, 128))
    for (concepts, prompt) in [
      ([("b", b), ("a", a)], "{a} or {b}"), ([("a", b), ("b", a)], "{b} with {a}"),
    ] {
      #expect(try distance(drawn(f, concepts, prompt)[0].image.pixels, d.pixels) <= imageTolerance)
    }
    #expect(try distance(drawn(f, [("a", a), ("b", b)], "{b} and {a}")[0].image.pixels, d.pixels) > 20)
  }

  @Test("the free layout draws the whole prompt, as large as one concept")
  func free() throws {
    let f = try ConceptFactory()
    let (a, b) = (try f.neti(seed: 1), try f.vectors(.ti, word: "mug"))
    let d = try drawn(f, [("a", a), ("b", b)], "{a} and {b}") { $0.layout = .free }[0].image
    #expect((d.width, d.height) == (128, 128))
    // A vector that stands where its word would is that word.
    let word = try drawn(f, [("", a)], "{} and mug")[0].image
    #expect(distance(d.pixels, word.pixels) <= imageTolerance)
  }

  @Test("is refused where it is too narrow, and where the concepts are for different base models")
  func refused() throws {
    let f = try ConceptFactory()
    let c = try f.neti(seed: 1)
    let pair = [("a", c), ("b", c)]
    #expect(throws: NeTIError.self) { try drawn(f, pair, "{a} {b}") { $0.width = 20 } }
    #expect(try drawn(f, pair, "{a} {b}") { $0.width = 48 }[0].image.width == 48)
    let many = pair + [("c", c), ("d", c)]
    #expect(try drawn(f, many, "{d} {c} {a} {b}")[0].image.width == 368)
    let free = refusal { try drawn(f, [("a", c)], "{a}") { $0.regions = [2, 1] } }
    #expect(free?.message == "`regions` is for several concepts side by side, and here are none")
    for regions in [[2, 1, 1], [2, 0], [9, 1], [.infinity, 1]] {
      let message = refusal { try drawn(f, pair, "{a} {b}") { $0.regions = regions } }?.message ?? ""
      #expect(
        message
          == "`regions` wants a number above 0 for each of the 2 concepts, such as 2,1; the smallest at least a "
          + "quarter of their mean", "\(message)")
    }
    let other = try Concept.open(
      Fixtures.repository.appending(path: "Tests/Fixtures/authors/default/mapper-steps-5.pt"))
    #expect {
      try drawn(f, [("a", c), ("b", other)], "{a} {b}")
    } throws: {
      ($0 as? NeTIError)?.isWrongUsage == true && "\($0)".contains("different base models")
    }
  }
}
