import Files

/// `vae/config.json` of a variational autoencoder, diffusers' `AutoencoderKL`.
///
/// A key that is absent has the reference's default.
public struct VAEConfiguration: Codable, Sendable, Equatable {
  /// Channels of the images, in and out.
  public var inChannels: Int
  public var outChannels: Int
  /// Channels of the latents.
  public var latentChannels: Int
  /// Channels of each resolution, from the finest to the coarsest.
  public var blockOutChannels: [Int]
  /// Residual blocks of each resolution in the encoder; the decoder has one more.
  public var layersPerBlock: Int
  public var downBlockTypes: [DownBlock]
  public var upBlockTypes: [UpBlock]
  public var activation: Activation
  public var normGroups: Int
  /// Height and width of the images it was trained on; nothing depends on it.
  public var sampleSize: Int
  /// What latents are multiplied with to have unit variance.
  public var scalingFactor: Double
  /// Whether the middle blocks have attention.
  public var midBlockAddAttention: Bool
  /// Whether 1×1 convolutions stand behind the encoder and before the decoder.
  public var useQuantConvolution: Bool
  public var usePostQuantConvolution: Bool

  public enum DownBlock: String, Codable, Sendable, CaseIterable {
    case plain = "DownEncoderBlock2D"
  }

  public enum UpBlock: String, Codable, Sendable, CaseIterable {
    case plain = "UpDecoderBlock2D"
  }

  /// How many pixels a latent is wide and high: 8 in Stable Diffusion.
  public var factor: Int { 1 << (blockOutChannels.count - 1) }

  enum CodingKeys: String, CodingKey {
    case inChannels = "in_channels"
    case outChannels = "out_channels"
    case latentChannels = "latent_channels"
    case blockOutChannels = "block_out_channels"
    case layersPerBlock = "layers_per_block"
    case downBlockTypes = "down_block_types"
    case upBlockTypes = "up_block_types"
    case activation = "act_fn"
    case normGroups = "norm_num_groups"
    case sampleSize = "sample_size"
    case scalingFactor = "scaling_factor"
    case midBlockAddAttention = "mid_block_add_attention"
    case useQuantConvolution = "use_quant_conv"
    case usePostQuantConvolution = "use_post_quant_conv"
  }

  /// Reads the published JSON.
  ///
  /// - Throws: `DiffusionError` or `DecodingError` naming the key, its value and what is supported;
  ///   `JSONFile.decode` adds the file.
  public init(from decoder: any Decoder) throws {
    let json = try ConfigurationReader(decoder)
    for (name, supported) in Self.fixed { try json.require(name, supported) }
    let channels = ConfigurationLimits.channels
    blockOutChannels = try json.integers(
      "block_out_channels", default: [64], in: channels, limit: ConfigurationLimits.blocks)
    let count = blockOutChannels.count
    inChannels = try json.integer("in_channels", default: 3, in: channels)
    outChannels = try json.integer("out_channels", default: 3, in: channels)
    latentChannels = try json.integer("latent_channels", default: 4, in: channels)
    layersPerBlock = try json.integer("layers_per_block", default: 1, in: ConfigurationLimits.layers)
    downBlockTypes = try json.blockTypes("down_block_types", default: [.plain], count: count)
    upBlockTypes = try json.blockTypes("up_block_types", default: [.plain], count: count)
    activation = try json.choice("act_fn", json.value("act_fn", default: "silu").lowercased())
    normGroups = try json.integer("norm_num_groups", default: 32, in: channels)
    sampleSize = try json.uniform("sample_size", default: 32, in: ConfigurationLimits.sampleSize)
    scalingFactor = try json.number("scaling_factor", default: 0.18215, in: 1e-6...1e6)
    midBlockAddAttention = try json.value("mid_block_add_attention", default: true)
    useQuantConvolution = try json.value("use_quant_conv", default: true)
    usePostQuantConvolution = try json.value("use_post_quant_conv", default: true)
    for width in blockOutChannels where !width.isMultiple(of: normGroups) {
      throw DiffusionError("“block_out_channels” \(width) is no multiple of “norm_num_groups” \(normGroups)")
    }
  }

  /// Switches of the reference that are not implemented, and the values with which they do nothing.
  private static let fixed: [(String, [JSONValue])] = [
    ("_class_name", [.string("AutoencoderKL")]),
    ("shift_factor", [.null, .number(0)]),
    ("latents_mean", [.null]),
    ("latents_std", [.null]),
  ]
}
