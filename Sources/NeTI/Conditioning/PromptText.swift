import Foundation

/// A prompt or caption as it was written, cut into words and the concepts that stand among them.
///
/// `{}` is the only concept, `{name}` one of several, and where it has no braces its own token (`<toy>`) stands
/// for it, also in braces of its own. A token that begins or ends with a letter or digit is found as a whole word only.
/// `{{` and `}}` are braces that mean nothing; other braces are words, too. Texts and tokens are compared in Unicode's
/// form NFC.
///
/// With `weighted`, it reads the weights of AUTOMATIC1111's web UI: `(words)` counts 1.1 times, `[words]` 1/1.1
/// times, `(words:1.3)` 1.3 times; nested ones multiply, one that is not closed reaches to the end; `\(`, `\)`,
/// `\[`, `\]` and `\\` are the characters themselves. What its weights do is said in `PromptWeights`.
struct PromptText: Sendable {
  enum Content: Equatable, Sendable {
    case text(String)
    /// Index of the concept.
    case concept(Int)
  }

  struct Piece: Equatable, Sendable {
    var content: Content
    var weight: Double
  }

  /// The kind of the text that images should not show.
  static let negative = "negative prompt"

  /// The largest weight, in size.
  static let largestWeight = 100.0

  let written: String
  /// What it is, for messages: “prompt”.
  let kind: String
  var pieces: [Piece]
  /// What the user should know.
  private(set) var oddities: PromptOddities

  /// - Throws: for `{}` where no concept is called so, and for a weight that is no number or too large.
  init(
    _ written: String, _ names: [ConceptPrompter.Name], kind: String = "prompt", weighted: Bool = false
  ) throws {
    self.written = written
    self.kind = kind
    let (text, leftOut) = weighted ? Self.withoutNetworks(written) : (written, [])
    func scan(tokensOf concepts: [Int]) -> PromptScanner {
      var scanner = PromptScanner(text, names, tokensOf: concepts, weighted: weighted)
      scanner.scan()
      return scanner
    }
    var scanner = scan(tokensOf: [])
    let missing = names.indices.filter { c in !scanner.pieces.contains { $0.content == .concept(c) } }
    if missing.contains(where: { !names[$0].token.isEmpty }) { scanner = scan(tokensOf: missing) }
    pieces = scanner.pieces
    oddities = PromptOddities(written, weighted: weighted)
    oddities.leftOut = leftOut
    oddities.braces = scanner.unknownBraces
    for (c, name) in names.enumerated() where !missing.contains(c) && name.isMarked {
      if contains(name.token) { oddities.tokens.append(name.token) }
    }
    if scanner.unknownBraces.contains("{}") { throw Self.noConcept(written, kind, names) }
    guard pieces.allSatisfy({ abs($0.weight) <= Self.largestWeight }) else {
      throw NeTIError(
        wrongUsage: "the \(kind) “\(written)” has a weight that is no number or too large; write one such as "
          + "(word:1.3), of at most \(Int(Self.largestWeight))")
    }
  }

  /// The concepts that stand in it, in its order.
  var concepts: [Int] {
    pieces.compactMap { if case .concept(let c) = $0.content { c } else { nil } }
  }

  func count(of concept: Int) -> Int { concepts.count { $0 == concept } }

  /// The same with a word where concepts stand.
  func replacingConcepts(with word: String) -> PromptText {
    var result = self
    result.pieces = []
    for piece in pieces {
      var piece = piece
      if case .concept = piece.content { piece.content = .text(word) }
      result.pieces.append(joining: piece)
    }
    return result
  }

  private func contains(_ token: String) -> Bool {
    pieces.contains { if case .text(let t) = $0.content { t.contains(token) } else { false } }
  }

  private static func noConcept(_ text: String, _ kind: String, _ names: [ConceptPrompter.Name]) -> NeTIError
  {
    let known = names.map(\.braces).joined(separator: ", ")
    return NeTIError(
      wrongUsage: "the \(kind) “\(text)” has {}, but "
        + (known.isEmpty
          ? "no concept was given; give one with `concept FILE`"
          : "no concept of that name; there is \(known)")
        + ". Braces that are words are written {{}}")
  }

  /// Without `<lora:…>` and its like, which are not words to the web UI; and those.
  private static func withoutNetworks(_ text: String) -> (String, [String]) {
    (
      text.replacing(PromptOddities.network, with: ""),
      text.matches(of: PromptOddities.network).map { String($0.output) }
    )
  }
}

extension Array where Element == PromptText.Piece {
  /// Appends words to the words before them, where those count alike.
  mutating func append(joining piece: PromptText.Piece) {
    if case .text(let more) = piece.content, let last, case .text(let before) = last.content,
      last.weight == piece.weight
    {
      self[count - 1].content = .text(before + more)
    } else {
      append(piece)
    }
  }
}

extension ConceptPrompter.Name {
  /// How a prompt names it.
  var braces: String { "{\(name)}" }

  /// Whether its token cannot be an ordinary word.
  var isMarked: Bool {
    guard let first = token.unicodeScalars.first, let last = token.unicodeScalars.last else { return false }
    return !first.isOfWord && !last.isOfWord
  }
}

extension Unicode.Scalar {
  /// Whether a word goes on with it; ideographs aside, which stand together without spaces.
  var isOfWord: Bool {
    if self == "_" { return true }
    if properties.isIdeographic { return false }
    switch properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter, .decimalNumber,
      .letterNumber, .otherNumber, .nonspacingMark, .spacingMark, .enclosingMark:
      return true
    default: return false
    }
  }
}

/// One pass over a prompt, from its start to its end.
private struct PromptScanner {
  private typealias Spelling = (text: [Unicode.Scalar], concept: Int)

  private let text: [Unicode.Scalar]
  private let braces: [Spelling]
  /// The longest first.
  private let tokens: [Spelling]
  private let weighted: Bool
  private var at = 0
  /// Not joined: a weight reaches over whole pieces.
  private var raw: [PromptText.Piece] = []
  /// Words that are no piece yet.
  private var words = String.UnicodeScalarView()
  /// The pieces that open brackets begin with.
  private var round: [Int] = []
  private var square: [Int] = []
  /// Where the last unknown braces close.
  private var closing: Int?
  /// Up to the brace that closes, or the brace alone.
  private(set) var unknownBraces: [String] = []

  init(_ text: String, _ names: [ConceptPrompter.Name], tokensOf concepts: [Int], weighted: Bool) {
    self.text = Self.scalars(text)
    self.weighted = weighted
    // A token in braces means what the token alone means, unless another concept is called so.
    let known = Set(names.map(\.braces))
    let inBraces = names.indices.map { ("{\(names[$0].token)}", $0) }
      .filter { $0.0 != "{}" && !known.contains($0.0) }
    braces = (names.indices.map { (names[$0].braces, $0) } + inBraces).map { (Self.scalars($0.0), $0.1) }
    tokens = concepts.map { (Self.scalars(names[$0].token), $0) }.filter { !$0.text.isEmpty }
      .sorted { $0.text.count > $1.text.count }
  }

  /// Words that count alike are one piece.
  var pieces: [PromptText.Piece] { raw.reduce(into: []) { $0.append(joining: $1) } }

  mutating func scan() {
    while at < text.count { takeOne() }
    for start in round { multiply(from: start, 1.1) }
    for start in square { multiply(from: start, 1 / 1.1) }
    endWords()
  }

  private static func scalars(_ text: String) -> [Unicode.Scalar] {
    Array(text.precomposedStringWithCanonicalMapping.unicodeScalars)
  }

  private mutating func takeOne() {
    let c = text[at]
    if c == "{" || c == "}", at + 1 < text.count, text[at + 1] == c {
      words.append(c)
      at += 2
    } else if let found = braces.first(where: { text[at...].starts(with: $0.text) })
      ?? tokens.first(where: { stands($0.text) })
    {
      endWords()
      raw.append(.init(content: .concept(found.concept), weight: 1))
      at += found.text.count
    } else if !weighted || !takeWeight() {
      if c == "{" || (c == "}" && at != closing) { unknownBraces.append(unknownBrace()) }
      words.append(c)
      at += 1
    }
  }

  private mutating func endWords() {
    guard !words.isEmpty else { return }
    raw.append(.init(content: .text(String(words)), weight: 1))
    words = .init()
  }

  /// Whether a token stands here, as a whole word where it is one.
  private func stands(_ token: [Unicode.Scalar]) -> Bool {
    guard text[at...].starts(with: token) else { return false }
    let (before, after) = (at - 1, at + token.count)
    let begins = before < 0 || !(token[0].isOfWord && text[before].isOfWord)
    let ends = after >= text.count || !(token[token.count - 1].isOfWord && text[after].isOfWord)
    return begins && ends
  }

  /// The braces that begin here, for a message.
  private mutating func unknownBrace() -> String {
    guard text[at] == "{", let end = text[at...].prefix(40).firstIndex(of: "}") else {
      return String(text[at])
    }
    closing = end
    var found = String.UnicodeScalarView()
    found.append(contentsOf: text[at...end])
    return String(found)
  }

  // MARK: Weights

  /// Takes what belongs to the syntax of weights; false where that is nothing.
  private mutating func takeWeight() -> Bool {
    switch text[at] {
    case "\\":
      // A backslash before anything else goes without a trace.
      if at + 1 < text.count, "()[]\\".unicodeScalars.contains(text[at + 1]) {
        words.append(text[at + 1])
        at += 1
      }
    case "(": round.append(opening())
    case "[": square.append(opening())
    case ")":
      guard let start = round.popLast() else { return false }
      multiply(from: start, 1.1)
    case "]":
      guard let start = square.popLast() else { return false }
      multiply(from: start, 1 / 1.1)
    case ":":
      guard !round.isEmpty, let (weight, end) = number() else { return false }
      multiply(from: round.removeLast(), weight)
      at = end
    default: return false
    }
    at += 1
    return true
  }

  /// The piece that comes next, which begins anew.
  private mutating func opening() -> Int {
    endWords()
    return raw.count
  }

  private mutating func multiply(from start: Int, _ weight: Double) {
    endWords()
    for i in start..<max(start, raw.count) { raw[i].weight *= weight }
  }

  /// The number after the colon that stands here, and where the bracket after it is.
  private func number() -> (Double, end: Int)? {
    var digits = ""
    var i = at + 1
    func skipSpaces() { while i < text.count, text[i].properties.isWhitespace { i += 1 } }
    skipSpaces()
    while i < text.count, digits.count < 40,
      ("0"..."9").contains(text[i]) || text[i] == "."
        || (digits.isEmpty && "+-".unicodeScalars.contains(text[i]))
    {
      digits.unicodeScalars.append(text[i])
      i += 1
    }
    skipSpaces()
    guard i < text.count, text[i] == ")", digits.contains(where: { $0 != "+" && $0 != "-" }) else {
      return nil
    }
    return (Double(digits) ?? .nan, i)
  }
}
