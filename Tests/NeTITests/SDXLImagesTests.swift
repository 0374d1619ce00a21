import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

/// What people combine on SDXL, against diffusers' XL pipelines (Tests/Fixtures/sections/sdxl_images.py).
@Suite("Combined on SDXL", .serialized)
struct SDXLImagesTests {
  private static let prompt = "a photo of a {toy} next to a {mug} on a beach!"

  private static func concept(_ name: String, _ model: StableDiffusion, _ golden: SafetensorsFile) throws
    -> Concept
  {
    let vector = try golden.tensor(name)
    return Concept(
      try TextualInversion(vectors: vector.reshaped([1, -1]), layerCount: model.baseIdentity.layers.count),
      about: .init(token: "<\(name)>", category: name, base: try model.baseIdentity, steps: 1, training: ""),
      placeholder: vector)
  }

  /// Whether 99.5 % of an image's values are within 2 of the reference's.
  private static func near(_ pixels: [UInt8], _ expected: [UInt8]) -> Double {
    guard pixels.count == expected.count else { return 0 }
    return Double(zip(pixels, expected).count { abs(Int($0) - Int($1)) <= 2 }) / Double(expected.count)
  }

  @Test(
    "Two concepts, one of them in the negative prompt, at a size that is no square, from an image and into a mask, with and without a LoRA, are diffusers' images (99.5 % within 2)",
    arguments: [false, true])
  func images(hasLoRA: Bool) throws {
    let (scratch, golden) = (
      try Scratch(), try SafetensorsFile(Fixtures.url("sdxl_images/images.safetensors"))
    )
    let folder = scratch.file("model")
    try RandomModel("sdxl").writeFolder(folder)
    let model = try StableDiffusion(ModelFolder(folder.path))
    if hasLoRA {
      let lora = try LoRA(Fixtures.url("lora/sdxl_kohya.safetensors"))
      #expect(try model.add([WeightedLoRA(lora, weight: 0.7)]) == [])
    }
    let generator = try ConceptGenerator(
      model,
      concepts: try ["toy", "mug"].map { .init(name: $0, try Self.concept($0, model, golden)) })
    let pixels = DecodedImage(width: 96, height: 64, rgb: try golden.tensor("start").bytes())
    let mask = (0..<64).flatMap { y in (0..<96).map { x in (8..<40).contains(y) && (16..<72).contains(x) } }
    func image(_ start: StartingImage?) throws -> [UInt8] {
      var request = ConceptGenerator.Request(prompts: [Self.prompt])
      request.layout = .free
      (request.steps, request.guidance, request.seeds, request.scheduler) = (4, 5, [7], .euler)
      request.negativePrompt = "a {mug}, blurry"
      if start == nil { (request.settings.width, request.settings.height) = (96, 64) }
      request.start = start
      return try generator(request)[0].image.pixels
    }
    let suffix = hasLoRA ? ".lora" : ""
    for (name, start) in [
      ("text\(suffix)", nil), ("start\(suffix).image", StartingImage(pixels, strength: 0.6)),
      ("mask\(suffix).image", StartingImage(pixels, mask: mask, strength: 0.8)),
    ] as [(String, StartingImage?)] {
      let share = Self.near(try image(start), try golden.tensor(name).bytes())
      #expect(share >= 0.995, "\(name): \(share)")
      // Neither the other model's image nor that of another start passes.
      for other in ["text", "text.lora", "start.image", "mask.image"] where other != name {
        #expect(
          Self.near(try golden.tensor(name).bytes(), try golden.tensor(other).bytes()) < 0.9, "\(other)")
      }
    }
  }

  @Test(
    "An original size and a crop that are asked for give diffusers' images, from noise, from an image and into a mask (99.5 % within 2)"
  )
  func sizes() throws {
    let (scratch, golden) = (
      try Scratch(), try SafetensorsFile(Fixtures.url("sdxl_images/sizes.safetensors"))
    )
    let folder = scratch.file("model")
    try RandomModel("sdxl").writeFolder(folder)
    let model = try StableDiffusion(ModelFolder(folder.path))
    let start = try SafetensorsFile(Fixtures.url("sdxl_images/images.safetensors")).tensor("start").bytes()
    let pixels = DecodedImage(width: 96, height: 64, rgb: start)
    let mask = (0..<64).flatMap { y in (0..<96).map { x in (8..<40).contains(y) && (16..<72).contains(x) } }
    let (original, crop) = (PixelSize(width: 420, height: 300), PixelSize(width: 12, height: 40))
    for (name, originalSize, crop, start) in [
      ("original", original, nil, nil), ("crop", nil, crop, nil), ("text", original, crop, nil),
      ("start.image", original, crop, StartingImage(pixels, strength: 0.9)),
      ("mask.image", original, crop, StartingImage(pixels, mask: mask, strength: 0.9)),
    ] as [(String, PixelSize?, PixelSize?, StartingImage?)] {
      var settings = GenerationSettings()
      (settings.steps, settings.guidance, settings.seeds, settings.scheduler) = (4, 5, [7], .euler)
      (settings.originalSize, settings.crop, settings.start) = (originalSize, crop, start)
      if start == nil { (settings.width, settings.height) = (96, 64) }
      let image = try model.generate("a photo of a <toy> next to a <mug> on a beach!", settings)[0]
      let share = Self.near(image.rgb, try golden.tensor(name).bytes())
      #expect(share >= 0.995, "\(name): \(share)")
      for other in ["original", "crop", "text", "start.image", "mask.image"] where other != name {
        #expect(
          Self.near(try golden.tensor(name).bytes(), try golden.tensor(other).bytes()) < 0.9, "\(other)")
      }
    }
    for (name, originalSize, crop) in [
      ("original-size", PixelSize(width: 0, height: 9), nil),
      ("original-size", PixelSize(width: 9, height: 65537), nil),
      ("crop", nil, PixelSize(width: 0, height: -1)),
    ] as [(String, PixelSize?, PixelSize?)] {
      var settings = GenerationSettings()
      (settings.originalSize, settings.crop) = (originalSize, crop)
      let error = refusal { try TextToImagePipeline(model, settings) }
      #expect(error?.message.contains("`\(name)` is") == true, "\(error?.message ?? "nothing")")
    }
  }
}
