public import Diffusion
public import Imaging
import Torch

/// One image and what made it.
public struct GeneratedImage: Sendable {
  public let prompt: String
  public let seed: UInt64
  public let variant: Variant
  public let image: Image
}

/// Prompts × variants × seeds, prepared: everything was checked, nothing large was computed yet.
///
/// The skeleton under everything that generates. What `ConceptGenerator`, `StyleMixing` and `Decomposition`
/// add is a way to make each variant's conditioning.
public struct Generation {
  /// Lines that the user should read before waiting.
  public let warnings: [String]
  public let variants: [Variant]
  public let settings: GenerationSettings
  private let pipeline: TextToImagePipeline
  private let photo: Photo?
  /// Whether weights in the prompts were read as such.
  public let promptWeights: Bool
  private let prompts: [Prompt]
  private let negative: () throws -> [Conditioning]

  /// A prompt, and what makes the conditioning of its variants when its turn comes; it is kept no longer, and
  /// all seeds share it.
  struct Prompt {
    let text: String
    let conditionings: () throws -> [Conditioning]
  }

  /// - Parameters:
  ///   - photo: what the images are generated into; the pipeline's settings start from it.
  ///   - negative: makes what the variants' guidance leads away from, one for all prompts; not called without
  ///     guidance, nor where that leads away from zeros.
  init(
    _ pipeline: TextToImagePipeline, into photo: Photo? = nil, variants: [Variant], promptWeights: Bool,
    warnings: [String], prompts: [Prompt], negative: @escaping () throws -> [Conditioning]
  ) throws {
    self.pipeline = pipeline
    self.photo = photo
    settings = pipeline.settings
    self.variants = variants
    self.promptWeights = promptWeights
    self.prompts = prompts
    self.negative = negative
    self.warnings =
      warnings + (try photo?.warnings(pipeline) ?? []) + [Self.unusedNegative(pipeline)].compactMap(\.self)
  }

  /// One prompt and one variant of another, with some of its seeds.
  private init(
    _ whole: Generation, seeds: [UInt64], _ variant: Variant, _ prompt: Prompt, negative: Once, at i: Int
  )
    throws
  {
    var settings = whole.settings
    settings.seeds = seeds
    self.settings = settings
    pipeline = try TextToImagePipeline(whole.pipeline.model, settings)
    (photo, promptWeights, warnings, variants) = (whole.photo, whole.promptWeights, [], [variant])
    prompts = [prompt]
    self.negative = { [try negative()[i]] }
  }

  /// Conditionings that several parts share: made for the first, and kept as long as a part is.
  private final class Once {
    private let make: () throws -> [Conditioning]
    private var made: [Conditioning]?

    init(_ make: @escaping () throws -> [Conditioning]) { self.make = make }

    func callAsFunction() throws -> [Conditioning] {
      let made = try self.made ?? make()
      self.made = made
      return made
    }
  }

  /// The same images in the same order, in parts, so that something else can be done in between.
  ///
  /// - Parameter singly: whether each part is one image; else what is denoised together is a part, and its images are
  ///   those of the whole, bit for bit.
  public func parts(singly: Bool) throws -> [Generation] {
    let negatives = Once(negative)
    let seeds = singly ? settings.seeds.map { [$0] } : pipeline.batches
    return try prompts.flatMap { prompt in
      let conditionings = Once(prompt.conditionings)
      return try variants.enumerated().flatMap { i, variant in
        try seeds.map { seeds in
          try Generation(
            self, seeds: seeds, variant,
            Prompt(text: prompt.text) { [try conditionings()[i]] }, negative: negatives, at: i)
        }
      }
    }
  }

  /// Why the negative prompt has no effect, if so.
  private static func unusedNegative(_ pipeline: TextToImagePipeline) -> String? {
    guard !pipeline.isGuided, !(pipeline.settings.negativePrompt ?? "").isEmpty else { return nil }
    let reason =
      pipeline.model.unetConfiguration.guidanceChannels == nil
      ? "`guidance` is \(pipeline.settings.guidance), and must be more than 1"
      : "\(pipeline.model.folder.name) was distilled with guidance, and takes no negative prompt"
    return "the negative prompt has no effect: \(reason)"
  }

  /// How many images there will be.
  public var imageCount: Int { prompts.count * variants.count * settings.seeds.count }

  /// Denoising steps over all images, as progress counts them.
  public var totalSteps: Int {
    imageCount * pipeline.timesteps.count
  }

  /// Generates everything.
  ///
  /// - Parameters:
  ///   - progress: called before each step and at the end; throws to stop.
  ///   - watching: called after each step, to look at the latents that it left.
  ///   - finishing: called with each image as soon as there is one, so that it can be kept.
  /// - Returns: for each prompt its variants, for each variant its seeds.
  public func callAsFunction(
    progress: (GenerationProgress) throws -> Void = { _ in },
    watching: (Denoising) throws -> Void = { _ in },
    finishing: (GeneratedImage) throws -> Void = { _ in }
  ) throws -> [GeneratedImage] {
    try withoutGradients {
      var images: [GeneratedImage] = []
      let stepsPerVariant = settings.seeds.count * pipeline.timesteps.count
      let negatives = try pipeline.isGuided && !pipeline.leadsFromZeros ? negative() : []
      let placed = photo?.placement(pipeline.model)
      for prompt in prompts {
        for (i, conditioning) in try prompt.conditionings().enumerated() {
          let variant = variants[i]
          let done = images.count / settings.seeds.count * stepsPerVariant
          var seeds = settings.seeds[...]
          _ = try pipeline(
            conditioning, unconditional: negatives.isEmpty ? nil : negatives[i],
            progress: {
              try progress(GenerationProgress(stepsDone: done + $0.stepsDone, stepsTotal: totalSteps))
            }, watching: watching,
            finishing: { batch in
              for (seed, d) in zip(seeds, batch) {
                let made = try Image(width: d.width, height: d.height, pixels: d.rgb)
                let image = try placed?(made) ?? made
                images.append(
                  GeneratedImage(prompt: prompt.text, seed: seed, variant: variant, image: image))
                try finishing(images[images.count - 1])
              }
              seeds = seeds.dropFirst(batch.count)
            })
        }
      }
      try progress(GenerationProgress(stepsDone: totalSteps, stepsTotal: totalSteps))
      return images
    }
  }
}

/// What turns a request into images.
public protocol ImageGenerator {
  associatedtype Request

  /// Refuses what cannot be generated, and computes what all images share, before any long work is done.
  func prepare(_ request: Request) throws -> Generation
}

extension ImageGenerator {
  /// Prepares and generates at once; `progress` may throw to stop.
  public func callAsFunction(
    _ request: Request, progress: (GenerationProgress) throws -> Void = { _ in }
  ) throws -> [GeneratedImage] {
    try prepare(request)(progress: progress)
  }
}
