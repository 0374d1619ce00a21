import Diffusion
import Imaging
import NeTI
import TestSupport
import Testing

@Suite("Style mixing")
struct StyleMixingTests {
  private func mixed(
    _ f: ConceptFactory, _ g: Concept, _ a: Concept, layers: Set<Int>, starts: [Int],
    change: (inout StyleMixing.Request) -> Void = { _ in }
  ) throws -> [GeneratedImage] {
    var request = StyleMixing.Request(prompts: [ConceptFactory.prompt], geometryLayers: layers)
    request.starts = starts
    request.settings = ConceptFactory.settings
    change(&request)
    return try StyleMixing(f.model, geometry: g, appearance: a)(request)
  }

  @Test("of a concept with itself is that concept")
  func itself() throws {
    let f = try ConceptFactory()
    let c = try f.neti(seed: 1)
    let plain = try f.drawn(c, ConceptFactory.settings)
    for d in try mixed(f, c, c, layers: [4, 5, 6], starts: [999, 400]) {
      #expect(distance(d.image.pixels, plain) <= imageTolerance)
    }
  }

  @Test("that never starts is the geometry concept; throughout and in all layers, the appearance concept")
  func ends() throws {
    let f = try ConceptFactory()
    let (g, a) = (try f.neti(seed: 1), try f.neti(seed: 2))
    let (geometry, appearance) = (
      try f.drawn(g, ConceptFactory.settings), try f.drawn(a, ConceptFactory.settings)
    )
    #expect(distance(geometry, appearance) > 20)
    let d = try mixed(f, g, a, layers: [], starts: [-1, 999, 500]) { $0.parents = true }.map(\.image.pixels)
    #expect(d.count == 5)
    for same in [d[0], d[1]] { #expect(distance(same, geometry) <= imageTolerance) }
    for same in [d[2], d[4]] { #expect(distance(same, appearance) <= imageTolerance) }
    #expect(distance(d[3], geometry) > imageTolerance && distance(d[3], appearance) > imageTolerance)
    // When the geometry keeps every layer, nothing is left to mix.
    let all = try mixed(f, g, a, layers: Set(0..<16), starts: [999])
    #expect(distance(all[0].image.pixels, geometry) <= imageTolerance)
  }

  @Test("works across representations, each pair made by its own concept")
  func representations() throws {
    let f = try ConceptFactory()
    let concepts = [try f.neti(seed: 1), try f.vectors(.ti, word: "mug"), try f.vectors(.xti, word: "house")]
    let alone = try concepts.map { try f.drawn($0, ConceptFactory.settings) }
    for (i, g) in concepts.enumerated() {
      for (j, a) in concepts.enumerated() where i != j {
        let d = try mixed(f, g, a, layers: [], starts: [-1, 999]).map(\.image.pixels)
        #expect(distance(d[0], alone[i]) <= imageTolerance)
        #expect(distance(d[1], alone[j]) <= imageTolerance)
      }
    }
  }

  @Test("truncates each concept by itself")
  func truncation() throws {
    let f = try ConceptFactory()
    let (g, a) = (try f.neti(seed: 1), try f.neti(seed: 2))
    let d = try mixed(f, g, a, layers: [], starts: [-1, 999]) {
      $0.geometryTruncation = 8
      $0.appearanceTruncation = 64
    }
    #expect(
      try distance(d[0].image.pixels, f.drawn(g, ConceptFactory.settings, truncation: 8))
        <= imageTolerance)
    #expect(
      try distance(d[1].image.pixels, f.drawn(a, ConceptFactory.settings, truncation: 64))
        <= imageTolerance)
  }

  @Test("refuses layers that do not exist and a dial that a concept does not have")
  func refused() throws {
    let f = try ConceptFactory()
    let c = try f.neti(seed: 1)
    let bare = try f.neti(seed: 2, nestedDropout: false)
    let layer = #expect(throws: NeTIError.self) { try mixed(f, c, c, layers: [16], starts: [600]) }
    #expect(layer?.message == "the geometry's layers are [16]; this model has 0…15")
    #expect(throws: NeTIError.self) {
      try mixed(f, c, bare, layers: [], starts: [600]) { $0.appearanceTruncation = 8 }
    }
    #expect(throws: NeTIError.self) {
      try mixed(f, c, c, layers: [], starts: [600]) { $0.geometryTruncation = 129 }
    }
  }
}
