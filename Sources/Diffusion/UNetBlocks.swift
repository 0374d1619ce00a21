import Torch

/// A block of the U-Net with its weights: residual blocks, each with a spatial transformer behind it
/// where the plan has one, and a change of resolution at the end.
struct UNetBlock {
  let direction: UNetBlockPlan.Direction
  private let resnets: [ResnetBlock]
  private let attentions: [SpatialTransformer]
  private let downsampler: Downsampler?
  private let upsampler: Upsampler?

  /// - Parameter firstLayer: the index of its first cross-attention layer in execution order.
  init(_ plan: UNetBlockPlan, _ c: UNetConfiguration, firstLayer: Int, _ root: Weights) throws {
    let weights = root / plan.path
    let options = ResnetBlock.Options(
      groups: c.normGroups, epsilon: c.normEpsilon, activation: c.activation, time: c.timeChannels)
    let scale = plan.direction == .middle ? c.midBlockScaleFactor : 1
    direction = plan.direction
    resnets = try plan.resnets.enumerated().map { i, r in
      try ResnetBlock(r.inputs, r.outputs, options, scale: scale, weights / "resnets" / i)
    }
    attentions = try (0..<plan.attentions).map { i in
      try SpatialTransformer(plan, c, layer: firstLayer + i, weights / "attentions" / i)
    }
    let (down, up) = (plan.resamples && plan.direction == .down, plan.resamples && plan.direction == .up)
    downsampler =
      down
      ? try Downsampler(plan.channels, padding: c.downsamplePadding, weights / "downsamplers" / 0) : nil
    upsampler = up ? try Upsampler(plan.channels, weights / "upsamplers" / 0) : nil
  }

  /// - Parameters:
  ///   - x: [B, C, h, w]
  ///   - activatedTime: [B, time]
  ///   - skips: what the way down leaves for the way up; the last is taken first.
  func callAsFunction(
    _ x: Tensor, activatedTime: Tensor, _ contexts: [CrossAttentionContext], skips: inout [Tensor]
  ) throws -> Tensor {
    var x = x
    for (i, resnet) in resnets.enumerated() {
      if direction == .up, let skip = skips.popLast() { x = try .concatenated([x, skip], 1) }
      x = try resnet(x, activatedTime: activatedTime)
      if i < attentions.count { x = try attentions[i](x, contexts) }
      if direction == .down { skips.append(x) }
    }
    if let downsampler {
      x = try downsampler(x)
      skips.append(x)
    }
    // An odd size was rounded up on the way down: the next skip connection has it.
    if let upsampler, let next = skips.last {
      x = try upsampler(x, height: next.size(2), width: next.size(3))
    }
    return x
  }
}
