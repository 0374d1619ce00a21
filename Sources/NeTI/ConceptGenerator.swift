public import Diffusion
import Torch

/// Draws prompts with concepts in them.
///
/// At each denoising step every cross-attention layer gets the embedding for that step's t. The
/// conditioning is computed once per prompt, for all steps and truncations; seeds share it.
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
  @dynamicMemberLookup
  public struct Request: Sendable {
    public var prompts: [String]
    /// Hidden units to keep, 1…128; nil keeps all.
    public var truncations: [Int?] = [nil]
    public var drawing = DrawingSettings()

    public init(prompts: [String]) { self.prompts = prompts }

    public subscript<T>(dynamicMember path: WritableKeyPath<DrawingSettings, T>) -> T {
      get { drawing[keyPath: path] }
      set { drawing[keyPath: path] = newValue }
    }
  }

  public typealias Drawn = DrawnPicture
  public typealias Progress = DrawingProgress

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
    try concepts.compactMap { try $0.concept.check(against: model.baseIdentity) }
      + prompter.cutOffWarnings(request.prompts, modelMaxLength: model.tokenizer.modelMaxLength)
  }

  /// Refuses what cannot be drawn, before any work is done.
  public func check(_ request: Request) throws {
    for text in request.prompts { _ = try prompter(text) }
    _ = try model.latentSize(width: request.width, height: request.height)
    for k in request.truncations {
      guard k == nil || !concepts.isEmpty else {
        throw NeTIError("a truncation needs a concept: give one with --concept")
      }
      for c in concepts { try c.concept.checkTruncation(k) }
    }
  }

  /// Draws everything; `progress` may throw to stop.
  public func callAsFunction(_ request: Request, progress: (Progress) throws -> Void = { _ in }) throws
    -> [Drawn]
  {
    try check(request)
    let drawing = try PictureDrawing(model, request.drawing)
    let conditioner = try SpaceTimeConditioner(
      model.textEncoder, concepts: concepts.map(\.concept.representation),
      layerCount: model.baseIdentity.layers.count)
    return try drawing(request.prompts, plansPerPrompt: request.truncations.count, progress: progress) {
      let tables = try ConditioningTable.tables(
        conditioner, prompter($0), timesteps: drawing.timesteps,
        truncations: request.truncations.map { k in concepts.map { _ in k } })
      return zip(request.truncations, tables).map { k, table in
        DrawingPlan(k.map(DrawingVariant.truncation) ?? .whole) { table[$0] }
      }
    }
  }
}
