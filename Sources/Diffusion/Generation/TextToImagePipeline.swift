public import Torch

/// Text to image, or to an image that starts from another, with one model and one set of settings: prepared once,
/// then as many images as are asked for.
///
///     let pipeline = try TextToImagePipeline(model, settings)
///     let images = try pipeline(model.conditioning("a photo of a red robot"))
///
/// Whoever wants every latent, for a preview, takes the steps himself:
///
///     let denoising = try pipeline.denoising(seeds: [0], conditioning)
///     for step in denoising {
///       try step()
///       show(try denoising.latents)
///     }
///     let images = try pipeline.decode(denoising)
public final class TextToImagePipeline {
  /// Latent positions that are denoised as one batch: small images are faster together.
  static let latentPositionsPerBatch = 4096

  public let model: StableDiffusion
  public let settings: GenerationSettings
  /// Of the latents.
  public let size: (height: Int, width: Int)
  /// At its first step; every image gets a copy.
  private let scheduler: any Scheduler
  /// The scheduler's step that is the first to be taken.
  private let first: Int
  private var encodedNegative: Conditioning?
  private var encodedStart: StartingLatents?

  /// - Throws: `DiffusionError` when the model cannot generate with these settings.
  public init(_ model: StableDiffusion, _ settings: GenerationSettings) throws {
    guard !settings.seeds.isEmpty else {
      throw DiffusionError(wrongUsage: "no seed: there is one image for each")
    }
    guard settings.guidance.isFinite else {
      throw DiffusionError(wrongUsage: "`guidance` is \(settings.guidance); it must be a number such as 7.5")
    }
    self.model = model
    self.settings = settings
    if settings.start == nil, model.isInpainting { throw model.needsMask }
    try settings.start?.check(model)
    guard settings.start == nil || (settings.width == nil && settings.height == nil) else {
      throw DiffusionError(
        wrongUsage: "a starting image has a size of its own; leave out `width` and `height`")
    }
    try Self.checkToldSizes(settings, model)
    size = try model.latentSize(
      width: settings.start?.pixels.width ?? settings.width,
      height: settings.start?.pixels.height ?? settings.height)
    var scheduler = try makeScheduler(settings.scheduler, model.schedulerConfiguration, steps: settings.steps)
    first = settings.start?.firstStep(of: settings.steps, timesteps: scheduler.timesteps.count) ?? 0
    try scheduler.begin(at: first)
    self.scheduler = scheduler
  }

  /// Refuses sizes that the U-Net is not told, or that cannot be.
  private static func checkToldSizes(_ settings: GenerationSettings, _ model: StableDiffusion) throws {
    for (name, told, least) in [("original-size", settings.originalSize, 1), ("crop", settings.crop, 0)] {
      guard let told else { continue }
      guard model.unetConfiguration.addition != nil else {
        throw DiffusionError(
          wrongUsage:
            "`\(name)` is for SDXL, which is told such sizes, and \(model.folder.name) is not; leave it out")
      }
      guard [told.width, told.height].allSatisfy((least...largestToldSize).contains) else {
        throw DiffusionError(
          wrongUsage:
            "`\(name)` is \(told.width) and \(told.height); each must be in \(least)…\(largestToldSize)")
      }
    }
  }

  private static let largestToldSize = 65536

  /// The timestep of each denoising step, from noise to image; they need not be whole.
  public var timesteps: [Double] { Array(scheduler.timesteps[first...]) }

  /// The seeds, cut into batches that are denoised together.
  public var batches: [[UInt64]] {
    let count = max(1, Self.latentPositionsPerBatch / (size.width * size.height) / 2)
    return stride(from: 0, to: settings.seeds.count, by: count).map {
      Array(settings.seeds[$0..<min($0 + count, settings.seeds.count)])
    }
  }

  /// Whether guidance has an effect.
  public var isGuided: Bool { ClassifierFreeGuidance.isUsed(settings.guidance, model.unetConfiguration) }

  /// The denoising of one image for each of `seeds`, together.
  ///
  /// - Parameter unconditional: what guidance leads away from, in one region; the settings' negative prompt,
  ///   as it is written, when nil.
  public func denoising(
    seeds: [UInt64], _ conditioning: Conditioning, unconditional: Conditioning? = nil
  ) throws -> Denoising {
    try Denoising(
      ClassifierFreeGuidance(unet: model.unet, settings, vaeFactor: model.vaeFactor), scheduler,
      from: first, seeds: seeds, size: size, start: start(), device: model.device, conditioning: conditioning,
      unconditional: isGuided ? unconditional ?? negativePrompt() : nil)
  }

  /// The images that a denoising ended with.
  public func decode(_ denoising: Denoising) throws -> [DecodedImage] {
    try model.decode(denoising.result(), tiled: settings.vaeTiling)
  }

  /// One image for each seed of the settings.
  ///
  /// - Parameters:
  ///   - unconditional: as for `denoising`.
  ///   - progress: called before each step; throws to stop.
  ///   - watching: called after each step, to look at the latents that it left.
  ///   - finishing: called with the images of each batch of seeds, when they are decoded.
  public func callAsFunction(
    _ conditioning: Conditioning, unconditional: Conditioning? = nil,
    progress: (GenerationProgress) throws -> Void = { _ in },
    watching: (Denoising) throws -> Void = { _ in },
    finishing: ([DecodedImage]) throws -> Void = { _ in }
  ) throws -> [DecodedImage] {
    let total = timesteps.count * settings.seeds.count
    var done = 0
    return try batches.flatMap { seeds in
      let denoising = try denoising(seeds: seeds, conditioning, unconditional: unconditional)
      for step in denoising {
        try progress(GenerationProgress(stepsDone: done, stepsTotal: total))
        try step()
        try watching(denoising)
        done += seeds.count
      }
      let images = try decode(denoising)
      try finishing(images)
      return images
    }
  }

  /// Whether guidance leads away from zeros, not from what the text encoders make of no words (SDXL).
  public var leadsFromZeros: Bool { settings.negativePrompt == nil && model.folder.zerosForEmptyPrompt }

  /// The negative prompt, encoded when it is first needed.
  private func negativePrompt() throws -> Conditioning {
    if let encodedNegative { return encodedNegative }
    let made =
      try leadsFromZeros ? model.zeroConditioning() : model.conditioning(settings.negativePrompt ?? "")
    encodedNegative = made
    return made
  }

  /// The starting image, encoded when it is first needed.
  private func start() throws -> StartingLatents? {
    if encodedStart == nil {
      encodedStart = try settings.start.map { start in
        try withoutGradients { try StartingLatents(start, model) }
      }
    }
    return encodedStart
  }
}

extension StableDiffusion {
  /// Images of the base model itself, one for each seed.
  ///
  /// - Parameters:
  ///   - prompt: cut off where the tokenizer's length ends.
  ///   - progress: called before each step; throws to stop.
  public func generate(
    _ prompt: String, _ settings: GenerationSettings = GenerationSettings(),
    progress: (GenerationProgress) throws -> Void = { _ in }
  ) throws -> [DecodedImage] {
    try TextToImagePipeline(self, settings)(conditioning(prompt), progress: progress)
  }

  /// The text encoders' states for a prompt, side by side, [1, S, d].
  public func encode(_ prompt: String) throws -> Tensor {
    try withoutGradients { try textEncoders.encode(tokenizers.map { $0(prompt).ids }) }
  }

  /// What denoising is conditioned on for a prompt.
  public func conditioning(_ prompt: String) throws -> Conditioning {
    let ids = tokenizers[tokenizers.count - 1](prompt).ids
    let pooled = try withoutGradients { try textEncoders.pooled(ids) }
    return Conditioning(try encode(prompt), pooled: pooled)
  }

  /// What denoising is conditioned on where there is no prompt at all.
  func zeroConditioning() throws -> Conditioning {
    Conditioning(
      try .zeros([1, tokenizer.modelMaxLength, hiddenSize], device: device),
      pooled: try unetConfiguration.addition.map { try .zeros([1, $0.pooledSize], device: device) })
  }
}
