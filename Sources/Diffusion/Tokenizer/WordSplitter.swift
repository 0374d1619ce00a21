import Foundation

/// Cuts a text into the words that byte-pair encoding works on: composed (NFC), in small letters, then a contraction
/// (`'s`, `'ll`), a run of letters, one digit, or a run of anything else that is not space.
///
/// Source: the normalizer and the pattern of `CLIPTokenizer` in transformers 5, `models/clip/tokenization_clip.py`.
/// Character classes are those of the running system's Unicode.
enum WordSplitter {
  private static let contractions = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d"].map {
    Array($0.unicodeScalars)
  }

  /// The UTF-8 bytes of each word.
  static func words(_ text: some Sequence<Unicode.Scalar>) -> [[UInt8]] {
    let scalars = normalized(Array(text))
    var words: [[UInt8]] = []
    var start = 0
    while start < scalars.count {
      let end = endOfWord(scalars, start)
      if end > start { words.append(scalars[start..<end].flatMap { UTF8.encode($0).map(Array.init) ?? [] }) }
      start = max(end, start + 1)
    }
    return words
  }

  /// Where the word that begins at `start` ends; `start` itself for space.
  private static func endOfWord(_ scalars: [Unicode.Scalar], _ start: Int) -> Int {
    let first = scalars[start]
    if first == "'", let found = contractions.first(where: { scalars[start...].starts(with: $0) }) {
      return start + found.count
    }
    let kind = Kind(first)
    switch kind {
    case .space: return start
    case .number: return start + 1
    case .letter, .other: return scalars[start...].firstIndex { Kind($0) != kind } ?? scalars.count
    }
  }

  private enum Kind {
    case space, letter, number, other

    init(_ s: Unicode.Scalar) {
      if s.properties.isWhitespace {
        self = .space
        return
      }
      switch s.properties.generalCategory {
      case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: self = .letter
      case .decimalNumber, .letterNumber, .otherNumber: self = .number
      default: self = .other
      }
    }
  }

  private static func normalized(_ text: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var composed = text
    if !text.allSatisfy(\.isASCII) {
      var view = String.UnicodeScalarView()
      view.append(contentsOf: text)
      composed = Array(String(view).precomposedStringWithCanonicalMapping.unicodeScalars)
    }
    // Each by itself: the sigma at a word's end is as any other, in the reference, too.
    return composed.flatMap { s in
      s.isASCII
        ? [(65...90).contains(s.value) ? Unicode.Scalar(UInt8(s.value) + 32) : s]
        : Array(s.properties.lowercaseMapping.unicodeScalars)
    }
  }
}
