public import Diffusion
import Torch

/// Style mixing: the geometry of one concept with the appearance of another, in one prompt.
///
/// With G a set of layers and s a timestep, layer l at timestep t takes its complete pair of
/// sequences (for keys and for values)
///
///     from the appearance concept  where l ∉ G and t ≤ s,
///     from the geometry concept    elsewhere,
///
/// each made by its own concept at the same (t, l), with its own norm, bypass and truncation. s = 999
/// mixes throughout, s < 0 is the geometry concept alone; the later the mixing starts (the smaller
/// s), the more of the geometry concept is kept. NeTI, section 4.3
/// (https://arxiv.org/abs/2305.15391); the choice of G is ours, see docs/mixing.md.
public struct StyleMixing: ImageGenerator {
  /// What to generate: every prompt with every start and every seed.
  public struct Request: Sendable {
    public var prompts: [String]
    /// G, the layers that the geometry concept keeps: indices in execution order.
    public var geometryLayers: Set<Int>
    /// The timesteps s that the mixing starts at.
    public var starts: [Int] = [999]
    /// Shows each concept alone as well, before and after the mixtures.
    public var parents = false
    /// Hidden units to keep of each concept; nil keeps all.
    public var geometryTruncation: Int?
    public var appearanceTruncation: Int?
    /// What the images are generated into; nil starts from noise alone.
    public var photo: Photo?
    /// Whether prompts and negative prompt have AUTOMATIC1111's weights (`PromptText`).
    public var promptWeights = false
    public var settings = GenerationSettings()

    public init(prompts: [String], geometryLayers: Set<Int>) {
      self.prompts = prompts
      self.geometryLayers = geometryLayers
    }

    /// The columns of a sheet.
    public var variants: [Variant] {
      (parents ? [.geometry] : []) + starts.map { .mixed(from: $0) } + (parents ? [.appearance] : [])
    }
  }

  /// What images of a request say of it beside their settings.
  ///
  /// - Parameter files: names of the concepts' files, where there are such.
  public func metadata(_ request: Request, files: (geometry: String, appearance: String)? = nil) -> [String:
    String]
  {
    let names = LayerNames(model.unetConfiguration).names(request.geometryLayers)
    return [
      "geometry": geometry.about.token, "geometry file": files?.geometry ?? "",
      "appearance": appearance.about.token, "appearance file": files?.appearance ?? "",
      "geometry layers": names.joined(separator: " "),
      "geometry truncation": request.geometryTruncation.map(String.init) ?? "",
      "appearance truncation": request.appearanceTruncation.map(String.init) ?? "",
    ]
  }

  private let model: StableDiffusion
  private let geometry: Concept
  private let appearance: Concept
  /// Read the same prompts for each concept, which may take other numbers of positions.
  private let geometryPrompter: ConceptPrompter
  private let appearancePrompter: ConceptPrompter

  /// The concepts may be of different representations. Throws when one does not fit the model.
  public init(_ model: StableDiffusion, geometry: Concept, appearance: Concept) throws {
    self.model = model
    self.geometry = geometry
    self.appearance = appearance
    for c in [geometry, appearance] { _ = try c.check(against: model.baseIdentity) }
    // One placeholder stands for both.
    func prompter(_ c: Concept) throws -> ConceptPrompter {
      try ConceptPrompter(
        model.tokenizers,
        [
          .init(
            token: geometry.about.token, category: c.about.category,
            vectorCount: c.representation.vectorCount)
        ])
    }
    (geometryPrompter, appearancePrompter) = try (prompter(geometry), prompter(appearance))
  }

  /// A prompt as each concept needs it.
  private struct Pair {
    let geometry: ConceptPrompt
    let appearance: ConceptPrompt
  }

  public func prepare(_ request: Request) throws -> Generation {
    func read(_ prompter: ConceptPrompter) throws -> ConceptPrompter.Words {
      try prompter.words(
        request.prompts, negative: request.settings.negativePrompt ?? "", weighted: request.promptWeights)
    }
    let words = try read(geometryPrompter)
    let negative = Pair(geometry: words.negative, appearance: try read(appearancePrompter).negative)
    let prompts = try words.prompts.map {
      Pair(
        geometry: try geometryPrompter.prompt($0, showing: words.shown),
        appearance: try appearancePrompter.prompt($0, showing: words.shown))
    }
    var settings = request.settings
    settings.start = try request.photo?.start(model)
    let pipeline = try TextToImagePipeline(model, settings)
    try words.checkTruncation(request.geometryTruncation, of: [geometry])
    try words.checkTruncation(request.appearanceTruncation, of: [appearance])
    let layerCount = try model.baseIdentity.layers.count
    guard request.geometryLayers.allSatisfy((0..<layerCount).contains) else {
      throw NeTIError(
        "the geometry's layers are \(request.geometryLayers.sorted()); this model has 0…\(layerCount - 1)")
    }
    func conditionings(_ prompt: Pair) throws -> [Conditioning] {
      try self.conditionings(request, prompt, timesteps: pipeline.timesteps, layerCount: layerCount)
    }
    return try Generation(
      pipeline, into: request.photo, variants: request.variants, promptWeights: request.promptWeights,
      warnings: try warnings(prompts + [negative]),
      prompts: prompts.map { prompt in
        Generation.Prompt(text: prompt.geometry.text) { try conditionings(prompt) }
      },
      negative: { try conditionings(negative) })
  }

  /// One for each variant. The pooled text of a mixture is the geometry's.
  private func conditionings(
    _ request: Request, _ prompt: Pair, timesteps: [Double], layerCount: Int
  ) throws -> [Conditioning] {
    func table(_ c: Concept, _ prompt: ConceptPrompt, keep: Int?) throws -> ConditioningTable {
      try ConditioningTable(
        SpaceTimeConditioner(
          model.textEncoders, concepts: prompt.concepts.map { _ in c.representation }, layerCount: layerCount),
        prompt, timesteps: timesteps, truncations: [keep])
    }
    let g = try table(geometry, prompt.geometry, keep: request.geometryTruncation)
    let a = try table(appearance, prompt.appearance, keep: request.appearanceTruncation)
    return request.variants.map { variant in
      switch variant {
      case .mixed(let start):
        Conditioning(pooled: g.pooled) { i in
          let mixes = timesteps[i] <= Double(start)
          return (0..<layerCount).map { l in
            (mixes && !request.geometryLayers.contains(l) ? a : g)[i, layer: l]
          }
        }
      case .appearance: Conditioning(pooled: a.pooled) { a[$0] }
      default: Conditioning(pooled: g.pooled) { g[$0] }
      }
    }
  }

  private func warnings(_ pairs: [Pair]) throws -> [String] {
    // Of concepts with as many vectors both are the same.
    let longer = pairs.map(\.appearance).filter { !$0.cutOff.isEmpty && !pairs.map(\.geometry).contains($0) }
    let prompts = pairs.map(\.geometry) + longer
    return try [geometry, appearance].flatMap { try $0.warnings(on: model) }
      + ConceptPrompt.warnings(
        prompts, modelMaxLength: model.tokenizer.modelMaxLength,
        .init(weighing: "prompt-weights", lora: "lora FILE:WEIGHT"))
  }
}
