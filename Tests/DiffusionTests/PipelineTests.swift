import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite(.serialized) struct PipelineTests {
  private static let prompt = "a photo of a red robot on the moon"

  private static func settings(
    _ scheduler: SchedulerKind, _ steps: Int, _ guidance: Double, _ seeds: [UInt64] = [7]
  ) -> GenerationSettings {
    var s = GenerationSettings()
    (s.scheduler, s.steps, s.guidance, s.seeds) = (scheduler, steps, guidance, seeds)
    return s
  }

  private func miniSD() throws -> StableDiffusion { try StableDiffusion(ModelFolder(Fixtures.miniSD.path)) }

  /// Compares images [B, H, W, 3] of the golden file with ours.
  private func compare(_ name: String, _ images: [DecodedImage]) throws {
    let golden = try SafetensorsFile(Fixtures.url("pipeline/pictures.safetensors")).tensor(name)
    #expect(golden.shape == [images.count, images[0].height, images[0].width, 3])
    let a = images.flatMap(\.rgb)
    let b = try golden.bytes()
    try #require(a.count == b.count)
    let differences = zip(a, b).map { abs(Int($0) - Int($1)) }
    let within2 = Double(differences.count { $0 <= 2 }) / Double(a.count)
    let mean = Double(differences.reduce(0, +)) / Double(a.count)
    let summary = "\(name): largest \(differences.max() ?? 0), mean \(mean), within 2: \(within2)"
    if ProcessInfo.processInfo.environment["NETI_TEST_VERBOSE"] != nil { print(summary) }
    #expect(within2 >= 0.995, "\(summary)")
    #expect(mean < 0.5, "\(summary)")
  }

  @Test(
    "An image of the base model is diffusers' image: 99.5 % of values within 2, mean difference below 0.5",
    arguments: [
      ("dpm50_g7.5", settings(.dpm, 50, 7.5)), ("dpm20_g5", settings(.dpm, 20, 5)),
      ("ddim20", settings(.ddim, 20, 5)), ("pndm20", settings(.pndm, 20, 5)),
      ("euler20", settings(.euler, 20, 5)), ("ddpm20", settings(.ddpm, 20, 5)),
      ("no_guidance", settings(.dpm, 10, 1)),
    ])
  func golden(name: String, settings: GenerationSettings) throws {
    try compare(name, miniSD().generate(Self.prompt, settings))
  }

  @Test("A negative prompt and a batch of seeds give diffusers' images")
  func negativeBatch() throws {
    var settings = Self.settings(.dpm, 10, 5, [7, 123_456_789])
    settings.negativePrompt = "a blue cat in the snow"
    let images = try miniSD().generate(Self.prompt, settings)
    try compare("negative_batch", images)
  }

  @Test("Schedulers that add noise, alone and in a batch, give diffusers' images; so do Karras's levels")
  func noiseAndLevels() throws {
    let model = try miniSD()
    try compare("euler_a10", model.generate(Self.prompt, Self.settings(.eulerAncestral, 10, 5, [7, 8])))
    try compare("lcm4", model.generate(Self.prompt, Self.settings(.lcm, 4, 1)))
    model.schedulerConfiguration.sigmaSpread = .karras
    try compare("karras10", model.generate(Self.prompt, Self.settings(.euler, 10, 5)))
    model.schedulerConfiguration.algorithm = .sdePlusPlus
    try compare("sde10", model.generate(Self.prompt, Self.settings(.dpm, 10, 5, [7, 8])))
  }

  @Test("Clip skip 2 is diffusers' clip_skip 1; more than there are layers is refused")
  func clipSkip() throws {
    let folder = try ModelFolder(Fixtures.miniSD.path)
    let skipping = try StableDiffusion(folder, clipSkip: 2)
    try compare("clip_skip", skipping.generate(Self.prompt, Self.settings(.dpm, 10, 1)))
    let error = refusal { try StableDiffusion(folder, clipSkip: 200) }
    #expect(error?.message.contains("`clip-skip 200`") == true)
  }

  @Test("An image wider than high, with latents that do not halve evenly, is diffusers' image")
  func wide() throws {
    var settings = Self.settings(.dpm, 10, 5)
    (settings.width, settings.height) = (208, 144)
    let images = try miniSD().generate(Self.prompt, settings)
    try compare("wide", images)
  }

  @Test(
    "A batch holds the images that its seeds give alone, within 1", arguments: [SchedulerKind.dpm, .ddpm])
  func batchIsSingles(scheduler: SchedulerKind) throws {
    let model = try miniSD()
    let seeds: [UInt64] = [3, 4]
    let batch = try model.generate(Self.prompt, Self.settings(scheduler, 4, 5, seeds))
    for (seed, image) in zip(seeds, batch) {
      let alone = try model.generate(Self.prompt, Self.settings(scheduler, 4, 5, [seed]))
      #expect(zip(alone[0].rgb, image.rgb).allSatisfy { abs(Int($0) - Int($1)) <= 1 })
    }
    #expect(batch[0] != batch[1])
  }

  @Test("Contexts per layer and step reach the step they are meant for")
  func contextsPerStep() throws {
    let model = try miniSD()
    let settings = Self.settings(.dpm, 3, 5)
    let plain = try CrossAttentionContext(model.encode(Self.prompt))
    let other = try CrossAttentionContext(model.encode("a blue cat"))
    let layers = try model.unet.crossAttentionLayers.count
    let pipeline = try TextToImagePipeline(model, settings)
    func run(_ contexts: @escaping (Int) -> [CrossAttentionContext]) throws -> Tensor {
      let denoising = try pipeline.denoising(seeds: settings.seeds, Conditioning(contexts: contexts))
      for step in denoising { try step() }
      return try denoising.result()
    }
    let one = try run { _ in [plain] }
    let many = try run { _ in Array(repeating: plain, count: layers) }
    #expect(try relativeError(many, one) < 1e-5)
    let changed = try run { $0 == 2 ? [other] : [plain] }
    #expect(try relativeError(changed, one) > 1e-3)
    let split = try run { _ in [CrossAttentionContext(keys: plain.keys, values: other.values)] }
    #expect(try relativeError(split, one) > 1e-3)
  }

  @Test("Numbers that are not finite are laid to the weights, too, where the precision is fp32 already")
  func notFinite() throws {
    let scratch = try Scratch()
    let folder = try scratch.damagedMiniSD("unet", "conv_in.bias")
    for (dtype, advice) in [
      (
        DType.float32,
        "lower guidance; where that does not help, the model's weights are damaged: use another copy of the model"
      ), (.bfloat16, "lower guidance or precision fp32"),
    ] {
      let model = try StableDiffusion(ModelFolder(folder.path), dtype: dtype)
      let said = refusal { try model.generate(Self.prompt, Self.settings(.dpm, 1, 1)) }?.message
      #expect(said == "denoising gave numbers that are not finite; try a \(advice)")
    }
  }

  @Test("Numbers of the VAE that are not finite are no black image")
  func decoded() throws {
    let scratch = try Scratch()
    let folder = try scratch.damagedMiniSD("vae", "decoder.conv_in.bias")
    for (dtype, advice) in [
      (DType.float32, "its weights are damaged: use another copy of the model"),
      (.bfloat16, "try precision fp32, and where that does not help, another copy of the model"),
    ] {
      let model = try StableDiffusion(ModelFolder(folder.path), dtype: dtype)
      let said = refusal { try model.generate(Self.prompt, Self.settings(.dpm, 1, 1)) }?.message
      #expect(said == "the VAE gave numbers that are not finite; \(advice)")
    }
  }

  @Test("Every latent can be taken on the way, and the last ones make the image")
  func latents() throws {
    let model = try miniSD()
    let settings = Self.settings(.dpm, 4, 5)
    let pipeline = try TextToImagePipeline(model, settings)
    let denoising = try pipeline.denoising(seeds: settings.seeds, Conditioning(model.encode(Self.prompt)))
    #expect(throws: DiffusionError.self) { try denoising.result() }
    var latents: [Tensor] = []
    var timesteps: [Double] = []
    for step in denoising {
      #expect(step.index == latents.count)
      timesteps.append(step.timestep)
      try step()
      latents.append(try denoising.latents)
      // A step cannot be taken twice.
      #expect(throws: DiffusionError.self) { try step() }
    }
    #expect(timesteps == pipeline.timesteps && latents.count == 4)
    for (a, b) in zip(latents, latents.dropFirst()) { #expect(try relativeError(a, b) > 1e-3) }
    #expect(try relativeError(latents[3], denoising.result()) == 0)
    #expect(try pipeline.decode(denoising) == model.generate(Self.prompt, settings))
  }

  @Test("Progress counts the steps that are taken, PNDM's second first step too")
  func progress() throws {
    let model = try miniSD()
    var seen: [Int] = []
    _ = try model.generate("x", Self.settings(.pndm, 5, 1, [1, 2])) {
      #expect($0.stepsTotal == 12)
      seen.append($0.stepsDone)
    }
    #expect(seen == [0, 2, 4, 6, 8, 10])
  }

  @Test("A progress that throws stops the denoising at its step")
  func cancellation() throws {
    struct Stop: Error {}
    var seen: [Int] = []
    let model = try miniSD()
    #expect(throws: Stop.self) {
      try model.generate("x", Self.settings(.dpm, 5, 1)) {
        seen.append($0.stepsDone)
        if $0.stepsDone == 2 { throw Stop() }
      }
    }
    #expect(seen == [0, 1, 2])
  }

  @Test("Settings that make no sense are refused")
  func refused() throws {
    let model = try miniSD()
    var sizes = [Self.settings(.dpm, 2, 5), Self.settings(.dpm, 2, 5), Self.settings(.dpm, 2, 5)]
    sizes[0].width = 63
    sizes[1].height = 0
    sizes[2].height = 1 << 40
    for bad in sizes + [
      Self.settings(.dpm, 0, 5), Self.settings(.dpm, 2, 5, []), Self.settings(.dpm, 2, .nan),
      Self.settings(.dpm, -3, 5), Self.settings(.dpm, 1_000_000, 5),
    ] {
      #expect(throws: DiffusionError.self) { try model.generate("x", bad) }
    }
  }
}
