public import Diffusion
import Files

/// A prompt in which concepts stand: `{}` for the only one, `{name}` for one of several.
///
/// The concept's own token (`<toy>`) may be written instead of `{}`; see `PromptText`.
public struct ConceptPrompt: Sendable, Equatable {
  /// The text as it was written.
  public let text: String
  /// As each text encoder of the model takes it.
  public let tokens: [Tokens]
  /// As the last text encoder takes it with the concepts' categories in their places.
  let plainIDs: [Int]
  /// The concepts that stand in it, by their indices.
  public let concepts: [Int]
  /// How many positions each takes: as many as vectors stand for it.
  public let vectorCounts: [Int]
  /// What did not fit into the model's length and was cut off; empty when all of it fits.
  public let cutOff: String
  /// What it is, for messages.
  let kind: String
  let oddities: PromptOddities

  /// A prompt as one text encoder takes it.
  public struct Tokens: Sendable, Equatable {
    /// Padded to the model's length.
    public var ids: [Int]
    /// Where each of the prompt's concepts stands, or begins.
    public var positions: [Int]
    /// How much each position counts, as `PromptWeights` says it; nil where all count alike.
    public var weights: [Float]?
  }

  /// As the first text encoder takes it.
  public var ids: [Int] { tokens[0].ids }
  public var positions: [Int] { tokens[0].positions }
  public var weights: [Float]? { tokens[0].weights }

  /// A prompt of ids for one text encoder, in which the first concepts, of one vector each, stand at `positions`.
  public init(text: String, ids: [Int], positions: [Int], cutOff: String) {
    self.init(
      text: text, tokens: [Tokens(ids: ids, positions: positions)], plainIDs: ids,
      concepts: Array(positions.indices), vectorCounts: positions.map { _ in 1 }, cutOff: cutOff)
  }

  init(
    text: String, tokens: [Tokens], plainIDs: [Int], concepts: [Int], vectorCounts: [Int], cutOff: String,
    kind: String = "prompt",
    oddities: PromptOddities = .init()
  ) {
    self.text = text
    self.tokens = tokens
    self.plainIDs = plainIDs
    self.concepts = concepts
    self.vectorCounts = vectorCounts
    self.cutOff = cutOff
    self.kind = kind
    self.oddities = oddities
  }
}

/// Makes prompts with some concepts in them.
public struct ConceptPrompter: Sendable {
  /// A concept as prompts know it.
  public struct Name: Sendable {
    /// What `{…}` holds; empty for the only concept.
    public let name: String
    /// The concept's own token, such as `<toy>`.
    public let token: String
    /// What kind of thing it is: its word in the pooled text of a model that has one; empty where it is unknown.
    public let category: String
    /// How many positions it takes.
    public let vectorCount: Int

    public init(name: String = "", token: String, category: String = "", vectorCount: Int = 1) {
      self.name = name
      self.token = token
      self.category = category
      self.vectorCount = vectorCount
    }

    public init(name: String = "", _ concept: Concept) {
      self.init(
        name: name, token: concept.about.token, category: concept.about.category,
        vectorCount: concept.representation.vectorCount)
    }
  }

  /// Of each text encoder.
  private let tokenizers: [CLIPTokenizer]
  private let names: [Name]

  /// For a model with one text encoder. Throws when two concepts have one name.
  public init(_ tokenizer: CLIPTokenizer, _ names: [Name]) throws { try self.init([tokenizer], names) }

  /// Throws when two concepts have one name.
  public init(_ tokenizers: [CLIPTokenizer], _ names: [Name]) throws {
    for (i, n) in names.enumerated() where names[..<i].contains(where: { $0.name == n.name }) {
      throw NeTIError(
        wrongUsage: (n.name.isEmpty ? "two concepts have no name" : "two concepts are called “\(n.name)”")
          + "; give each a name of its own: `concept name=FILE`")
    }
    self.tokenizers = tokenizers
    self.names = names
  }

  /// Tokenises `text`; every concept must stand in it exactly once.
  ///
  /// - Parameters:
  ///   - kind: what the text is, for messages.
  ///   - weighted: whether it has AUTOMATIC1111's weights (`PromptWeights`).
  public func callAsFunction(_ text: String, kind: String = "prompt", weighted: Bool = false) throws
    -> ConceptPrompt
  {
    try prompt(PromptText(text, names, kind: kind, weighted: weighted), showing: Array(names.indices))
  }

  /// What a request says: its prompts, and what its images should not show.
  struct Words {
    let prompts: [PromptText]
    /// The concepts that stand in every prompt.
    let shown: [Int]
    let negativeText: PromptText
    let negative: ConceptPrompt
  }

  /// Reads the texts of a request. A concept may stand in the negative prompt; one that stands there need not stand
  /// in the prompts, but when it stands in one of them it must in all.
  func words(_ prompts: [String], negative: String, weighted: Bool) throws -> Words {
    let negative = try PromptText(negative, names, kind: PromptText.negative, weighted: weighted)
    let prompts = try prompts.map { try PromptText($0, names, weighted: weighted) }
    let shown = names.indices.filter { c in
      negative.count(of: c) == 0 || prompts.contains { $0.count(of: c) > 0 }
    }
    return try Words(
      prompts: prompts, shown: shown, negativeText: negative,
      negative: prompt(negative, showing: names.indices.filter { negative.count(of: $0) > 0 }))
  }

  /// Tokenises a text in which each of `concepts` must stand exactly once.
  func prompt(_ text: PromptText, showing concepts: [Int]) throws -> ConceptPrompt {
    try require(concepts, in: text)
    return try tokenized(text, concepts)
  }

  /// Refuses a text in which one of `concepts` does not stand exactly once.
  private func require(_ concepts: [Int], in text: PromptText) throws {
    for c in concepts where text.count(of: c) != 1 {
      let (braces, count) = (names[c].braces, text.count(of: c))
      if count == 0, let unknown = text.oddities.braces.first(where: { $0.count > 2 }) {
        throw NeTIError(
          wrongUsage:
            "the \(text.kind) “\(text.written)” has \(unknown), but no concept of that name; there is "
            + "\(names.map(\.braces).joined(separator: ", ")). Braces that are words are written {\(unknown)}"
        )
      }
      throw NeTIError(
        wrongUsage:
          "the \(text.kind) “\(text.written)” has \(count == 0 ? "no \(braces)" : "\(braces) \(count) times"); "
          + "write \(braces) exactly once, where the concept belongs, as in “a photo of \(braces) on a beach”"
      )
    }
  }

  /// A prompt for each concept by itself, in the order in which they stand in `text`.
  ///
  /// What stands before the first concept and after the last belongs to all; what joins them is left
  /// out. “a photo of {toy} next to {mug} in the snow” has the parts “a photo of {toy} in the snow” and
  /// “a photo of {mug} in the snow”.
  func parts(_ text: PromptText, showing concepts: [Int]) throws -> [ConceptPrompt] {
    try require(concepts, in: text)
    let places = text.pieces.indices.filter {
      if case .concept = text.pieces[$0].content { true } else { false }
    }
    guard let first = places.first, let last = places.last else { return [] }
    return try zip(places, text.concepts).map { place, concept in
      var own = text
      own.pieces = text.pieces[..<first] + [text.pieces[place]] + text.pieces[(last + 1)...]
      return try tokenized(own, [concept])
    }
  }

  private func tokenized(_ text: PromptText, _ concepts: [Int]) throws -> ConceptPrompt {
    let each = try tokenizers.map { try tokens(text, concepts, $0) }
    return ConceptPrompt(
      text: text.written, tokens: each.map(\.tokens), plainIDs: plainIDs(text), concepts: concepts,
      vectorCounts: concepts.map { names[$0].vectorCount },
      cutOff: each.map(\.cutOff).first { !$0.isEmpty } ?? "", kind: text.kind, oddities: text.oddities)
  }

  /// With the concepts' categories in their places.
  private func plainIDs(_ text: PromptText) -> [Int] {
    guard let tokenizer = tokenizers.last else { return [] }
    return tokenizer.framed(
      text.pieces.flatMap { piece in
        switch piece.content {
        case .text(let words): tokenizer.encode(words)
        case .concept(let c): tokenizer.encode(names[c].category)
        }
      }
    ).ids
  }

  /// Each piece is cut into tokens by itself.
  private func tokens(_ text: PromptText, _ concepts: [Int], _ tokenizer: CLIPTokenizer) throws -> (
    tokens: ConceptPrompt.Tokens, cutOff: String
  ) {
    var ids: [Int] = []
    var weights: [Float] = []
    var places: [Int: Int] = [:]
    for piece in text.pieces {
      let start = ids.count
      switch piece.content {
      case .text(let words): ids += tokenizer.encode(words)
      case .concept(let c):
        places[c] = start
        // The rows of the placeholder are overwritten, so its id matters to nobody.
        ids += Array(repeating: tokenizer.vocabularySize, count: names[c].vectorCount)
      }
      weights += Array(repeating: Float(piece.weight), count: ids.count - start)
    }
    let framed = tokenizer.framed(ids)
    let kept = framed.count - 2
    let positions = try concepts.map { c in
      let (n, place) = (names[c].vectorCount, places[c] ?? kept)
      guard place + n <= kept else {
        let lies =
          n == 1
          ? "lies beyond the model's \(tokenizer.modelMaxLength) tokens"
          : "has \(n) vectors, which take the positions \(place + 1) to \(place + n) of the model's \(kept),"
        throw NeTIError(
          wrongUsage:
            "the \(text.kind) “\(text.written)” is too long: \(names[c].braces) \(lies) and would be cut off; "
            + "put it nearer to the start")
      }
      return place + 1
    }
    let all = [1] + weights.prefix(kept) + Array(repeating: 1, count: framed.ids.count - kept - 1)
    let isWeighted = !all.allSatisfy { $0 == 1 }
    return (
      .init(ids: framed.ids, positions: positions, weights: isWeighted ? all : nil), framed.truncatedText
    )
  }
}

extension ConceptPrompt {
  /// Lines for whoever wrote some prompts: what was cut off, and what is read in another way than was perhaps meant.
  static func warnings(_ prompts: [ConceptPrompt], modelMaxLength: Int, _ remedies: PromptRemedies)
    -> [String]
  {
    var lines: [String] = []
    // The parts of a prompt may lose the same words.
    for line in prompts.compactMap({ $0.cutOffWarning(modelMaxLength) }) where !lines.contains(line) {
      lines.append(line)
    }
    func oddities(_ prompts: [ConceptPrompt], _ place: String) -> [String] {
      PromptOddities(prompts.map(\.oddities)).lines(place, remedies)
    }
    return lines + oddities(prompts.filter { $0.kind != PromptText.negative }, "in a prompt")
      + oddities(prompts.filter { $0.kind == PromptText.negative }, "in the \(PromptText.negative)")
  }

  /// A line for a prompt that does not fit into the model's length.
  func cutOffWarning(_ modelMaxLength: Int) -> String? {
    cutOff.isEmpty
      ? nil : "the \(kind) is longer than the model's \(modelMaxLength) tokens; \(quoted(cutOff)) was cut off"
  }
}
