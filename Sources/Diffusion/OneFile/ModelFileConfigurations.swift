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
    let parts: [ModelFolder.Component: [String: Any]] = [
      .unet: unet, .vae: vae, .textEncoder: textEncoder, .scheduler: scheduler,
    ]
    return try parts.mapValues { try JSONSerialization.data(withJSONObject: $0) }
  }

  /// Width of an attention head where the file does not say it: CLIP's text encoders, and Stable Diffusion 2.
  private static let headSize = 64

  /// Height and width of the latents that it was trained on: 512 pixels, or 768 for Stable Diffusion 2's velocity.
  private var sampleSize: Int { isOpenCLIP && prediction.type == .vPrediction ? 96 : 64 }

  /// Stable Diffusion 2.
  private var isOpenCLIP: Bool { if case .stableDiffusion2 = family { true } else { false } }

  private var unet: [String: Any] {
    let root = "model.diffusion_model."
    let published = [320, 640, 1280, 1280]
    let widths = published.enumerated().map { level, width in
      names.size("\(root)input_blocks.\(1 + 3 * level).0.out_layers.3.weight", 0) ?? width
    }
    let block = "\(root)input_blocks.1.1"
    let heads = widths.map { isOpenCLIP ? max($0 / Self.headSize, 1) : 8 }
    return [
      "sample_size": sampleSize, "block_out_channels": widths, "attention_head_dim": heads,
      "in_channels": names.size("\(root)input_blocks.0.0.weight", 1) ?? 4,
      "out_channels": names.size("\(root)out.2.weight", 0) ?? 4,
      "cross_attention_dim": names.size("\(block).transformer_blocks.0.attn2.to_k.weight", 1)
        ?? family.hiddenSize,
      "use_linear_projection": names.declarations["\(block).proj_in.weight"]?.shape.count == 2,
      // fp16 and bf16 cannot hold the scores of some of these models.
      "upcast_attention": isOpenCLIP,
    ]
  }

  private var vae: [String: Any] {
    let published = [128, 256, 512, 512]
    let widths = published.enumerated().map { level, width in
      names.size("first_stage_model.encoder.down.\(level).block.0.conv1.weight", 0) ?? width
    }
    return [
      "block_out_channels": widths, "layers_per_block": 2, "scaling_factor": 0.18215,
      "latent_channels": names.size("first_stage_model.decoder.conv_in.weight", 1) ?? 4,
      "sample_size": sampleSize * 8,
      "down_block_types": Array(repeating: "DownEncoderBlock2D", count: 4),
      "up_block_types": Array(repeating: "UpDecoderBlock2D", count: 4),
    ]
  }

  private var textEncoder: [String: Any] {
    func size(_ names: [String], _ dimension: Int) -> Int? {
      names.lazy.compactMap { self.names.size($0, dimension) }.first
    }
    let clip = ["cond_stage_model.transformer.text_model.", "cond_stage_model.transformer."]
    let open = "cond_stage_model.model."
    let (isOpen, hiddenSize) = (isOpenCLIP, family.hiddenSize)
    let tables =
      isOpen ? ["\(open)token_embedding.weight"] : clip.map { "\($0)embeddings.token_embedding.weight" }
    let positions =
      isOpen ? ["\(open)positional_embedding"] : clip.map { "\($0)embeddings.position_embedding.weight" }
    func inner(_ layer: Int) -> [String] {
      isOpen
        ? ["\(open)transformer.resblocks.\(layer).mlp.c_fc.weight"]
        : clip.map { "\($0)encoder.layers.\(layer).mlp.fc1.weight" }
    }
    let most = isOpen ? OriginalNames.openCLIPLayers : 256
    let layers = (0..<most).prefix { size(inner($0), 0) != nil }.count
    return [
      "hidden_size": hiddenSize, "intermediate_size": size(inner(0), 0) ?? 4 * hiddenSize,
      "num_hidden_layers": max(layers, 1), "num_attention_heads": max(hiddenSize / Self.headSize, 1),
      "max_position_embeddings": size(positions, 0) ?? 77, "vocab_size": size(tables, 0) ?? 49_408,
      "hidden_act": isOpen ? "gelu" : "quick_gelu",
    ]
  }

  /// As both families were trained.
  private var scheduler: [String: Any] {
    var keys: [String: Any] = [
      "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000,
      "steps_offset": 1, "skip_prk_steps": true, "set_alpha_to_one": false, "clip_sample": false,
      "prediction_type": prediction.type.rawValue,
    ]
    if prediction.hasZeroTerminalSNR {
      keys["rescale_betas_zero_snr"] = true
      keys["timestep_spacing"] = "trailing"
    }
    return keys
  }
}
