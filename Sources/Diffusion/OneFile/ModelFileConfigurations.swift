import Files
import Foundation

/// The configurations of a model in one file: what the family has in common, with the sizes of the tensors. They are
/// JSON as in a folder, and are read and checked as that is. Where a tensor lacks, the published size stands, and
/// whoever loads the network names what is missing.
struct ModelFileConfigurations {
  private let names: TensorNames
  private let family: ModelFamily
  private let prediction: PredictionEvidence

  init(_ names: TensorNames, _ family: ModelFamily, _ prediction: PredictionEvidence) {
    self.names = names
    self.family = family
    self.prediction = prediction
  }

  /// The JSON of each part.
  func encoded() throws -> [ModelFolder.Component: Data] {
    var parts: [ModelFolder.Component: [String: Any]] = [.unet: unet, .vae: vae, .scheduler: scheduler]
    switch family {
    case .stableDiffusion1(let size): parts[.textEncoder] = clip(size, ModelFamily.clip)
    case .stableDiffusion2(let size):
      parts[.textEncoder] = openCLIP(size, ModelFamily.openCLIP, layers: OriginalNames.openCLIPLayers)
    case .stableDiffusionXL(let sizes):
      parts[.textEncoder] = clip(sizes[0], [ModelFamily.clipXL])
      var second = openCLIP(sizes[1], ModelFamily.openCLIPXL, layers: OriginalNames.openCLIPLayersXL)
      second["projection_dim"] = names.size("\(ModelFamily.openCLIPXL)text_projection", 1) ?? sizes[1]
      parts[.textEncoder2] = second
    }
    return try parts.mapValues { try JSONSerialization.data(withJSONObject: $0) }
  }

  /// Width of an attention head where the file does not say it: CLIP's text encoders, and the U-Nets of Stable
  /// Diffusion 2 and XL.
  private static let headSize = 64

  /// Height and width of the latents that it was trained on: 512 pixels, 768 for Stable Diffusion 2's velocity, 1024
  /// for SDXL.
  private var sampleSize: Int {
    switch family {
    case .stableDiffusion1: 64
    case .stableDiffusion2: prediction.type == .vPrediction ? 96 : 64
    case .stableDiffusionXL: 128
    }
  }

  private var unet: [String: Any] {
    let root = TransformerDepths.unet
    let published = family.isXL ? [320, 640, 1280] : [320, 640, 1280, 1280]
    let widths = published.enumerated().map { level, width in
      names.size("\(root)input_blocks.\(1 + 3 * level).0.out_layers.3.weight", 0) ?? width
    }
    let block = "\(root)input_blocks.\(family.isXL ? 4 : 1).1"
    var heads = Array(repeating: 8, count: widths.count)
    if case .stableDiffusion1 = family {} else { heads = widths.map { max($0 / Self.headSize, 1) } }
    var keys: [String: Any] = [
      "sample_size": sampleSize, "block_out_channels": widths, "attention_head_dim": heads,
      "in_channels": names.size("\(root)input_blocks.0.0.weight", 1) ?? 4,
      "out_channels": names.size("\(root)out.2.weight", 0) ?? 4,
      "cross_attention_dim": names.size("\(block).transformer_blocks.0.attn2.to_k.weight", 1)
        ?? family.hiddenSizes.reduce(0, +),
      "use_linear_projection": names.declarations["\(block).proj_in.weight"]?.shape.count == 2,
    ]
    // As published: 2.1 for 768 pixels asks for it, 2 and 2.1 for 512 do not. 2 for 768 does not, either, but nothing
    // in its tensors tells it from 2.1.
    if case .stableDiffusion2 = family, prediction.type == .vPrediction { keys["upcast_attention"] = true }
    if let channels = ModelFamily.guidance.lazy.compactMap({ names.size($0, 1) }).first {
      keys["time_cond_proj_dim"] = channels
    }
    if family.isXL {
      keys["down_block_types"] = ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"]
      keys["up_block_types"] = ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"]
      keys["transformer_layers_per_block"] = TransformerDepths(names).levels
      keys["addition_embed_type"] = "text_time"
      keys["addition_time_embed_dim"] = 256
      keys["projection_class_embeddings_input_dim"] = names.size("\(root)label_emb.0.0.weight", 1) ?? 2816
    }
    return keys
  }

  private var vae: [String: Any] {
    let published = [128, 256, 512, 512]
    let widths = published.enumerated().map { level, width in
      names.size("first_stage_model.encoder.down.\(level).block.0.conv1.weight", 0) ?? width
    }
    return [
      "block_out_channels": widths, "layers_per_block": 2,
      "scaling_factor": family.isXL ? 0.13025 : 0.18215,
      "latent_channels": names.size("first_stage_model.decoder.conv_in.weight", 1) ?? 4,
      "sample_size": sampleSize * 8,
      "down_block_types": Array(repeating: "DownEncoderBlock2D", count: 4),
      "up_block_types": Array(repeating: "UpDecoderBlock2D", count: 4),
    ]
  }

  /// - Parameter roots: where it may be.
  private func clip(_ hiddenSize: Int, _ roots: [String]) -> [String: Any] {
    text(
      hiddenSize, layers: 256, table: roots.map { "\($0)embeddings.token_embedding.weight" },
      positions: roots.map { "\($0)embeddings.position_embedding.weight" }, activation: "quick_gelu"
    ) { layer in roots.map { "\($0)encoder.layers.\(layer).mlp.fc1.weight" } }
  }

  private func openCLIP(_ hiddenSize: Int, _ root: String, layers: Int) -> [String: Any] {
    text(
      hiddenSize, layers: layers, table: ["\(root)token_embedding.weight"],
      positions: ["\(root)positional_embedding"], activation: "gelu"
    ) { layer in ["\(root)transformer.resblocks.\(layer).mlp.c_fc.weight"] }
  }

  /// - Parameters:
  ///   - layers: the most it may have.
  ///   - inner: names of a layer's first matrix.
  private func text(
    _ hiddenSize: Int, layers most: Int, table: [String], positions: [String], activation: String,
    inner: (_ layer: Int) -> [String]
  ) -> [String: Any] {
    func size(_ names: [String], _ dimension: Int) -> Int? {
      names.lazy.compactMap { self.names.size($0, dimension) }.first
    }
    let layers = (0..<most).prefix { size(inner($0), 0) != nil }.count
    return [
      "hidden_size": hiddenSize, "intermediate_size": size(inner(0), 0) ?? 4 * hiddenSize,
      "num_hidden_layers": max(layers, 1), "num_attention_heads": max(hiddenSize / Self.headSize, 1),
      "max_position_embeddings": size(positions, 0) ?? 77, "vocab_size": size(table, 0) ?? 49_408,
      "hidden_act": activation,
    ]
  }

  /// As the families were trained.
  private var scheduler: [String: Any] {
    var keys: [String: Any] = [
      "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
      "steps_offset": 1, "skip_prk_steps": true, "set_alpha_to_one": false, "clip_sample": false,
      "prediction_type": prediction.type.rawValue,
    ]
    if family.isXL { keys["timestep_spacing"] = "leading" }
    if prediction.hasZeroTerminalSNR {
      keys["rescale_betas_zero_snr"] = true
      keys["timestep_spacing"] = "trailing"
    }
    return keys
  }
}

/// How many blocks the spatial transformers of SDXL's U-Net have, counted in the names of a file.
struct TransformerDepths {
  static let unet = "model.diffusion_model."
  /// Of each resolution; 1 where there is none.
  let levels: [Int]
  /// Whether transformers of one resolution differ.
  let isUneven: Bool

  private static let places = [
    [], ["input_blocks.4", "input_blocks.5", "output_blocks.3", "output_blocks.4", "output_blocks.5"],
    [
      "input_blocks.7", "input_blocks.8", "middle_block", "output_blocks.0", "output_blocks.1",
      "output_blocks.2",
    ],
  ]

  init(_ names: TensorNames) {
    let counts = Self.places.map { places in
      places.map { place in
        (0..<ConfigurationLimits.layers.upperBound).prefix {
          names.has("\(Self.unet)\(place).1.transformer_blocks.\($0).norm1.weight")
        }.count
      }
    }
    levels = counts.map { max($0.first ?? 1, 1) }
    isUneven = counts.contains { Set($0).count > 1 }
  }
}
