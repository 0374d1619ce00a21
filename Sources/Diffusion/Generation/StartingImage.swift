import Torch

/// An image that generation starts from, instead of noise alone.
///
/// Without a mask all of it is generated anew, from as much of it as `strength` leaves: image to image (SDEdit,
/// Meng et al. 2022, https://arxiv.org/abs/2108.01073). With one, what the mask does not show stays: inpainting.
/// Numbers, and the order of random numbers, are those of diffusers' `StableDiffusionImg2ImgPipeline` and
/// `StableDiffusionInpaintPipeline`.
public struct StartingImage: Sendable, Equatable {
  /// Width and height are multiples of the model's `vaeFactor`.
  public var pixels: DecodedImage
  /// For each pixel, in rows from the top, whether it is generated anew; nil: all are.
  public var mask: [Bool]?
  /// How much of the denoising is done, 0…1. At 0 no step is taken; at 1 all are, and with a mask nothing of
  /// what it shows is left.
  public var strength: Double

  public init(_ pixels: DecodedImage, mask: [Bool]? = nil, strength: Double) {
    self.pixels = pixels
    self.mask = mask
    self.strength = strength
  }

  /// The index of the first timestep that is used, where `steps` were asked for; their number when none is.
  ///
  /// - Parameter timesteps: the scheduler's, which may be more.
  func firstStep(of steps: Int, timesteps: Int) -> Int {
    let taken = min(Int(Double(steps) * strength), steps)
    return taken == 0 ? timesteps : min(steps - taken, timesteps)
  }

  /// - Throws: `DiffusionError` when the parts contradict each other, or the model cannot use them.
  func check(_ model: StableDiffusion) throws {
    guard (0...1).contains(strength) else {
      throw DiffusionError(wrongUsage: "`strength` is \(strength); it must be a number in 0…1")
    }
    guard pixels.rgb.count == 3 * pixels.width * pixels.height,
      mask.map({ $0.count == pixels.width * pixels.height }) ?? true
    else {
      throw DiffusionError(
        "a starting image of \(pixels.width)×\(pixels.height) pixels has \(pixels.rgb.count) values"
          + (mask.map { ", its mask \($0.count)" } ?? ""))
    }
    guard !model.isInpainting || mask != nil else { throw model.needsMask }
  }
}

extension StableDiffusion {
  /// Images of this many pixels, as a share of what the model was trained on, keep their size.
  private static let areas = 1...2.25
  /// The longest side, as a share of the model's own.
  private static let longestSide = 4.0

  /// The size at which an image of `width` × `height` pixels is generated anew: in its proportions, as far as
  /// multiples of `vaeFactor` allow, and with about the pixels that the model was trained on; for SDXL one of the sizes
  /// that it was trained on.
  public func startingSize(width: Int, height: Int) -> (width: Int, height: Int) {
    if folder.hasTwoTextEncoders {
      return SizeBuckets(resolution: resolution, factor: vaeFactor).nearest(width: width, height: height)
    }
    let (w, h, own) = (Double(width), Double(height), Double(resolution))
    let area = w * h / (own * own)
    let scale = min(
      Self.areas.contains(area) ? 1 : (1 / area).squareRoot(), Self.longestSide * own / max(w, h))
    func side(_ pixels: Double) -> Int {
      max(1, Int((pixels * scale / Double(vaeFactor)).rounded())) * vaeFactor
    }
    return (side(w), side(h))
  }

  /// Whether the U-Net sees a mask and the image around it beside the latents, as models for inpainting do.
  public var isInpainting: Bool { unetConfiguration.inChannels == 2 * vaeConfiguration.latentChannels + 1 }

  /// Refuses a model for inpainting, where whole images are generated.
  package func requireTextToImage() throws {
    guard !isInpainting else {
      throw DiffusionError(
        "\(folder.name) is an inpainting model, which generates only into a part of an image; choose a model for "
          + "text to image, such as the one it was made from")
    }
  }

  /// Why an inpainting model cannot generate without a mask.
  var needsMask: DiffusionError {
    DiffusionError(
      "\(folder.name) is an inpainting model, which generates into a part of an image; give `image` and `mask`"
    )
  }
}

/// A starting image in the model's latents, encoded once for all seeds.
struct StartingLatents {
  /// The distribution of latents that the VAE gives for an image.
  private struct Encoded {
    let mean: Tensor
    let deviation: Tensor
    let scale: Double

    /// - Parameter pixels: [1, 3, H, W] in −1…1.
    init(_ pixels: Tensor, _ model: StableDiffusion) throws {
      let moments = try model.vae.encode(pixels)
      mean = try moments.mean.to(.float32)
      deviation = try (moments.logVariance.to(.float32) * 0.5).exp()
      scale = model.scalingFactor
    }

    func sample(_ random: RandomSource) throws -> Tensor {
      try (mean + deviation * random.normal(mean.shape).to(device: mean.device)) * scale
    }
  }

  private let image: Encoded
  /// The image with grey where the mask is, and the mask, [1, 1, h, w]: 1 where latents are generated anew.
  private let hole: (image: Encoded, mask: Tensor)?
  private let isInpainting: Bool
  private let strength: Double

  init(_ start: StartingImage, _ model: StableDiffusion) throws {
    let (height, width, factor) = (start.pixels.height, start.pixels.width, model.vaeFactor)
    let bytes = try Tensor(start.pixels.rgb, [1, height, width, 3]).to(.float32, device: model.device)
    let pixels = try (bytes.permuted([0, 3, 1, 2]) / 255 * 2 - 1).contiguous()
    image = try Encoded(pixels, model)
    hole = try start.mask.map { mask in
      let anew = try Tensor(mask.map { $0 ? 1 : 0 } as [Float], [1, 1, height, width])
        .to(device: model.device)
      let latents = try anew.sliced(2, 0..<height, by: factor).sliced(3, 0..<width, by: factor)
      return (try Encoded(pixels * (1 - anew), model), try latents.contiguous())
    }
    isInpainting = model.isInpainting
    strength = start.strength
  }

  /// What one seed starts with.
  struct Drawn {
    /// [1, C, h, w]
    let latents: Tensor
    /// What keeps the rest of the image; nil where all is generated anew, or the U-Net sees to that.
    let kept: KeptLatents?
    /// [1, 1 + C, h, w], for an inpainting U-Net.
    let beside: Tensor?
  }

  /// Draws the noise of one seed, in the reference's order: to sample the image, to start from, to sample the
  /// image around the mask.
  ///
  /// - Parameter first: the index of the scheduler's first step.
  func draw(_ random: RandomSource, _ scheduler: any Scheduler, at first: Int) throws -> Drawn {
    let startsFromNoise = hole != nil && strength == 1
    let clean = try isInpainting && startsFromNoise ? nil : image.sample(random)
    let noise = try random.normal(image.mean.shape).to(device: image.mean.device)
    let around = try hole?.image.sample(random)
    let latents =
      try clean.flatMap { startsFromNoise ? nil : try scheduler.noised($0, noise, at: first) }
      ?? noise * scheduler.initialNoiseSigma
    guard let hole, let around else { return Drawn(latents: latents, kept: nil, beside: nil) }
    return Drawn(
      latents: latents,
      kept: isInpainting ? nil : clean.map { KeptLatents(clean: $0, noise: noise, mask: hole.mask) },
      beside: isInpainting ? try .concatenated([hole.mask, around], 1) : nil)
  }
}

/// The part of an image that stays, in latents.
struct KeptLatents {
  let clean: Tensor
  let noise: Tensor
  /// 1 where latents are generated anew.
  let mask: Tensor

  /// Latents of the scheduler's `index`-th step, with what stays as noisy as it is then.
  func restored(in latents: Tensor, _ scheduler: any Scheduler, at index: Int) throws -> Tensor {
    try (1 - mask) * scheduler.noised(clean, noise, at: index) + mask * latents
  }
}
