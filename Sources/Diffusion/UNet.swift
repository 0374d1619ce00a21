public import Torch

/// What one cross-attention layer looks at: a sequence that its keys are made from and one for its
/// values, before the layer's own projections.
public struct CrossAttentionContext {
  /// [B, S, d]
  public let keys: Tensor
  /// [B, S, d]; may be the same tensor.
  public let values: Tensor

  public init(keys: Tensor, values: Tensor) {
    self.keys = keys
    self.values = values
  }

  /// One sequence for both, as Stable Diffusion does it.
  public init(_ sequence: Tensor) { self.init(keys: sequence, values: sequence) }
}

/// The denoiser of a latent diffusion model (Rombach et al. 2022), as diffusers'
/// `UNet2DConditionModel` computes it.
///
/// The weights are frozen: none requires a gradient. Results are differentiable with respect to
/// latents and contexts.
public final class UNet {
  public let configuration: UNetConfiguration
  /// As `crossAttentionLayers(_:)`.
  public let crossAttentionLayers: [String]
  private let convolutionIn: Convolution
  private let time: TimestepEmbedding
  private let blocks: [UNetBlock]
  private let normOut: GroupNorm
  private let convolutionOut: Convolution

  /// The spatial transformers in execution order, the space axis of NeTI. All blocks of one attend to the same.
  ///
  /// They are diffusers' paths: `down_blocks.1.attentions.0` where a transformer has several blocks, as in SDXL, and
  /// of its only block else, `down_blocks.0.attentions.0.transformer_blocks.0`.
  public static func crossAttentionLayers(_ configuration: UNetConfiguration) -> [String] {
    configuration.blocks.flatMap(\.crossAttentionLayers)
  }

  /// What it computes in.
  var dtype: DType { convolutionIn.weight.dtype }

  /// - Parameter weights: the whole file of the U-Net; its dtype is the one that is computed in.
  /// - Throws: `DiffusionError` naming the first tensor that is missing or misshapen, or those that
  ///   are left over.
  public init(_ configuration: UNetConfiguration, weights: Weights) throws {
    let c = configuration
    self.configuration = c
    convolutionIn = try Convolution(c.inChannels, c.blockOutChannels[0], weights / "conv_in")
    time = try TimestepEmbedding(c, weights)
    var blocks: [UNetBlock] = []
    var layers: [String] = []
    for plan in c.blocks {
      blocks.append(try UNetBlock(plan, c, firstLayer: layers.count, weights))
      layers += plan.crossAttentionLayers
    }
    self.blocks = blocks
    crossAttentionLayers = layers
    normOut = try GroupNorm(
      c.blockOutChannels[0], groups: c.normGroups, epsilon: c.normEpsilon, weights / "conv_norm_out")
    convolutionOut = try Convolution(c.blockOutChannels[0], c.outChannels, weights / "conv_out")
    try weights.finish()
  }

  /// The model's output (noise, velocity: the scheduler's `prediction_type`) for noisy latents.
  ///
  /// - Parameters:
  ///   - latents: [B, C, h, w]; converted to the weights' dtype.
  ///   - timesteps: [B], or [1] for all; need not be whole.
  ///   - context: one for all layers, or one per layer in the order of `crossAttentionLayers`.
  ///   - added: a pooled text and sizes, for a U-Net that takes them (SDXL); nil for all others.
  ///   - guidance: the scale that a U-Net with `guidanceChannels` shall have; others leave it alone.
  /// - Returns: [B, outChannels, h, w] in the weights' dtype.
  /// - Throws: `DiffusionError` when shapes do not belong together.
  public func callAsFunction(
    _ latents: Tensor, timesteps: Tensor, context: [CrossAttentionContext], added: AddedConditioning? = nil,
    guidance: Double? = nil
  ) throws -> Tensor {
    try check(latents, timesteps, context)
    let like = convolutionIn.weight
    var x = try latents.to(like.dtype, device: like.device)
    if configuration.centerInputSample { x = try x * 2 - 1 }
    let t = try timesteps.to(.float32, device: like.device).expanded([x.size(0)])
    let activatedTime = try configuration.activation(time(t, guidance: guidance, added))
    let contexts = try perLayer(context)
    x = try convolutionIn(x)
    var skips = [x]
    for block in blocks {
      x = try block(x, activatedTime: activatedTime, contexts, skips: &skips)
    }
    return try convolutionOut(normOut(x, then: configuration.activation))
  }

  /// A context for every layer, in the weights' dtype and on their device.
  private func perLayer(_ context: [CrossAttentionContext]) throws -> [CrossAttentionContext] {
    let like = convolutionIn.weight
    let converted = try context.map { pair in
      let keys = try pair.keys.to(like.dtype, device: like.device)
      let same = pair.keys === pair.values
      return CrossAttentionContext(
        keys: keys, values: same ? keys : try pair.values.to(like.dtype, device: like.device))
    }
    guard converted.count == 1 else { return converted }
    return Array(repeating: converted[0], count: crossAttentionLayers.count)
  }

  private func check(_ latents: Tensor, _ timesteps: Tensor, _ context: [CrossAttentionContext]) throws {
    let (channels, size) = (configuration.inChannels, configuration.crossAttentionDim)
    guard latents.rank == 4, latents.size(1) == channels, latents.count > 0 else {
      throw DiffusionError("U-Net: latents of shape \(latents.shape), expected [B, \(channels), h, w]")
    }
    let batch = latents.size(0)
    guard timesteps.rank == 1, [1, batch].contains(timesteps.count) else {
      throw DiffusionError("U-Net: timesteps of shape \(timesteps.shape), expected [\(batch)] or [1]")
    }
    guard context.count == 1 || context.count == crossAttentionLayers.count else {
      throw DiffusionError(
        "U-Net: \(context.count) contexts; expected one, or \(crossAttentionLayers.count), one per layer")
    }
    for pair in context {
      let shape = pair.keys.shape
      guard shape.count == 3, shape[0] == batch, shape[1] > 0, shape[2] == size, pair.values.shape == shape
      else {
        throw DiffusionError(
          "U-Net: a context of keys \(shape) and values \(pair.values.shape), expected [\(batch), S, \(size)] each"
        )
      }
    }
  }
}
