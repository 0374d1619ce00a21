import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite("LoRAs", .serialized)
struct LoRATests {
  private static let names = [
    "kohya", "kohya_unet", "peft", "peft_alphas", "diffusers", "diffusers_old", "peft_dora", "kohya_dora",
  ]

  private func url(_ name: String) -> URL { Fixtures.url("lora/\(name).safetensors") }

  private func outputs(_ loras: [WeightedLoRA], dtype: DType = .float32) throws -> (
    text: Tensor, unet: Tensor
  ) {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path), dtype: dtype)
    #expect(try model.add(loras) == [])
    let random = try RandomSource(seed: 99)
    let latents = try random.normal([1, 8, 16, 16])
    let context = try CrossAttentionContext(random.normal([1, 8, 128]))
    return try withoutGradients {
      (
        try model.encode("a photo of a red robot"),
        try model.unet(latents, timesteps: Tensor([500 as Float]), context: [context]).to(.float32)
      )
    }
  }

  @Test("in every naming give what diffusers gives with them fused, within 1e-4", arguments: names)
  func golden(_ name: String) throws {
    let expected = try SafetensorsFile(Fixtures.url("lora/expected.safetensors"))
    let lora = WeightedLoRA(try LoRA(url(name)), weight: 0.7)
    let (text, unet) = try outputs([lora])
    #expect(try relativeError(text, expected.tensor("\(name).text")) < 1e-4)
    #expect(try relativeError(unet, expected.tensor("\(name).unet")) < 1e-4)
    let plain = try outputs([])
    #expect(try relativeError(plain.unet, unet) > 1e-2)
    #expect(try (relativeError(plain.text, text) > 1e-2) == (name != "kohya_unet"))
    // bf16 rounds the merged weights, not the change.
    #expect(try relativeError(outputs([lora], dtype: .bfloat16).unet, unet) < 0.1)
  }

  /// A LoRA as `torch.save` writes it, alone or as the `state_dict` of something larger.
  private func pickled(_ name: String, _ scratch: Scratch, under key: String? = nil) throws -> URL {
    let file = try SafetensorsFile(url(name))
    var storages = TorchStorages()
    let entries = try file.entries.keys.sorted().map { PickleEntry($0, try storages.add(file.tensor($0))) }
    let whole = PickleValue.dictionary(entries, ordered: true)
    let root = key.map { PickleValue.dictionary([PickleEntry($0, whole)], ordered: false) } ?? whole
    return try scratch.file(storages.archive("archive", root), "\(name).pt")
  }

  @Test(
    "in PyTorch's files are those of safetensors",
    arguments: ["kohya", "peft", "diffusers_old", "kohya_dora"], [nil, "state_dict"])
  func pickles(_ name: String, _ key: String?) throws {
    let scratch = try Scratch()
    let (plain, same) = (try LoRA(url(name)), try LoRA(pickled(name, scratch, under: key)))
    #expect(same.name == "\(name).pt")
    let (a, b) = (try outputs([WeightedLoRA(plain)]), try outputs([WeightedLoRA(same)]))
    #expect(try relativeError(b.text, a.text) < 1e-6 && relativeError(b.unet, a.unet) < 1e-6)
    #expect(try relativeError(a.unet, outputs([]).unet) > 1e-2)
  }

  @Test("in PyTorch's files that are damaged are refused or read, and never more")
  func damagedPickles() throws {
    let scratch = try Scratch()
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let whole = try Data(contentsOf: pickled("kohya_unet", scratch))
    var read = 0
    for (i, data) in Mutations(of: whole, count: 2000, seed: 19).enumerated() {
      guard let lora = try? LoRA(scratch.file(data, "\(i % 2).pt")) else { continue }
      read += (try? model.add([WeightedLoRA(lora)])) == nil ? 0 : 1
    }
    #expect(read > 0 && read < 2000)
  }

  @Test("in PEFT's names may have an adapter's name and the network's wrapper, or ComfyUI's prefix")
  func otherNames() throws {
    let scratch = try Scratch()
    func unet(_ name: String, _ rename: (String) -> String) throws -> Tensor {
      let file = try SafetensorsFile(url(name))
      let renamed = scratch.file("renamed.safetensors")
      try Safetensors.write(file.entries.keys.map { (rename($0), try file.tensor($0)) }, to: renamed)
      return try outputs([WeightedLoRA(LoRA(renamed))]).unet
    }
    let wrapper = "base_model.model."
    for name in ["peft", "peft_dora"] {
      let plain = try unet(name) { $0 }
      for (old, new) in [
        ("weight", "style.weight"), ("weight", "my.style.weight"), ("unet.", "unet.\(wrapper)"),
        ("unet.", "diffusion_model."), ("unet.", "\(wrapper)unet."), ("unet.", wrapper),
      ] {
        #expect(try relativeError(unet(name) { $0.replacing(old, with: new) }, plain) == 0, "\(new)")
      }
    }
  }

  @Test("add up, in proportion to their weights, and one of weight 0 changes nothing")
  func severalLoRAs() throws {
    let (a, b) = (try LoRA(url("kohya")), try LoRA(url("diffusers")))
    func unet(_ loras: [(LoRA, Double)]) throws -> Tensor {
      try outputs(loras.map { WeightedLoRA($0, weight: $1) }).unet
    }
    #expect(try relativeError(unet([(a, 0)]), unet([])) < 1e-6)
    #expect(try relativeError(unet([(a, 0.3), (b, 1), (a, 0.4)]), unet([(b, 1), (a, 0.7)])) < 1e-4)
    #expect(try relativeError(unet([(a, 0.7), (a, -0.7)]), unet([])) < 1e-4)
    #expect(try relativeError(unet([(a, 1), (b, 1)]), unet([(a, 1)])) > 1e-2)
  }

  /// A LoRA of the kohya file with other tensors.
  private func changed(_ scratch: Scratch, _ change: (inout [(String, Tensor)]) throws -> Void) throws -> URL
  {
    let file = try SafetensorsFile(url("kohya"))
    var tensors = try file.entries.keys.sorted().map { ($0, try file.tensor($0)) }
    try change(&tensors)
    try Safetensors.write(tensors, to: scratch.file("changed.safetensors"))
    return scratch.file("changed.safetensors")
  }

  /// A change of rank 1 for every matrix and kernel of SDXL, in kohya's names, which are the original ones, in PEFT's, and
  /// in ComfyUI's, which are the original ones, too.
  private static func sdxl(_ random: RandomModel, _ scratch: Scratch) throws -> (kohya: URL, others: [URL]) {
    var (kohya, peft, comfyUI): ([(String, Tensor)], [(String, Tensor)], [(String, Tensor)]) = ([], [], [])
    let prefixes = ["unet": "lora_unet_", "text_encoder": "lora_te1_", "text_encoder_2": "lora_te2_"]
    for row in random.names where row.shape.count > 1 && row.name.hasSuffix(".weight") {
      guard let prefix = prefixes[row.component], !row.name.contains("embedding.weight") else { continue }
      let original =
        row.component == "unet" ? row.original.replacing("model.diffusion_model.", with: "") : row.name
      let here = "\(row.component).\(row.name.dropLast(".weight".count))"
      let there = prefix + original.dropLast(".weight".count).replacing(".", with: "_")
      let kernel = row.shape.dropFirst(2)
      let down = try RandomModel.drawn(here, [1, row.shape[1]] + kernel, scale: 0.3)
      let up = try RandomModel.drawn(here + " up", [row.shape[0], 1] + kernel.map { _ in 1 }, scale: 0.3)
      kohya += [("\(there).lora_down.weight", down), ("\(there).lora_up.weight", up)]
      peft += [("\(here).lora_A.weight", down), ("\(here).lora_B.weight", up)]
      let wrapped =
        row.component == "unet" ? "diffusion_model.\(original.dropLast(".weight".count))" : here
      comfyUI += [("\(wrapped).lora_down.weight", down), ("\(wrapped).lora_up.weight", up)]
    }
    let urls = ["kohya", "peft", "comfyui"].map { scratch.file("\($0).safetensors") }
    for (url, tensors) in zip(urls, [kohya, peft, comfyUI]) { try Safetensors.write(tensors, to: url) }
    return (urls[0], Array(urls.dropFirst()))
  }

  @Test(
    "for SDXL change every layer of the U-Net and of both text encoders, in kohya's names as in PEFT's and ComfyUI's"
  )
  func sdxl() throws {
    let (scratch, random) = (try Scratch(), try RandomModel("sdxl"))
    let folder = scratch.file("model")
    try random.writeFolder(folder)
    let files = try Self.sdxl(random, scratch)
    func outputs(_ lora: URL?) throws -> [Tensor] {
      let model = try StableDiffusion(ModelFolder(folder.path))
      if let lora {
        #expect(try SafetensorsFile(lora).entries.count > 600)
        #expect(try model.add([WeightedLoRA(LoRA(lora), weight: 0.7)]) == [])
      }
      return try withoutGradients {
        let states = try model.encode("a red robot")
        let pooled = try #require(try model.textEncoders.pooled(model.tokenizers[1]("a red robot").ids))
        let latents = try RandomSource(seed: 1).normal([1, 4, 8, 8])
        let noise = try model.unet(
          latents, timesteps: Tensor([500 as Float]), context: [CrossAttentionContext(states)],
          added: AddedConditioning(pooled: pooled, sizes: [SizeConditioning(height: 64, width: 64)]))
        return [states, pooled, noise]
      }
    }
    let (plain, kohya, others) = (
      try outputs(nil), try outputs(files.kohya), try files.others.map { try outputs($0) }
    )
    for i in 0..<3 {
      #expect(try relativeError(kohya[i], plain[i]) > 1e-3)
      for other in others { #expect(try relativeError(kohya[i], other[i]) == 0) }
    }
    let mini = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let refused = refusal { try mini.add([WeightedLoRA(LoRA(files.others[0]))]) }
    #expect(refused?.message.contains("peft.safetensors is for SDXL") == true)
    withExtendedLifetime(scratch) {}
  }

  private static let sdxlNames = ["kohya", "kohya_blocks", "peft", "peft_alphas", "diffusers", "peft_dora"]

  /// The states of both text encoders, the pooled text, and what the U-Net gives to random ones.
  private func sdxlOutputs(_ folder: URL, _ loras: [WeightedLoRA]) throws -> [(name: String, tensor: Tensor)]
  {
    let model = try StableDiffusion(ModelFolder(folder.path))
    #expect(try model.add(loras) == [])
    let random = try RandomSource(seed: 99)
    let latents = try random.normal([1, 4, 8, 8])
    let context = try CrossAttentionContext(random.normal([1, 8, 192]))
    let added = try AddedConditioning(
      pooled: random.normal([1, 96]), sizes: [SizeConditioning(height: 64, width: 64)])
    let ids = [49406, 320, 736, 8797] + Array(repeating: 49407, count: 73)
    return try withoutGradients {
      let states = try model.textEncoders.members.map { try $0.encode(Tensor(ids, [1, ids.count])) }
      let noise = try model.unet(
        latents, timesteps: Tensor([500 as Float]), context: [context], added: added)
      return [
        ("states", try .concatenated(states, 2).sliced(1, 0..<12)),
        ("pooled", try #require(try model.textEncoders.pooled(ids))), ("unet", noise),
      ]
    }
  }

  @Test("for SDXL give in every naming what diffusers gives with them fused, within 1e-4")
  func sdxlGolden() throws {
    let scratch = try Scratch()
    let folder = scratch.file("model")
    try RandomModel("sdxl").writeFolder(folder)
    let expected = try SafetensorsFile(Fixtures.url("lora/sdxl_expected.safetensors"))
    let plain = try sdxlOutputs(folder, [])
    for name in Self.sdxlNames {
      let lora = WeightedLoRA(try LoRA(url("sdxl_\(name)")), weight: 0.7)
      for (made, before) in zip(try sdxlOutputs(folder, [lora]), plain) {
        let error = try relativeError(made.tensor, expected.tensor("\(name).\(made.name)"))
        #expect(error < 1e-4, "\(name), \(made.name): \(error)")
        #expect(try relativeError(before.tensor, made.tensor) > 1e-2, "\(name), \(made.name)")
      }
    }
  }

  private static let kernel = "lora_unet_conv_in"

  @Test("that cannot be used are refused in a line that says what they are")
  func refused() throws {
    let scratch = try Scratch()
    let one = try Tensor.ones([4, 4])
    for (key, words) in [
      ("lora_unet_conv_in.hada_w1_a", "LoHa"), ("lora_unet_conv_in.lokr_w1", "LoKr"),
      ("lora_unet_conv_in.lora_mid.weight", "Tucker"),
      ("lora_unet_conv_in.oft_blocks", "OFT"), ("lora_unet_conv_in.diff", "full differences"),
      ("lora_te3_text_model_encoder_layers_0_mlp_fc1.lora_down.weight", "Stable Diffusion 3"),
      ("transformer.single_blocks.0.attn.to_q.lora_A.weight", "a transformer"),
      ("diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight", "a transformer"),
      (
        "lycoris_conv_in.lora_down.weight",
        "its names are LyCORIS's own (lycoris_…), which do not say which network they change; rename them as kohya's "
          + "scripts do, lora_unet_… or lora_te_…"
      ),
      ("unet.conv_in.lora_B.bias", "biases"), ("model.weight", "no tensor of a LoRA"),
      ("lora_unet_conv_out.lora_down.weight", "has no partner: a LoRA has two matrices for each weight"),
      ("unet.conv_in.lora_A.weight", "another tensor names"),
    ] {
      let file = try changed(scratch) { $0.append((key, one)) }
      let message = refusal { try LoRA(file) }?.message ?? ""
      #expect(message.contains(words) && message.contains("“\(key)”"), "\(key): \(message)")
      #expect(message.contains("changed.safetensors"))
    }
    for (part, tensor, words) in [
      ("alpha", try Tensor([1, 2] as [Float]), "not one number"),
      ("alpha", try Tensor([Float.nan]), "not one number"),
      ("lora_up.weight", try Tensor.ones([64, 9, 1, 1]), "do not belong together"),
      ("lora_down.weight", try Tensor.ones([2]), "no LoRA's matrix"),
      ("lora_down.weight", try Tensor.ones([2, 4], dtype: .int64), "no LoRA's matrix"),
      ("dora_scale", try Tensor.ones([65, 1, 1, 1]), "no number for each output"),
      ("dora_scale", try Tensor.ones([64, 8, 1, 1]), "no number for each output"),
      ("dora_scale", try Tensor.ones([1, 64, 1, 1]), "no number for each output"),
      ("dora_scale", try Tensor.ones([64, 1, 1, 1], dtype: .int64), "no number for each output"),
      ("lora_magnitude_vector", try Tensor.ones([1, 8, 1, 1]), "no number for each output"),
    ] {
      let file = try changed(scratch) { tensors in
        tensors.removeAll { $0.0 == "\(Self.kernel).\(part)" }
        tensors.append(("\(Self.kernel).\(part)", tensor))
      }
      #expect(refusal { try LoRA(file) }?.message.contains(words) == true, "\(part): \(words)")
    }
    #expect(refusal { try LoRA(scratch.file(Data("{}".utf8), "x.safetensors")) } != nil)
    let empty = scratch.file("empty.safetensors")
    try Safetensors.write([], to: empty)
    #expect(refusal { try LoRA(empty) }?.message.contains("nothing") == true)
  }

  @Test(
    "of another model: another shape is refused, what has no place is named, and nothing that fits is refused"
  )
  func foreign() throws {
    let scratch = try Scratch()
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    func add(_ change: (inout [(String, Tensor)]) throws -> Void) throws -> String {
      let lora = try LoRA(changed(scratch, change))
      do { return try model.add([WeightedLoRA(lora)]).joined() } catch let e as DiffusionError {
        return e.message
      }
    }
    let shape = try add { tensors in
      tensors = try tensors.map {
        $0.0 == "\(Self.kernel).lora_down.weight" ? ($0.0, try $0.1.sliced(1, 0..<3)) : $0
      }
    }
    #expect(shape.contains("another family") && shape.contains("“conv_in.weight”"), "\(shape)")
    let kernel = try add { tensors in
      tensors = try tensors.map {
        $0.0 == "\(Self.kernel).lora_down.weight" ? ($0.0, try $0.1.sliced(3, 0..<1)) : $0
      }
    }
    #expect(kernel.contains("another family"), "\(kernel)")
    let more = try add {
      $0.append(("lora_unet_down_blocks_7_conv.lora_down.weight", try .ones([2, 4])))
      $0.append(("lora_unet_down_blocks_7_conv.lora_up.weight", try .ones([4, 2])))
    }
    #expect(
      more.contains("“lora_unet_down_blocks_7_conv.lora_down.weight”") && more.contains("the rest is used"))
    let none = try add { tensors in
      tensors = tensors.map {
        ($0.0.replacing("_model_", with: "_models_").replacing("unet_", with: "unet_x_"), $0.1)
      }
    }
    #expect(none.hasPrefix("changed.safetensors fits mini-sd nowhere: it has no “lora_"), "\(none)")
    #expect(none.hasSuffix("nor any other layer of it"), "\(none)")
    let broken = try add { tensors in
      tensors = try tensors.map {
        $0.0 == "\(Self.kernel).lora_up.weight" ? ($0.0, try $0.1 * .infinity) : $0
      }
    }
    #expect(broken.isEmpty)
    #expect(refusal { try model.unet }?.message.contains("not finite") == true)
  }

  @Test("with embeddings of OneTrainer's beside them are used, and a line says what is not")
  func bundled() throws {
    let scratch = try Scratch()
    func lines(_ tokens: [String]) throws -> [String] {
      let file = try changed(scratch) { tensors in
        tensors += try tokens.map { ("bundle_emb.\($0).emp_params", try Tensor.ones([2, 128])) }
      }
      let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
      let lines = try model.add([WeightedLoRA(LoRA(file))])
      #expect(model.loras.count == 1)
      return lines
    }
    #expect(try lines([]) == [])
    #expect(
      try lines(["<toy>"]) == [
        "changed.safetensors also holds the embedding “<toy>”, which is not used; `convert changed.safetensors "
          + "concept.safetensors` makes a concept of it"
      ])
    #expect(
      try lines(["b", "a"]) == [
        "changed.safetensors also holds the embeddings “a”, “b”, which are not used; have OneTrainer save each in a "
          + "file of its own"
      ])
    let odd = try changed(scratch) { $0.append(("bundle_emb.toy", try .ones([2, 128]))) }
    #expect(refusal { try LoRA(odd) }?.message.contains("“bundle_emb.toy” is no tensor of a LoRA") == true)
  }

  @Test("with magnitudes set the length of each output's weights, in older files of each input's")
  func magnitudes() throws {
    let scratch = try Scratch()
    let weight = try RandomSource(seed: 4).normal([6, 4, 3, 3])
    func lengths(_ name: String, _ magnitude: Tensor, over dims: [Int]) throws -> Tensor {
      try Safetensors.write([(name, magnitude)], to: scratch.file("m.safetensors"))
      let file = try SafetensorsFile(scratch.file("m.safetensors"))
      let read = try #require(Magnitude(name, magnitude.shape, outputs: 6, inputs: 4))
      return try read.applied(to: weight, file).norm(dims)
    }
    let outputs = try Tensor([1, 2, 3, 4, 5, 6] as [Float])
    for (name, shape) in [
      ("x.dora_scale", [6, 1, 1, 1]), ("x.lora_magnitude_vector", [1, 6, 1, 1]),
      ("x.lora_magnitude_vector", [6]),
    ] {
      #expect(try relativeError(lengths(name, outputs.reshaped(shape), over: [1, 2, 3]), outputs) < 1e-5)
    }
    let inputs = try Tensor([4, 3, 2, 1] as [Float])
    #expect(
      try relativeError(lengths("x.dora_scale", inputs.reshaped([1, 4, 1, 1]), over: [0, 2, 3]), inputs)
        < 1e-5)
  }

  @Test(
    "as damaged files are refused or read, and never more",
    arguments: [("kohya_unet", 5000), ("peft_alphas", 5000), ("kohya_dora", 5000), ("sdxl_kohya", 1000)])
  func mutations(_ name: String, count: Int) throws {
    let scratch = try Scratch()
    var place = Fixtures.miniSD
    if name.hasPrefix("sdxl") {
      place = scratch.file("model")
      try RandomModel("sdxl").writeFolder(place)
    }
    let model = try StableDiffusion(ModelFolder(place.path))
    var read = 0
    for (i, data) in Mutations(of: try Data(contentsOf: url(name)), count: count, seed: 18).enumerated() {
      let file = try scratch.file(data, "\(i % 2).safetensors")
      guard let lora = try? LoRA(file) else { continue }
      read += (try? model.add([WeightedLoRA(lora)])) == nil ? 0 : 1
    }
    #expect(read > 0 && read < count)
  }
}
