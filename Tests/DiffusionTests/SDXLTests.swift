import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

/// SDXL as a small random model with the names and configurations of the real one.
@Suite(.serialized) struct SDXLTests {
  /// Whether 99.5 % of an image's values are within 2 of the reference's.
  static func isNear(_ image: DecodedImage, _ golden: Tensor) throws -> Bool {
    let expected = try golden.bytes()
    guard image.rgb.count == expected.count else { return false }
    let near = zip(image.rgb, expected).count { abs(Int($0) - Int($1)) <= 2 }
    return Double(near) >= 0.995 * Double(expected.count)
  }

  /// What the reference's pipeline does when nothing else is said, in four steps.
  static func settings(negative: String? = nil) -> GenerationSettings {
    var settings = GenerationSettings()
    (settings.steps, settings.guidance, settings.seeds, settings.scheduler) = (4, 5, [7], .euler)
    (settings.width, settings.height, settings.negativePrompt) = (64, 96, negative)
    return settings
  }

  static func sizes(_ random: RandomModel) -> [SizeConditioning] {
    random.sizes.map {
      SizeConditioning(original: ($0[0], $0[1]), crop: ($0[2], $0[3]), target: ($0[4], $0[5]))
    }
  }

  /// Ids, states, pooled texts, outputs and images against the reference's.
  static func compare(_ model: StableDiffusion, _ random: RandomModel) throws {
    let golden = try random.golden
    for (tokenizer, name) in zip(model.tokenizers, ["ids", "ids_2"]) {
      let ids = random.prompts.flatMap { tokenizer($0).ids }
      #expect(try golden.tensor(name).reshaped([-1]).doubles().map { Int($0) } == ids, "\(name)")
    }
    let draws = try RandomSource(seed: 50)
    let latents = try draws.normal([2, 2, 4, 8, 8]).selected(0, 0)
    let images = try draws.normal([1, 3, 32, 32])
    try withoutGradients {
      let states = try Tensor.concatenated(random.prompts.map { try model.encode($0) }, 0)
      #expect(states.shape == [2, 77, 192])
      #expect(try relativeError(states.sliced(1, 0..<12), golden.tensor("states")) < 1e-4)
      let pooled = try Tensor.concatenated(
        random.prompts.compactMap { try model.textEncoders.pooled(model.tokenizers[1]($0).ids) }, 0)
      #expect(try relativeError(pooled, golden.tensor("pooled")) < 1e-4)
      let noise = try model.unet(
        latents, timesteps: Tensor([41, 760] as [Float]), context: [CrossAttentionContext(states)],
        added: AddedConditioning(pooled: pooled, sizes: sizes(random)))
      #expect(try relativeError(noise, golden.tensor("noise")) < 1e-4)
      #expect(try relativeError(model.vae.encode(images).mean, golden.tensor("mean")) < 1e-4)
      let decoded = try golden.tensor("decoded").to(.float32)
      #expect(try relativeError(model.vae.decode(latents.sliced(0, 0..<1)), decoded) < 1e-3)
    }
    for (name, negative) in [
      ("image", nil), ("image_negative", random.negativePrompt), ("image_empty", ""),
    ] as [(String, String?)] {
      let image = try model.generate(random.prompts[0], settings(negative: negative))[0]
      #expect((image.width, image.height) == (64, 96))
      #expect(try isNear(image, golden.tensor(name)), "\(name)")
    }
  }

  /// The random model in a folder, perhaps changed, for as long as `body` runs.
  private func withModel(
    _ change: (URL) throws -> Void = { _ in }, _ body: (StableDiffusion, RandomModel, URL) throws -> Void
  ) throws {
    let (scratch, random) = (try Scratch(), try RandomModel("sdxl"))
    let folder = scratch.file("model")
    try random.writeFolder(folder)
    try change(folder)
    try withExtendedLifetime(scratch) { try body(StableDiffusion(ModelFolder(folder.path)), random, folder) }
  }

  /// Changes keys of one of the model's JSON files; nil takes a key away.
  private func edit(_ folder: URL, _ file: String, _ values: [String: Any?]) throws {
    let url = folder.appending(path: file)
    var json = try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any] ?? [:]
    for (key, value) in values { json[key] = value }
    try JSONSerialization.data(withJSONObject: json).write(to: url)
  }

  @Test(
    "Ids, states, pooled texts, outputs (1e-4), the VAE's images (fp16) and images (99.5 % within 2) are diffusers'"
  )
  func folder() throws {
    try withModel { model, random, _ in
      #expect(model.resolution == 1024 && model.hiddenSize == 192 && model.folder.hasTwoTextEncoders)
      #expect(model.tokenizers.map(\.padToken) == [49407, 0])
      let layers = try model.baseIdentity.layers
      #expect(
        layers.count == 11 && layers[0] == "down_blocks.1.attentions.0"
          && layers[4] == "mid_block.attentions.0")
      try Self.compare(model, random)
    }
  }

  @Test("Without force_zeros_for_empty_prompt the empty negative prompt is encoded, as diffusers does it")
  func encodedNegative() throws {
    try withModel({ try edit($0, "model_index.json", ["force_zeros_for_empty_prompt": false]) }) {
      model, random, _ in
      let image = try model.generate(random.prompts[0], Self.settings())[0]
      #expect(try Self.isNear(image, random.golden.tensor("image_encoded")))
    }
  }

  @Test("Images from an image, and into a mask, are those of diffusers' pipelines")
  func startingImage() throws {
    try withModel { model, random, _ in
      let pixels = DecodedImage(width: 64, height: 64, rgb: try random.golden.tensor("start").bytes())
      var settings = Self.settings()
      (settings.width, settings.height) = (nil, nil)
      settings.start = StartingImage(pixels, strength: 0.6)
      #expect(
        try Self.isNear(model.generate(random.prompts[0], settings)[0], random.golden.tensor("image_start")))
      let mask = (0..<64).flatMap { y in (0..<64).map { x in (16..<48).contains(y) && (8..<40).contains(x) } }
      settings.start = StartingImage(pixels, mask: mask, strength: 0.8)
      #expect(
        try Self.isNear(model.generate(random.prompts[0], settings)[0], random.golden.tensor("image_mask")))
    }
  }

  @Test("A photo is generated anew at the size near a megapixel that is nearest to its proportions")
  func buckets() throws {
    try withModel { model, _, _ in
      for (size, expected) in [
        ((4000, 3000), (1152, 896)), ((3000, 4000), (896, 1152)), ((500, 500), (1024, 1024)),
        ((90, 900), (512, 2048)),
        ((1920, 1080), (1344, 768)), ((1216, 832), (1216, 832)),
      ] {
        #expect(model.startingSize(width: size.0, height: size.1) == expected)
      }
    }
  }

  @Test(
    "In bf16 states, pooled texts, the U-Net's output and the VAE's are near the reference's in fp32 (5e-2), and images (90 % within 16)"
  )
  func bfloat16() throws {
    try withModel { _, random, folder in
      let golden = try random.golden
      let half = try StableDiffusion(ModelFolder(folder.path), dtype: .bfloat16)
      let draws = try RandomSource(seed: 50)
      let latents = try draws.normal([2, 2, 4, 8, 8]).selected(0, 0)
      let images = try draws.normal([1, 3, 32, 32])
      func near(_ found: Tensor, _ name: String) throws {
        #expect(found.dtype == .bfloat16, "\(name)")
        let error = try relativeError(found.to(.float32), golden.tensor(name).to(.float32))
        // Above the first, as nothing that was computed in bf16 is nearer.
        #expect((1e-4..<5e-2).contains(error), "\(name): \(error)")
      }
      try withoutGradients {
        let states = try Tensor.concatenated(random.prompts.map { try half.encode($0) }, 0)
        try near(states.sliced(1, 0..<12), "states")
        let pooled = try Tensor.concatenated(
          random.prompts.compactMap { try half.textEncoders.pooled(half.tokenizers[1]($0).ids) }, 0)
        try near(pooled, "pooled")
        let noise = try half.unet(
          latents, timesteps: Tensor([41, 760] as [Float]), context: [CrossAttentionContext(states)],
          added: AddedConditioning(pooled: pooled, sizes: Self.sizes(random)))
        try near(noise, "noise")
        try near(half.vae.encode(images).mean, "mean")
        try near(half.vae.decode(latents.sliced(0, 0..<1)), "decoded")
      }
      let image = try half.generate(random.prompts[0], Self.settings())[0].rgb
      let expected = try golden.tensor("image").bytes()
      #expect(image.count == expected.count)
      let close = zip(image, expected).count { abs(Int($0) - Int($1)) <= 16 }
      #expect(Double(close) >= 0.9 * Double(expected.count), "\(close) of \(expected.count)")
    }
  }

  @Test("clip-skip counts from the layer that the model was trained with")
  func clipSkip() throws {
    try withModel { plain, random, folder in
      let skipped = try StableDiffusion(ModelFolder(folder.path), clipSkip: 2)
      // The first encoder has three layers, and gives the first's states then.
      let ids = plain.tokenizer(random.prompts[0]).ids
      let encoder = try skipped.textEncoders.members[0]
      #expect(encoder.configuration.stateLayers == 1)
      #expect(try relativeError(skipped.encode(random.prompts[0]), plain.encode(random.prompts[0])) > 1e-3)
      #expect(
        try relativeError(skipped.textEncoders.pooled(ids)!, plain.textEncoders.pooled(ids)!) == 0)
      let error = refusal { try StableDiffusion(ModelFolder(folder.path), clipSkip: 3) }
      #expect(
        error?.message.contains("`clip-skip 3`: the text encoder has 3 layers; choose a number in 1…2")
          == true)
    }
  }

  @Test("Parts that do not belong together are refused by name")
  func inconsistent() throws {
    let cases: [(String, [String: Any?], String)] = [
      ("unet/config.json", ["addition_embed_type": nil as Any?], "there are two text encoders"),
      ("unet/config.json", ["addition_embed_type": "text"], "supported: text_time"),
      (
        "unet/config.json", ["projection_class_embeddings_input_dim": 1000],
        "leaves nothing for the pooled text"
      ),
      ("unet/config.json", ["projection_class_embeddings_input_dim": 1700], "projection_dim is 96"),
      ("unet/config.json", ["cross_attention_dim": 128], "the text encoders' hidden_size together is 192"),
      ("text_encoder_2/config.json", ["vocab_size": 40_000], "the second tokenizer knows 49408 tokens"),
      ("model_index.json", ["force_zeros_for_empty_prompt": 3], "force_zeros_for_empty_prompt"),
      (
        "tokenizer_2/tokenizer_config.json", ["model_max_length": 50],
        "tokenizer/ and tokenizer_2/ have another length or another end token; do they belong together?"
      ),
    ]
    for (file, values, what) in cases {
      let error = refusal { try withModel({ try edit($0, file, values) }) { _, _, _ in } }
      #expect(error?.message.contains(what) == true, "\(error?.message ?? "nothing") for \(what)")
      #expect(error?.message.contains("\n") == false)
    }
    for (lost, what) in [
      ("text_encoder", "SDXL's refiner"), ("tokenizer_2", "there is no tokenizer_2/"),
      ("text_encoder_2", "there is no text_encoder_2/"),
    ] {
      let error = refusal {
        try withModel({ try FileManager.default.removeItem(at: $0.appending(path: lost)) }) { _, _, _ in }
      }
      #expect(error?.message.contains(what) == true, "\(error?.message ?? "nothing")")
    }
  }

  @Test("A U-Net is given a pooled text and sizes where it takes them, and only there")
  func added() throws {
    try withModel { model, _, _ in
      let size = SizeConditioning(height: 64, width: 64)
      let unet = try model.unet
      try Self.run(unet, channels: 4, context: 192, .init(pooled: .zeros([1, 96]), sizes: [size]))
      for (pooled, sizes, what) in [
        (95, [size], "[1, 95] and 1 sizes, expected [1, 96]"), (96, [size, size], "2 sizes"),
        (96, [], "0 sizes"),
      ] {
        let error = refusal {
          try Self.run(unet, channels: 4, context: 192, .init(pooled: .zeros([1, pooled]), sizes: sizes))
        }
        #expect(error?.message.contains(what) == true)
      }
      let none = refusal { try Self.run(unet, channels: 4, context: 192, nil) }
      #expect(none?.message.contains("takes a pooled text and sizes") == true)
      let plain = try StableDiffusion(ModelFolder(Fixtures.miniSD.path)).unet
      let other = refusal {
        try Self.run(plain, channels: 8, context: 128, .init(pooled: .zeros([1, 96]), sizes: [size]))
      }
      #expect(other?.message.contains("takes no pooled text") == true)
    }
  }

  private static func run(_ unet: UNet, channels: Int, context: Int, _ added: AddedConditioning?) throws {
    _ = try unet(
      .zeros([1, channels, 8, 8]), timesteps: Tensor([1 as Float]),
      context: [CrossAttentionContext(.zeros([1, 4, context]))], added: added)
  }
}
