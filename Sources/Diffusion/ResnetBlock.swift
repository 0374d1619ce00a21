import Torch

/// The residual block of U-Net and VAE, diffusers' `ResnetBlock2D`: norm, activation and a 3×3
/// convolution, twice, with the timestep added in between.
struct ResnetBlock {
  /// What all blocks of one model have in common.
  struct Options {
    let groups: Int
    let epsilon: Double
    let activation: Activation
    /// The size of the timestep's embedding; nil in the VAE.
    let time: Int?
  }

  private let norm1: GroupNorm
  private let convolution1: Convolution
  private let time: Linear?
  private let norm2: GroupNorm
  private let convolution2: Convolution
  private let shortcut: Convolution?
  private let activation: Activation
  private let scale: Double

  /// - Parameter scale: the sum is divided by it.
  init(_ inputs: Int, _ outputs: Int, _ options: Options, scale: Double = 1, _ weights: Weights) throws {
    let (groups, epsilon) = (options.groups, options.epsilon)
    norm1 = try GroupNorm(inputs, groups: groups, epsilon: epsilon, weights / "norm1")
    convolution1 = try Convolution(inputs, outputs, weights / "conv1")
    time = try options.time.map { try Linear($0, outputs, weights / "time_emb_proj") }
    norm2 = try GroupNorm(outputs, groups: groups, epsilon: epsilon, weights / "norm2")
    convolution2 = try Convolution(outputs, outputs, weights / "conv2")
    shortcut =
      inputs == outputs ? nil : try Convolution(inputs, outputs, kernel: 1, weights / "conv_shortcut")
    activation = options.activation
    self.scale = scale
  }

  /// - Parameters:
  ///   - x: [B, inputs, h, w]
  ///   - activatedTime: activation(embedding of the timestep), [B, time]; all blocks share it.
  func callAsFunction(_ x: Tensor, activatedTime: Tensor? = nil) throws -> Tensor {
    var h = try convolution1(norm1(x, then: activation))
    if let time, let activatedTime {
      h = try h + time(activatedTime).unsqueezed(-1).unsqueezed(-1)
    }
    h = try convolution2(norm2(h, then: activation))
    // The first operand decides the memory layout of a sum.
    let sum = try (shortcut?(x) ?? x) + h
    return scale == 1 ? sum : try sum / scale
  }
}
