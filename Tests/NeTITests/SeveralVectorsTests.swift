import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

@Suite("Several vectors for one concept")
struct SeveralVectorsTests {
  private static func factory() throws -> ConceptFactory { try ConceptFactory() }

  /// A concept whose vectors are the rows of words.
  private static func concept(_ kind: RepresentationKind, _ words: String) throws -> Concept {
    let factory = try Self.factory()
    let ids = factory.model.tokenizer.encode(words)
    let rows = try factory.model.textEncoders.members[0].embed(Tensor(ids, [1, ids.count])).selected(0, 0)
    let vectors = try rows.unsqueezed(0).repeatInterleaved(16, 0)
    return Concept(
      kind == .ti
        ? try TextualInversion(vectors: rows, layerCount: 16)
        : try ExtendedTextualInversion(vectors: vectors, layerCount: 16),
      about: try factory.about("cat"), placeholder: try .zeros([128]))
  }

  private static func contexts(_ concepts: [Concept], _ text: String) throws -> [CrossAttentionContext] {
    let model = try Self.factory().model
    let names = concepts.enumerated().map { ConceptPrompter.Name(name: "\($0)", $1) }
    let prompt = try ConceptPrompter(model.tokenizer, names)(text)
    return try SpaceTimeConditioner(
      model.textEncoders, concepts: concepts.map(\.representation), layerCount: 16)(
        [prompt], samples: [.init(prompt: 0, timestep: 500)])
  }

  @Test(
    "the rows of several words give what the words themselves give", arguments: [RepresentationKind.ti, .xti])
  func words(_ kind: RepresentationKind) throws {
    let model = try Self.factory().model
    let three = try Self.concept(kind, "big red cat")
    let two = try Self.concept(.ti, "small house")
    let contexts = try Self.contexts([three, two], "a photo of a {0} beside a {1} in the snow")
    let plain = try ConceptPrompter(model.tokenizer, [])(
      "a photo of a big red cat beside a small house in the snow")
    let expected = try model.textEncoders.members[0].encode(Tensor(plain.ids, [1, plain.ids.count]))
    for c in contexts { #expect(try relativeError(c.keys, expected) < 1e-5) }
  }

  @Test(
    "each of them takes a position of the prompt, and a prompt without room for all is refused with the positions"
  )
  func positions() throws {
    let model = try Self.factory().model
    let prompter = try ConceptPrompter(model.tokenizer, [.init(token: "<x>", vectorCount: 4)])
    let prompt = try prompter("a photo of {} in the snow")
    let single = try ConceptPrompter(model.tokenizer, [.init(token: "<x>")])("a photo of {} in the snow")
    #expect(prompt.positions == [4] && prompt.vectorCounts == [4])
    #expect(Array(prompt.ids[8..<12]) == Array(single.ids[5..<9]))
    let room = model.tokenizer.modelMaxLength - 2
    func text(_ words: Int) -> String { String(repeating: "red ", count: words) + "{}" }
    #expect(try prompter(text(room - 4)).positions == [room - 3])
    let message = refusal { try prompter(text(room - 3)) }?.message ?? ""
    #expect(message.contains("4 vectors") && message.contains("\(room - 2) to \(room + 1)"), "\(message)")
  }

  @Test("their bypasses change the values at their positions only")
  func bypass() throws {
    let model = try Self.factory().model
    var s = NeTIMapper.Settings(hiddenSize: 128, layerCount: 16)
    s.targetNorm = 0.4
    s.vectorCount = 3
    let concept = Concept(
      try NeTIMapper(s, keys: RandomKeys(seed: 1)), about: try Self.factory().about(),
      placeholder: try .zeros([128]))
    let prompt = try ConceptPrompter(model.tokenizer, [.init(concept)])("a photo of {} in the snow")
    let pair = try SpaceTimeConditioner(
      model.textEncoders, concepts: [concept.representation], layerCount: 16)(
        [prompt], samples: [.init(prompt: 0, timestep: 400)])[3]
    let difference = try (pair.values - pair.keys).abs().max([0, 2]).doubles()
    #expect(difference.indices.filter { difference[$0] > 1e-3 } == [4, 5, 6])
  }

  @Test("a prompt that has positions for another number of vectors is refused")
  func mismatch() throws {
    let model = try Self.factory().model
    let prompt = try ConceptPrompter(model.tokenizer, [.init(token: "<x>")])("a photo of {}")
    let concept = try Self.concept(.ti, "red cat")
    let conditioner = try SpaceTimeConditioner(
      model.textEncoders, concepts: [concept.representation], layerCount: 16)
    #expect(throws: NeTIError.self) {
      try conditioner([prompt], samples: [.init(prompt: 0, timestep: 1)])
    }
  }

  @Test("concepts of different numbers of vectors are mixed as they are alone")
  func mixing() throws {
    let factory = try Self.factory()
    let (geometry, appearance) = (
      try Self.concept(.xti, "red cat"), try Self.concept(.ti, "small blue house")
    )
    var request = StyleMixing.Request(prompts: [ConceptFactory.prompt], geometryLayers: Set(0..<16))
    request.settings = ConceptFactory.settings
    request.parents = true
    let images = try StyleMixing(factory.model, geometry: geometry, appearance: appearance)(request)
    let alone = try [geometry, appearance].map { try factory.drawn($0, ConceptFactory.settings) }
    #expect(distance(images[0].image.pixels, alone[0]) <= imageTolerance)
    #expect(distance(images[1].image.pixels, alone[0]) <= imageTolerance)
    #expect(distance(images[2].image.pixels, alone[1]) <= imageTolerance)
    #expect(distance(alone[0], alone[1]) > 20)
  }
}
