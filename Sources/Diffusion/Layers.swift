import Torch

// The stateless layers of U-Net and VAE with their weights, named as the files name them.

/// A square convolution.
struct Convolution {
  /// How the weights of convolutions lie in memory, which decides how every image-shaped tensor
  /// lies: `.channelsLast` turns the whole of U-Net and VAE to that layout, which is faster. The rest
  /// of the code works with either.
  static let format: MemoryFormat = .channelsLast

  let weight: Tensor
  let bias: Tensor
  let stride: Int
  let padding: Int

  init(
    _ inputs: Int, _ outputs: Int, kernel: Int = 3, stride: Int = 1, padding: Int? = nil,
    _ weights: Weights
  ) throws {
    weight = try weights.tensor("weight", [outputs, inputs, kernel, kernel], format: Self.format)
    bias = try weights.tensor("bias", [outputs])
    self.stride = stride
    self.padding = padding ?? kernel / 2
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try x.conv2d(weight, bias, stride: stride, padding: padding)
  }
}

/// Halves height and width: a 3×3 convolution with stride 2.
struct Downsampler {
  private let convolution: Convolution

  /// - Parameter padding: 1 on every side, or 0: then one row and column at the end only.
  init(_ channels: Int, padding: Int, _ weights: Weights) throws {
    convolution = try Convolution(channels, channels, stride: 2, padding: padding, weights / "conv")
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    try convolution(convolution.padding == 0 ? x.padded([0, 1, 0, 1]) : x)
  }
}

/// Repeats pixels, then a 3×3 convolution.
struct Upsampler {
  private let convolution: Convolution

  init(_ channels: Int, _ weights: Weights) throws {
    convolution = try Convolution(channels, channels, weights / "conv")
  }

  func callAsFunction(_ x: Tensor, height: Int, width: Int) throws -> Tensor {
    try convolution(x.upsampledNearest(height: height, width: width))
  }
}

/// x Wᵀ + b over the last dimension.
struct Linear {
  let weight: Tensor
  let bias: Tensor?

  /// - Parameter pointwise: the file holds the matrix as a 1×1 convolution.
  init(_ inputs: Int, _ outputs: Int, bias: Bool = true, pointwise: Bool = false, _ weights: Weights)
    throws
  {
    weight =
      try pointwise
      ? weights.tensor("weight", [outputs, inputs, 1, 1]).reshaped([outputs, inputs])
      : weights.tensor("weight", [outputs, inputs])
    self.bias = bias ? try weights.tensor("bias", [outputs]) : nil
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor { try x.linear(weight, bias) }
}

struct GroupNorm {
  let weight: Tensor
  let bias: Tensor
  let groups: Int
  let epsilon: Double

  init(_ channels: Int, groups: Int, epsilon: Double, _ weights: Weights) throws {
    weight = try weights.tensor("weight", [channels])
    bias = try weights.tensor("bias", [channels])
    self.groups = groups
    self.epsilon = epsilon
  }

  /// - Parameter activation: what follows; together with SiLU, less is kept for the backward pass.
  func callAsFunction(_ x: Tensor, then activation: Activation? = nil) throws -> Tensor {
    let isSiLU = activation == .silu || activation == .swish
    let y = try x.groupNorm(groups, weight, bias, eps: epsilon, silu: isSiLU)
    return isSiLU ? y : try activation?(y) ?? y
  }
}

struct LayerNorm {
  let weight: Tensor
  let bias: Tensor

  init(_ channels: Int, _ weights: Weights) throws {
    weight = try weights.tensor("weight", [channels])
    bias = try weights.tensor("bias", [channels])
  }

  func callAsFunction(_ x: Tensor) throws -> Tensor { try x.layerNorm(weight, bias, eps: 1e-5) }
}

/// `act_fn`: the nonlinearity of the residual blocks.
public enum Activation: String, Codable, Sendable, CaseIterable {
  case silu, swish, mish, gelu, relu

  func callAsFunction(_ x: Tensor) throws -> Tensor {
    switch self {
    case .silu, .swish: try x.silu()
    case .mish: try x.mish()
    case .gelu: try x.gelu()
    case .relu: try x.relu()
    }
  }
}
