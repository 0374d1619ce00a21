import Torch

extension ResnetBlock.Options {
  /// The VAE's: no timestep, and an epsilon that no configuration changes.
  init(_ c: VAEConfiguration) {
    self.init(groups: c.normGroups, epsilon: 1e-6, activation: c.activation, time: nil)
  }
}

/// Images to moments: per resolution residual blocks and a halving, then the middle.
struct VAEEncoder {
  private let convolutionIn: Convolution
  private let levels: [(resnets: [ResnetBlock], downsampler: Downsampler?)]
  private let middle: VAEMiddle
  private let output: VAEOutput

  var inputWeight: Tensor { convolutionIn.weight }

  init(_ c: VAEConfiguration, _ weights: Weights) throws {
    var channels = c.blockOutChannels[0]
    convolutionIn = try Convolution(c.inChannels, channels, weights / "conv_in")
    levels = try c.blockOutChannels.enumerated().map { i, width in
      let block = weights / "down_blocks" / i
      let resnets = try (0..<c.layersPerBlock).map { j in
        defer { channels = width }
        return try ResnetBlock(channels, width, .init(c), block / "resnets" / j)
      }
      let isLast = i == c.blockOutChannels.count - 1
      return (
        resnets, isLast ? nil : try Downsampler(width, padding: 0, block / "downsamplers" / 0)
      )
    }
    middle = try VAEMiddle(channels, c, weights / "mid_block")
    output = try VAEOutput(channels, 2 * c.latentChannels, c, weights)
  }

  func callAsFunction(_ images: Tensor) throws -> Tensor {
    var x = try convolutionIn(images)
    for (resnets, downsampler) in levels {
      for resnet in resnets { x = try resnet(x) }
      if let downsampler { x = try downsampler(x) }
    }
    return try output(middle(x))
  }
}

/// Latents to images: the middle, then per resolution residual blocks and a doubling.
struct VAEDecoder {
  private let convolutionIn: Convolution
  private let middle: VAEMiddle
  private let levels: [(resnets: [ResnetBlock], upsampler: Upsampler?)]
  private let output: VAEOutput

  init(_ c: VAEConfiguration, _ weights: Weights) throws {
    let widths = Array(c.blockOutChannels.reversed())
    var channels = widths[0]
    convolutionIn = try Convolution(c.latentChannels, channels, weights / "conv_in")
    middle = try VAEMiddle(channels, c, weights / "mid_block")
    levels = try widths.enumerated().map { i, width in
      let block = weights / "up_blocks" / i
      let resnets = try (0...c.layersPerBlock).map { j in
        defer { channels = width }
        return try ResnetBlock(channels, width, .init(c), block / "resnets" / j)
      }
      return (resnets, i == widths.count - 1 ? nil : try Upsampler(width, block / "upsamplers" / 0))
    }
    output = try VAEOutput(channels, c.outChannels, c, weights)
  }

  func callAsFunction(_ latents: Tensor) throws -> Tensor {
    var x = try middle(convolutionIn(latents))
    for (resnets, upsampler) in levels {
      for resnet in resnets { x = try resnet(x) }
      if let upsampler { x = try upsampler(x, height: x.size(2) * 2, width: x.size(3) * 2) }
    }
    return try output(x)
  }
}

/// A residual block, attention with one head over all positions, a residual block.
struct VAEMiddle {
  private let first: ResnetBlock
  private let norm: GroupNorm?
  private let attention: AttentionLayer?
  private let second: ResnetBlock

  init(_ channels: Int, _ c: VAEConfiguration, _ weights: Weights) throws {
    first = try ResnetBlock(channels, channels, .init(c), weights / "resnets" / 0)
    let place = weights / "attentions" / 0
    norm =
      try c.midBlockAddAttention
      ? GroupNorm(channels, groups: c.normGroups, epsilon: 1e-6, place / "group_norm") : nil
    // The oldest files hold these matrices as 1×1 convolutions.
    let pointwise = place.shape("to_q.weight")?.count == 4
    attention =
      try c.midBlockAddAttention
      ? AttentionLayer(channels, heads: 1, bias: true, pointwise: pointwise, place) : nil
    second = try ResnetBlock(channels, channels, .init(c), weights / "resnets" / 1)
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    var x = try first(x)
    if let norm, let attention {
      let (batch, channels, height, width) = (x.size(0), x.size(1), x.size(2), x.size(3))
      let rows = try norm(x).permuted([0, 2, 3, 1]).reshaped([batch, height * width, channels])
      let mixed = try attention(rows).reshaped([batch, height, width, channels])
      x = try x + mixed.permuted([0, 3, 1, 2])
    }
    return try second(x)
  }
}

/// Norm, SiLU (whatever `act_fn` says) and the last convolution.
struct VAEOutput {
  private let norm: GroupNorm
  private let convolution: Convolution

  init(_ inputs: Int, _ outputs: Int, _ c: VAEConfiguration, _ weights: Weights) throws {
    norm = try GroupNorm(inputs, groups: c.normGroups, epsilon: 1e-6, weights / "conv_norm_out")
    convolution = try Convolution(inputs, outputs, weights / "conv_out")
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor { try convolution(norm(x, then: .silu)) }
}
