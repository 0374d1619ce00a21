public import Diffusion
public import Imaging
import Torch

/// How pictures are drawn, whatever is drawn.
public struct DrawingSettings: Sendable {
  /// One picture for each.
  public var seeds: [UInt64] = [0]
  public var negativePrompt = ""
  public var scheduler = SchedulerKind.dpm
  public var steps = 50
  public var guidance = 7.5
  /// In pixels; the model's own when nil.
  public var width: Int?
  public var height: Int?
  /// Whether the VAE decodes in tiles; where memory is short, when nil.
  public var vaeTiling: Bool?

  public init() {}
}

/// A picture's conditioning: what the cross-attention layers see at each denoising step, and where.
///
/// The one seam between concepts and drawing. Whatever is done with concepts (truncation, mixing,
/// decomposition, several side by side) is a way to make plans.
public struct DrawingPlan {
  public let variant: DrawingVariant
  /// What the `index`-th denoising step draws: most often one region, the whole picture.
  public let regions: (_ index: Int) throws -> [Region]

  public init(_ variant: DrawingVariant, regions: @escaping (_ index: Int) throws -> [Region]) {
    self.variant = variant
    self.regions = regions
  }

  /// One region: the contexts of the `index`-th denoising step, one for all layers, or one per layer.
  public init(
    _ variant: DrawingVariant, contexts: @escaping (_ index: Int) throws -> [CrossAttentionContext]
  ) {
    self.init(variant) { [Region(try contexts($0))] }
  }
}

/// One picture and what made it.
public struct DrawnPicture: Sendable {
  public let prompt: String
  public let seed: UInt64
  public let variant: DrawingVariant
  public let picture: Picture

  /// Hidden units that were kept; nil for all.
  public var truncation: Int? { if case .truncation(let k) = variant { k } else { nil } }
}

/// Where the work is: denoising steps over all pictures, a batch counting once for each picture.
public struct DrawingProgress: Sendable {
  public let stepsDone: Int
  public let stepsTotal: Int
}

/// Draws prompts × plans × seeds: the loop under every command that draws.
public struct PictureDrawing {
  /// Latent positions that are denoised as one batch: small pictures are faster together.
  static let latentPositionsPerBatch = 4096

  /// The timestep of each denoising step, from noise to picture; they need not be whole.
  public let timesteps: [Double]
  private let model: StableDiffusion
  private let settings: DrawingSettings
  /// Of the latents.
  let size: (height: Int, width: Int)

  /// Throws when the model cannot draw with these settings.
  public init(_ model: StableDiffusion, _ settings: DrawingSettings) throws {
    self.model = model
    self.settings = settings
    size = try model.latentSize(width: settings.width, height: settings.height)
    timesteps = try makeScheduler(settings.scheduler, model.schedulerConfiguration, steps: settings.steps)
      .timesteps
  }

  /// Draws everything.
  ///
  /// - Parameters:
  ///   - plansPerPrompt: how many `plans` makes for each.
  ///   - progress: may throw to stop.
  ///   - plans: a prompt's plans, made when its turn comes and kept no longer; all seeds share them.
  public func callAsFunction(
    _ prompts: [String], plansPerPrompt: Int, progress: (DrawingProgress) throws -> Void,
    plans: (String) throws -> [DrawingPlan]
  ) throws -> [DrawnPicture] {
    try withoutGradients {
      let batch = max(1, Self.latentPositionsPerBatch / (size.width * size.height) / 2)
      let unconditional = [CrossAttentionContext(try model.encode(settings.negativePrompt))]
      let total = prompts.count * plansPerPrompt * settings.seeds.count * timesteps.count
      var done = 0
      var drawn: [DrawnPicture] = []
      for prompt in prompts {
        for plan in try plans(prompt) {
          for start in stride(from: 0, to: settings.seeds.count, by: batch) {
            let seeds = Array(settings.seeds[start..<min(start + batch, settings.seeds.count)])
            let latents = try sampler(seeds).run(
              unconditional: unconditional,
              check: { i in
                try progress(DrawingProgress(stepsDone: done + i * seeds.count, stepsTotal: total))
              },
              regions: plan.regions)
            done += timesteps.count * seeds.count
            for (seed, p) in zip(seeds, try model.decode(latents, tiled: settings.vaeTiling)) {
              drawn.append(
                DrawnPicture(
                  prompt: prompt, seed: seed, variant: plan.variant,
                  picture: try Picture(width: p.width, height: p.height, pixels: p.rgb)))
            }
          }
        }
      }
      try progress(DrawingProgress(stepsDone: total, stepsTotal: total))
      return drawn
    }
  }

  private func sampler(_ seeds: [UInt64]) throws -> Sampler {
    var s = SamplerSettings()
    s.seeds = seeds
    s.scheduler = settings.scheduler
    s.steps = settings.steps
    s.guidance = settings.guidance
    return try Sampler(
      model.unet, model.schedulerConfiguration, s, height: size.height, width: size.width,
      device: model.device)
  }
}

extension Concept {
  /// Refuses to keep `k` hidden units where that is not possible; nil, which keeps all, always is.
  func checkTruncation(_ k: Int?) throws {
    guard let k else { return }
    guard let width = representation.truncationWidth else {
      throw NeTIError(
        "the concept \(about.token) was trained without nested dropout, so its units have no order and it "
          + "cannot be truncated; leave the truncation out")
    }
    guard (1...width).contains(k) else {
      throw NeTIError(
        "a truncation of \(k): it must be between 1 and \(width), the hidden units of the mapper")
    }
  }
}

extension ConceptPrompter {
  /// A line for each prompt that does not fit into the model's length.
  func cutOffWarnings(_ prompts: [String], modelMaxLength: Int) throws -> [String] {
    try prompts.compactMap { try self($0).cutOffWarning(modelMaxLength: modelMaxLength) }
  }
}

extension ConceptPrompt {
  /// A line for a prompt that does not fit into the model's length.
  func cutOffWarning(modelMaxLength: Int) -> String? {
    cutOff.isEmpty
      ? nil : "the prompt is longer than the model's \(modelMaxLength) tokens; “\(cutOff)” was cut off"
  }
}
