import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing

@Suite("Into a photo", .serialized)
struct PhotoTests {
  private func photo(_ width: Int, _ height: Int) throws -> Image {
    try Image(
      width: width, height: height,
      pixels: (0..<width * height * 3).map {
        UInt8(truncatingIfNeeded: $0 / 3 % width * 255 / width + $0 % 3 * 40)
      })
  }

  /// White where `isOn`.
  private func mask(_ width: Int, _ height: Int, _ isOn: (Int, Int) -> Bool) throws -> Mask {
    Mask(
      try Image(
        width: width, height: height,
        pixels: (0..<width * height).flatMap { i in
          Array(repeating: isOn(i % width, i / width) ? 255 : 0, count: 3) as [UInt8]
        }))
  }

  private func request(_ photo: Photo, _ prompt: String = ConceptFactory.prompt) -> ConceptGenerator.Request {
    var request = ConceptGenerator.Request(prompts: [prompt])
    request.settings = ConceptFactory.settings
    request.photo = photo
    return request
  }

  @Test("a concept, several side by side and a mixture get into it; outside the mask its bytes stay")
  func kinds() throws {
    let factory = try ConceptFactory()
    let (a, b) = (try factory.neti(seed: 1), try factory.vectors(.ti, word: "mug"))
    let image = try photo(72, 64)
    let left = try mask(72, 64) { x, _ in x < 40 }
    let photo = try Photo(image, mask: left, strength: 0.9)
    var mixing = StyleMixing.Request(prompts: [ConceptFactory.prompt], geometryLayers: [6, 7])
    mixing.settings = ConceptFactory.settings
    mixing.photo = photo
    var truncated = request(photo)
    truncated.truncations = [nil, 4]
    for images in [
      try ConceptGenerator(factory.model, concepts: [.init(a)])(truncated),
      try ConceptGenerator(factory.model, concepts: [.init(name: "a", a), .init(name: "b", b)])(
        request(photo, "a photo of {a} next to {b}")),
      try StyleMixing(factory.model, geometry: a, appearance: b)(mixing),
      try ConceptGenerator(factory.model, concepts: [])(request(photo, "a photo of a red mug")),
    ] {
      for made in images.map(\.image) {
        #expect((made.width, made.height) == (72, 64))
        var changed = 0
        for y in 0..<64 {
          for x in 0..<72 where made[x, y] != image[x, y] {
            changed += 1
            #expect(x < 40)
          }
        }
        #expect(changed > 1000)
      }
    }
  }

  @Test("an image at a strength in between is nearer to the photo than one at a larger strength")
  func strengths() throws {
    let factory = try ConceptFactory()
    let generator = try ConceptGenerator(factory.model, concepts: [])
    let image = try Image.load(Fixtures.examples.appending(path: "spotty/1.jpg")).centreSquare()
      .resized(width: 64, height: 64)
    let distances = try [0, 0.25, 0.5, 1].map { strength in
      let made = try generator(request(Photo(image, strength: strength), "a photo of a mug"))[0].image
      return zip(made.pixels, image.pixels).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }
    }
    #expect(distances == distances.sorted() && distances[3] > 2 * distances[0], "\(distances)")
  }

  @Test(
    "photos of 30 megapixels, of 9×3000 pixels and of one pixel come back in their size",
    arguments: [(6000, 5000), (9, 3000), (1, 1)])
  func sizes(_ width: Int, _ height: Int) throws {
    let factory = try ConceptFactory()
    let image = try Image(width: width, height: height, colour: Colour(200, 120, 40))
    // A mask of another size.
    let (w, h) = (max(1, width / 3), max(1, height / 3))
    for mask in [nil, Mask(try Image(width: w, height: h, colour: Colour(255, 255, 255)))] {
      var request = request(try Photo(image, mask: mask, strength: 0.6), "a photo of a mug")
      request.steps = 2
      let made = try ConceptGenerator(factory.model, concepts: [])(request)[0].image
      #expect((made.width, made.height) == (width, height))
      #expect(made != image)
    }
  }

  @Test("a mask at half the photo's size covers the same part")
  func otherSize() throws {
    let image = try photo(80, 64)
    let small = try mask(40, 32) { x, y in x >= 20 && y < 16 }
    let photo = try Photo(image, mask: small, strength: 1)
    let resized = try #require(photo.mask)
    #expect((resized.width, resized.height) == (80, 64))
    for (x, y, on) in [(0, 0, false), (36, 10, false), (44, 10, true), (79, 0, true), (60, 36, false)] {
      #expect(resized.isOn[y * 80 + x] == on, "\(x), \(y)")
    }
  }

  @Test("an empty mask gives the photo back to the byte; of a full one at strength 1 no pixel is the photo's")
  func emptyAndFull() throws {
    let factory = try ConceptFactory()
    let concept = try factory.vectors(.ti, word: "mug")
    // One size that the model keeps, and one that it does not.
    for (width, height) in [(128, 128), (90, 61)] {
      let image = try photo(width, height)
      func made(_ image: Image, _ isOn: Bool) throws -> Image {
        let photo = try Photo(image, mask: mask(width, height) { _, _ in isOn })
        return try ConceptGenerator(factory.model, concepts: [.init(concept)])(request(photo))[0].image
      }
      #expect(try made(image, false) == image)
      let grey = try Image(width: width, height: height, colour: Colour(90, 90, 90))
      #expect(try made(image, true) == made(grey, true))
    }
  }

  @Test("warns of a mask that is black and of a strength that is no step")
  func warnings() throws {
    let factory = try ConceptFactory()
    let generator = try ConceptGenerator(factory.model, concepts: [])
    func warnings(_ mask: Mask?, _ strength: Double) throws -> [String] {
      try generator.prepare(request(Photo(photo(64, 64), mask: mask, strength: strength), "a mug")).warnings
    }
    #expect(try warnings(mask(64, 64) { _, _ in false }, 1).first?.contains("black everywhere") == true)
    #expect(try warnings(nil, 0.1).first?.contains("no step") == true)
    #expect(try warnings(nil, 0).first?.contains("no step") == true)
    #expect(try warnings(mask(64, 64) { x, _ in x == 9 }, 0.5).first?.contains("too thin") == true)
    #expect(try warnings(mask(64, 64) { x, _ in (9...16).contains(x) }, 0.5).isEmpty)
  }

  @Test("refuses a mask in other proportions and a strength outside 0…1; has diffusers' defaults")
  func refused() throws {
    let image = try photo(64, 48)
    let wrong = refusal { try Photo(image, mask: mask(48, 64) { _, _ in true }) }
    #expect(wrong?.message.contains("48×64") == true && wrong?.message.contains("64×48") == true)
    for strength in [-0.01, 1.01, .nan] {
      #expect(refusal { try Photo(image, strength: strength) }?.message.contains("`strength`") == true)
    }
    #expect(try Photo(image).strength == 0.8)
    #expect(try Photo(image, mask: mask(64, 48) { _, _ in true }).strength == 1)
  }
}
