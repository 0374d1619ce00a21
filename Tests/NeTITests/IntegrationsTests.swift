import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

/// The golden values that the integrations in other programs are tested with, too
/// (Tests/Fixtures/sections/integrations.py, Integrations/tests).
@Suite("What the integrations must agree with")
struct IntegrationsTests {
  struct Golden: Decodable {
    struct Case: Decodable {
      let prompt: String, concepts: [String], truncation: [String: Int], timestep: Double
    }
    struct Picture: Decodable { let `case`: Int, steps: Int, guidance: Double, seed: UInt64 }
    let layers: [Int], cases: [Case], picture: Picture

    init() throws {
      self = try JSONDecoder().decode(
        Self.self, from: Data(contentsOf: Fixtures.url("integrations/cases.json")))
    }
  }

  private static func concepts(_ c: Golden.Case) throws -> [ConceptGenerator.Named] {
    try c.concepts.map {
      .init(name: $0, try Concept(contentsOf: Fixtures.url("integrations/\($0).safetensors")))
    }
  }

  @Test("every kind of concept gives the formulas' keys and values, whole, truncated and with another")
  func sequences() throws {
    let golden = try Golden()
    let expected = try SafetensorsFile(Fixtures.url("integrations/expected.safetensors"))
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    for (i, c) in golden.cases.enumerated() {
      let concepts = try Self.concepts(c)
      for named in concepts { #expect(try named.concept.check(against: model.baseIdentity) == nil) }
      let prompt = try ConceptPrompter(
        model.tokenizer, concepts.map { .init(name: $0.name, $0.concept) })(c.prompt)
      let conditioner = try SpaceTimeConditioner(
        model.textEncoders, concepts: concepts.map(\.concept.representation), layerCount: 16)
      let contexts = try conditioner(
        [prompt], samples: [.init(prompt: 0, timestep: c.timestep)],
        keep: concepts.map {
          [Int?](repeating: c.truncation[$0.name], count: conditioner.distinctLayers)
        })
      let at = prompt.positions[0]
      let last = at + prompt.vectorCounts[0] - 1
      let rows = try golden.layers.map { layer in
        let pair = contexts.count == 1 ? contexts[0] : contexts[layer]
        let (keys, values) = (try pair.keys.selected(0, 0), try pair.values.selected(0, 0))
        return try Tensor.stacked(
          [at, at + 1, keys.size(0) - 1].map { try keys.selected(0, $0) } + [values.selected(0, last)], 0)
      }
      let error = try relativeError(.stacked(rows, 0), expected.tensor("\(i)"))
      #expect(error < 1e-5, "\(c.prompt) at \(c.timestep): \(error)")
    }
  }

  @Test("draws the image that the formulas give over diffusers")
  func image() throws {
    let golden = try Golden()
    let c = golden.cases[golden.picture.case]
    var request = ConceptGenerator.Request(prompts: [c.prompt])
    request.settings.steps = golden.picture.steps
    request.settings.guidance = golden.picture.guidance
    request.settings.seeds = [golden.picture.seed]
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let image = try ConceptGenerator(model, concepts: Self.concepts(c))(request)[0].image
    let expected = try SafetensorsFile(Fixtures.url("integrations/picture.safetensors"))
      .tensor("picture").integers()
    #expect(distance(image.pixels, expected.map(UInt8.init)) <= imageTolerance)
  }
}
