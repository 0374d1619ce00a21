public import Diffusion
import Torch

/// Draws prompts with concepts in them.
///
/// At each denoising step every cross-attention layer gets the embedding for that step's t. The
/// conditioning is computed once per prompt, for all steps and truncations; seeds share it. Several
/// concepts in one prompt have a layout.
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
    /// How several concepts share a picture; one has it all.
    public var layout = ConceptLayout.sideBySide
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

  /// Throws when a concept does not fit the model, or the others.
  public init(_ model: StableDiffusion, concepts: [Named]) throws {
    self.model = model
    self.concepts = concepts
    try Self.checkOneBase(concepts)
    for c in concepts { _ = try c.concept.check(against: model.baseIdentity) }
    prompter = try ConceptPrompter(
      model.tokenizer, concepts.map { .init(name: $0.name, token: $0.concept.about.token) })
  }

  /// Refuses concepts that no model can draw together.
  private static func checkOneBase(_ concepts: [Named]) throws {
    for c in concepts.dropFirst() {
      let (a, b) = (concepts[0].concept.about, c.concept.about)
      guard a.base.hiddenSize == b.base.hiddenSize, a.base.layers == b.base.layers else {
        func size(_ base: BaseIdentity) -> String {
          "\(base.name) with hidden size \(base.hiddenSize) and \(base.layers.count) cross-attention layers"
        }
        throw NeTIError(
          wrongUsage:
            "the concepts \(a.token) and \(b.token) are for different base models, \(size(a.base)) and "
            + "\(size(b.base)); concepts of one prompt must share one")
      }
    }
  }

  /// Lines that the user should read before waiting: prompts that are cut off, fine-tuned bases.
  public func warnings(_ request: Request) throws -> [String] {
    var lines = try concepts.compactMap { try $0.concept.check(against: model.baseIdentity) }
    for part in try request.prompts.flatMap({ try prompts($0, request.layout) }) {
      // The parts of a prompt may lose the same words.
      if let line = part.prompt.cutOffWarning(modelMaxLength: model.tokenizer.modelMaxLength),
        lines.last != line
      {
        lines.append(line)
      }
    }
    return lines
  }

  /// Refuses what cannot be drawn, before any work is done.
  public func check(_ request: Request) throws {
    for text in request.prompts { _ = try prompts(text, request.layout) }
    let drawing = try settings(request)
    _ = try model.latentSize(width: drawing.width, height: drawing.height)
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
    let drawing = try PictureDrawing(model, settings(request))
    let places: [Region.Place?] =
      try request.layout.hasRegions(concepts.count)
      ? Region.Place.row(concepts.count, width: drawing.size.width) : [nil]
    return try drawing(request.prompts, plansPerPrompt: request.truncations.count, progress: progress) {
      // For each region, a table for each truncation.
      let regions = try prompts($0, request.layout).map {
        try tables($0, timesteps: drawing.timesteps, truncations: request.truncations)
      }
      return request.truncations.enumerated().map { setting, k in
        DrawingPlan(k.map(DrawingVariant.truncation) ?? .whole) { step in
          zip(places, regions).map { Region($1[setting][step], place: $0) }
        }
      }
    }
  }

  /// A prompt and the concepts that stand in it.
  private typealias Prompt = (concepts: [Int], prompt: ConceptPrompt)

  /// What the regions of a picture draw, from left to right: one prompt where there is one region.
  private func prompts(_ text: String, _ layout: ConceptLayout) throws -> [Prompt] {
    guard layout.hasRegions(concepts.count) else { return [(Array(concepts.indices), try prompter(text))] }
    return try prompter.parts(text).map { ([$0.concept], $0.prompt) }
  }

  private func tables(_ prompt: Prompt, timesteps: [Double], truncations: [Int?]) throws
    -> [ConditioningTable]
  {
    let conditioner = try SpaceTimeConditioner(
      model.textEncoder, concepts: prompt.concepts.map { concepts[$0].concept.representation },
      layerCount: model.baseIdentity.layers.count)
    return try ConditioningTable.tables(
      conditioner, prompt.prompt, timesteps: timesteps,
      truncations: truncations.map { k in prompt.concepts.map { _ in k } })
  }

  /// The request's settings, at the layout's width.
  private func settings(_ request: Request) throws -> DrawingSettings {
    var settings = request.drawing
    settings.width = try request.layout.width(
      settings.width, concepts: concepts.count, resolution: model.resolution, vaeFactor: model.vaeFactor)
    return settings
  }
}
