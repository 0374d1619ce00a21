import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

/// Renames and converts one tensor of a file; nil leaves it out.
private typealias Rewrite = (_ name: String, _ tensor: Tensor) throws -> (String, Tensor)?

/// How mini-sd's files are named and what its tensors are called, in the ways that real models have.
enum Scheme: String, CaseIterable {
  case linked, fp16Variant, mixedVariants, float32, bfloat16, currentNames, wholeCLIP, compiled, distributed,
    sharded
  case pickled, pickledShards
}

@Suite(.serialized) struct StableDiffusionTests {
  private static let files: [ModelFolder.Component: String] = [
    .textEncoder: "model", .unet: "diffusion_pytorch_model", .vae: "diffusion_pytorch_model",
  ]

  /// What the three networks make of fixed inputs.
  private func outputs(_ model: StableDiffusion) throws -> [Tensor] {
    let text = try model.encode("a photo of a red robot")
    let random = try RandomSource(seed: 3)
    let latents = try random.normal([1, model.unet.configuration.inChannels, 8, 8])
    let noise = try withoutGradients {
      try model.unet(latents, timesteps: Tensor([500 as Float]), context: [CrossAttentionContext(text)])
    }
    let image = try withoutGradients { try model.vae.decode(latents) }
    let moments = try withoutGradients { try model.vae.encode(image) }
    return [text, noise, image, moments.mean]
  }

  /// Replaces a component's weight file in a folder of links by a rewritten one.
  private func rewrite(
    _ folder: URL, _ component: ModelFolder.Component, suffix: String = "", _ change: Rewrite
  ) throws {
    let base = try #require(Self.files[component])
    let directory = folder.appending(path: component.rawValue)
    let old = directory.appending(path: base + ".safetensors")
    let file = try SafetensorsFile(old)
    let tensors = try file.entries.keys.sorted().compactMap { try change($0, file.tensor($0)) }
    try FileManager.default.removeItem(at: old)
    try Safetensors.write(tensors, to: directory.appending(path: "\(base)\(suffix).safetensors"))
  }

  private func rewriteAll(_ folder: URL, suffix: String = "", _ change: Rewrite) throws {
    for component in Self.files.keys { try rewrite(folder, component, suffix: suffix, change) }
  }

  private func apply(_ scheme: Scheme, _ folder: URL) throws {
    switch scheme {
    case .linked: break
    case .fp16Variant: try rewriteAll(folder, suffix: ".fp16") { ($0, $1) }
    case .float32: try rewriteAll(folder) { try ($0, $1.to(.float32)) }
    case .bfloat16: try rewriteAll(folder) { try ($0, $1.to(.bfloat16)) }
    case .currentNames:
      try rewrite(folder, .textEncoder) { (CLIPTextEncoder.currentName($0) ?? $0, $1) }
      try rewrite(folder, .vae) { (VAE.currentName($0) ?? $0, $1) }
    case .mixedVariants:
      // Other weights under the names that are not to be taken.
      try rewrite(folder, .unet, suffix: ".fp16") { ($0, $1) }
      for suffix in [".non_ema", ".fp16.non_ema", ""] {
        let name = "diffusion_pytorch_model\(suffix).safetensors"
        try Data("not this one".utf8).write(
          to: folder.appending(path: suffix.isEmpty ? "unet/ema_\(name)" : "unet/\(name)"))
      }
      for suffix in [".fp16", ".non_ema"] {
        try Data("not this one".utf8).write(
          to: folder.appending(path: "text_encoder/model\(suffix).safetensors"))
      }
    case .wholeCLIP:
      try add(
        [
          ("text_model.embeddings.position_ids", Tensor(Array(0..<32), [1, 32])),
          ("text_projection.weight", .ones([128, 128])), ("visual_projection.weight", .ones([128, 64])),
          ("logit_scale", .ones([])), ("vision_model.embeddings.class_embedding", .ones([64])),
        ], to: .textEncoder, folder)
    case .compiled: try rewriteAll(folder) { ("_orig_mod." + $0, $1) }
    case .distributed: try rewriteAll(folder) { ("module._orig_mod." + $0, $1) }
    case .sharded: try shard(folder)
    case .pickled: try pickle(folder, shards: 1)
    case .pickledShards: try pickle(folder, shards: 2)
    }
  }

  /// Puts tensors into a component's file of a folder of links.
  private func add(
    _ tensors: [(String, Tensor)], to component: ModelFolder.Component, _ folder: URL
  ) throws {
    try rewrite(folder, component) { ($0, $1) }
    let url = folder.appending(path: "\(component.rawValue)/\(Self.files[component] ?? "").safetensors")
    let file = try SafetensorsFile(url)
    try Safetensors.write(file.entries.keys.map { ($0, try file.tensor($0)) } + tensors, to: url)
  }

  /// Replaces text in a JSON file of a folder of links.
  private func edit(_ path: String, _ old: String, _ new: String, _ folder: URL) throws {
    let url = folder.appending(path: path)
    let text = try String(contentsOf: url, encoding: .utf8)
    let changed = text.replacingOccurrences(of: old, with: new)
    try #require(changed != text)
    try FileManager.default.removeItem(at: url)
    try Data(changed.utf8).write(to: url)
  }

  /// The U-Net in two files and an index.
  private func shard(_ folder: URL) throws {
    let directory = folder.appending(path: "unet")
    let file = try SafetensorsFile(directory.appending(path: "diffusion_pytorch_model.safetensors"))
    let names = file.entries.keys.sorted()
    var map: [String: String] = [:]
    for (i, part) in [names.prefix(100), names.dropFirst(100)].enumerated() {
      let name = "diffusion_pytorch_model-0000\(i + 1)-of-00002.safetensors"
      for tensor in part { map[tensor] = name }
      try Safetensors.write(part.map { ($0, try file.tensor($0)) }, to: directory.appending(path: name))
    }
    try FileManager.default.removeItem(at: directory.appending(path: "diffusion_pytorch_model.safetensors"))
    try JSONEncoder().encode(["weight_map": map])
      .write(to: directory.appending(path: "diffusion_pytorch_model.safetensors.index.json"))
  }

  /// Every component as `torch.save` wrote it, in one file or in several with an index.
  private func pickle(_ folder: URL, shards: Int) throws {
    for (component, name) in Self.files {
      let directory = folder.appending(path: component.rawValue)
      let old = directory.appending(path: "\(name).safetensors")
      let base = name == "model" ? "pytorch_model" : name
      let file = try SafetensorsFile(old)
      var (parts, map) = (Array(repeating: [] as [String], count: shards), [:] as [String: String])
      for (i, tensor) in file.entries.keys.sorted().enumerated() { parts[i % shards].append(tensor) }
      for (i, names) in parts.enumerated() {
        var storages = TorchStorages()
        let entries = try names.map { PickleEntry($0, try storages.add(file.tensor($0))) }
        let part = shards == 1 ? "\(base).bin" : "\(base)-0000\(i + 1)-of-0000\(shards).bin"
        for name in names { map[name] = part }
        try storages.archive("archive", .dictionary(entries, ordered: true)).write(
          to: directory.appending(path: part))
      }
      try FileManager.default.removeItem(at: old)
      guard shards > 1 else { continue }
      try JSONEncoder().encode(["weight_map": map]).write(
        to: directory.appending(path: "\(base).bin.index.json"))
    }
  }

  @Test(
    "Every naming scheme of real files loads and computes the same (1e-5; bf16 weights 5e-2)",
    arguments: Scheme.allCases)
  func schemes(scheme: Scheme) throws {
    let scratch = try Scratch()
    let folder = try scratch.linkMiniSD("model")
    try apply(scheme, folder)
    let found = try outputs(StableDiffusion(ModelFolder(folder.path)))
    let expected = try outputs(StableDiffusion(ModelFolder(Fixtures.miniSD.path)))
    for (a, b) in zip(found, expected) {
      #expect(try relativeError(a, b) < (scheme == .bfloat16 ? 5e-2 : 1e-5))
    }
  }

  @Test("Computing in bf16 is near computing in fp32 (1e-1)")
  func bfloat16() throws {
    let model = try ModelFolder(Fixtures.miniSD.path)
    let found = try outputs(StableDiffusion(model, dtype: .bfloat16))
    let expected = try outputs(StableDiffusion(model))
    for (a, b) in zip(found, expected) {
      #expect(a.dtype == .bfloat16)
      #expect(try relativeError(a, b) < 1e-1)
    }
  }

  @Test("What is neither fp32 nor bf16 is refused")
  func otherPrecisions() throws {
    for dtype in [DType.float16, .float64, .int64] {
      let said = refusal { try StableDiffusion(ModelFolder(Fixtures.miniSD.path), dtype: dtype) }?.message
      #expect(said == "a model cannot compute in \(dtype); choose float32 or bfloat16")
    }
  }

  @Test("What the model says of itself")
  func properties() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    #expect(model.vaeFactor == 8)
    #expect(model.resolution == 128)
    #expect(model.hiddenSize == 128)
    #expect(model.predictionType == .epsilon)
    #expect(abs(model.scalingFactor - 0.365) < 1e-3)
  }

  @Test("The identity is the same in every dtype, and changes with the token table alone")
  func identity() throws {
    let plain = try StableDiffusion(ModelFolder(Fixtures.miniSD.path)).baseIdentity
    #expect(plain.name == "mini-sd")
    #expect(plain.layers.count == 16)
    #expect(plain.layers.first == "down_blocks.0.attentions.0.transformer_blocks.0")
    #expect(plain.tokenTableHash.count == 64)
    let scratch = try Scratch()
    let folder = try scratch.linkMiniSD("mini-sd")
    try rewrite(folder, .textEncoder) { try ($0, $1.to(.float32)) }
    #expect(try StableDiffusion(ModelFolder(folder.path), dtype: .bfloat16).baseIdentity == plain)
    try rewrite(folder, .textEncoder) { try ($0, $0.hasSuffix("token_embedding.weight") ? $1 * 1.01 : $1) }
    let changed = try StableDiffusion(ModelFolder(folder.path)).baseIdentity
    #expect(changed.tokenTableHash != plain.tokenTableHash)
  }

  @Test(
    "A token table longer than the vocabulary: the same encodings and identity, placeholders still new ids")
  func longerTable() throws {
    let scratch = try Scratch()
    let folder = try scratch.linkMiniSD("mini-sd")
    try edit("text_encoder/config.json", "\"vocab_size\": 927", "\"vocab_size\": 932", folder)
    #expect(message(folder) { _ = try $0.textEncoders }.contains("has shape [927, 128], expected [932, 128]"))
    try rewrite(folder, .textEncoder) { name, tensor in
      guard name.hasSuffix("token_embedding.weight") else { return (name, tensor) }
      return (name, try .concatenated([tensor, tensor.sliced(0, 0..<5)], 0))
    }
    let longer = try StableDiffusion(ModelFolder(folder.path))
    let plain = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    #expect(try longer.baseIdentity == plain.baseIdentity)
    #expect(try relativeError(longer.encode("a red robot"), plain.encode("a red robot")) == 0)
    #expect(longer.tokenizer.vocabularySize == 927)
  }

  @Test("Fewer layers than the file has: the rest is left out, and what no layer has is still refused")
  func clipSkip() throws {
    let scratch = try Scratch()
    let folder = try scratch.linkMiniSD("model")
    try edit("text_encoder/config.json", "\"num_hidden_layers\": 4", "\"num_hidden_layers\": 3", folder)
    let skipping = try StableDiffusion(ModelFolder(folder.path))
    let found = try skipping.encode("a red robot")
    try rewrite(folder, .textEncoder) { $0.contains("layers.3.") ? nil : ($0, $1) }
    let three = try StableDiffusion(ModelFolder(folder.path))
    #expect(try relativeError(found, three.encode("a red robot")) == 0)
    for name in ["encoder.layers.3.lora.up", "text_projection.bias", "vision_models.x"] {
      let scratch = try Scratch()
      let folder = try scratch.linkMiniSD("model")
      try add([(name, .ones([1]))], to: .textEncoder, folder)
      #expect(message(folder) { _ = try $0.textEncoders }.contains("no use for “\(name)”"))
    }
  }

  @Test("A released network is freed, and loaded anew when asked for")
  func release() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    weak var unet: UNet?
    unet = try model.unet
    #expect(try model.unet === unet)
    model.release(.unet)
    #expect(unet == nil)
    #expect(try model.unet.crossAttentionLayers.count == 16)
  }

  // MARK: What bad models get

  private func message(_ folder: URL, _ body: (StableDiffusion) throws -> Void = { _ in }) -> String {
    let error = refusal { try body(StableDiffusion(ModelFolder(folder.path))) }
    #expect(error?.message.contains("\n") == false)
    return error?.message ?? ""
  }

  @Test("A missing, truncated, misshapen or foreign weight file is an error that names it")
  func badWeights() throws {
    let scratch = try Scratch()
    let folder = try scratch.linkMiniSD("model")
    let unet = folder.appending(path: "unet/diffusion_pytorch_model.safetensors")
    try rewrite(folder, .unet) { ($0, $0 == "conv_in.bias" ? try $1.sliced(0, 0..<63) : $1) }
    let misshapen = message(folder) { _ = try $0.unet }
    #expect(misshapen.contains("unet/diffusion_pytorch_model.safetensors"))
    #expect(misshapen.contains("“conv_in.bias” has shape [63], expected [64]"))

    try rewrite(folder, .unet) { $0 == "conv_in.bias" ? ("conv_inn.bias", $1) : ($0, $1) }
    #expect(message(folder) { _ = try $0.unet }.contains("“conv_in.bias”"))

    try add([("lora.up", .zeros([1]))], to: .vae, folder)
    #expect(message(folder) { _ = try $0.vae }.contains("“lora.up”"))

    let bytes = try Data(contentsOf: unet)
    try bytes.prefix(bytes.count / 2).write(to: unet)
    #expect(message(folder) { _ = try $0.unet }.contains("unet/diffusion_pytorch_model.safetensors"))
    try FileManager.default.removeItem(at: unet)
    #expect(message(folder) { _ = try $0.unet }.contains("diffusion_pytorch_model.safetensors"))
  }

  @Test(
    "Configurations that are wrong, or do not fit together, are refused with file and key",
    arguments: [
      (
        "unet/config.json", "\"cross_attention_dim\": 128", "\"cross_attention_dim\": 64",
        "cross_attention_dim"
      ),
      ("unet/config.json", "\"in_channels\": 8", "\"in_channels\": 9", "in_channels"),
      ("unet/config.json", "\"in_channels\": 8", "\"in_channels\": 16", "instruct-pix2pix"),
      ("unet/config.json", "\"in_channels\": 8", "\"in_channels\": \"4\"", "in_channels"),
      ("unet/config.json", "\"DownBlock2D\"", "\"NoBlock2D\"", "NoBlock2D"),
      ("vae/config.json", "\"out_channels\": 3", "\"out_channels\": 4", "out_channels"),
      ("vae/config.json", "{", "[", "vae/config.json"),
      ("text_encoder/config.json", "\"vocab_size\": 927", "\"vocab_size\": 926", "knows 927 tokens"),
      ("text_encoder/config.json", "\"hidden_act\": \"quick_gelu\"", "\"hidden_act\": 1", "hidden_act"),
      ("scheduler/scheduler_config.json", "0.012", "\"much\"", "beta_end"),
    ])
  func badConfigurations(path: String, old: String, new: String, part: String) throws {
    let scratch = try Scratch()
    let folder = try scratch.linkMiniSD("model")
    try edit(path, old, new, folder)
    let found = message(folder)
    #expect(found.contains(part), "\(found)")
    #expect(found.contains(path) || found.contains(folder.path), "\(found)")
  }

  @Test("A device that is not here is refused with those that are")
  func device() throws {
    let model = try ModelFolder(Fixtures.miniSD.path)
    let error = #expect(throws: DiffusionError.self) { try StableDiffusion(model, device: .cuda(99)) }
    #expect(error?.message.contains("cpu") == true)
  }
}
