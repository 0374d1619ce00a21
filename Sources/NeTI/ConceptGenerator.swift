public import Diffusion
public import Imaging
import Torch

/// Draws prompts with concepts in them.
///
/// At each denoising step every cross-attention layer gets the embedding for that step's t. The
/// conditioning is computed once per prompt and truncation, for all steps; seeds share it.
public struct ConceptGenerator {
  /// A concept and how prompts call it; without a name it is `{}`.
  public struct Named {
    public var name: String
    public var concept: Concept

    public init(name: String = "", _ concept: Concept) {
      self.name = name
      self.concept = concept
    }
  }

  /// What to draw: every prompt with every truncation and every seed.
  public struct Request: Sendable {
    public var prompts: [String]
    public var seeds: [UInt64] = [0]
    /// Hidden units to keep, 1…128; nil keeps all.
    public var truncations: [Int?] = [nil]
    public var negativePrompt = ""
    public var scheduler = SchedulerKind.dpm
    public var steps = 50
    public var guidance = 7.5
    /// In pixels; the model's own when nil.
    public var width: Int?
    public var height: Int?

    public init(prompts: [String]) { self.prompts = prompts }
  }

  /// One picture and what made it.
  public struct Drawn: Sendable {
    public let prompt: String
    public let seed: UInt64
    public let truncation: Int?
    public let picture: Picture
  }

  /// Where the work is: denoising steps over all pictures, a batch counting once for each picture.
  public struct Progress: Sendable {
    public let stepsDone: Int
    public let stepsTotal: Int
  }

  /// Latent positions that are denoised as one batch: small pictures are faster together.
  static let latentPositionsPerBatch = 4096

  private let model: StableDiffusion
  private let concepts: [Named]
  private let prompter: ConceptPrompter

  /// Throws when a concept does not fit the model.
  public init(_ model: StableDiffusion, concepts: [Named]) throws {
    self.model = model
    self.concepts = concepts
    for c in concepts { _ = try c.concept.check(against: model.baseIdentity) }
    prompter = try ConceptPrompter(
      model.tokenizer, concepts.map { .init(name: $0.name, token: $0.concept.about.token) })
  }

  /// Lines that the user should read before waiting: prompts that are cut off, fine-tuned bases.
  public func warnings(_ request: Request) throws -> [String] {
    var lines = try concepts.compactMap { try $0.concept.check(against: model.baseIdentity) }
    for text in request.prompts {
      let cut = try prompter(text).cutOff
      if !cut.isEmpty {
        lines.append(
          "the prompt is longer than the model's \(model.tokenizer.modelMaxLength) tokens; “\(cut)” was cut off"
        )
      }
    }
    return lines
  }

  /// Refuses what cannot be drawn, before any work is done.
  public func check(_ request: Request) throws {
    for text in request.prompts { _ = try prompter(text) }
    _ = try model.latentSize(width: request.width, height: request.height)
    for k in request.truncations.compactMap({ $0 }) {
      guard !concepts.isEmpty else {
        throw NeTIError("a truncation needs a concept: give one with --concept")
      }
      for c in concepts {
        guard let width = c.concept.representation.truncationWidth else {
          throw NeTIError(
            "the concept \(c.concept.about.token) was trained without nested dropout, so its units have no order and it "
              + "cannot be truncated; leave --truncation out")
        }
        guard (1...width).contains(k) else {
          throw NeTIError(
            "--truncation \(k): it must be between 1 and \(width), the hidden units of the mapper")
        }
      }
    }
  }

  /// Draws everything; `progress` may throw to stop.
  public func callAsFunction(_ request: Request, progress: (Progress) throws -> Void = { _ in }) throws
    -> [Drawn]
  {
    try check(request)
    return try withoutGradients {
      let size = try model.latentSize(width: request.width, height: request.height)
      let batch = max(1, Self.latentPositionsPerBatch / (size.width * size.height) / 2)
      let layerCount = try model.baseIdentity.layers.count
      let conditioner = try SpaceTimeConditioner(
        model.textEncoder, concepts: concepts.map(\.concept.representation), layerCount: layerCount)
      var settings = SamplerSettings()
      settings.scheduler = request.scheduler
      settings.steps = request.steps
      settings.guidance = request.guidance
      let unconditional = [CrossAttentionContext(try model.encode(request.negativePrompt))]
      let timesteps = try makeScheduler(request.scheduler, model.schedulerConfiguration, steps: request.steps)
        .timesteps
      let total = request.prompts.count * request.truncations.count * request.seeds.count * timesteps.count
      var done = 0
      var drawn: [Drawn] = []
      for text in request.prompts {
        let prompt = try prompter(text)
        for truncation in request.truncations {
          let table = try ConditioningTable(
            conditioner, prompt, timesteps: timesteps, truncations: concepts.map { _ in truncation })
          for start in stride(from: 0, to: request.seeds.count, by: batch) {
            settings.seeds = Array(request.seeds[start..<min(start + batch, request.seeds.count)])
            let sampler = try Sampler(
              model.unet, model.schedulerConfiguration, settings, height: size.height, width: size.width,
              device: model.device)
            let count = settings.seeds.count
            let latents = try sampler.run(
              unconditional: unconditional,
              check: { i in try progress(Progress(stepsDone: done + i * count, stepsTotal: total)) },
              conditional: { table[$0] })
            done += timesteps.count * count
            for (seed, p) in zip(settings.seeds, try model.decode(latents)) {
              drawn.append(
                Drawn(
                  prompt: text, seed: seed, truncation: truncation,
                  picture: try Picture(width: p.width, height: p.height, pixels: p.rgb)))
            }
          }
        }
      }
      try progress(Progress(stepsDone: total, stepsTotal: total))
      return drawn
    }
  }
}
