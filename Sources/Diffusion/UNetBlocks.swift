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
      try SpatialTransformer(plan, c, firstLayer: firstLayer + i * plan.depth, weights / "attentions" / i)
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

/// The embedding of a timestep (Ho et al. 2020; Vaswani et al. 2017): sines and cosines at geometric
/// frequencies, then two matrices.
struct TimestepEmbedding {
  private let frequencies: Tensor
  private let cosinesFirst: Bool
  private let channels: Int
  private let linear1: Linear
  private let linear2: Linear
  /// From the guidance's embedding, where the U-Net takes it.
  private let guidance: Linear?
  private let activation: Activation

  init(_ c: UNetConfiguration, _ root: Weights) throws {
    channels = c.blockOutChannels[0]
    guidance = try c.guidanceChannels.map {
      try Linear($0, c.blockOutChannels[0], bias: false, root / "time_embedding" / "cond_proj")
    }
    let half = channels / 2
    linear1 = try Linear(channels, c.timeChannels, root / "time_embedding" / "linear_1")
    linear2 = try Linear(c.timeChannels, c.timeChannels, root / "time_embedding" / "linear_2")
    let exponents = try Tensor.range(to: Double(half)) * -logOf10000 / (Double(half) - c.freqShift)
    frequencies = try exponents.exp().to(device: linear1.weight.device)
    cosinesFirst = c.flipSinToCos
    activation = c.activation
  }

  /// Timesteps [B] in fp32 to [B, time] in the weights' dtype.
  ///
  /// - Parameter scale: of the guidance that a distilled U-Net shall have.
  func callAsFunction(_ timesteps: Tensor, guidance scale: Double?) throws -> Tensor {
    let angles = try timesteps.unsqueezed(1) * frequencies.unsqueezed(0)
    let waves = try cosinesFirst ? [angles.cos(), angles.sin()] : [angles.sin(), angles.cos()]
    var e = try Tensor.concatenated(waves, 1)
    if !channels.isMultiple(of: 2) { e = try e.padded([0, 1]) }
    e = try e.to(linear1.weight.dtype)
    if let guidance, let scale { e = try e + guidance(Self.waves(scale, guidance)) }
    return try linear2(activation(linear1(e)))
  }

  /// The embedding of w − 1 that diffusers calls `get_guidance_scale_embedding`, [1, channels].
  private static func waves(_ scale: Double, _ projection: Linear) throws -> Tensor {
    let count = projection.weight.size(1)
    let half = count / 2
    let frequencies = try (Tensor.range(to: Double(half)) * -logOf10000 / Double(half - 1)).exp()
    let angles = try frequencies * Double(Float(scale - 1) * 1000)
    let embedding = try Tensor.concatenated([angles.sin(), angles.cos()], 0).padded([0, count - 2 * half])
    return try embedding.unsqueezed(0).to(projection.weight.dtype, device: projection.weight.device)
  }
}

/// ln 10000: the longest period is 10000 times the shortest.
private let logOf10000 = 9.210340371976184
