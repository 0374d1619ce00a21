public import Torch

/// The sizes of an image that SDXL's U-Net is told, all in pixels (Podell et al. 2023, section 2.2, arXiv 2307.01952).
public struct SizeConditioning: Sendable, Equatable {
  /// Height and width before the image was scaled: the smaller, the more an image looks as if it was enlarged.
  public var original: [Int]
  /// What was cut off at the top and at the left after scaling; zeros centre what is shown.
  public var crop: [Int]
  /// Height and width as the U-Net works on it.
  public var target: [Int]

  /// Numbers that the U-Net takes.
  static let count = 6

  public init(
    original: (height: Int, width: Int), crop: (top: Int, left: Int), target: (height: Int, width: Int)
  ) {
    self.original = [original.height, original.width]
    self.crop = [crop.top, crop.left]
    self.target = [target.height, target.width]
  }

  /// Of an image that is generated: all of it, at its own size.
  public init(height: Int, width: Int) {
    self.init(original: (height, width), crop: (0, 0), target: (height, width))
  }

  /// The same with what the settings say of it.
  init(height: Int, width: Int, _ settings: GenerationSettings) {
    self.init(height: height, width: width)
    if let told = settings.originalSize { original = [told.height, told.width] }
    if let told = settings.crop { crop = [told.height, told.width] }
  }

  var values: [Float] { (original + crop + target).map { Float($0) } }
}

/// Pixels to the right and downwards.
public struct PixelSize: Sendable, Hashable {
  public var width: Int
  public var height: Int

  public init(width: Int, height: Int) {
    self.width = width
    self.height = height
  }
}

/// What SDXL's U-Net is conditioned on beside the timestep and the cross-attention's states.
public struct AddedConditioning {
  /// The pooled output of the last text encoder, [B, p].
  public let pooled: Tensor
  /// One for each sample, or one for all.
  public let sizes: [SizeConditioning]

  public init(pooled: Tensor, sizes: [SizeConditioning]) {
    self.pooled = pooled
    self.sizes = sizes
  }
}

/// Sines and cosines of numbers at geometric frequencies (Vaswani et al. 2017).
private struct SinusoidalEmbedding {
  /// ln 10000: the longest period is 10000 times the shortest.
  private static let logOf10000 = 9.210340371976184

  private let frequencies: Tensor
  private let cosinesFirst: Bool
  private let channels: Int

  init(channels: Int, cosinesFirst: Bool, freqShift: Double, device: Device) throws {
    self.channels = channels
    self.cosinesFirst = cosinesFirst
    let half = channels / 2
    let exponents = try Tensor.range(to: Double(half)) * -Self.logOf10000 / (Double(half) - freqShift)
    frequencies = try exponents.exp().to(device: device)
  }

  /// Numbers [N] in fp32 to [N, channels].
  func callAsFunction(_ x: Tensor) throws -> Tensor {
    let angles = try x.unsqueezed(1) * frequencies.unsqueezed(0)
    let waves = try cosinesFirst ? [angles.cos(), angles.sin()] : [angles.sin(), angles.cos()]
    let e = try Tensor.concatenated(waves, 1)
    return channels.isMultiple(of: 2) ? e : try e.padded([0, 1])
  }
}

/// The embedding of a timestep (Ho et al. 2020): waves, then two matrices.
struct TimestepEmbedding {
  private let waves: SinusoidalEmbedding
  private let linear1: Linear
  private let linear2: Linear
  /// From the guidance's embedding, where the U-Net takes it.
  private let guidance: (projection: Linear, waves: SinusoidalEmbedding)?
  private let added: AddedEmbedding?
  private let activation: Activation

  init(_ c: UNetConfiguration, _ root: Weights) throws {
    let channels = c.blockOutChannels[0]
    guidance = try c.guidanceChannels.map { count in
      // diffusers' `get_guidance_scale_embedding`, whatever the timestep's waves are like.
      let waves = try SinusoidalEmbedding(
        channels: count, cosinesFirst: false, freqShift: 1, device: root.device)
      return (try Linear(count, channels, bias: false, root / "time_embedding" / "cond_proj"), waves)
    }
    linear1 = try Linear(channels, c.timeChannels, root / "time_embedding" / "linear_1")
    linear2 = try Linear(c.timeChannels, c.timeChannels, root / "time_embedding" / "linear_2")
    waves = try SinusoidalEmbedding(
      channels: channels, cosinesFirst: c.flipSinToCos, freqShift: c.freqShift, device: root.device)
    added = try c.addition.map { try AddedEmbedding($0, c, root / "add_embedding") }
    activation = c.activation
  }

  /// Timesteps [B] in fp32 to [B, time] in the weights' dtype.
  ///
  /// - Parameters:
  ///   - scale: of the guidance that a distilled U-Net shall have.
  ///   - conditioning: of the B samples, for a U-Net that takes it.
  /// - Throws: `DiffusionError` when what the U-Net takes is missing, or is given to one that takes none.
  func callAsFunction(_ timesteps: Tensor, guidance scale: Double?, _ conditioning: AddedConditioning?) throws
    -> Tensor
  {
    let dtype = linear1.weight.dtype
    var e = try waves(timesteps).to(dtype)
    if let guidance, let scale {
      let w = try Tensor([Float(scale - 1) * 1000]).to(device: e.device)
      e = try e + guidance.projection(guidance.waves(w).to(dtype))
    }
    e = try linear2(activation(linear1(e)))
    switch (added, conditioning) {
    case (nil, nil): return e
    case (let added?, let conditioning?): return try e + added(conditioning, batch: timesteps.count)
    case (_?, nil): throw DiffusionError("U-Net: it takes a pooled text and sizes, and there are none")
    case (nil, _?): throw DiffusionError("U-Net: it takes no pooled text and sizes")
    }
  }
}

/// The embedding of a pooled text and of sizes, which is added to the timestep's: diffusers' `text_time`.
private struct AddedEmbedding {
  private let waves: SinusoidalEmbedding
  private let linear1: Linear
  private let linear2: Linear
  private let pooledSize: Int

  init(_ addition: UNetConfiguration.Addition, _ c: UNetConfiguration, _ weights: Weights) throws {
    waves = try SinusoidalEmbedding(
      channels: addition.sizeChannels, cosinesFirst: c.flipSinToCos, freqShift: c.freqShift,
      device: weights.device)
    linear1 = try Linear(addition.channels, c.timeChannels, weights / "linear_1")
    linear2 = try Linear(c.timeChannels, c.timeChannels, weights / "linear_2")
    pooledSize = addition.pooledSize
  }

  /// [B, time]
  func callAsFunction(_ conditioning: AddedConditioning, batch: Int) throws -> Tensor {
    let (pooled, sizes) = (conditioning.pooled, conditioning.sizes)
    guard pooled.shape == [batch, pooledSize], [1, batch].contains(sizes.count) else {
      throw DiffusionError(
        "U-Net: a pooled text \(pooled.shape) and \(sizes.count) sizes, expected [\(batch), \(pooledSize)] and \(batch) or 1"
      )
    }
    let like = linear1.weight
    let numbers = try Tensor(sizes.flatMap(\.values)).to(device: like.device)
    let embedded = try waves(numbers).reshaped([sizes.count, -1]).to(like.dtype)
    let all = try embedded.expanded([batch, embedded.size(1)])
    return try linear2(linear1(.concatenated([pooled.to(like.dtype, device: like.device), all], 1)).silu())
  }
}
