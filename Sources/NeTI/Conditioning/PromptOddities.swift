/// What can be done, where prompts are written, about what is read in another way than was perhaps meant.
package struct PromptRemedies: Sendable {
  /// The setting that has weights read, if there is one: “prompt-weights”.
  var weighing: String?
  /// The setting that gives an embedding of another program, if there is one: “concept FILE”.
  var embedding: String?
  /// The setting that gives a LoRA, if there is one: “lora FILE:WEIGHT”.
  var lora: String?

  package init(weighing: String? = nil, embedding: String? = nil, lora: String? = nil) {
    self.weighing = weighing
    self.embedding = embedding
    self.lora = lora
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
    var found: [Range<String.Index>] = []
    func isFound(_ range: Range<String.Index>) -> Bool {
      found.contains { $0.lowerBound <= range.lowerBound && range.upperBound <= $0.upperBound }
    }
    let ranges = Self.foreign.flatMap { plain.matches(of: $0).map(\.range) } + Self.compelWeights(plain)
    for range in ranges where !isFound(range) {
      foreign.append(String(plain[range]))
      found.append(range)
    }
    if !weighted {
      weights = plain.matches(of: Self.weight).filter { !isFound($0.range) }.map { String($0.output) }
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
    func line(_ found: [String], _ one: String, _ several: String, _ rest: String) -> String? {
      found.isEmpty
        ? nil : "\(Self.examples(found)) \(place) \(Set(found).count == 1 ? one : several) \(rest)"
    }
    func remedy(_ found: [String]) -> String {
      let known: [(beginnings: [String], text: String?)] = [
        (["<lora:", "<lyco:", "<locon:"], remedies.lora.map { "a LoRA is given with `\($0)`" }),
        (
          ["embedding:", "<embed"],
          remedies.embedding.map { "an embedding is given with `\($0)`, and is {} in the prompt" }
        ),
      ]
      let fitting = known.filter { row in
        found.contains { word in row.beginnings.contains { word.lowercased().hasPrefix($0) } }
      }
      return fitting.compactMap(\.text).map { "; \($0)" }.joined()
    }
    return [
      line(
        braces, "names no concept and is", "name no concept and are",
        "read as words; braces that are words are written {{ and }}"),
      line(tokens, "is", "are", "read as words, because the concept stands there in braces"),
      line(
        weights, "looks like a weight and is", "look like weights and are",
        "read as words" + (remedies.weighing.map { "; `\($0)` reads weights as AUTOMATIC1111 does" } ?? "")),
      line(
        foreign, "is of another program and is", "are of another program and are",
        "read as words" + remedy(foreign)),
      line(
        leftOut, "is of another program and was", "are of another program and were",
        "left out" + remedy(leftOut)),
    ].compactMap { $0 }
  }

  private static func examples(_ found: [String]) -> String {
    var seen: Set<String> = []
    let all = found.filter { seen.insert($0).inserted }
    return all.prefix(most).map { "“\($0)”" }.joined(separator: ", ") + (all.count > most ? " …" : "")
  }

  /// A low-rank adapter or hypernetwork, as the web UI loads it, or an embedding, as SwarmUI does.
  static var network: Regex<Substring> {
    /<(?:lora|lyco|locon|hypernet|embed|embedding):[^<>]*>/.ignoresCase()
  }
  /// Brackets with nothing but words within, and brackets that are escaped.
  private static var weight: Regex<Substring> { /\([^()\[\]]+\)|\[[^()\[\]]+\]|\\[()\[\]]/ }
  /// Adapters, ComfyUI's embeddings, the web UI's schedules and alternatives, its combinations and breaks, the regional
  /// prompter's, and wildcards.
  private static var foreign: [Regex<Substring>] {
    [
      network, /embedding:[^\s,()]+/, /\[[^\[\]:|]*[:|][^\[\]]*\]/,
      /\b(?:AND|BREAK|ADDCOMM|ADDROW|ADDCOL|ADDBASE)\b/, /__[^\s,]+?__/,
    ]
  }

  /// Weights as compel writes them, `cat++` and `(big cat)--`; C++ is a word. Told from the signs backwards, in one walk:
  /// a regular expression would begin anew at every letter of a long word.
  private static func compelWeights(_ text: String) -> [Range<String.Index>] {
    var found: [Range<String.Index>] = []
    var at = text.startIndex
    while let start = text[at...].firstIndex(where: { $0 == "+" || $0 == "-" }) {
      let end = text[start...].firstIndex { $0 != text[start] } ?? text.endIndex
      at = end
      guard text.distance(from: start, to: end) > 1,
        end == text.endIndex || text[end].isWhitespace || ",.;:)".contains(text[end])
      else { continue }
      let before = text[..<start]
      if before.last == ")" {
        let open = before.dropLast().lastIndex { "()".contains($0) }
        if let open, text[open] == "(" { found.append(open..<end) }
      } else {
        let last = before.lastIndex { $0.isWhitespace || "()+,-".contains($0) }
        let word = last.map { before[before.index(after: $0)...] } ?? before
        if word.count > 1 { found.append(word.startIndex..<end) }
      }
    }
    return found
  }
}
