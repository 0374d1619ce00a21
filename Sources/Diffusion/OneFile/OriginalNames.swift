/// What the tensors of a model in one file are called: Rombach et al.'s names
/// (https://github.com/CompVis/latent-diffusion), OpenCLIP's for the text encoder of Stable Diffusion 2, and both for
/// SDXL's two (https://github.com/Stability-AI/generative-models). SDXL's U-Net has the same names, on three levels.
///
/// The table has a row for each module, made from the numbers of its block and layer. A name is looked up by its
/// parts; what stands in no row is no name of these models.
package enum OriginalNames {
  /// A tensor of ours that a tensor of the file holds.
  package struct Target: Equatable {
    let component: ModelFolder.Component
    /// diffusers' name.
    let name: String
    /// Which third of the file's tensor it is; nil for the whole.
    var third: Int?
    /// Whether the file has the matrix the other way round.
    var isTransposed = false
  }

  /// Layers of the text encoder of Stable Diffusion 2. OpenCLIP has one more, which is not used.
  static let openCLIPLayers = 23
  /// Of SDXL's second.
  static let openCLIPLayersXL = 32

  /// What takes the guidance into a U-Net that was distilled with it, by either of its names.
  static let guidance = ["time_embedding.cond_proj", "time_embed.cond_proj"]

  /// Parts of a name; real ones have at most 12.
  private static let largestDepth = 16

  private struct Module {
    let component: ModelFolder.Component
    /// diffusers' path.
    let path: String
    /// Names inside, there and here; three names take a third of the rows each. Without any, names stay.
    var inside: [String: [String]] = [:]
  }

  private static let modules: [String: Module] = {
    var all = unet.merging(vae) { a, _ in a }
    all["cond_stage_model.transformer.text_model"] = Module(component: .textEncoder, path: "")
    // Written by transformers before version 2.
    for part in ["embeddings", "encoder", "final_layer_norm"] {
      all["cond_stage_model.transformer.\(part)"] = Module(component: .textEncoder, path: part)
    }
    all["conditioner.embedders.0.transformer.text_model"] = Module(component: .textEncoder, path: "")
    return all.merging(openCLIP("cond_stage_model.model", .textEncoder, layers: openCLIPLayers)) { a, _ in a }
      .merging(openCLIP("conditioner.embedders.1.model", .textEncoder2, layers: openCLIPLayersXL)) { a, _ in a
      }
  }()

  /// What a tensor of the file is here: nothing for bookkeeping, three tensors for a fused one; nil for a name that
  /// these models do not have.
  package static func targets(_ name: String) -> [Target]? {
    if isBookkeeping(name) { return [] }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    guard parts.count <= largestDepth else { return nil }
    for length in stride(from: parts.count - 1, through: 1, by: -1) {
      guard let module = modules[parts[..<length].joined(separator: ".")] else { continue }
      return targets(module, parts[length...].map(String.init))
    }
    return nil
  }

  private static func targets(_ module: Module, _ rest: [String]) -> [Target]? {
    let names: [String]
    if module.inside.isEmpty {
      names = [rest.joined(separator: ".")]
    } else if let found = module.inside[rest.joined(separator: ".")] {
      names = found
    } else if let last = rest.last, let found = module.inside[rest.dropLast().joined(separator: ".")] {
      names = found.map { "\($0).\(last)" }
    } else {
      return nil
    }
    return names.enumerated().compactMap { i, name in
      let whole = module.path.isEmpty ? name : "\(module.path).\(name)"
      // The text encoder's own list of what it has no use for.
      guard module.component != .textEncoder || CLIPTextEncoder.currentName(whole) != nil else { return nil }
      return Target(
        component: module.component, name: whole, third: names.count == 1 ? nil : i,
        isTransposed: whole == CLIPTextEncoder.projectionName)
    }
  }
}

// MARK: - The rows

extension OriginalNames {
  private static let levels = 4
  private static let layers = 2

  private static let unet: [String: Module] = {
    let resnet = [
      "in_layers.0": ["norm1"], "in_layers.2": ["conv1"], "emb_layers.1": ["time_emb_proj"],
      "out_layers.0": ["norm2"], "out_layers.3": ["conv2"], "skip_connection": ["conv_shortcut"],
    ]
    var rows: [String: Module] = [:]
    func add(_ there: String, _ here: String, _ inside: [String: [String]] = [:]) {
      rows["model.diffusion_model.\(there)"] = Module(component: .unet, path: here, inside: inside)
    }
    add("time_embed.0", "time_embedding.linear_1")
    add("time_embed.2", "time_embedding.linear_2")
    for name in guidance { add(name, "time_embedding.cond_proj") }
    add("label_emb.0.0", "add_embedding.linear_1")
    add("label_emb.0.2", "add_embedding.linear_2")
    add("input_blocks.0.0", "conv_in")
    add("out.0", "conv_norm_out")
    add("out.2", "conv_out")
    for level in 0..<levels {
      let first = 1 + level * (layers + 1)
      for layer in 0..<layers {
        add("input_blocks.\(first + layer).0", "down_blocks.\(level).resnets.\(layer)", resnet)
        add("input_blocks.\(first + layer).1", "down_blocks.\(level).attentions.\(layer)")
      }
      add("input_blocks.\(first + layers).0.op", "down_blocks.\(level).downsamplers.0.conv")
      for layer in 0...layers {
        let block = level * (layers + 1) + layer
        add("output_blocks.\(block).0", "up_blocks.\(level).resnets.\(layer)", resnet)
        add("output_blocks.\(block).1", "up_blocks.\(level).attentions.\(layer)")
      }
      // After the attention where the block has one, else in its place.
      for place in 1...2 {
        add(
          "output_blocks.\(level * (layers + 1) + layers).\(place).conv",
          "up_blocks.\(level).upsamplers.0.conv")
      }
    }
    add("middle_block.0", "mid_block.resnets.0", resnet)
    add("middle_block.1", "mid_block.attentions.0")
    add("middle_block.2", "mid_block.resnets.1", resnet)
    return rows
  }()

  private static let vae: [String: Module] = {
    let same = ["norm1", "conv1", "norm2", "conv2"].map { ($0, [$0]) }
    let resnet = Dictionary(uniqueKeysWithValues: same + [("nin_shortcut", ["conv_shortcut"])])
    let attention = [
      "norm": ["group_norm"], "q": ["to_q"], "k": ["to_k"], "v": ["to_v"], "proj_out": ["to_out.0"],
    ]
    var rows: [String: Module] = [:]
    func add(_ there: String, _ here: String, _ inside: [String: [String]] = [:]) {
      rows["first_stage_model.\(there)"] = Module(component: .vae, path: here, inside: inside)
    }
    add("quant_conv", "quant_conv")
    add("post_quant_conv", "post_quant_conv")
    for half in ["encoder", "decoder"] {
      add("\(half).conv_in", "\(half).conv_in")
      add("\(half).conv_out", "\(half).conv_out")
      add("\(half).norm_out", "\(half).conv_norm_out")
      add("\(half).mid.block_1", "\(half).mid_block.resnets.0", resnet)
      add("\(half).mid.attn_1", "\(half).mid_block.attentions.0", attention)
      add("\(half).mid.block_2", "\(half).mid_block.resnets.1", resnet)
    }
    for level in 0..<levels {
      // The file counts the decoder's resolutions from the finest.
      let up = levels - 1 - level
      for layer in 0..<layers {
        add("encoder.down.\(level).block.\(layer)", "encoder.down_blocks.\(level).resnets.\(layer)", resnet)
      }
      add("encoder.down.\(level).downsample", "encoder.down_blocks.\(level).downsamplers.0")
      for layer in 0...layers {
        add("decoder.up.\(level).block.\(layer)", "decoder.up_blocks.\(up).resnets.\(layer)", resnet)
      }
      add("decoder.up.\(level).upsample", "decoder.up_blocks.\(up).upsamplers.0")
    }
    return rows
  }()

  private static func openCLIP(_ root: String, _ component: ModelFolder.Component, layers: Int) -> [String:
    Module]
  {
    func fused(_ kind: String) -> [String] { ["q", "k", "v"].map { "self_attn.\($0)_proj.\(kind)" } }
    let layer = [
      "ln_1": ["layer_norm1"], "ln_2": ["layer_norm2"], "mlp.c_fc": ["mlp.fc1"], "mlp.c_proj": ["mlp.fc2"],
      "attn.out_proj": ["self_attn.out_proj"], "attn.in_proj_weight": fused("weight"),
      "attn.in_proj_bias": fused("bias"),
    ]
    var whole = [
      "token_embedding": ["embeddings.token_embedding"], "ln_final": ["final_layer_norm"],
      "positional_embedding": ["embeddings.position_embedding.weight"],
    ]
    if component == .textEncoder2 { whole["text_projection"] = [CLIPTextEncoder.projectionName] }
    var rows = [root: Module(component: component, path: "", inside: whole)]
    for i in 0..<layers {
      rows["\(root).transformer.resblocks.\(i)"] = Module(
        component: component, path: "encoder.layers.\(i)", inside: layer)
    }
    return rows
  }
}

// MARK: - With underscores

extension OriginalNames {
  /// The U-Net's rows by their names there, all with `_` for each dot.
  private static let underscored: [String: Module] = {
    var rows: [String: Module] = [:]
    for (name, module) in unet {
      rows[name.replacing("model.diffusion_model.", with: "").replacing(".", with: "_")] = module
    }
    return rows
  }()

  /// What a module of the U-Net is here, both with `_` for each dot; nil for what has no such name.
  static func module(ofUNet name: String) -> String? {
    let parts = name.split(separator: "_", omittingEmptySubsequences: false)
    for length in stride(from: min(parts.count, 8), through: 1, by: -1) {
      guard let module = underscored[parts[..<length].joined(separator: "_")] else { continue }
      let rest = parts[length...].joined(separator: "_")
      let inside = module.inside.first { $0.key.replacing(".", with: "_") == rest }?.value.first ?? rest
      return [module.path.replacing(".", with: "_"), inside.replacing(".", with: "_")].filter { !$0.isEmpty }
        .joined(separator: "_")
    }
    return nil
  }
}

// MARK: - Bookkeeping

extension OriginalNames {
  /// Whether a tensor is none of the networks': constants of the noise schedule, moving averages of the weights,
  /// marks, and what a whole CLIP has beside the part of its text encoder that is used.
  private static func isBookkeeping(_ name: String) -> Bool {
    bookkeeping.contains(name) || bookkeepingModules.contains { name.hasPrefix($0) }
  }

  private static let bookkeeping: Set<String> = {
    var names: Set<String> = [
      "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
      "sqrt_one_minus_alphas_cumprod",
      "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod",
      "posterior_variance", "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2",
      "logvar", "lvlb_weights", "scale_factor", "denoiser.sigmas", "v_pred", "ztsnr",
      "cond_stage_model.model.text_projection",
    ]
    // Beside CLIP's text encoder: a whole CLIP's own, and what ComfyUI writes.
    for root in ["cond_stage_model", "conditioner.embedders.0"] {
      for name in [
        "logit_scale", "text_projection", "text_projection.weight", "transformer.logit_scale",
        "transformer.text_projection.weight", "transformer.visual_projection.weight",
      ] {
        names.insert("\(root).\(name)")
      }
    }
    // Beside OpenCLIP's; the positions' numbers are named as CLIP's by ComfyUI.
    for root in ["cond_stage_model.model", "conditioner.embedders.1.model"] {
      for name in ["logit_scale", "attn_mask", "transformer.text_model.embeddings.position_ids"] {
        names.insert("\(root).\(name)")
      }
    }
    return names
  }()

  private static let bookkeepingModules = [
    "model_ema.", "first_stage_model.loss.", "cond_stage_model.transformer.vision_model.",
    "cond_stage_model.model.visual.",
    "cond_stage_model.model.transformer.resblocks.\(openCLIPLayers).",
  ]
}
