/// What can be done, where prompts are written, about what is read in another way than was perhaps meant.
package struct PromptRemedies: Sendable {
  /// The setting that has weights read, if there is one: “prompt-weights”.
  var weighing: String?
  /// The setting that gives an embedding of another program, if there is one: “concept FILE”.
  var embedding: String?

  package init(weighing: String? = nil, embedding: String? = nil) {
    self.weighing = weighing
    self.embedding = embedding
  }
}

/// What stands in prompts and is read in another way than was perhaps meant.
struct PromptOddities: Equatable, Sendable {
  /// Braces that name no concept.
  var braces: [String] = []
  /// Concepts' tokens beside their braces.
  var tokens: [String] = []
  /// What would be a weight.
  var weights: [String] = []
  /// The syntax of other programs.
  var foreign: [String] = []
  /// What was left out of the words.
  var leftOut: [String] = []

  /// Examples that a line names.
  private static let most = 3

  init() {}

  init(_ text: String, weighted: Bool) {
    let plain = weighted ? text.replacing(Self.network, with: "") : text
    foreign = Self.foreign.flatMap { plain.matches(of: $0).map { String($0.output) } }
    if !weighted {
      weights = text.matches(of: Self.weight).map { String($0.output) }.filter { !foreign.contains($0) }
    }
  }

  /// Of several prompts together.
  init(_ all: [PromptOddities]) {
    braces = all.flatMap(\.braces)
    tokens = all.flatMap(\.tokens)
    weights = all.flatMap(\.weights)
    foreign = all.flatMap(\.foreign)
    leftOut = all.flatMap(\.leftOut)
  }

  /// A line for each kind, for whoever wrote the prompts.
  ///
  /// - Parameters:
  ///   - place: where that stands: “in a prompt”.
  ///   - remedies: what can be done about it there.
  func lines(_ place: String, _ remedies: PromptRemedies) -> [String] {
    func line(_ found: [String], _ text: String) -> String? {
      found.isEmpty ? nil : "\(Self.examples(found)) \(place) \(text)"
    }
    let embedding =
      foreign.contains { $0.hasPrefix("embedding:") }
      ? remedies.embedding.map { "; an embedding is given with `\($0)`, and is {} in the prompt" } : nil
    return [
      line(braces, "names no concept and is read as words; braces that are words are written {{ and }}"),
      line(tokens, "is read as words, because the concept stands there in braces"),
      line(
        weights,
        "looks like a weight and is read as words"
          + (remedies.weighing.map { "; `\($0)` reads it as AUTOMATIC1111 does" } ?? "")),
      line(foreign, "is of another program and is read as words" + (embedding ?? "")),
      line(leftOut, "is of another program and was left out"),
    ].compactMap { $0 }
  }

  private static func examples(_ found: [String]) -> String {
    var seen: Set<String> = []
    let all = found.filter { seen.insert($0).inserted }
    return all.prefix(most).map { "“\($0)”" }.joined(separator: ", ") + (all.count > most ? " …" : "")
  }

  /// A low-rank adapter or hypernetwork, as the web UI loads it.
  static var network: Regex<Substring> { /<(?:lora|lyco|hypernet):[^<>]*>/ }
  /// Brackets with nothing but words within, and brackets that are escaped.
  private static var weight: Regex<Substring> { /\([^()\[\]]+\)|\[[^()\[\]]+\]|\\[()\[\]]/ }
  /// Adapters, ComfyUI's embeddings, the web UI's schedules and alternatives, its combinations and breaks.
  private static var foreign: [Regex<Substring>] {
    [network, /embedding:[^\s,()]+/, /\[[^\[\]:|]*[:|][^\[\]]*\]/, /\b(?:AND|BREAK)\b/]
  }
}
