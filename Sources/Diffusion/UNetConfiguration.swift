import Files

/// `unet/config.json` of a conditional U-Net, diffusers' `UNet2DConditionModel`.
///
/// A key that is absent has the reference's default. Switches of the reference that are not
/// implemented are refused by name when they are on; unknown keys are left alone.
public struct UNetConfiguration: Codable, Sendable, Equatable {
  /// Height and width of the latents the model was trained on; a default for images' sizes only.
  public var sampleSize: Int
  /// Channels of the latents, in and out.
  public var inChannels: Int
  public var outChannels: Int
  /// Whether the latents are first mapped x ↦ 2x − 1.
  public var centerInputSample: Bool
  /// Cosines before sines in the timestep's embedding.
  public var flipSinToCos: Bool
  /// Subtracted from the number of frequencies in their exponent's denominator.
  public var freqShift: Double
  /// One block per resolution, from the finest to the coarsest.
  public var downBlockTypes: [DownBlock]
  public var midBlockType: MidBlock
  /// From the coarsest to the finest.
  public var upBlockTypes: [UpBlock]
  /// Channels of each resolution, from the finest to the coarsest.
  public var blockOutChannels: [Int]
  /// Residual blocks of each resolution on the way down; one more on the way up.
  public var layersPerBlock: [Int]
  /// Transformer blocks in each spatial transformer, for each resolution.
  public var transformerLayersPerBlock: [Int]
  /// Attention *heads* of each resolution. The name is the reference's: in its U-Nets the key
  /// `attention_head_dim` holds the number of heads.
  public var attentionHeads: [Int]
  /// d, the size of the text encoder's hidden states.
  public var crossAttentionDim: Int
  /// Spatial transformers project with a matrix (SD 2) or with a 1×1 convolution (SD 1): only the
  /// shape in the file differs.
  public var useLinearProjection: Bool
  /// Attention is computed in fp32 whatever the dtype.
  public var upcastAttention: Bool
  /// 1, or 0: then one row and column are added at the end only.
  public var downsamplePadding: Int
  /// The residual sums of the middle block are divided by it.
  public var midBlockScaleFactor: Double
  public var activation: Activation
  public var normGroups: Int
  public var normEpsilon: Double
  /// The size of the timestep's embedding; nil for four times the first width.
  public var timeEmbeddingDim: Int?
  /// The size of the guidance's embedding, which is added to the timestep's: U-Nets that were distilled with
  /// guidance (LCM) are told its scale. nil for all others.
  public var guidanceChannels: Int?
  /// What is embedded beside the timestep: nil, or in SDXL a pooled text and sizes.
  public var additionType: AdditionType?
  /// The size of each of the sizes' embeddings, and of all these with the pooled text.
  public var additionTimeChannels: Int?
  public var additionChannels: Int?

  public enum AdditionType: String, Codable, Sendable, CaseIterable {
    case textTime = "text_time"
  }

  /// A pooled text and sizes, embedded and added to the timestep's embedding.
  struct Addition {
    /// Of each size's embedding.
    let sizeChannels: Int
    let pooledSize: Int
    /// Of the sizes' embeddings and the pooled text together.
    var channels: Int { pooledSize + SizeConditioning.count * sizeChannels }
  }

  /// Nil where the U-Net takes neither.
  var addition: Addition? {
    guard additionType != nil, let each = additionTimeChannels, let all = additionChannels else { return nil }
    return Addition(sizeChannels: each, pooledSize: all - SizeConditioning.count * each)
  }

  public enum DownBlock: String, Codable, Sendable, CaseIterable {
    case crossAttention = "CrossAttnDownBlock2D"
    case plain = "DownBlock2D"
  }

  public enum UpBlock: String, Codable, Sendable, CaseIterable {
    case crossAttention = "CrossAttnUpBlock2D"
    case plain = "UpBlock2D"
  }

  /// Distilled models leave the middle out: `null` in the file.
  public enum MidBlock: Codable, Sendable, Equatable {
    case crossAttention
    case none

    static let name = "UNetMidBlock2DCrossAttn"

    public init(from decoder: any Decoder) throws {
      switch try JSONValue(from: decoder) {
      case .null: self = .none
      case .string(Self.name): self = .crossAttention
      case let other: throw DiffusionError("“mid_block_type” is \(other); supported: \(Self.name), null")
      }
    }

    public func encode(to encoder: any Encoder) throws {
      var c = encoder.singleValueContainer()
      if self == .none { try c.encodeNil() } else { try c.encode(Self.name) }
    }
  }

  enum CodingKeys: String, CodingKey {
    case sampleSize = "sample_size"
    case inChannels = "in_channels"
    case outChannels = "out_channels"
    case centerInputSample = "center_input_sample"
    case flipSinToCos = "flip_sin_to_cos"
    case freqShift = "freq_shift"
    case downBlockTypes = "down_block_types"
    case midBlockType = "mid_block_type"
    case upBlockTypes = "up_block_types"
    case blockOutChannels = "block_out_channels"
    case layersPerBlock = "layers_per_block"
    case transformerLayersPerBlock = "transformer_layers_per_block"
    case attentionHeads = "attention_head_dim"
    case crossAttentionDim = "cross_attention_dim"
    case useLinearProjection = "use_linear_projection"
    case upcastAttention = "upcast_attention"
    case downsamplePadding = "downsample_padding"
    case midBlockScaleFactor = "mid_block_scale_factor"
    case activation = "act_fn"
    case normGroups = "norm_num_groups"
    case normEpsilon = "norm_eps"
    case timeEmbeddingDim = "time_embedding_dim"
    case guidanceChannels = "time_cond_proj_dim"
    case additionType = "addition_embed_type"
    case additionTimeChannels = "addition_time_embed_dim"
    case additionChannels = "projection_class_embeddings_input_dim"
  }
}

/// Bounds on what a configuration may ask for, far above published models. They keep all arithmetic
/// on sizes from overflowing; memory is bounded by the weights, which must have the shapes.
enum ConfigurationLimits {
  static let channels = 1...(1 << 16)
  static let blocks = 16
  static let layers = 1...64
  static let sampleSize = 1...(1 << 16)
}

extension UNetConfiguration {
  /// Reads the published JSON.
  ///
  /// - Throws: `DiffusionError` or `DecodingError` naming the key, its value and what is supported;
  ///   `JSONFile.decode` adds the file.
  public init(from decoder: any Decoder) throws {
    let json = try ConfigurationReader(decoder)
    for (name, supported) in Self.fixed { try json.require(name, supported) }
    let channels = ConfigurationLimits.channels
    blockOutChannels = try json.integers(
      "block_out_channels", default: [320, 640, 1280, 1280], in: channels, limit: ConfigurationLimits.blocks)
    let count = blockOutChannels.count
    sampleSize = try json.uniform("sample_size", default: 64, in: ConfigurationLimits.sampleSize)
    inChannels = try json.integer("in_channels", default: 4, in: channels)
    outChannels = try json.integer("out_channels", default: 4, in: channels)
    centerInputSample = try json.value("center_input_sample", default: false)
    flipSinToCos = try json.value("flip_sin_to_cos", default: true)
    freqShift = try json.number("freq_shift", default: 0, in: 0...1)
    downBlockTypes = try json.blockTypes(
      "down_block_types", default: [.crossAttention, .crossAttention, .crossAttention, .plain], count: count)
    midBlockType = try json.present("mid_block_type", default: .crossAttention)
    upBlockTypes = try json.blockTypes(
      "up_block_types", default: [.plain, .crossAttention, .crossAttention, .crossAttention], count: count)
    let layers = ConfigurationLimits.layers
    layersPerBlock = try json.perBlock("layers_per_block", default: 2, in: layers, count: count)
    transformerLayersPerBlock = try json.perBlock(
      "transformer_layers_per_block", default: 1, in: layers, count: count)
    attentionHeads = try json.perBlock("attention_head_dim", default: 8, in: channels, count: count)
    crossAttentionDim = try json.uniform("cross_attention_dim", default: 1280, in: channels)
    useLinearProjection = try json.value("use_linear_projection", default: false)
    upcastAttention = try json.value("upcast_attention", default: false)
    downsamplePadding = try json.integer("downsample_padding", default: 1, in: 0...1)
    midBlockScaleFactor = try json.number("mid_block_scale_factor", default: 1, in: 1e-6...1e6)
    activation = try json.choice("act_fn", json.value("act_fn", default: "silu").lowercased())
    normGroups = try json.integer("norm_num_groups", default: 32, in: channels)
    normEpsilon = try json.number("norm_eps", default: 1e-5, in: 0...1)
    let time = try json.integer("time_embedding_dim", default: 0, in: 0...channels.upperBound)
    timeEmbeddingDim = time == 0 ? nil : time
    // Two frequencies are the fewest that have a spacing.
    let guidance = try json.present("time_cond_proj_dim", default: Int?.none)
    guidanceChannels = try guidance.map { _ in
      try json.integer("time_cond_proj_dim", default: 256, in: 4...channels.upperBound)
    }
    additionType = try json.value("addition_embed_type", default: String?.none)
      .map { try json.choice("addition_embed_type", $0) }
    if additionType != nil {
      additionTimeChannels = try json.integer("addition_time_embed_dim", in: 2...channels.upperBound)
      additionChannels = try json.integer(
        "projection_class_embeddings_input_dim", in: 1...SizeConditioning.count * channels.upperBound * 2)
    }
    try validate()
  }

  /// Switches of the reference that are not implemented, and the values with which they do nothing.
  private static let fixed: [(String, [JSONValue])] = [
    ("_class_name", [.string("UNet2DConditionModel")]),
    ("only_cross_attention", [.bool(false), .null]),
    ("mid_block_only_cross_attention", [.bool(false), .null]),
    ("dual_cross_attention", [.bool(false), .null]),
    ("num_attention_heads", [.null]),
    ("reverse_transformer_layers_per_block", [.null]),
    ("encoder_hid_dim", [.null]),
    ("encoder_hid_dim_type", [.null]),
    ("class_embed_type", [.null]),
    ("num_class_embeds", [.null]),
    ("class_embeddings_concat", [.bool(false), .null]),
    ("resnet_time_scale_shift", [.string("default"), .null]),
    ("resnet_skip_time_act", [.bool(false), .null]),
    ("time_embedding_type", [.string("positional"), .null]),
    ("time_embedding_act_fn", [.null]),
    ("timestep_post_act", [.null]),
    ("conv_in_kernel", [.number(3), .null]),
    ("conv_out_kernel", [.number(3), .null]),
    ("attention_type", [.string("default"), .null]),
    ("cross_attention_norm", [.null]),
  ]

  private func validate() throws {
    for (channels, heads) in zip(blockOutChannels, attentionHeads) {
      guard channels.isMultiple(of: normGroups) else {
        throw DiffusionError(
          "“block_out_channels” \(channels) is no multiple of “norm_num_groups” \(normGroups)")
      }
      guard channels.isMultiple(of: heads) else {
        throw DiffusionError(
          "“block_out_channels” \(channels) is no multiple of “attention_head_dim” \(heads), the number of heads"
        )
      }
    }
    guard Double(blockOutChannels[0] / 2) - freqShift > 0 else {
      throw DiffusionError(
        "“block_out_channels” \(blockOutChannels[0]) is too small to embed the timestep; it must be 4 or more"
      )
    }
    if let addition {
      guard Double(addition.sizeChannels / 2) - freqShift > 0 else {
        throw DiffusionError(
          "“addition_time_embed_dim” \(addition.sizeChannels) is too small to embed sizes; it must be 4 or more"
        )
      }
      guard addition.pooledSize > 0 else {
        throw DiffusionError(
          "“projection_class_embeddings_input_dim” \(addition.channels) leaves nothing for the pooled text beside "
            + "\(SizeConditioning.count) times “addition_time_embed_dim” \(addition.sizeChannels)")
      }
    }
  }
}
