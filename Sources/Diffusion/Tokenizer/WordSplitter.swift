import Foundation

/// Cuts a text into the words that byte-pair encoding works on, as the reference tokenizer does where
/// its optional text-repair library is absent: control characters go, every punctuation mark and every
/// CJK ideograph stands alone, letters are lower-cased and lose their accents.
///
/// Source: `BasicTokenizer` and the word pattern of transformers 4.27.4,
/// `models/clip/tokenization_clip.py`. As punctuation is cut off first, the pattern's alternatives for
/// `'s`, `'t` … and for `<|endoftext|>` never match, and what remains is: letters, one digit, or a run
/// of anything else. Character classes are those of the running system's Unicode, the reference's are
/// Unicode 14.
enum WordSplitter {
  /// The UTF-8 bytes of each word.
  static func words(_ text: some Sequence<Unicode.Scalar>) -> [[UInt8]] {
    var words: [[UInt8]] = []
    var chunk: [Unicode.Scalar] = []
    let finish = {
      if !chunk.isEmpty { split(withoutAccents(lowercased(chunk)), into: &words) }
      chunk.removeAll(keepingCapacity: true)
    }
    for scalar in text {
      if isSpace(scalar) {
        finish()
      } else if isDropped(scalar) {
        continue
      } else if isIdeograph(scalar) {
        finish()
        chunk.append(scalar)
        finish()
      } else {
        chunk.append(scalar)
      }
    }
    finish()
    return words
  }

  // MARK: Character classes

  private static func isSpace(_ s: Unicode.Scalar) -> Bool {
    switch s {
    case "\t", "\n", "\r", " ": return true
    default:
      guard !s.isASCII else { return false }
      switch s.properties.generalCategory {
      case .spaceSeparator, .lineSeparator, .paragraphSeparator: return true
      default: return false
      }
    }
  }

  private static func isDropped(_ s: Unicode.Scalar) -> Bool {
    if s == "\u{FFFD}" { return true }
    switch s.properties.generalCategory {
    case .control, .format, .surrogate, .privateUse, .unassigned: return true
    default: return false
    }
  }

  private static func isPunctuation(_ s: Unicode.Scalar) -> Bool {
    switch s.value {
    case 33...47, 58...64, 91...96, 123...126: return true
    case ..<128: return false
    default:
      switch s.properties.generalCategory {
      case .connectorPunctuation, .dashPunctuation, .openPunctuation, .closePunctuation,
        .initialPunctuation, .finalPunctuation, .otherPunctuation:
        return true
      default: return false
      }
    }
  }

  private static func isIdeograph(_ s: Unicode.Scalar) -> Bool {
    switch s.value {
    case 0x4E00...0x9FFF, 0x3400...0x4DBF, 0x20000...0x2A6DF, 0x2A700...0x2B73F, 0x2B740...0x2B81F,
      0x2B820...0x2CEAF, 0xF900...0xFAFF, 0x2F800...0x2FA1F:
      return true
    default: return false
    }
  }

  // MARK: Letters

  /// Unicode's full lower-casing, with the sigma that ends a word (which Swift's own leaves out).
  private static func lowercased(_ chunk: [Unicode.Scalar]) -> [Unicode.Scalar] {
    var result: [Unicode.Scalar] = []
    result.reserveCapacity(chunk.count)
    for (i, s) in chunk.enumerated() {
      if s == "Σ" {
        result.append(endsWord(chunk, i) ? "ς" : "σ")
      } else if s.isASCII {
        let isUpper = (65...90).contains(s.value)
        result.append(isUpper ? Unicode.Scalar(UInt8(s.value) + 32) : s)
      } else {
        result.append(contentsOf: s.properties.lowercaseMapping.unicodeScalars)
      }
    }
    return result
  }

  /// Unicode's Final_Sigma: a cased letter before, none after, case-ignorable characters aside.
  private static func endsWord(_ chunk: [Unicode.Scalar], _ i: Int) -> Bool {
    let isCased = { (s: Unicode.Scalar?) in s?.properties.isCased ?? false }
    let isLetter = { (s: Unicode.Scalar) in !s.properties.isCaseIgnorable }
    return isCased(chunk[..<i].last(where: isLetter)) && !isCased(chunk[(i + 1)...].first(where: isLetter))
  }

  /// Canonical decomposition without its non-spacing marks.
  private static func withoutAccents(_ chunk: [Unicode.Scalar]) -> [Unicode.Scalar] {
    if chunk.allSatisfy(\.isASCII) { return chunk }
    var text = String.UnicodeScalarView()
    text.append(contentsOf: chunk)
    return String(text).decomposedStringWithCanonicalMapping.unicodeScalars.filter {
      $0.properties.generalCategory != .nonspacingMark
    }
  }

  // MARK: Words

  private enum Kind { case letter, other }

  private static func split(_ chunk: [Unicode.Scalar], into words: inout [[UInt8]]) {
    var open: Kind?
    for s in chunk {
      let bytes = UTF8.encode(s).map(Array.init) ?? []
      if isSpace(s) {
        open = nil
      } else if isPunctuation(s) || isNumber(s) {
        words.append(bytes)
        open = nil
      } else {
        let kind: Kind = isLetter(s) ? .letter : .other
        if kind == open { words[words.count - 1] += bytes } else { words.append(bytes) }
        open = kind
      }
    }
  }

  private static func isLetter(_ s: Unicode.Scalar) -> Bool {
    switch s.properties.generalCategory {
    case .uppercaseLetter, .lowercaseLetter, .titlecaseLetter, .modifierLetter, .otherLetter: return true
    default: return false
    }
  }

  private static func isNumber(_ s: Unicode.Scalar) -> Bool {
    switch s.properties.generalCategory {
    case .decimalNumber, .letterNumber, .otherNumber: return true
    default: return false
    }
  }
}
