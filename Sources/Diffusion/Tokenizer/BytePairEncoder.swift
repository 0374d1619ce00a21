/// Byte-level byte-pair encoding: a word's bytes are joined pair by pair, the pair that comes first in
/// the list of merges first, until no listed pair is left.
///
/// Source: Sennrich, Haddow, Birch, "Neural Machine Translation of Rare Words with Subword Units"
/// (arXiv 1508.07909); the stand-in characters for bytes are GPT-2's.
struct BytePairEncoder: Sendable {
  /// Merges that are read, as in the reference: what CLIP's vocabulary of 49,408 has room for.
  static let maximumMerges = 49_152 - 256 - 2
  /// Marks a symbol that ends a word.
  static let endOfWord = "</w>"

  private struct Merge: Sendable {
    let rank: Int
    let result: Int
  }

  /// Symbols are numbers: a vocabulary's id, or one beyond for a symbol that it lacks.
  private var merges: [UInt64: Merge] = [:]
  private var inner: [Int] = []
  private var last: [Int] = []
  private let vocabularyCount: Int
  private let unknown: Int

  /// - Parameter unknown: the id that stands for symbols outside the vocabulary.
  init(vocabulary: [String: Int], merges pairs: [SymbolPair], unknown: Int) {
    vocabularyCount = vocabulary.count
    self.unknown = unknown
    var others: [String: Int] = [:]
    let symbol = { (text: String) -> Int in
      if let known = vocabulary[text] ?? others[text] { return known }
      let new = vocabulary.count + others.count
      others[text] = new
      return new
    }
    inner = ByteAlphabet.scalars.map { symbol(String($0)) }
    last = ByteAlphabet.scalars.map { symbol(String($0) + Self.endOfWord) }
    for (rank, pair) in pairs.enumerated() {
      merges[Self.key(symbol(pair.left), symbol(pair.right))] = Merge(
        rank: rank, result: symbol(pair.left + pair.right))
    }
  }

  private static func key(_ left: Int, _ right: Int) -> UInt64 {
    UInt64(UInt32(truncatingIfNeeded: left)) << 32 | UInt64(UInt32(truncatingIfNeeded: right))
  }

  /// The ids of one word's UTF-8 bytes. Takes n·log n for n bytes.
  func encode(_ word: [UInt8]) -> [Int] {
    guard let end = word.last else { return [] }
    var symbols = word.dropLast().map { inner[Int($0)] }
    symbols.append(last[Int(end)])
    return joined(symbols).map { $0 < vocabularyCount ? $0 : unknown }
  }

  private struct Candidate: Comparable {
    let rank: Int
    let position: Int
    let left: Int
    let right: Int

    static func < (a: Candidate, b: Candidate) -> Bool {
      (a.rank, a.position) < (b.rank, b.position)
    }
  }

  /// Merges rank by rank; within a rank from left to right, before any pair that the merging gives rise to.
  private func joined(_ symbols: [Int]) -> [Int] {
    var symbol = symbols
    var next = (0..<symbols.count).map { $0 + 1 }
    var previous = (0..<symbols.count).map { $0 - 1 }
    let none = symbols.count
    var queue = PriorityQueue<Candidate>()

    func consider(_ i: Int) {
      guard i >= 0, next[i] != none, let merge = merges[Self.key(symbol[i], symbol[next[i]])] else { return }
      queue.push(Candidate(rank: merge.rank, position: i, left: symbol[i], right: symbol[next[i]]))
    }
    func apply(_ c: Candidate) -> Bool {
      let i = c.position
      // Merged away, or grown, since it was queued.
      guard symbol[i] == c.left, next[i] != none, symbol[next[i]] == c.right,
        let merge = merges[Self.key(c.left, c.right)]
      else { return false }
      let j = next[i]
      symbol[i] = merge.result
      symbol[j] = -1
      next[i] = next[j]
      if next[i] != none { previous[next[i]] = i }
      return true
    }

    for i in 0..<max(none - 1, 0) { consider(i) }
    while let first = queue.pop() {
      var touched = apply(first) ? [first.position] : []
      while let other = queue.first, other.rank == first.rank {
        _ = queue.pop()
        if apply(other) { touched.append(other.position) }
      }
      for i in touched {
        consider(previous[i])
        consider(i)
      }
    }
    return symbol.filter { $0 >= 0 }
  }
}

/// The printable character that stands for each byte in a vocabulary file: itself where it is
/// printable, else the next free one from U+0100 on.
enum ByteAlphabet {
  /// For each byte its character.
  static let scalars: [Unicode.Scalar] = {
    var free: UInt32 = 0x100
    return (UInt8.min...UInt8.max).map { byte in
      switch byte {
      case 0x21...0x7E, 0xA1...0xAC, 0xAE...0xFF: return Unicode.Scalar(byte)
      default:
        defer { free += 1 }
        return Unicode.Scalar(free) ?? "?"
      }
    }
  }()

  /// For each character its byte.
  static let bytes: [Unicode.Scalar: UInt8] = Dictionary(
    zip(scalars, UInt8.min...UInt8.max), uniquingKeysWith: { a, _ in a })
}

/// A binary heap: the smallest element first.
struct PriorityQueue<Element: Comparable> {
  private var heap: [Element] = []

  var first: Element? { heap.first }

  mutating func push(_ element: Element) {
    heap.append(element)
    var i = heap.count - 1
    while i > 0, heap[i] < heap[(i - 1) / 2] {
      heap.swapAt(i, (i - 1) / 2)
      i = (i - 1) / 2
    }
  }

  mutating func pop() -> Element? {
    guard let result = heap.first, let end = heap.popLast() else { return nil }
    if heap.isEmpty { return result }
    heap[0] = end
    var i = 0
    while true {
      var least = i
      for child in [2 * i + 1, 2 * i + 2] where child < heap.count && heap[child] < heap[least] {
        least = child
      }
      if least == i { return result }
      heap.swapAt(i, least)
      i = least
    }
  }
}
