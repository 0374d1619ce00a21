import Files

/// Which base model a file holds, told by its tensors.
enum ModelFamily: Sendable {
  /// With CLIP's text encoder.
  case stableDiffusion1(hiddenSize: Int)
  /// With OpenCLIP's.
  case stableDiffusion2(hiddenSize: Int)
  /// With both.
  case stableDiffusionXL(hiddenSizes: [Int])

  /// What to do instead.
  static let advice = "name a model of Stable Diffusion 1, 2 or XL, as one file or as a folder"

  /// Where CLIP's text encoder is in a file, with the names of today and of old files.
  static let clip = ["cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."]
  static let openCLIP = "cond_stage_model.model."
  /// SDXL's two.
  static let clipXL = "conditioner.embedders.0.transformer.text_model."
  static let openCLIPXL = "conditioner.embedders.1.model."

  /// - Throws: `DiffusionError` that says what the file is instead.
  init(_ names: TensorNames) throws {
    if let other = Self.others.first(where: { $0.fits(names) }) {
      throw DiffusionError("it is \(other.what); \(Self.advice)")
    }
    let table = "embeddings.token_embedding.weight"
    if let second = names.size("\(Self.openCLIPXL)token_embedding.weight", 1),
      let first = names.size(Self.clipXL + table, 1)
    {
      self = .stableDiffusionXL(hiddenSizes: [first, second])
    } else if let hidden = names.size("\(Self.openCLIP)token_embedding.weight", 1) {
      self = .stableDiffusion2(hiddenSize: hidden)
    } else if let hidden = Self.clip.lazy.compactMap({ names.size($0 + table, 1) }).first {
      guard names.declarations["\(Self.unet)input_blocks.1.1.proj_in.weight"]?.shape.count != 2 else {
        throw DiffusionError(
          "it has the U-Net of Stable Diffusion 2 (linear projections) and the names of Stable Diffusion 1's text encoder "
            + "(\(Self.clip[1])…), which is not supported; name the model's folder in the diffusers layout")
      }
      self = .stableDiffusion1(hiddenSize: hidden)
    } else {
      throw DiffusionError("it has no text encoder of Stable Diffusion; \(Self.advice)")
    }
    for size in hiddenSizes where !ConfigurationLimits.channels.contains(size) {
      throw DiffusionError("its text encoder has the hidden size \(size)")
    }
  }

  /// d of each text encoder.
  var hiddenSizes: [Int] {
    switch self {
    case .stableDiffusion1(let size), .stableDiffusion2(let size): [size]
    case .stableDiffusionXL(let sizes): sizes
    }
  }

  var isXL: Bool { if case .stableDiffusionXL = self { true } else { false } }

  var title: String {
    switch self {
    case .stableDiffusion1: "Stable Diffusion 1.x"
    case .stableDiffusion2: "Stable Diffusion 2.x"
    case .stableDiffusionXL: "Stable Diffusion XL"
    }
  }

  var reason: String {
    switch self {
    case .stableDiffusion1(let size): "its text encoder is CLIP's, of hidden size \(size)"
    case .stableDiffusion2(let size): "its text encoder is OpenCLIP's, of hidden size \(size)"
    case .stableDiffusionXL(let sizes):
      "it has two text encoders, CLIP's and OpenCLIP's, of hidden sizes "
        + sizes.map(String.init).joined(separator: " and ")
    }
  }

  /// What fills a prompt up for each text encoder.
  var padTokens: [String] {
    switch self {
    case .stableDiffusion1: ["<|endoftext|>"]
    case .stableDiffusion2: ["!"]
    case .stableDiffusionXL: ["<|endoftext|>", "!"]
    }
  }
}

// MARK: - What is no base model

extension ModelFamily {
  private struct Other {
    let what: String
    let fits: @Sendable (TensorNames) -> Bool

    init(_ what: String, _ fits: @escaping @Sendable (TensorNames) -> Bool) {
      self.what = what
      self.fits = fits
    }
  }

  private static let unet = "model.diffusion_model."

  private static func isXL(_ names: TensorNames) -> Bool { names.has(in: "conditioner.embedders.") }

  /// The convolution whose inputs tell what the U-Net takes.
  static let inputs = "\(unet)input_blocks.0.0.weight"

  /// What takes the guidance into a U-Net that was distilled with it (LCM). There was none in the names of Rombach et
  /// al.: diffusers' script for such files leaves its own, others go by the modules around it.
  static let guidance = OriginalNames.guidance.map { "\(unet)\($0).weight" }

  /// In this order: what is said first holds.
  private static let others: [Other] = [
    Other("empty: there is no tensor in it") { $0.declarations.isEmpty },
    Other("a LoRA (or a relative of one), which changes a base model: add it with `lora`") {
      $0.hasPart(["lora", "hada_w", "lokr_w", "oft_"])
    },
    Other("a ControlNet, which steers a base model") {
      $0.has(in: "control_model.") || $0.has(in: "controlnet_cond_embedding.")
        || $0.has(in: "input_hint_block.")
    },
    Other("an IP-Adapter, which steers a base model") {
      $0.has(in: "ip_adapter.") || $0.has(in: "image_proj.")
    },
    Other("Stable Diffusion 3, which is not supported") {
      $0.has(in: "\(unet)joint_blocks.") || $0.has(in: "joint_blocks.")
    },
    Other("FLUX, which is not supported") {
      $0.has(in: "\(unet)double_blocks.") || $0.has(in: "double_blocks.")
    },
    Other("SDXL's refiner, which is not supported") { $0.has(in: "conditioner.embedders.0.model.") },
    Other("InstructPix2Pix of SDXL, or another model that edits images (its U-Net takes 8 channels)") {
      isXL($0) && $0.size(inputs, 1) == 8
    },
    Other("Playground 2.5 or another model of SDXL with the noise levels of EDM, which are not supported") {
      $0.has("edm_mean") || $0.has("edm_vpred.sigma_max") || $0.has("edm_vpred.sigma_min")
    },
    Other("a model of SDXL with fewer blocks (SSD-1B, Segmind Vega or the like), which is not supported") {
      isXL($0) && TransformerDepths($0).isUneven
    },
    Other("InstructPix2Pix, or another model that edits images (its U-Net takes 8 channels)") {
      $0.size(inputs, 1) == 8
    },
    Other(
      "an upscaler, a depth model or another that takes an image (its U-Net takes neither 4 channels nor 9)"
    ) {
      names in names.size(inputs, 1).map { ![4, 9].contains($0) } ?? false
    },
    Other("a model conditioned on more than a text (an upscaler or unCLIP)") {
      !isXL($0) && $0.has(in: "\(unet)label_emb.") || $0.has(in: "embedder.")
    },
    Other("a U-Net alone, without text encoder and VAE") { names in
      let isBare =
        names.has("input_blocks.0.0.weight") || names.has("conv_in.weight") && names.has(in: "down_blocks.")
      return isBare
        || names.has(in: unet) && !names.has(in: "first_stage_model.") && !names.has(in: "cond_stage_model.")
          && !isXL(names)
    },
    Other("a VAE alone") { names in
      let isBare = names.has("encoder.conv_in.weight") || names.has("decoder.conv_in.weight")
      return isBare || names.has(in: "first_stage_model.") && !names.has(in: unet)
    },
    Other("a text encoder alone") {
      !$0.has(in: unet)
        && ($0.has(in: "text_model.") || $0.has(in: "cond_stage_model.") || isXL($0)
          || $0.has(in: "transformer.resblocks."))
    },
    Other("an embedding, which is a word for a prompt: give it with `concept`, beside a model") { names in
      names.declarations.count <= 8
        && names.declarations.values.allSatisfy { (1...2).contains($0.shape.count) }
    },
    Other("no model of Stable Diffusion: it has no U-Net") { !$0.has(in: unet) },
    Other("without a VAE") { !$0.has(in: "first_stage_model.") },
  ]
}
