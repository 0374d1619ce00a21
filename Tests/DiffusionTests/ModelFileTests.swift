import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite(.serialized) struct ModelFileTests {
  // MARK: Sound files

  /// The random model in one file, with what real ones have beside their weights.
  private func write(
    _ random: RandomModel, _ url: URL, isTorch: Bool = false, more: [String: Tensor] = [:],
    metadata: [String: String] = [:], without lost: String? = nil
  ) throws {
    var tensors = try random.originals()
    let (positions, projection, scale) = (
      try Tensor(Array(0..<77), [1, 77]), try Tensor.ones([64, 64]), try Tensor.ones([])
    )
    // What CLIP's text encoder stands among in files of several programs.
    func addWholeCLIP(_ root: String) {
      tensors["\(root).transformer.text_model.embeddings.position_ids"] = positions
      for name in ["text_projection", "text_projection.weight", "transformer.text_projection.weight"] {
        tensors["\(root).\(name)"] = projection
      }
      for name in ["logit_scale", "transformer.logit_scale"] { tensors["\(root).\(name)"] = scale }
    }
    if random.name == "sd1" {
      addWholeCLIP("cond_stage_model")
    } else if random.name == "sdxl" {
      addWholeCLIP("conditioner.embedders.0")
      tensors["conditioner.embedders.1.model.transformer.text_model.embeddings.position_ids"] = positions
      tensors["conditioner.embedders.1.model.logit_scale"] = scale
      tensors["denoiser.sigmas"] = try .ones([1000])
    } else {
      tensors["cond_stage_model.model.transformer.text_model.embeddings.position_ids"] = positions
      for (name, shape) in [
        ("ln_1.weight", [128]), ("attn.in_proj_weight", [384, 128]), ("mlp.c_fc.bias", [512]),
      ] {
        tensors["cond_stage_model.model.transformer.resblocks.23.\(name)"] = try .ones(shape)
      }
      tensors["cond_stage_model.model.text_projection"] = try .ones([128, 128])
      tensors["cond_stage_model.model.logit_scale"] = try .ones([])
    }
    tensors["alphas_cumprod"] = try .ones([1000])
    tensors["model_ema.decay"] = try .ones([])
    tensors["model_ema.diffusion_modelinput_blocks00weight"] = try .ones([4])
    for (name, tensor) in more { tensors[name] = tensor }
    if let lost { tensors[lost] = nil }
    guard isTorch else { return try Safetensors.write(Array(tensors), metadata: metadata, to: url) }
    var storages = TorchStorages()
    let entries = try tensors.map { PickleEntry($0.key, try storages.add($0.value)) }
    let root = PickleValue.dictionary(
      [
        PickleEntry("global_step", .int(470_000)),
        PickleEntry("state_dict", .dictionary(entries, ordered: true)),
      ], ordered: false)
    try storages.archive("archive", root).write(to: url)
  }

  @Test(
    "A file and a folder of the same weights have the same bits, and make the same of everything",
    arguments: FamilyTests.names + ["sdxl"], [false, true])
  func sameAsFolder(name: String, isTorch: Bool) throws {
    let (scratch, random) = (try Scratch(), try RandomModel(name))
    let url = scratch.file(isTorch ? "model.ckpt" : "model.safetensors")
    try write(random, url, isTorch: isTorch)
    try random.writeFolder(scratch.file("model"))
    let (file, folder) = (try ModelFolder(url.path), try ModelFolder(scratch.file("model").path))
    var count = 0
    #expect(file.networks == folder.networks)
    for component in folder.networks {
      let a = try file.weights(component, dtype: .float32, device: .cpu)
      let b = try folder.weights(component, dtype: .float32, device: .cpu)
      #expect(a.names == b.names)
      for name in b.names {
        let (x, y) = (try #require(a.shape(name)), try #require(b.shape(name)))
        #expect(x.filter { $0 != 1 } == y.filter { $0 != 1 })
        #expect(try a.tensor(name, x).rawBytes() == b.tensor(name, y).rawBytes(), "\(name)")
        count += 1
      }
    }
    #expect(count > 900)
    let (one, other) = (try StableDiffusion(file), try StableDiffusion(folder))
    try FamilyTests.compare(one, random)
    #expect(try relativeError(one.encode(random.prompts[0]), other.encode(random.prompts[0])) == 0)
    var settings = GenerationSettings()
    (settings.steps, settings.width, settings.height) = (2, 64, 64)
    #expect(
      try one.generate(random.prompts[0], settings)[0].rgb
        == other.generate(random.prompts[0], settings)[0].rgb)
    let (identity, known) = (try one.baseIdentity, try other.baseIdentity)
    #expect(identity.tokenTableHash == known.tokenTableHash && identity.layers == known.layers)
    #expect(one.resolution == other.resolution && one.predictionType == other.predictionType)
    #expect(one.schedulerConfiguration.timestepSpacing == other.schedulerConfiguration.timestepSpacing)
    #expect(one.unetConfiguration == other.unetConfiguration)
    #expect(one.textConfigurations.map(\.stateLayers) == other.textConfigurations.map(\.stateLayers))
    #expect(try one.parameterCount(.unet) == other.parameterCount(.unet))
    #expect(file.name == "model")
    // In bf16, where upcast_attention tells, noise and images have the same bits, too.
    let halves = try [file, folder].map { try StableDiffusion($0, dtype: .bfloat16) }
    let outputs = try halves.map { model in
      try (
        model.encode(random.prompts[0]).to(.float32).rawBytes(),
        model.generate(random.prompts[0], settings)[0].rgb
      )
    }
    #expect(outputs[0] == outputs[1])
    #expect(halves[0].unetConfiguration.upcastAttention == (name == "sd2-v"))
  }

  @Test(
    "A model for inpainting, as one file, draws what its folder draws", arguments: ["sd1", "sd2", "sdxl"])
  func inpainting(name: String) throws {
    let (scratch, random) = (try Scratch(), try RandomModel(name))
    let (folder, url) = (scratch.file("model"), scratch.file("model.safetensors"))
    let kernel = try RandomModel.drawn("unet/conv_in.weight", [name == "sd1" ? 32 : 64, 9, 3, 3])
    try random.writeFolder(folder)
    let weights = folder.appending(path: "unet/diffusion_pytorch_model.safetensors")
    let stored = try SafetensorsFile(weights)
    try Safetensors.write(
      stored.entries.keys.sorted().map { ($0, try $0 == "conv_in.weight" ? kernel : stored.tensor($0)) },
      to: weights)
    let configuration = folder.appending(path: "unet/config.json")
    let text = try String(contentsOf: configuration, encoding: .utf8)
    try text.replacing(#""in_channels": 4"#, with: #""in_channels": 9"#)
      .write(to: configuration, atomically: true, encoding: .utf8)
    try write(random, url, more: ["model.diffusion_model.input_blocks.0.0.weight": kernel])
    let models = try [folder, url].map { try StableDiffusion(ModelFolder($0.path)) }
    #expect(models[0].isInpainting && models[1].isInpainting)
    #expect(
      models[1].folder.identification?.contains(" for inpainting (its U-Net takes 9 channels), as ") == true)
    var settings = GenerationSettings()
    (settings.steps, settings.guidance, settings.seeds) = (2, 5, [7])
    let pixels = DecodedImage(width: 64, height: 64, rgb: (0..<64 * 64 * 3).map { UInt8($0 % 251) })
    settings.start = StartingImage(pixels, mask: (0..<64 * 64).map { $0 % 64 > 20 }, strength: 1)
    let images = try models.map { try $0.generate(random.prompts[0], settings)[0].rgb }
    #expect(images[0] == images[1] && Set(images[0]).count > 10)
  }

  @Test(
    "A latent consistency model, as one file, draws what its folder draws, in its own few steps",
    arguments: [("sd1", "time_embedding"), ("sd1", "time_embed"), ("sdxl", "time_embedding")])
  func consistency(name: String, module: String) throws {
    let (scratch, random) = (try Scratch(), try RandomModel(name))
    let (folder, url) = (scratch.file("model"), scratch.file("model.safetensors"))
    let channels = name == "sd1" ? 32 : 64
    let guidance = try RandomModel.drawn("unet/time_embedding.cond_proj.weight", [channels, 20])
    try random.writeFolder(folder)
    let weights = folder.appending(path: "unet/diffusion_pytorch_model.safetensors")
    let stored = try SafetensorsFile(weights)
    try Safetensors.write(
      stored.entries.keys.sorted().map { ($0, try stored.tensor($0)) }
        + [("time_embedding.cond_proj.weight", guidance)], to: weights)
    let configuration = folder.appending(path: "unet/config.json")
    var json =
      try JSONSerialization.jsonObject(with: Data(contentsOf: configuration)) as? [String: Any] ?? [:]
    json["time_cond_proj_dim"] = 20
    try JSONSerialization.data(withJSONObject: json).write(to: configuration)
    try write(random, url, more: ["model.diffusion_model.\(module).cond_proj.weight": guidance])
    let models = try [folder, url].map { try StableDiffusion(ModelFolder($0.path)) }
    #expect(models.allSatisfy { $0.unetConfiguration.guidanceChannels == 20 })
    #expect(models[1].folder.identification?.contains("LCM: its U-Net takes the guidance") == true)
    let distilled = try #require(try models[1].folder.distillation())
    #expect(try distilled == models[0].folder.distillation() && distilled.scheduler == .lcm)
    func images(_ guidance: Double) throws -> [[UInt8]] {
      var settings = GenerationSettings()
      (settings.steps, settings.guidance, settings.scheduler) = (2, guidance, .lcm)
      (settings.seeds, settings.width, settings.height) = ([7], 64, 64)
      return try models.map { try $0.generate(random.prompts[0], settings)[0].rgb }
    }
    let (own, other) = (try images(8.5), try images(2))
    #expect(own[0] == own[1] && other[0] == other[1])
    // The guidance that it is told counts.
    #expect(own[0] != other[0])
  }

  @Test("The names of a compiled model are those without what compiling put into them")
  func compiled() throws {
    let (scratch, random) = (try Scratch(), try RandomModel("sd2-v"))
    func weights(_ name: String, _ change: (String) -> String, _ more: [String] = []) throws -> (
      Weights, String
    ) {
      let url = scratch.file(name)
      var tensors = try random.originals().map { (change($0), $1) }
      tensors += try more.map { ($0, try .ones([1])) }
      try Safetensors.write(tensors, to: url)
      let model = try ModelFolder(url.path)
      return (
        try model.weights(.unet, dtype: .float32, device: .cpu),
        model.identification?.replacing(name, with: "") ?? ""
      )
    }
    let (plain, told) = try weights("plain.safetensors") { $0 }
    let unet = "model.diffusion_model."
    for place in [
      "model._orig_mod.diffusion_model.", "model.diffusion_model._orig_mod.", "_orig_mod.\(unet)",
      "module.\(unet)",
    ] {
      let (compiled, same) = try weights("compiled.safetensors", { $0.replacing(unet, with: place) })
      #expect(same == told && same.contains("v_prediction") && compiled.names == plain.names)
      let conv = try compiled.tensor("conv_in.weight", [64, 4, 3, 3])
      #expect(try conv.rawBytes() == plain.tensor("conv_in.weight", [64, 4, 3, 3]).rawBytes())
    }
    let twice = refusal { try weights("twice.safetensors", { $0 }, ["\(unet)_orig_mod.out.0.bias"]) }
    #expect(
      twice?.message.contains("“\(unet)_orig_mod.out.0.bias” and “\(unet)out.0.bias” are one tensor") == true)
  }

  @Test("A third of a fused tensor is its rows, in either format", arguments: [false, true])
  func thirds(isTorch: Bool) throws {
    let (scratch, random) = (try Scratch(), try RandomModel("sd2"))
    let url = scratch.file("model.x")
    try write(random, url, isTorch: isTorch)
    let stored = try ModelFolder(url.path).weights(
      .textEncoder, dtype: isTorch ? .float32 : .float16, device: .cpu)
    let second = try stored.tensor("encoder.layers.3.self_attn.k_proj.weight", [128, 128])
    let whole = try random.originals()["cond_stage_model.model.transformer.resblocks.3.attn.in_proj_weight"]
    let expected = try #require(whole).sliced(0, 128..<256)
    #expect(try second.to(.float32).rawBytes() == expected.to(.float32).rawBytes())
  }

  @Test("The family and what is predicted are told with the reason, in the order of the evidence")
  func identification() throws {
    let scratch = try Scratch()
    let url = scratch.file("a model.safetensors")
    func text(
      _ name: String, given: PredictionType? = nil, marks: [String] = [], metadata: [String: String] = [:]
    )
      throws -> String
    {
      try Self.outline(name, url, more: Dictionary(uniqueKeysWithValues: marks.map { ($0, [1]) }), metadata)
      let model = try ModelFolder(url.path, predicting: given)
      let said = try #require(model.identification)
      let scheduler = try model.configuration(SchedulerConfiguration.self, .scheduler)
      #expect(said.contains(scheduler.predictionType.rawValue))
      #expect(scheduler.rescaleBetasZeroSNR == marks.contains("ztsnr"))
      #expect(
        scheduler.timestepSpacing == (marks.contains("ztsnr") ? .trailing : name == "sdxl" ? .leading : nil))
      return said
    }
    let plain = try text("sd1")
    #expect(plain.contains("“a model.safetensors” is Stable Diffusion 1.x, as its text encoder is CLIP's"))
    #expect(plain.contains("hidden size 64") && plain.contains("nothing says otherwise"))
    #expect(try text("sd1", marks: ["v_pred"]).contains("v_prediction), as it has the mark “v_pred”"))
    #expect(try text("sd1", marks: ["ztsnr"]).contains("v_prediction), as it has the mark “ztsnr”"))
    #expect(
      try text("sd1", given: .epsilon, marks: ["v_pred"]).contains("epsilon), as `prediction-type` says"))
    #expect(
      try text("sd1", marks: ["v_pred"], metadata: ["prediction_type": "epsilon"]).contains("has the mark"))
    #expect(
      try text("sd1", metadata: ["prediction_type": "v"]).contains(
        "v_prediction), as its metadata say in “prediction_type”"))
    #expect(
      try text("sd2", metadata: ["modelspec.prediction_type": "epsilon"]).contains(
        "epsilon), as its metadata say"))
    #expect(try text("sd2").contains("Stable Diffusion 2.x, as its text encoder is OpenCLIP's"))
    #expect(try text("sd2").contains("deviation 0.0, not above 0.09"))
    let xl = try text("sdxl")
    #expect(
      xl.contains(
        "is Stable Diffusion XL, as it has two text encoders, CLIP's and OpenCLIP's, of hidden sizes 64"))
    #expect(xl.contains("epsilon), as nothing says otherwise"))
    #expect(try text("sdxl", marks: ["v_pred"]).contains("v_prediction), as it has the mark “v_pred”"))
    #expect(try text("sdxl", marks: ["ztsnr"]).contains("v_prediction), as it has the mark “ztsnr”"))
    #expect(
      try text("sdxl", metadata: ["modelspec.prediction_type": "v"]).contains(
        "v_prediction), as its metadata say"))
    let error = refusal { try text("sd1", metadata: ["prediction_type": "w"]) }
    #expect(error?.message.contains("“w”") == true && error?.message.contains("`prediction-type`") == true)
  }

  // MARK: What is no such model

  /// A file of few tensors of ones, with names of a family.
  static func outline(
    _ name: String, _ url: URL, more: [String: [Int]] = [:], _ metadata: [String: String] = [:],
    without lost: String? = nil
  ) throws {
    var shapes: [String: [Int]] = [
      "model.diffusion_model.input_blocks.0.0.weight": [32, 4, 3, 3],
      "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": [32, 64],
      "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias": [32],
      "first_stage_model.decoder.conv_in.weight": [64, 4, 3, 3],
      "first_stage_model.encoder.mid.attn_1.q.weight": [64, 64, 1, 1],
    ]
    if name == "sdxl" {
      for (place, depth) in [
        ("input_blocks.4", 2), ("input_blocks.5", 2), ("output_blocks.3", 2), ("output_blocks.4", 2),
        ("output_blocks.5", 2),
      ] {
        for i in 0..<depth {
          shapes["model.diffusion_model.\(place).1.transformer_blocks.\(i).norm1.weight"] = [32]
        }
      }
      shapes["model.diffusion_model.label_emb.0.0.weight"] = [64, 1632]
      shapes["conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight"] = [9, 64]
      shapes["conditioner.embedders.1.model.token_embedding.weight"] = [9, 128]
      shapes["conditioner.embedders.1.model.text_projection"] = [128, 96]
      shapes["conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_bias"] = [384]
    } else if name == "sd1" {
      shapes["cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"] = [9, 64]
    } else {
      shapes["cond_stage_model.model.token_embedding.weight"] = [9, 64]
      shapes["cond_stage_model.model.transformer.resblocks.0.attn.in_proj_bias"] = [192]
    }
    for (name, shape) in more { shapes[name] = shape }
    if let lost { shapes[lost] = nil }
    try Safetensors.write(shapes.map { ($0, try .ones($1)) }, metadata: metadata, to: url)
  }

  private func message(
    _ names: [String: [Int]], of family: String = "sd1", more: [String: [Int]]? = nil,
    without lost: String? = nil
  ) throws -> String {
    let scratch = try Scratch()
    let url = scratch.file("x.safetensors")
    if let more {
      try Self.outline(family, url, more: more, without: lost)
    } else {
      try Safetensors.write(names.map { ($0, try .ones($1)) }, to: url)
    }
    let error = refusal { try ModelFolder(url.path) }
    #expect(error?.message.contains("\n") == false)
    return error?.message ?? ""
  }

  /// Tensors of files that are no base model, and what those are.
  static let foreign: [([String: [Int]], String)] = [
    (["lora_unet_mid_block_attentions_0_proj_in.lora_up.weight": [8, 4]], "a LoRA"),
    (["unet.mid_block.attentions.0.to_q.lora_A.weight": [8, 4]], "a LoRA"),
    (["lycoris.x.hada_w1_a": [8, 4]], "a LoRA"),
    (["control_model.time_embed.0.weight": [8, 4]], "a ControlNet"),
    (["controlnet_cond_embedding.conv_in.weight": [8, 3, 3, 3]], "a ControlNet"),
    (["ip_adapter.1.to_k_ip.weight": [8, 4]], "an IP-Adapter"),
    (["model.diffusion_model.joint_blocks.0.x_block.mlp.fc1.weight": [8, 4]], "Stable Diffusion 3"),
    (["double_blocks.0.img_attn.norm.key_norm.scale": [8]], "FLUX"),
    (["model.diffusion_model.double_blocks.0.img_attn.norm.key_norm.scale": [8]], "FLUX"),
    (["conditioner.embedders.0.model.ln_final.bias": [8]], "refiner"),
    (
      [
        "conditioner.embedders.0.transformer.text_model.final_layer_norm.bias": [8],
        "conditioner.embedders.1.model.ln_final.bias": [8],
        "model.diffusion_model.input_blocks.0.0.weight": [8, 4, 3, 3],
      ], "without a VAE"
    ),
    (["input_blocks.0.0.weight": [8, 4, 3, 3]], "a U-Net alone"),
    (["conv_in.weight": [8, 4, 3, 3], "down_blocks.0.resnets.0.conv1.bias": [8]], "a U-Net alone"),
    (["model.diffusion_model.input_blocks.0.0.weight": [8, 4, 3, 3]], "a U-Net alone"),
    (["encoder.conv_in.weight": [8, 3, 3, 3]], "a VAE alone"),
    (["first_stage_model.encoder.conv_in.weight": [8, 3, 3, 3]], "a VAE alone"),
    (["text_model.final_layer_norm.bias": [8]], "a text encoder alone"),
    (["emb_params": [2, 768]], "an embedding"), (["<toy>": [768]], "an embedding"),
    (["blocks.0.attn.weight": [8, 4, 3, 3]], "no U-Net"),
  ]

  @Test("What is no base model says what it is", arguments: foreign)
  func others(names: [String: [Int]], what: String) throws {
    let said = try message(names)
    #expect(said.contains("x.safetensors: it is ") && said.contains(what), "\(said)")
    #expect(said.contains("name a model of Stable Diffusion 1, 2 or XL"))
  }

  @Test(
    "A U-Net for other inputs, a guidance that is there twice, and a model without its VAE say so",
    arguments: [
      (8, "InstructPix2Pix"), (5, "depth model"), (7, "upscaler"),
    ])
  func channels(count: Int, what: String) throws {
    let said = try message([:], more: ["model.diffusion_model.input_blocks.0.0.weight": [32, count, 3, 3]])
    #expect(said.contains(what), "\(said)")
    let guidance = ["time_embed", "time_embedding"].map { "model.diffusion_model.\($0).cond_proj.weight" }
    let twice = try message([:], more: [guidance[0]: [8, 4], guidance[1]: [8, 4]])
    #expect(twice.contains("are both “time_embedding.cond_proj.weight” of the U-Net"), "\(twice)")
    #expect(
      try message([:], more: ["model.diffusion_model.label_emb.0.0.weight": [8, 4]]).contains("unCLIP"))
  }

  @Test("Relatives of SDXL are told what they are")
  func relatives() throws {
    let unet = "model.diffusion_model."
    for (more, what) in [
      (["\(unet)input_blocks.0.0.weight": [32, 8, 3, 3]], "InstructPix2Pix of SDXL"),
      (["\(unet)input_blocks.0.0.weight": [32, 5, 3, 3]], "takes an image"),
      (["edm_mean": [4], "edm_std": [4]], "Playground 2.5"), (["edm_vpred.sigma_max": [1]], "EDM"),
      (["\(unet)input_blocks.7.1.transformer_blocks.0.norm1.weight": [8]], "fewer blocks (SSD-1B"),
      (["conditioner.embedders.0.model.ln_final.bias": [8]], "SDXL's refiner"),
      (["conditioner.embedders.1.model.text_projection": [8]], "is no matrix"),
      (["conditioner.embedders.2.outdim": [8]], "has no tensors “conditioner.embedders.2.outdim”"),
    ] as [([String: [Int]], String)] {
      let said = try message([:], of: "sdxl", more: more)
      #expect(said.contains(what), "\(said)")
    }
    let mixed = try message([:], more: ["\(unet)input_blocks.1.1.proj_in.weight": [32, 32]])
    #expect(
      mixed.contains("the U-Net of Stable Diffusion 2") && mixed.contains("names of Stable Diffusion 1's"))
    let lost = "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight"
    #expect(try message([:], of: "sdxl", more: [:], without: lost).contains("no text encoder"))
  }

  @Test("Other formats are known by their first bytes")
  func formats() throws {
    let scratch = try Scratch()
    for (name, text, what) in [
      ("a.gguf", "GGUF\u{3}\u{0}\u{0}\u{0}", "GGUF"), ("a.onnx", "\u{8}\u{7}", "ONNX"),
      ("a.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:1", "Git LFS"),
      ("b.safetensors", "<!DOCTYPE html><html>", "web page"), ("c.ckpt", "", "c.ckpt"),
      ("f.safetensors", "Entry not found", "is a text, not a model (“Entry not found”); the download"),
      ("g.safetensors", "\n <!doctype HTML>", "web page"), ("h.safetensors", "", "is empty"),
      // What is looked at ends inside a character.
      (
        "n.safetensors", "x" + String(repeating: "\u{D0}\u{96}", count: 300),
        "is a text, not a model (“x\u{416}"
      ),
      ("i.safetensors", "{\"error\":\"Invalid username\"}", "a text, not a model (“{\"error\""),
      ("j.tgz", "\u{1F}\u{8B}\u{8}\u{0}", "packed (gzip); unpack it"),
      ("k.tar", "model.safetensors" + String(repeating: "\u{0}", count: 240) + "ustar", "an archive (tar)"),
      ("l.png", "\u{89}PNG\r\n\u{1A}\n", "an image"),
      ("m.safetensors", "\u{1}\u{2}\u{3}", "neither safetensors nor what torch.save wrote"),
      ("d.ckpt", "\u{80}\u{2}", "d.ckpt"), ("e.ckpt", "PK\u{3}\u{4}", "zip directory"),
    ] {
      let bytes = Data(text.unicodeScalars.map { UInt8(truncatingIfNeeded: $0.value) })
      let url = try scratch.file(bytes, name)
      let said = refusal { try ModelFolder(url.path) }?.message ?? ""
      #expect(said.contains(what) && said.contains(name), "\(said)")
    }
    for name in ["a1111.pt", "first.pt"] {
      let said = refusal { try ModelFolder(Fixtures.url("community/\(name)").path) }?.message ?? ""
      #expect(said.contains("an embedding"), "\(said)")
    }
  }

  @Test("Unknown tensors are refused by name; a missing and a misshapen one when the network is loaded")
  func strictness() throws {
    let odd = try message([:], more: ["model.diffusion_model.input_blocks.01.0.in_layers.0.bias": [8]])
    #expect(odd.contains("“model.diffusion_model.input_blocks.01.0.in_layers.0.bias”"))
    let fused = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    #expect(try message([:], more: [fused: [8, 4]]).contains("not three in one"))
    for name in [
      "model.diffusion_model.input_blocks.12.0.in_layers.0.bias",
      "first_stage_model.encoder.up.0.block.0.norm1.bias",
      "cond_stage_model.model.transformer.resblocks.24.ln_1.bias", "state_dict",
      "model.diffusion_model.input_blocks.1.0.in_layers.1.bias", "model.diffusion_model", "",
      String(repeating: "a.", count: 100_000),
    ] {
      #expect(OriginalNames.targets(name) == nil)
    }
    let (scratch, random) = (try Scratch(), try RandomModel("sd1"))
    let url = scratch.file("m.safetensors")
    let lost = "model.diffusion_model.output_blocks.4.0.in_layers.2.weight"
    try write(random, url, without: lost)
    let missing = refusal { try StableDiffusion(ModelFolder(url.path)).unet }
    #expect(missing?.message.contains("“up_blocks.1.resnets.1.conv1.weight”") == true)
    try write(random, url, more: ["model.diffusion_model.out.2.bias": .ones([5])])
    let misshapen = refusal { try StableDiffusion(ModelFolder(url.path)).unet }
    #expect(
      misshapen?.message.contains("“model.diffusion_model.out.2.bias” has shape [5], expected [4]") == true)
  }

  // MARK: Damaged files

  /// Opens it as far as a command does before it loads a network.
  private func open(_ url: URL) throws {
    let model = try ModelFolder(url.path)
    _ = try model.configuration(UNetConfiguration.self, .unet)
    _ = try model.configuration(VAEConfiguration.self, .vae)
    for encoder in model.textEncoders { _ = try model.configuration(CLIPTextConfiguration.self, encoder) }
    _ = try model.configuration(SchedulerConfiguration.self, .scheduler)
    for component in model.networks {
      #expect(try model.weights(component, dtype: .float32, device: .cpu).byteCount >= 0)
    }
  }

  @Test(
    "5,000 damaged files of each format are refused, or opened, with words",
    arguments: [("sd2", false), ("sd2", true), ("sdxl", false)])
  func mutations(family: String, isTorch: Bool) throws {
    let scratch = try Scratch()
    let url = scratch.file("x.safetensors")
    try Self.outline(family, url)
    var original = try Data(contentsOf: url)
    if isTorch {
      let file = try SafetensorsFile(url)
      var storages = TorchStorages()
      let entries = try file.entries.keys.sorted().map { PickleEntry($0, try storages.add(file.tensor($0))) }
      original = try storages.archive("archive", .dictionary(entries, ordered: true))
    }
    var opened = 0
    for data in Mutations(of: original, count: 5000, seed: 14) {
      try data.write(to: url)
      do {
        try open(url)
        opened += 1
      } catch let error as any DescribedError {
        #expect(!error.message.contains("\n"))
      }
    }
    #expect(opened > 50 && opened < 5000)
  }
}
