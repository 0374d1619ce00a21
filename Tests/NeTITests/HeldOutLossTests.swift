import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing

/// The loss on a fixed grid, as training has it.
@Suite("The held-out loss")
struct HeldOutLossTests {
  private let model: StableDiffusion
  private let image: Image
  private let concept: Concept

  init() throws {
    model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    image = try TrainingImages.prepare(
      Image.load(Fixtures.examples.appending(path: "spotty/1.jpg")), side: model.resolution, crop: true)
    concept = try Concept(contentsOf: Fixtures.url("integrations/toy.safetensors"))
  }

  private func loss(_ mask: Image?, _ templates: [String] = ["a photo of a {}"], caption: String? = nil)
    throws
    -> Double
  {
    let example = TrainingExample(image, caption: caption, mask: mask)
    return try HeldOutLoss(model, example, templates: templates, noises: 1)(concept)
  }

  /// White from one column to another, black elsewhere.
  private func mask(_ columns: Range<Int>) throws -> Image {
    let side = model.resolution
    return try Image(
      width: side, height: side,
      pixels: (0..<side * side).flatMap { [UInt8](repeating: columns ~= $0 % side ? 255 : 0, count: 3) })
  }

  @Test("counts where the mask is: two halves have the mean of the whole")
  func masks() throws {
    let side = model.resolution
    let whole = try loss(nil)
    // As it was before there were masks.
    #expect(try HeldOutLoss(model, image: image, noises: 1)(concept) == whole)
    #expect(try abs(loss(mask(0..<side)) - whole) < 1e-5 * whole)
    let (left, right) = (try loss(mask(0..<side / 2)), try loss(mask(side / 2..<side)))
    #expect(abs((left + right) / 2 - whole) < 1e-5 * whole, "\(left), \(right), \(whole)")
    #expect(abs(left - right) > 0.01 * whole)
  }

  @Test("has the image's caption, or the templates in turn")
  func sentences() throws {
    let (a, b) = (Templates.style[0], Templates.style[2])
    let (onlyA, onlyB) = (try loss(nil, [a]), try loss(nil, [b]))
    #expect(onlyA != onlyB)
    #expect(try loss(nil, [b], caption: a) == onlyA)
    // Each timestep has one of the two; both ways together they have each once.
    let (ab, ba) = (try loss(nil, [a, b]), try loss(nil, [b, a]))
    #expect(ab != ba)
    #expect(abs(ab + ba - onlyA - onlyB) < 1e-5 * onlyA, "\(ab), \(ba), \(onlyA), \(onlyB)")
  }
}
