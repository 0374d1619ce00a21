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
public struct StyleMixing {
  /// What to draw: every prompt with every start and every seed.
  public struct Request: Sendable {
    public var prompts: [String]
    /// G, the layers that the geometry concept keeps: indices in execution order.
    public var geometryLayers: Set<Int>
    /// The timesteps s that the mixing starts at.
    public var starts: [Int] = [999]
    /// Draws each concept alone as well, before and after the mixtures.
    public var parents = false
    /// Hidden units to keep of each concept; nil keeps all.
    public var geometryTruncation: Int?
    public var appearanceTruncation: Int?
    public var drawing = DrawingSettings()

    public init(prompts: [String], geometryLayers: Set<Int>) {
      self.prompts = prompts
      self.geometryLayers = geometryLayers
    }

    /// The columns of a sheet.
    public var variants: [DrawingVariant] {
      (parents ? [.geometry] : []) + starts.map { .mixed(from: $0) } + (parents ? [.appearance] : [])
    }
  }

  private let model: StableDiffusion
  private let geometry: Concept
  private let appearance: Concept
  private let prompter: ConceptPrompter

  /// The concepts may be of different representations. Throws when one does not fit the model.
  public init(_ model: StableDiffusion, geometry: Concept, appearance: Concept) throws {
    self.model = model
    self.geometry = geometry
    self.appearance = appearance
    for c in [geometry, appearance] { _ = try c.check(against: model.baseIdentity) }
    // One placeholder stands for both.
    prompter = try ConceptPrompter(model.tokenizer, [.init(token: geometry.about.token)])
  }

  /// Lines that the user should read before waiting.
  public func warnings(_ request: Request) throws -> [String] {
    try [geometry, appearance].compactMap { try $0.check(against: model.baseIdentity) }
      + prompter.cutOffWarnings(request.prompts, modelMaxLength: model.tokenizer.modelMaxLength)
  }

  /// Refuses what cannot be drawn, before any work is done.
  public func check(_ request: Request) throws {
    for text in request.prompts { _ = try prompter(text) }
    _ = try model.latentSize(width: request.drawing.width, height: request.drawing.height)
    try geometry.checkTruncation(request.geometryTruncation)
    try appearance.checkTruncation(request.appearanceTruncation)
    let layers = try model.baseIdentity.layers.count
    guard request.geometryLayers.allSatisfy((0..<layers).contains) else {
      throw NeTIError(
        "the geometry's layers are \(request.geometryLayers.sorted()); this model has 0…\(layers - 1)")
    }
  }

  /// Draws everything; `progress` may throw to stop.
  public func callAsFunction(
    _ request: Request, progress: (DrawingProgress) throws -> Void = { _ in }
  ) throws -> [DrawnPicture] {
    try check(request)
    let drawing = try PictureDrawing(model, request.drawing)
    let layerCount = try model.baseIdentity.layers.count
    let encoder = try model.textEncoder
    func table(_ c: Concept, _ prompt: ConceptPrompt, keep: Int?) throws -> ConditioningTable {
      try ConditioningTable(
        SpaceTimeConditioner(encoder, concepts: [c.representation], layerCount: layerCount), prompt,
        timesteps: drawing.timesteps, truncations: [keep])
    }
    let variants = request.variants
    return try drawing(request.prompts, plansPerPrompt: variants.count, progress: progress) { text in
      let prompt = try prompter(text)
      let g = try table(geometry, prompt, keep: request.geometryTruncation)
      let a = try table(appearance, prompt, keep: request.appearanceTruncation)
      return variants.map { variant in
        switch variant {
        case .mixed(let start):
          DrawingPlan(variant) { i in
            let mixes = drawing.timesteps[i] <= Double(start)
            return (0..<layerCount).map { l in
              (mixes && !request.geometryLayers.contains(l) ? a : g)[i, layer: l]
            }
          }
        case .appearance: DrawingPlan(variant) { a[$0] }
        default: DrawingPlan(variant) { g[$0] }
        }
      }
    }
  }
}
