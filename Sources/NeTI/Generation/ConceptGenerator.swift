public import Diffusion
import Torch

/// Generates images of prompts with concepts in them.
///
/// At each denoising step every cross-attention layer gets the embedding for that step's t. The
/// conditioning is computed once per prompt, for all steps and truncations; seeds share it. Several
/// concepts in one prompt have a layout. A concept may stand in the negative prompt: guidance then leads away
/// from it, in the whole image, and the truncation is that of the prompts where it stands there, too.
///
/// ```swift
/// let concept = try Concept.open(URL(filePath: "toy.safetensors"))
/// var request = ConceptGenerator.Request(prompts: ["a photo of a {} on a beach"])
/// request.seeds = [0, 1]
/// request.truncations = [nil, 16]
/// let images = try ConceptGenerator(model, concepts: [.init(concept)])(request)
/// ```
public struct ConceptGenerator: ImageGenerator {
  /// A concept and how prompts call it; without a name it is `{}`.
  public struct Named {
    public var name: String
    public var concept: Concept

    public init(name: String = "", _ concept: Concept) {
      self.name = name
      self.concept = concept
    }
  }

  /// What to generate: every prompt with every truncation and every seed.
  @dynamicMemberLookup
  public struct Request: Sendable {
    public var prompts: [String]
    /// Hidden units to keep, 1…128; nil keeps all.
    public var truncations: [Int?] = [nil]
    /// How several concepts share an image; one has it all.
    public var layout = ConceptLayout.sideBySide
    /// How wide the concepts' regions are, from left to right, beside each other: [2, 1]; nil for all alike.
    public var regions: [Double]?
    /// What the images are generated into; nil starts from noise alone.
    public var photo: Photo?
    /// Whether prompts and negative prompt have AUTOMATIC1111's weights (`PromptText`).
    public var promptWeights = false
    public var settings = GenerationSettings()

    public init(prompts: [String]) { self.prompts = prompts }

    public subscript<T>(dynamicMember path: WritableKeyPath<GenerationSettings, T>) -> T {
      get { settings[keyPath: path] }
      set { settings[keyPath: path] = newValue }
    }
  }

  private let model: StableDiffusion
  private let concepts: [Named]
  private let prompter: ConceptPrompter

  /// Throws when a concept does not fit the model, or the others.
  public init(_ model: StableDiffusion, concepts: [Named]) throws {
    self.model = model
    self.concepts = concepts
    try Self.checkOneBase(concepts)
    for c in concepts { _ = try c.concept.check(against: model.baseIdentity) }
    prompter = try ConceptPrompter(model.tokenizers, concepts.map { .init(name: $0.name, $0.concept) })
  }

  /// Refuses concepts that no model can show together.
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

  public func prepare(_ request: Request) throws -> Generation {
    try prepare(
      request, .init(weighing: "prompt-weights", embedding: "concept FILE", lora: "lora FILE:WEIGHT"))
  }

  /// The same with other remedies for what prompts say in another way than was perhaps meant.
  package func prepare(_ request: Request, _ remedies: PromptRemedies) throws -> Generation {
    let words = try prompter.words(
      request.prompts, negative: request.settings.negativePrompt ?? "", weighted: request.promptWeights)
    let texts = try words.prompts.map { ($0.written, try parts($0, words.shown, request.layout)) }
    let pipeline = try TextToImagePipeline(model, settings(request, concepts: words.shown.count))
    for k in request.truncations { try words.checkTruncation(k, of: concepts.map(\.concept)) }
    let places = try places(request, words.shown.count, width: pipeline.size.width)
    // What stands in the negative prompt only has no dial.
    func tables(_ prompt: ConceptPrompt) throws -> [ConditioningTable] {
      try self.tables(
        prompt, timesteps: pipeline.timesteps,
        truncations: request.truncations.map { k in
          prompt.concepts.map { words.shown.contains($0) ? k : nil }
        })
    }
    return try Generation(
      pipeline, into: request.photo,
      variants: request.truncations.map { $0.map(Variant.truncation) ?? .whole },
      promptWeights: request.promptWeights,
      warnings: try warnings(texts.flatMap(\.1) + [words.negative], remedies),
      prompts: texts.map { text, parts in
        Generation.Prompt(text: text) {
          // For each region, a table for each truncation.
          let regions = try parts.map(tables)
          return request.truncations.indices.map { variant in
            Conditioning { step in
              zip(places, regions).map { place, tables in
                Region(tables[variant][step], pooled: tables[variant].pooled, place: place)
              }
            }
          }
        }
      },
      negative: {
        try tables(words.negative).map { table in Conditioning(pooled: table.pooled) { table[$0] } }
      })
  }

  /// Where the concepts are in images of so many columns of latents.
  private func places(_ request: Request, _ concepts: Int, width: Int) throws -> [Region.Place?] {
    guard request.layout.hasRegions(concepts) else {
      guard request.regions == nil else {
        throw NeTIError(wrongUsage: "`regions` is for several concepts side by side, and here are none")
      }
      return [nil]
    }
    guard let parts = request.regions else { return try Region.Place.row(concepts, width: width) }
    guard parts.count == concepts, parts.allSatisfy({ $0.isFinite && $0 > 0 }),
      (parts.min() ?? 0) >= Self.leastRegion * (parts.reduce(0, +) / Double(concepts))
    else {
      throw NeTIError(
        wrongUsage:
          "`regions` wants a number above 0 for each of the \(concepts) concepts, such as 2,1; the smallest "
          + "at least a quarter of their mean")
    }
    return try Region.Place.row(parts: parts, width: width)
  }

  private static let leastRegion = 0.25

  /// Prompts that are cut off or perhaps meant otherwise, fine-tuned bases.
  private func warnings(_ prompts: [ConceptPrompt], _ remedies: PromptRemedies) throws -> [String] {
    try concepts.flatMap { try $0.concept.warnings(on: model) }
      + ConceptPrompt.warnings(prompts, modelMaxLength: model.tokenizer.modelMaxLength, remedies)
  }

  /// What the regions of an image show, from left to right: one prompt where there is one region.
  private func parts(_ text: PromptText, _ shown: [Int], _ layout: ConceptLayout) throws -> [ConceptPrompt] {
    try layout.hasRegions(shown.count)
      ? prompter.parts(text, showing: shown) : [prompter.prompt(text, showing: shown)]
  }

  /// - Parameter truncations: for each table, those of the prompt's concepts.
  private func tables(_ prompt: ConceptPrompt, timesteps: [Double], truncations: [[Int?]]) throws
    -> [ConditioningTable]
  {
    let conditioner = try SpaceTimeConditioner(
      model.textEncoders, concepts: prompt.concepts.map { concepts[$0].concept.representation },
      layerCount: model.baseIdentity.layers.count)
    return try ConditioningTable.tables(conditioner, prompt, timesteps: timesteps, truncations: truncations)
  }

  /// The request's settings, at the layout's width.
  private func settings(_ request: Request, concepts: Int) throws -> GenerationSettings {
    var settings = request.settings
    settings.start = try request.photo?.start(model)
    let width = try request.layout.width(
      settings.start?.pixels.width ?? settings.width, concepts: concepts, resolution: model.resolution,
      vaeFactor: model.vaeFactor)
    if settings.start == nil { settings.width = width }
    return settings
  }
}
