import Diffusion
import Imaging
import NeTI
import TestSupport
import Testing

@Suite("Decomposition")
struct DecompositionTests {
  private func drawn(_ f: ConceptFactory, _ c: Concept, _ columns: [Variant]) throws -> [[UInt8]] {
    var request = Decomposition.Request(prompts: [ConceptFactory.prompt], columns: columns)
    request.settings = ConceptFactory.settings
    return try Decomposition(f.model, c)(request).map(\.image.pixels)
  }

  @Test(
    "frozen columns of a representation that does not depend on time are identical",
    arguments: [RepresentationKind.ti, .xti])
  func frozenWithoutTime(_ kind: RepresentationKind) throws {
    let f = try ConceptFactory()
    let d = try drawn(f, f.vectors(kind, word: "mug"), [.frozen(900), .frozen(500), .frozen(100)])
    #expect(d.count == 4)
    for other in d.dropFirst() { #expect(other == d[0]) }
  }

  @Test("frozen columns of a mapper of time differ, from one another and from the plain image")
  func frozen() throws {
    let f = try ConceptFactory()
    let d = try drawn(f, f.neti(seed: 1), [.frozen(900), .frozen(100)])
    #expect(distance(d[0], d[1]) > imageTolerance && distance(d[0], d[2]) > imageTolerance)
  }

  @Test("a column frozen at τ is the embedding of τ at every step")
  func frozenConditioning() throws {
    let f = try ConceptFactory()
    let c = try f.neti(seed: 1)
    // With one step, at t = 999, the column frozen there is the plain image.
    var request = Decomposition.Request(prompts: [ConceptFactory.prompt], columns: [.frozen(999)])
    request.settings = ConceptFactory.settings
    request.settings.steps = 1
    let d = try Decomposition(f.model, c)(request).map(\.image.pixels)
    #expect(distance(d[0], d[1]) <= imageTolerance)
  }

  @Test("cumulative down to 0 is the plain image; windows too, when one holds everything")
  func cumulative() throws {
    let f = try ConceptFactory()
    let c = try f.neti(seed: 1)
    let plain = try f.drawn(c, ConceptFactory.settings)
    let d = try drawn(f, c, [.cumulative(600), .cumulative(0)])
    #expect(distance(d[1], plain) <= imageTolerance && distance(d[2], plain) <= imageTolerance)
    #expect(distance(d[0], plain) > imageTolerance)
    let w = try drawn(f, c, [.window(0...999)])
    #expect(distance(w[0], plain) <= imageTolerance)
  }

  @Test("outside of the concept's part stands the category's word")
  func word() throws {
    let f = try ConceptFactory()
    // A vector that is the word's own row: with or without it, the image is the word's.
    let c = try f.vectors(.ti, word: "mug")
    var request = ConceptGenerator.Request(prompts: ["a photo of a mug in the snow"])
    request.settings = ConceptFactory.settings
    let word = try ConceptGenerator(f.model, concepts: [])(request)[0].image.pixels
    for d in try drawn(f, c, [.cumulative(900), .cumulative(300)]) {
      #expect(distance(d, word) <= imageTolerance)
    }
  }

  @Test("divides the process evenly, from noise to image")
  func columns() {
    #expect(
      Decomposition.columns(.frozen, count: 5) == [900, 700, 500, 300, 100].map { .frozen($0) })
    #expect(
      Decomposition.columns(.cumulative, count: 4) == [750, 500, 250, 0].map { .cumulative($0) })
    #expect(Decomposition.columns(.windows, count: 2) == [.window(500...999), .window(0...499)])
    #expect(Decomposition.columns(.frozen, count: 0).isEmpty)
    for n in [1, 3, 7, 100] {
      for view in Decomposition.View.allCases {
        #expect(throws: Never.self) { try Decomposition.check(Decomposition.columns(view, count: n)) }
      }
    }
  }

  @Test(
    "refuses columns that run backwards, overlap or lie outside of the process",
    arguments: [
      [Variant.frozen(100), .frozen(500)], [.frozen(500), .frozen(500)], [.frozen(1000)],
      [.cumulative(0), .cumulative(500)], [.window(500...999), .window(300...500)],
      [.window(0...499), .window(500...999)], [.window(300...1000)], [], [.truncation(8)], [.frozen(-1)],
    ])
  func refused(_ columns: [Variant]) {
    let error = #expect(throws: NeTIError.self) { try Decomposition.check(columns) }
    #expect(error?.message.isEmpty == false)
    let none = "there is no timestep to show; give one such as 500"
    #expect((error?.message == none) == columns.isEmpty, "\(error?.message ?? "")")
  }

  @Test("refuses a window without a denoising step, and a concept without a category where one is needed")
  func emptyWindow() throws {
    let f = try ConceptFactory()
    var about = try f.about()
    about.category = ""
    let c = try f.neti(seed: 1)
    let unnamed = Concept(c.representation, about: about, placeholder: c.placeholder)
    #expect(throws: NeTIError.self) { try drawn(f, c, [.window(800...810)]) }
    #expect(throws: NeTIError.self) { try drawn(f, unnamed, [.cumulative(500)]) }
    #expect(throws: Never.self) { try drawn(f, unnamed, [.frozen(500)]) }
  }
}
