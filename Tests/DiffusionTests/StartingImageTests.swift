import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite("Starting from an image", .serialized)
struct StartingImageTests {
  private static let golden = Fixtures.url("starting_image/latents.safetensors")
  private static let prompt = "a photo of a red robot on the moon"

  private func model(channels: Int, in scratch: Scratch) throws -> StableDiffusion {
    try StableDiffusion(ModelFolder(scratch.tinyModel("model\(channels)", channels: channels).path))
  }

  private func start(masked: Bool, strength: Double) throws -> StartingImage {
    let file = try SafetensorsFile(Self.golden)
    let photo = try file.tensor("photo")
    return StartingImage(
      DecodedImage(width: photo.size(1), height: photo.size(0), rgb: try photo.bytes()),
      mask: masked ? try file.tensor("mask").bytes().map { $0 >= 128 } : nil, strength: strength)
  }

  private func settings(_ start: StartingImage, _ scheduler: SchedulerKind, steps: Int = 7)
    -> GenerationSettings
  {
    var s = GenerationSettings()
    (s.start, s.scheduler, s.steps, s.guidance, s.seeds) = (start, scheduler, steps, 3, [7])
    s.negativePrompt = "a blue cat in the snow"
    return s
  }

  private func latents(_ model: StableDiffusion, _ settings: GenerationSettings) throws -> Tensor {
    let pipeline = try TextToImagePipeline(model, settings)
    let denoising = try pipeline.denoising(seeds: settings.seeds, Conditioning(model.encode(Self.prompt)))
    for step in denoising { try step() }
    return try denoising.result()
  }

  @Test(
    "gives the latents of diffusers' pipelines within 1e-4, by every scheduler",
    arguments: ["image", "mask4", "mask9"])
  func golden(_ kind: String) throws {
    let scratch = try Scratch()
    let model = try model(channels: kind == "mask9" ? 9 : 4, in: scratch)
    #expect(model.isInpainting == (kind == "mask9"))
    let file = try SafetensorsFile(Self.golden)
    let cases = file.entries.keys.filter { $0.hasPrefix(kind) }.sorted()
    for scheduler in SchedulerKind.allCases {
      #expect(cases.contains { $0.contains(" \(scheduler.rawValue) ") })
    }
    for name in cases {
      let parts = name.split(separator: " ")
      let scheduler = try #require(SchedulerKind(rawValue: String(parts[1])))
      let strength = try #require(Double(parts[2]))
      var settings = try settings(start(masked: kind != "image", strength: strength), scheduler)
      if parts[3] == "2" { settings.seeds = [7, 123_456_789] }
      let error = try relativeError(latents(model, settings), file.tensor(name))
      if ProcessInfo.processInfo.environment["NETI_TEST_VERBOSE"] != nil { print(name, error) }
      #expect(error < 1e-4, "\(name): \(error)")
    }
  }

  @Test(
    "takes the steps that the strength says, pndm one more; none at 0 leaves the image as the VAE samples it")
  func strength() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    for (strength, steps) in [(0.0, 0), (0.1, 1), (0.58, 5), (0.999, 9), (1, 10)] {
      for scheduler in SchedulerKind.allCases {
        let settings = try settings(start(masked: false, strength: strength), scheduler, steps: 10)
        let pipeline = try TextToImagePipeline(model, settings)
        #expect(pipeline.timesteps.count == steps + (scheduler == .pndm && steps > 0 ? 1 : 0))
      }
    }
    let photo = try start(masked: false, strength: 0).pixels
    let bytes = try Tensor(photo.rgb, [1, photo.height, photo.width, 3]).to(.float32)
    let moments = try model.vae.encode(bytes.permuted([0, 3, 1, 2]) / 127.5 - 1)
    let noise = try RandomSource(seed: 7).normal(moments.mean.shape)
    let expected = try (moments.mean + (moments.logVariance * 0.5).exp() * noise) * model.scalingFactor
    for scheduler in SchedulerKind.allCases {
      let still = try settings(start(masked: false, strength: 0), scheduler)
      #expect(try relativeError(latents(model, still), expected) < 1e-5)
    }
  }

  @Test("with an empty mask leaves the image, and with a full one at strength 1 takes nothing from it")
  func masks() throws {
    let scratch = try Scratch()
    let model = try model(channels: 4, in: scratch)
    var start = try start(masked: true, strength: 1)
    func run(_ mask: Bool, _ strength: Double) throws -> Tensor {
      start.mask = start.mask?.map { _ in mask }
      start.strength = strength
      return try latents(model, settings(start, .ddim))
    }
    let (kept, still) = (try run(false, 1), try run(false, 0))
    #expect(try relativeError(kept, still) < 1e-6)
    let full = try run(true, 1)
    start.pixels = DecodedImage(
      width: start.pixels.width, height: start.pixels.height, rgb: start.pixels.rgb.map { 255 - $0 })
    #expect(try relativeError(run(true, 1), full) < 1e-6)
    #expect(try relativeError(run(true, 0.6), full) > 1e-2)
  }

  @Test("has a size that the model can do, in the image's proportions")
  func sizes() throws {
    let scratch = try Scratch()
    let model = try model(channels: 4, in: scratch)
    for (width, height, size) in [
      (64, 64, (64, 64)), (96, 96, (96, 96)), (97, 96, (64, 64)), (80, 60, (80, 60)), (81, 59, (80, 60)),
      (32, 32, (64, 64)), (6000, 5000, (72, 60)), (9, 3000, (4, 256)), (3000, 9, (256, 4)), (1, 1, (64, 64)),
      (65_535, 1, (256, 4)),
    ] {
      #expect(model.startingSize(width: width, height: height) == size, "\(width)×\(height)")
    }
  }

  @Test("in regions is each region's own: a mask that stops at one leaves the other")
  func regions() throws {
    let scratch = try Scratch()
    for channels in [4, 9] {
      let model = try model(channels: channels, in: scratch)
      let start = try start(masked: true, strength: 0.6)
      let contexts = [try CrossAttentionContext(model.encode(Self.prompt))]
      let pipeline = try TextToImagePipeline(model, settings(start, .euler))
      func run(_ regions: [Region]) throws -> Tensor {
        let denoising = try pipeline.denoising(seeds: [7], Conditioning { _ in regions })
        for step in denoising { try step() }
        return try denoising.result()
      }
      let half = Region(contexts, place: .init(columns: 0..<8, shares: Array(repeating: 0.5, count: 8)))
      #expect(try relativeError(run([half, half]), run([Region(contexts)])) < 1e-4)
    }
  }

  @Test("is refused where it makes no sense")
  func refused() throws {
    let scratch = try Scratch()
    let (plain, inpainting) = (try model(channels: 4, in: scratch), try model(channels: 9, in: scratch))
    let good = try start(masked: true, strength: 0.5)
    func message(_ model: StableDiffusion, _ change: (inout GenerationSettings) -> Void) throws -> String {
      var s = settings(good, .dpm)
      change(&s)
      return refusal { try TextToImagePipeline(model, s) }?.message ?? ""
    }
    for strength in [-0.1, 1.1, .nan, .infinity] {
      #expect(try message(plain) { $0.start?.strength = strength }.contains("`strength`"))
    }
    #expect(try message(plain) { $0.start?.mask = [true] }.contains("its mask 1"))
    #expect(
      try message(plain) { $0.start?.pixels = .init(width: 8, height: 8, rgb: []) }.contains("0 values"))
    #expect(try message(plain) { $0.width = 64 }.contains("`width`"))
    #expect(
      try message(plain) {
        $0.start = StartingImage(.init(width: 6, height: 4, rgb: Array(repeating: 0, count: 72)), strength: 1)
      }.contains("multiple of 4"))
    for change: (inout GenerationSettings) -> Void in [{ $0.start = nil }, { $0.start?.mask = nil }] {
      #expect(try message(inpainting, change).contains("inpainting model"))
    }
    // Runge-Kutta steps cannot be left out, but for all at once.
    plain.schedulerConfiguration.skipPRKSteps = false
    #expect(try message(plain) { $0.scheduler = .pndm }.contains("cannot start in the middle"))
    for strength in [0.0, 1] {
      #expect(
        try message(plain) { s in
          s.scheduler = .pndm
          s.start?.strength = strength
        } == "")
    }
  }
}
