public import Diffusion

/// A prompt in which concepts stand: `{}` for the only one, `{name}` for one of several.
///
/// The concept's own token (`<toy>`) may be written instead of `{}`.
public struct ConceptPrompt: Sendable, Equatable {
  /// The text as it was written.
  public let text: String
  /// The tokens, padded to the model's length.
  public let ids: [Int]
  /// Where each concept's placeholder stands, in the order of the concepts.
  public let positions: [Int]
  /// What did not fit into the model's length and was cut off; empty when all of it fits.
  public let cutOff: String

  public init(text: String, ids: [Int], positions: [Int], cutOff: String) {
    self.text = text
    self.ids = ids
    self.positions = positions
    self.cutOff = cutOff
  }
}

/// Puts placeholders for some concepts into a tokenizer, and makes prompts with them.
public struct ConceptPrompter: Sendable {
  /// A concept as prompts know it.
  public struct Name: Sendable {
    /// What `{…}` holds; empty for the only concept.
    public let name: String
    /// The concept's own token, such as `<toy>`.
    public let token: String

    public init(name: String = "", token: String) {
      self.name = name
      self.token = token
    }
  }

  private let tokenizer: CLIPTokenizer
  private let names: [Name]
  private let placeholders: [(text: String, id: Int)]

  /// A concept's own prompt, where several stand side by side.
  struct Part {
    /// Index of the concept.
    let concept: Int
    /// With this concept's placeholder only.
    let prompt: ConceptPrompt
  }

  /// Throws when two concepts have one name.
  public init(_ tokenizer: CLIPTokenizer, _ names: [Name]) throws {
    var tokenizer = tokenizer
    var placeholders: [(String, Int)] = []
    for (i, n) in names.enumerated() {
      if names[..<i].contains(where: { $0.name == n.name }) {
        throw NeTIError(
          wrongUsage: "two concepts are called “\(n.name)”; give each a name of its own: `concept name=FILE`")
      }
      // The row of the placeholder is overwritten, so its spelling matters to nobody but the scanner.
      let text = "<|neti-placeholder-\(i)|>"
      placeholders.append((text, try tokenizer.add(text)))
    }
    self.tokenizer = tokenizer
    self.names = names
    self.placeholders = placeholders
  }

  /// Tokenises `text`; every concept must stand in it exactly once.
  public func callAsFunction(_ text: String) throws -> ConceptPrompt {
    try tokenized(substituted(text), names.indices, in: text)
  }

  /// A prompt for each concept by itself, in the order in which they stand in `text`.
  ///
  /// What stands before the first concept and after the last belongs to all; what joins them is left
  /// out. “a photo of {toy} next to {mug} in the snow” has the parts “a photo of {toy} in the snow” and
  /// “a photo of {mug} in the snow”.
  func parts(_ text: String) throws -> [Part] {
    let whole = try substituted(text)
    let found = placeholders.indices.compactMap { c in
      whole.firstRange(of: placeholders[c].text).map { (concept: c, range: $0) }
    }.sorted { $0.range.lowerBound < $1.range.lowerBound }
    guard let first = found.first, let last = found.last else { return [] }
    let (before, after) = (whole[..<first.range.lowerBound], whole[last.range.upperBound...])
    return try found.map {
      let own = before + placeholders[$0.concept].text + after
      return Part(concept: $0.concept, prompt: try tokenized(String(own), [$0.concept], in: text))
    }
  }

  /// - Parameters:
  ///   - substituted: with the placeholders' own spelling.
  ///   - concepts: those that stand in it.
  ///   - text: what the user wrote.
  private func tokenized(_ substituted: String, _ concepts: some Sequence<Int>, in text: String) throws
    -> ConceptPrompt
  {
    let tokenized = tokenizer(substituted)
    let positions = try concepts.map { c in
      guard let at = tokenized.ids.firstIndex(of: placeholders[c].id) else {
        throw NeTIError(
          "the prompt “\(text)” is too long: \(Self.braces(names[c])) lies beyond the model's "
            + "\(tokenizer.modelMaxLength) tokens and would be cut off; put it nearer to the start")
      }
      return at
    }
    return ConceptPrompt(
      text: text, ids: tokenized.ids, positions: positions,
      cutOff: tokenizer.decode(tokenized.truncated))
  }

  private func substituted(_ text: String) throws -> String {
    var result = text
    for (n, p) in zip(names, placeholders) {
      let braces = Self.braces(n)
      if !result.contains(braces), !n.token.isEmpty {
        result = result.replacing(n.token, with: braces)
      }
      let count = result.ranges(of: braces).count
      guard count == 1 else {
        throw NeTIError(
          wrongUsage:
            "the prompt “\(text)” has \(count == 0 ? "no \(braces)" : "\(braces) \(count) times"); "
            + "write \(braces) exactly once, where the concept belongs, as in “a photo of \(braces) on a beach”"
        )
      }
      result = result.replacing(braces, with: p.text)
    }
    if let open = result.firstIndex(of: "{"), let close = result[open...].firstIndex(of: "}") {
      let unknown = result[open...close]
      let known = names.map { Self.braces($0) }.joined(separator: ", ")
      throw NeTIError(
        wrongUsage:
          "the prompt “\(text)” has \(unknown), but no concept \(known.isEmpty ? "" : "of that name ")was given"
          + (known.isEmpty ? "; give one with `concept FILE`" : "; there is \(known)"))
    }
    return result
  }

  private static func braces(_ n: Name) -> String { "{\(n.name)}" }
}

extension ConceptPrompt {
  /// A line for a prompt that does not fit into the model's length.
  func cutOffWarning(modelMaxLength: Int) -> String? {
    cutOff.isEmpty
      ? nil : "the prompt is longer than the model's \(modelMaxLength) tokens; “\(cutOff)” was cut off"
  }
}
