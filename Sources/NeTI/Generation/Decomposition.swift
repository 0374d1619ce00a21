public import Diffusion
import Torch

/// Per-timestep decomposition: what a concept has learned for each part of the denoising process.
///
/// With M(t, l) the concept's embedding, and U-Net and scheduler always at the true t:
///
/// - *frozen*: the column τ uses M(τ, l) at every denoising step;
/// - *cumulative*: M(t, l) for t ≥ τ, the category's word below;
/// - *windows* (ours): M(t, l) for t in a window, the category's word outside.
///
/// NeTI, section 4.2 (https://arxiv.org/abs/2305.15391).
public struct Decomposition: ImageGenerator {
  public enum View: String, CaseIterable, Sendable {
    case frozen, cumulative, windows

    /// What its columns show.
    public var summary: String {
      switch self {
      case .frozen: "frozen: the concept of one timestep at every step"
      case .cumulative: "cumulative: the concept down to t, the category's word below"
      case .windows: "windows (not in the paper): the concept within, the category's word outside"
      }
    }
  }

  /// What to generate: every prompt with every column and every seed, and the plain image beside them.
  public struct Request: Sendable {
    public var prompts: [String]
    /// The columns, from noise to image: `.frozen`, `.cumulative` or `.window`.
    public var columns: [Variant]
    /// Hidden units to keep; nil keeps all.
    public var truncation: Int?
    /// The word that stands where the concept does not; the concept's own category when nil.
    public var category: String?
    /// Whether prompts and negative prompt have AUTOMATIC1111's weights (`PromptText`).
    public var promptWeights = false
    public var settings = GenerationSettings()

    public init(prompts: [String], columns: [Variant]) {
      self.prompts = prompts
      self.columns = columns
    }

    /// What is generated: the columns and, for comparison, the concept as it is.
    public var variants: [Variant] { columns + [.whole] }
  }

  /// What images of a request say of it beside their settings.
  ///
  /// - Parameter file: the name of the concept's file, where there is one.
  public func metadata(_ request: Request, file: String? = nil) -> [String: String] {
    [
      "concept": concept.about.token, "concept file": file ?? "",
      "concept truncation": request.truncation.map(String.init) ?? "",
    ]
  }

  /// The last timestep of the training noise.
  public static let lastTimestep = 999

  /// `count` columns that divide the denoising process evenly, from noise to image: the middles of
  /// equal parts, their lower ends, or the parts themselves. `count` is at most 1000.
  public static func columns(_ view: View, count: Int) -> [Variant] {
    let n = lastTimestep + 1
    return (0..<max(0, min(count, n))).map { i in
      let (low, high) = (n - n * (i + 1) / count, n - n * i / count - 1)
      return switch view {
      case .frozen: .frozen((low + high + 1) / 2)
      case .cumulative: .cumulative(low)
      case .windows: .window(low...high)
      }
    }
  }

  private let model: StableDiffusion
  private let concept: Concept
  private let prompter: ConceptPrompter

  /// Throws when the concept does not fit the model, or the model is for inpainting.
  public init(_ model: StableDiffusion, _ concept: Concept) throws {
    try model.requireTextToImage()
    self.model = model
    self.concept = concept
    _ = try concept.check(against: model.baseIdentity)
    prompter = try ConceptPrompter(model.tokenizers, [.init(concept)])
  }

  /// Refuses columns that run backwards, windows that overlap or hold no denoising step.
  public func prepare(_ request: Request) throws -> Generation {
    let words = try prompter.words(
      request.prompts, negative: request.settings.negativePrompt ?? "", weighted: request.promptWeights)
    let prompts = try words.prompts.map { ($0, try prompter.prompt($0, showing: words.shown)) }
    try words.checkTruncation(request.truncation, of: [concept])
    let areFrozen = request.columns.allSatisfy(\.isFrozen)
    let category = areFrozen ? "" : try category(request)
    try Self.check(request.columns)
    let pipeline = try TextToImagePipeline(model, request.settings)
    let times = pipeline.timesteps
    for case .window(let w) in request.columns
    where !times.contains(where: Variant.window(w).holdsConcept) {
      throw NeTIError(
        wrongUsage:
          "no denoising step lies in the window \(w.upperBound)-\(w.lowerBound) with \(times.count) steps; make it wider, or take more `steps`"
      )
    }
    func conditionings(_ text: PromptText, _ prompt: ConceptPrompt) throws -> [Conditioning] {
      let word = areFrozen ? nil : text.replacingConcepts(with: category)
      return try self.conditionings(
        request, prompt, word: word.map { try prompter.prompt($0, showing: []) }, timesteps: times)
    }
    return try Generation(
      pipeline, variants: request.variants, promptWeights: request.promptWeights,
      warnings: try warnings(request, prompts.map(\.1) + [words.negative]),
      prompts: prompts.map { text, prompt in
        Generation.Prompt(text: prompt.text) { try conditionings(text, prompt) }
      },
      negative: { try conditionings(words.negativeText, words.negative) })
  }

  /// One for each variant. `word` is the prompt with the category in the concept's place; nil where no variant
  /// needs it.
  private func conditionings(
    _ request: Request, _ prompt: ConceptPrompt, word: ConceptPrompt?, timesteps: [Double]
  ) throws -> [Conditioning] {
    // One table: the denoising steps, and after them the frozen columns.
    let frozen = request.columns.compactMap { c -> Double? in
      if case .frozen(let t) = c { Double(t) } else { nil }
    }
    func table(_ prompt: ConceptPrompt) throws -> ConditioningTable {
      try ConditioningTable(
        SpaceTimeConditioner(
          model.textEncoders, concepts: prompt.concepts.map { _ in concept.representation },
          layerCount: model.baseIdentity.layers.count),
        prompt, timesteps: timesteps + frozen, truncations: [request.truncation])
    }
    let word = try word.map(table)
    let table = try table(prompt)
    var column = timesteps.count
    return request.variants.map { variant in
      if variant.isFrozen {
        let contexts = table[column]
        column += 1
        return Conditioning(pooled: table.pooled) { _ in contexts }
      }
      return Conditioning { i in
        let shown = variant.holdsConcept(at: timesteps[i]) ? table : word ?? table
        return [Region(shown[i], pooled: shown.pooled)]
      }
    }
  }

  private func warnings(_ request: Request, _ prompts: [ConceptPrompt]) throws -> [String] {
    var lines = try concept.warnings(on: model)
    lines += ConceptPrompt.warnings(
      prompts, modelMaxLength: model.tokenizer.modelMaxLength,
      .init(weighing: "prompt-weights", embedding: "concept FILE", lora: "lora FILE:WEIGHT"))
    if !concept.representation.dependsOnTime, request.columns.contains(where: \.isFrozen) {
      lines.append(
        "a \(concept.representation.kind.rawValue) concept does not change with the timestep: its frozen columns are all the same image"
      )
    }
    return lines
  }

  /// Columns must run from noise to image, within 0…999, and windows must not overlap.
  public static func check(_ columns: [Variant]) throws {
    guard !columns.isEmpty else { throw NeTIError("there is no timestep to show; give one such as 500") }
    var previous: ClosedRange<Int>?
    for c in columns {
      guard let range = c.timesteps else {
        throw NeTIError("a decomposition has columns at timesteps, or windows of timesteps")
      }
      guard (0...lastTimestep).contains(range.lowerBound), range.upperBound <= lastTimestep else {
        throw NeTIError(
          "the timestep \(range.upperBound > lastTimestep ? range.upperBound : range.lowerBound) is outside 0…\(lastTimestep)"
        )
      }
      if let p = previous {
        func name(_ r: ClosedRange<Int>) -> String {
          r.count == 1 ? "\(r.lowerBound)" : "\(r.upperBound)-\(r.lowerBound)"
        }
        guard !p.overlaps(range) else {
          throw NeTIError(
            p == range
              ? "\(name(range)) is given twice" : "the windows \(name(p)) and \(name(range)) overlap")
        }
        guard range.upperBound < p.lowerBound else {
          throw NeTIError(
            "\(name(p)) comes before \(name(range)): timesteps run from noise to image, from 999 down to 0; write the larger first"
          )
        }
      }
      previous = range
    }
  }

  private func category(_ request: Request) throws -> String {
    let word = request.category ?? concept.about.category
    guard !word.isEmpty else {
      throw NeTIError(
        "the concept \(concept.about.token) does not say what kind of thing it is; give the word with `category`"
      )
    }
    return word
  }
}

extension Variant {
  fileprivate var isFrozen: Bool { if case .frozen = self { true } else { false } }

  /// The part of the denoising process that a column of a decomposition is about.
  fileprivate var timesteps: ClosedRange<Int>? {
    switch self {
    case .frozen(let t), .cumulative(let t): t...t
    case .window(let w): w
    default: nil
    }
  }

  /// Whether the concept stands in the prompt at `t`, rather than the category's word.
  fileprivate func holdsConcept(at t: Double) -> Bool {
    switch self {
    case .cumulative(let low): t >= Double(low)
    // Half-open between whole timesteps, so that neighbouring windows leave no fractional t out.
    case .window(let w): t >= Double(w.lowerBound) && t < Double(w.upperBound) + 1
    default: true
    }
  }
}
