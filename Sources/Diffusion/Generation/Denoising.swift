public import Torch

/// What each denoising step of an image is conditioned on, and where.
///
/// The one seam between what is generated and how: whatever is done with prompts and concepts is a way to
/// make one of these.
public struct Conditioning {
  /// What the `index`-th denoising step shows: most often one region, the whole image.
  public let regions: (_ index: Int) throws -> [Region]

  public init(regions: @escaping (_ index: Int) throws -> [Region]) { self.regions = regions }

  /// One region: the contexts of the `index`-th denoising step, one for all layers, or one per layer.
  ///
  /// - Parameter pooled: the pooled output of the text encoder, [1, p], at every step; nil where the U-Net takes none.
  public init(pooled: Tensor? = nil, contexts: @escaping (_ index: Int) throws -> [CrossAttentionContext]) {
    self.init { [Region(try contexts($0), pooled: pooled)] }
  }

  /// The same sequence [1, S, d] at every step, in every layer.
  public init(_ sequence: Tensor, pooled: Tensor? = nil) {
    let contexts = [CrossAttentionContext(sequence)]
    self.init(pooled: pooled) { _ in contexts }
  }
}

/// From noise to latents, step by step, for a batch of images, as diffusers' pipelines compute it:
///
///     for step in denoising {
///       try step()
///       show(try denoising.latents)  // [B, C, h, w]
///     }
///
/// Every image of the batch has its own generator, seeded with its own seed, and its own scheduler: an image
/// is the same alone and in company. The latents stay in fp32.
public final class Denoising: Sequence {
  /// The timestep of each step, from noise to image; they need not be whole.
  public let timesteps: [Double]
  private let guidance: ClassifierFreeGuidance
  private let conditioning: Conditioning
  private let unconditional: Conditioning?
  private var images: [Image]
  /// The scheduler's step that is the first here.
  private let first: Int
  /// Steps that were taken.
  private var done = 0

  private struct Image {
    var scheduler: any Scheduler
    let random: RandomSource
    /// [1, C, h, w]
    var latents: Tensor
    var kept: KeptLatents?
    /// What the U-Net sees beside the latents.
    var beside: Tensor?
  }

  /// Starts from noise, or from an image.
  ///
  /// - Parameters:
  ///   - scheduler: at its `first` step; every image gets a copy.
  ///   - size: of the latents.
  ///   - unconditional: of the whole image; nil without guidance.
  init(
    _ guidance: ClassifierFreeGuidance, _ scheduler: any Scheduler, from first: Int, seeds: [UInt64],
    size: (height: Int, width: Int), start: StartingLatents?, device: Device, conditioning: Conditioning,
    unconditional: Conditioning?
  ) throws {
    self.guidance = guidance
    self.conditioning = conditioning
    self.unconditional = unconditional
    self.first = first
    timesteps = Array(scheduler.timesteps[first...])
    images = try seeds.map { seed in
      let random = try RandomSource(seed: seed)
      if let start {
        let drawn = try withoutGradients { try start.draw(random, scheduler, at: first) }
        return Image(
          scheduler: scheduler, random: random, latents: drawn.latents, kept: drawn.kept, beside: drawn.beside
        )
      }
      let noise = try random.normal([1, guidance.unet.configuration.outChannels, size.height, size.width])
      let start = try noise.to(device: device) * scheduler.initialNoiseSigma
      return Image(scheduler: scheduler, random: random, latents: start)
    }
  }

  /// Latents as they are now, [B, C, h, w] in fp32.
  public var latents: Tensor { get throws { try .concatenated(images.map(\.latents), 0) } }

  /// The steps that are left.
  public func makeIterator() -> AnyIterator<DenoisingStep> {
    var next = done
    return AnyIterator { [self] in
      guard next < timesteps.count else { return nil }
      defer { next += 1 }
      return DenoisingStep(index: next, timestep: timesteps[next], denoising: self)
    }
  }

  /// The latents that the last step left, [B, C, h, w].
  ///
  /// - Throws: `DiffusionError` when steps are left, or numbers left the range of the dtype.
  public func result() throws -> Tensor {
    guard done == timesteps.count else {
      throw DiffusionError("denoising: \(timesteps.count - done) of \(timesteps.count) steps are left")
    }
    let result = try latents
    guard try result.isFinite().to(.float32).min().item() == 1 else {
      throw DiffusionError(
        "denoising gave numbers that are not finite; try a lower guidance"
          + (guidance.unet.dtype == .float32
            ? "; where that does not help, the model's weights are damaged: use another copy of the model"
            : " or precision fp32"))
    }
    return result
  }

  /// One step for the whole batch.
  fileprivate func take(_ index: Int) throws {
    guard index == done else {
      throw DiffusionError("denoising: steps are taken in order, each once; \(done) is next, not \(index)")
    }
    try withoutGradients {
      let at = first + index
      let input = try Tensor.concatenated(
        images.map { image in
          let latents = try image.scheduler.scaledInput(image.latents, at: at)
          return try image.beside.map { try .concatenated([latents, $0], 1) } ?? latents
        }, 0)
      let output = try prediction(input, at: index)
      for i in images.indices {
        let stepped = try images[i].scheduler.step(
          output.sliced(0, i..<i + 1), at: at, images[i].latents, random: images[i].random)
        images[i].latents =
          try images[i].kept?.restored(in: stepped, images[i].scheduler, at: at + 1) ?? stepped
      }
    }
    done += 1
  }

  /// The guided output of all regions, blended where they overlap, in fp32.
  private func prediction(_ input: Tensor, at index: Int) throws -> Tensor {
    let negative = try unconditional.map { try Self.whole($0, index) }
    func guided(_ part: Tensor, _ region: Region) throws -> Tensor {
      try guidance(part, timestep: timesteps[index], region, unconditional: negative).to(.float32)
    }
    let regions = try conditioning.regions(index)
    if regions.count == 1, regions[0].place == nil { return try guided(input, regions[0]) }
    let sum = try Tensor.zeros(latents.shape, device: input.device)
    let width = input.size(3)
    for region in regions {
      guard let place = region.place, 0 <= place.columns.lowerBound, place.columns.upperBound <= width,
        place.columns.count == place.shares.count
      else {
        throw DiffusionError("denoising: a region that has no place in latents \(input.shape)")
      }
      let part = try guided(input.sliced(3, place.columns), region)
      let shared = try part * Tensor(place.shares).to(device: input.device)
      try sum.add(shared.padded([place.columns.lowerBound, width - place.columns.upperBound]))
    }
    return sum
  }
}

extension Denoising {
  /// What guidance leads away from: the same in all regions.
  fileprivate static func whole(_ unconditional: Conditioning, _ index: Int) throws -> Region {
    let regions = try unconditional.regions(index)
    guard regions.count == 1, regions[0].place == nil else {
      throw DiffusionError("denoising: the unconditional branch must be of the whole image, not of regions")
    }
    return regions[0]
  }
}

/// A denoising step that is to be taken, by calling it.
public struct DenoisingStep {
  /// From 0.
  public let index: Int
  public let timestep: Double
  fileprivate let denoising: Denoising

  /// Takes the step; each once, in order. What it leaves is in `Denoising.latents`.
  public func callAsFunction() throws { try denoising.take(index) }
}
