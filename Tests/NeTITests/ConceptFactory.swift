import Diffusion
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

/// Concepts with weights as training starts from them, on mini-sd.
struct ConceptFactory {
  let model: StableDiffusion

  init() throws { model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path)) }

  func about(_ category: String = "cat") throws -> Concept.About {
    .init(token: "<x>", category: category, base: try model.baseIdentity, steps: 0, training: "")
  }

  func neti(seed: UInt64, nestedDropout: Bool = true) throws -> Concept {
    var s = NeTIMapper.Settings(hiddenSize: 128, layerCount: 16)
    s.targetNorm = 0.4
    s.usesNestedDropout = nestedDropout
    return Concept(
      try NeTIMapper(s, keys: RandomKeys(seed: seed)), about: try about(), placeholder: try .zeros([128]))
  }

  func vectors(_ kind: RepresentationKind, word: String) throws -> Concept {
    let encoder = try model.textEncoders.members[0]
    let id = try #require(model.tokenizer.encode(word).first)
    return Concept(
      try learnedVectors(
        kind, startingAt: encoder.tokenEmbedding.selected(0, id).to(.float32), layerCount: 16),
      about: try about(word), placeholder: try .zeros([128]))
  }

  /// The concept by itself, as `neti generate` draws it.
  func drawn(_ concept: Concept, _ settings: GenerationSettings, truncation: Int? = nil) throws -> [UInt8] {
    var request = ConceptGenerator.Request(prompts: [Self.prompt])
    request.settings = settings
    request.truncations = [truncation]
    return try ConceptGenerator(model, concepts: [.init(concept)])(request)[0].image.pixels
  }

  static let prompt = "a photo of a {} in the snow"

  /// Few steps: what is tested holds at any number.
  static var settings: GenerationSettings {
    var s = GenerationSettings()
    s.steps = 4
    s.guidance = 3
    return s
  }
}

/// The most that two images' bytes may differ where batches have other sizes.
let imageTolerance = 1

func distance(_ a: [UInt8], _ b: [UInt8]) -> Int {
  a.count == b.count ? zip(a, b).map { abs(Int($0) - Int($1)) }.max() ?? 0 : .max
}

/// Learned vectors of a kind, `ti` or `xti`, that start at `row` [d].
func learnedVectors(_ kind: RepresentationKind, startingAt row: Tensor, layerCount: Int) throws
  -> any ConceptRepresentation
{
  let vectors = try row.reshaped([1, -1])
  return kind == .ti
    ? try TextualInversion(vectors: vectors, layerCount: layerCount)
    : try ExtendedTextualInversion(
      vectors: vectors.repeatInterleaved(layerCount, 0), layerCount: layerCount)
}
