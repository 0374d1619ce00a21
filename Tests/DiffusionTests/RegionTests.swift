import Diffusion
import Foundation
import TestSupport
import Testing
import Torch

@Suite("Regions")
struct RegionTests {
  private func drawn(
    _ model: StableDiffusion, _ scheduler: SchedulerKind, guidance: Double,
    _ regions: [Region]
  ) throws -> Tensor {
    var s = GenerationSettings()
    s.scheduler = scheduler
    s.steps = 3
    s.guidance = guidance
    s.seeds = [7, 8]
    (s.width, s.height) = (24 * model.vaeFactor, 16 * model.vaeFactor)
    let denoising = try TextToImagePipeline(model, s).denoising(
      seeds: s.seeds, Conditioning { _ in regions })
    for step in denoising { try step() }
    return try denoising.result()
  }

  @Test("in a row are of one width from edge to edge, and their shares sum to 1 in every column")
  func row() throws {
    for (count, width) in [(1, 16), (2, 26), (2, 17), (3, 36), (4, 33), (5, 10), (2, 112)] {
      let places = try Region.Place.row(count, width: width)
      #expect(places.count == count)
      #expect(places.first?.columns.lowerBound == 0 && places.last?.columns.upperBound == width)
      #expect(Set(places.map(\.columns.count)).count == 1)
      var sums = [Float](repeating: 0, count: width)
      for p in places {
        #expect(p.shares.count == p.columns.count && p.shares.allSatisfy { $0 > 0 && $0 <= 1 })
        for (c, share) in zip(p.columns, p.shares) { sums[c] += share }
      }
      #expect(sums.allSatisfy { abs($0 - 1) < 1e-6 }, "\(count) in \(width): \(sums)")
    }
    // The model's own width for each.
    for (count, each) in [(1, 16), (2, 16), (3, 64), (4, 64)] {
      let width = Region.Place.rowWidth(count, each: each)
      #expect(try Region.Place.row(count, width: width).allSatisfy { $0.columns.count == each })
    }
    #expect(throws: DiffusionError.self) { try Region.Place.row(0, width: 16) }
    #expect(throws: DiffusionError.self) { try Region.Place.row(9, width: 16) }
  }

  @Test("blend linearly over the columns that two have in common, of one width or in proportion")
  func shares() throws {
    let fall: [Float] = [5.0 / 6, 0.5, 1.0 / 6]
    let slow: [Float] = [0.875, 0.625, 0.375, 0.125]
    func ones(_ count: Int) -> [Float] { Array(repeating: 1, count: count) }
    let halves: [(Range<Int>, [Float])] = [(0..<8, ones(5) + fall), (5..<13, fall.reversed() + ones(5))]
    let third: [(Range<Int>, [Float])] = [(0..<18, ones(14) + slow), (14..<24, slow.reversed() + ones(6))]
    func compare(_ places: [Region.Place], _ expected: [(Range<Int>, [Float])]) {
      #expect(places.count == expected.count)
      for (place, (columns, shares)) in zip(places, expected) {
        #expect(place.columns == columns && place.shares.count == shares.count)
        for (a, b) in zip(place.shares, shares) { #expect(abs(a - b) < 1e-6) }
      }
    }
    compare(try Region.Place.row(2, width: 13), halves)
    compare(try Region.Place.row(parts: [3, 3], width: 13), halves)
    compare(try Region.Place.row(parts: [2, 1], width: 24), third)
    compare(try Region.Place.row(1, width: 14), [(0..<14, ones(14))])
  }

  @Test(
    "that draw one thing everywhere make the image of one region, with every scheduler, guided or not",
    arguments: SchedulerKind.allCases)
  func alike(_ scheduler: SchedulerKind) throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let contexts = [try CrossAttentionContext(model.encode("a photo of a red mug"))]
    for guidance in [5.0, 1] {
      let plain = try drawn(model, scheduler, guidance: guidance, [Region(contexts)])
      for shares: [Float] in [[1], [0.25, 0.75]] {
        let regions = shares.map {
          Region(contexts, place: .init(columns: 0..<24, shares: Array(repeating: $0, count: 24)))
        }
        #expect(try relativeError(drawn(model, scheduler, guidance: guidance, regions), plain) < 1e-4)
      }
    }
  }

  @Test("that do not overlap are images beside each other; that do, are not")
  func apart() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let things = try ["a photo of a red mug", "a photo of a blue cat"].map {
      [CrossAttentionContext(try model.encode($0))]
    }
    let ones = [Float](repeating: 1, count: 12)
    let halves = [
      Region.Place(columns: 0..<12, shares: ones), Region.Place(columns: 12..<24, shares: ones),
    ]
    let both = try drawn(model, .dpm, guidance: 5, zip(things, halves).map { Region($0, place: $1) })
    // What the other region draws has no effect.
    let same = try drawn(model, .dpm, guidance: 5, halves.map { Region(things[0], place: $0) })
    #expect(try relativeError(same.sliced(3, 0..<12), both.sliced(3, 0..<12)) < 1e-6)
    #expect(try relativeError(same.sliced(3, 12..<24), both.sliced(3, 12..<24)) > 1e-2)
    let row = try Region.Place.row(2, width: 24)
    let joined = try drawn(model, .dpm, guidance: 5, zip(things, row).map { Region($0, place: $1) })
    let alone = try drawn(model, .dpm, guidance: 5, row.map { Region(things[0], place: $0) })
    #expect(try relativeError(joined.sliced(3, 0..<8), alone.sliced(3, 0..<8)) > 1e-2)
  }

  @Test("that have no place in the image are refused")
  func refused() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let contexts = [try CrossAttentionContext(model.encode("a cat"))]
    func place(_ columns: Range<Int>, _ shares: Int) -> Region {
      Region(contexts, place: .init(columns: columns, shares: Array(repeating: 1, count: shares)))
    }
    for bad in [
      [Region(contexts), Region(contexts)], [place(0..<25, 25)], [place(-1..<8, 9)], [place(0..<24, 1)],
    ] {
      #expect(throws: DiffusionError.self) { try drawn(model, .dpm, guidance: 5, bad) }
    }
  }
}
