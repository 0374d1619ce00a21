public import Torch

/// How a timestep and a layer become the mapper's input: random Fourier features.
///
/// With W ∈ R^{n×2}, W[:,0] ~ N(0, σ_t²), W[:,1] ~ N(0, σ_l²), drawn once and never trained,
///
///     e(t, l) = v / ‖v‖₂,   v = [sin(W (t, l)ᵀ); cos(W (t, l)ᵀ)] ∈ R^{2n}
///
/// NeTI, section 3.2 (https://arxiv.org/abs/2305.15391): a small σ makes neighbouring timesteps or
/// layers look alike to the mapper, a large one sets them apart.
public struct PositionalEncoding {
  /// Rows of W in the paper's code.
  public static let defaultFrequencyCount = 1024

  /// W, [n, 2] in fp32.
  public let frequencies: Tensor

  /// Takes W as a file gives it.
  public init(frequencies: Tensor) throws {
    guard frequencies.rank == 2, frequencies.size(1) == 2, frequencies.size(0) > 0 else {
      throw NeTIError("the frequencies have shape \(frequencies.shape); expected [n, 2]")
    }
    self.frequencies = try frequencies.to(.float32)
  }

  /// Draws W.
  public init(
    sigmaTime: Double, sigmaLayer: Double, count: Int = defaultFrequencyCount, random: RandomSource
  ) throws {
    let scale = try Tensor([Float(sigmaTime), Float(sigmaLayer)])
    frequencies = try random.normal([count, 2]) * scale
  }

  /// The size of an encoding, 2n.
  public var size: Int { 2 * frequencies.size(0) }

  /// e(t, l), [N, 2n], for timesteps [N] and layer indices [N], both raw.
  public func encode(timesteps: Tensor, layers: Tensor) throws -> Tensor {
    let x = try Tensor.stacked([timesteps.to(.float32), layers.to(.float32)], 1)
    let angles = try x.matmul(frequencies.transposed(0, 1))
    let v = try Tensor.concatenated([angles.sin(), angles.cos()], 1)
    return try v / v.norm([1], keep: true)
  }

  /// The encodings of `timeAnchors` evenly spaced timesteps × `layerCount` layers,
  /// [timeAnchors · layerCount, 2n], timesteps outermost: where the mapper's first layer starts.
  public func anchors(timeAnchors: Int, layerCount: Int) throws -> Tensor {
    let times = try Self.anchorTimesteps(timeAnchors)
    let t = times.flatMap { t in [Float](repeating: Float(t), count: layerCount) }
    let l = times.flatMap { _ in (0..<layerCount).map { Float($0) } }
    return try encode(timesteps: Tensor(t), layers: Tensor(l))
  }

  /// 0, s, 2s, … below 1000 with s = 1000 / n; refuses an n for which these are not n timesteps, as
  /// the setting called `name`.
  public static func anchorTimesteps(_ n: Int, name: String = "num_pe_time_anchors") throws -> [Int] {
    guard (1...1000).contains(n) else {
      throw NeTIError("\(name) is \(n); it must be between 1 and 1000")
    }
    let times = Array(stride(from: 0, to: 1000, by: 1000 / n))
    guard times.count == n else {
      throw NeTIError(
        "\(name) \(n) gives \(times.count) anchors at their spacing of \(1000 / n) timesteps; "
          + "10, 20, 25, 40 and 50 are among those that fit")
    }
    return times
  }
}
