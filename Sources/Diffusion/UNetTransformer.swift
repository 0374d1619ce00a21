import Torch

/// The transformer over the positions of an image, diffusers' `Transformer2DModel` in its form for
/// Stable Diffusion: norm, projection, transformer blocks, projection, plus the input.
struct SpatialTransformer {
  private let norm: GroupNorm
  private let projectionIn: Linear
  private let blocks: [TransformerBlock]
  private let projectionOut: Linear
  /// Its index in the U-Net's execution order: all its blocks have one context.
  private let layer: Int

  init(_ plan: UNetBlockPlan, _ c: UNetConfiguration, layer: Int, _ weights: Weights) throws {
    let channels = plan.channels
    // This epsilon is the reference's, whatever `norm_eps` says.
    norm = try GroupNorm(channels, groups: c.normGroups, epsilon: 1e-6, weights / "norm")
    let pointwise = !c.useLinearProjection
    projectionIn = try Linear(channels, channels, pointwise: pointwise, weights / "proj_in")
    blocks = try (0..<plan.depth).map {
      try TransformerBlock(channels, heads: plan.heads, c, weights / "transformer_blocks" / $0)
    }
    projectionOut = try Linear(channels, channels, pointwise: pointwise, weights / "proj_out")
    self.layer = layer
  }

  /// - Parameters:
  ///   - x: [B, C, h, w]
  ///   - contexts: of all the U-Net's layers.
  func callAsFunction(_ x: Tensor, _ contexts: [CrossAttentionContext]) throws -> Tensor {
    let (batch, channels, height, width) = (x.size(0), x.size(1), x.size(2), x.size(3))
    // A 1×1 convolution is a matrix over the channels. With channels last these are views.
    let rows = try norm(x).permuted([0, 2, 3, 1]).reshaped([batch, height * width, channels])
    var h = try projectionIn(rows)
    for block in blocks { h = try block(h, contexts[layer]) }
    let image = try projectionOut(h).reshaped([batch, height, width, channels]).permuted([0, 3, 1, 2])
    // The first operand decides the memory layout of a sum.
    return try x + image
  }
}

/// Self-attention, cross-attention and GEGLU, each behind a LayerNorm and added to its
/// input: diffusers' `BasicTransformerBlock`.
struct TransformerBlock {
  private let norm1: LayerNorm
  private let selfAttention: AttentionLayer
  private let norm2: LayerNorm
  private let crossAttention: AttentionLayer
  private let norm3: LayerNorm
  private let up: Linear
  private let down: Linear

  init(_ channels: Int, heads: Int, _ c: UNetConfiguration, _ weights: Weights) throws {
    norm1 = try LayerNorm(channels, weights / "norm1")
    selfAttention = try AttentionLayer(channels, heads: heads, upcast: c.upcastAttention, weights / "attn1")
    norm2 = try LayerNorm(channels, weights / "norm2")
    crossAttention = try AttentionLayer(
      channels, contextChannels: c.crossAttentionDim, heads: heads, upcast: c.upcastAttention,
      weights / "attn2")
    norm3 = try LayerNorm(channels, weights / "norm3")
    up = try Linear(channels, channels * 8, weights / "ff" / "net" / 0 / "proj")
    down = try Linear(channels * 4, channels, weights / "ff" / "net" / 2)
  }

  /// x [B, h·w, C]
  func callAsFunction(_ x: Tensor, _ context: CrossAttentionContext) throws -> Tensor {
    let a = try x + selfAttention(norm1(x))
    let b = try a + crossAttention(norm2(a), keys: context.keys, values: context.values)
    return try b
      + norm3(b).geglu(up: (up.weight, up.bias), down: (down.weight, down.bias))
  }
}
