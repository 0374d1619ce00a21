import Diffusion
import Imaging
import NeTI
import TestSupport
import Testing

/// Images that are generated in parts, so that something else can be done in between.
@Suite("A generation in parts")
struct GenerationPartsTests {
  /// The images of the whole and of its parts are the same, in the same order.
  private func expectSame(_ whole: Generation, count: Int) throws {
    let all = try whole()
    #expect(all.count == count)
    for (singly, tolerance) in [(false, 0), (true, imageTolerance)] {
      let parts = try whole.parts(singly: singly)
      #expect(singly ? parts.count == count : parts.count < count)
      #expect(parts.reduce(0) { $0 + $1.totalSteps } == whole.totalSteps)
      let made = try parts.flatMap { try $0() }
      #expect(made.map(\.seed) == all.map(\.seed) && made.map(\.prompt) == all.map(\.prompt))
      #expect(made.map(\.variant.names.label) == all.map(\.variant.names.label))
      for (a, b) in zip(made, all) {
        #expect(distance(a.image.pixels, b.image.pixels) <= tolerance, "\(b.prompt), seed \(b.seed)")
      }
    }
  }

  @Test("prompts, places of the dial and seeds")
  func images() throws {
    let f = try ConceptFactory()
    var request = ConceptGenerator.Request(prompts: [ConceptFactory.prompt, "a {} on a table"])
    request.settings = ConceptFactory.settings
    request.negativePrompt = "blurred"
    request.truncations = [4, nil]
    request.seeds = [3, 4]
    try expectSame(
      ConceptGenerator(f.model, concepts: [.init(f.neti(seed: 1))]).prepare(request), count: 8)
  }

  @Test("mixtures, and the parts of the denoising process, whose columns share what they are made of")
  func tables() throws {
    let f = try ConceptFactory()
    let (g, a) = (try f.neti(seed: 1), try f.neti(seed: 2))
    var mix = StyleMixing.Request(prompts: [ConceptFactory.prompt], geometryLayers: [4, 5, 6])
    (mix.starts, mix.settings) = ([-1, 500], ConceptFactory.settings)
    mix.settings.seeds = [0, 1]
    try expectSame(StyleMixing(f.model, geometry: g, appearance: a).prepare(mix), count: 4)
    var strip = Decomposition.Request(
      prompts: [ConceptFactory.prompt], columns: [.frozen(900), .frozen(100)])
    strip.settings = ConceptFactory.settings
    strip.settings.seeds = [0, 1]
    try expectSame(Decomposition(f.model, g).prepare(strip), count: 6)
  }
}
