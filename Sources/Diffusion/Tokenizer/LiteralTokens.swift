/// Tokens that are found in a text as they are written, before anything else is done to it.
struct LiteralTokens: Sendable {
  enum Piece {
    case text(Range<Int>)
    case token(Int)
  }

  private struct Entry: Sendable {
    let scalars: [Unicode.Scalar]
    let id: Int
  }

  /// By first character, the longest first.
  private var entries: [Unicode.Scalar: [Entry]] = [:]
  private var ids: Set<Int> = []

  /// Adds a token; one that is there already stays as it is.
  mutating func insert(_ text: String, id: Int) {
    let scalars = Array(text.unicodeScalars)
    guard let first = scalars.first, self.id(of: text) == nil else { return }
    var list = entries[first] ?? []
    let place = list.firstIndex { $0.scalars.count < scalars.count } ?? list.count
    list.insert(Entry(scalars: scalars, id: id), at: place)
    entries[first] = list
    ids.insert(id)
  }

  func contains(id: Int) -> Bool { ids.contains(id) }

  func id(of text: String) -> Int? {
    let scalars = Array(text.unicodeScalars)
    return scalars.first.flatMap { entries[$0] }?.first { $0.scalars == scalars }?.id
  }

  /// Cuts a text at the tokens in it: the leftmost first, at one place the longest.
  func split(_ text: [Unicode.Scalar]) -> [Piece] {
    var pieces: [Piece] = []
    var start = 0
    var i = 0
    while i < text.count {
      guard let entry = entries[text[i]]?.first(where: { text[i...].starts(with: $0.scalars) }) else {
        i += 1
        continue
      }
      if start < i { pieces.append(.text(start..<i)) }
      pieces.append(.token(entry.id))
      i += entry.scalars.count
      start = i
    }
    if start < text.count { pieces.append(.text(start..<text.count)) }
    return pieces
  }
}
