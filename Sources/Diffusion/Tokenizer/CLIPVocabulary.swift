/// The vocabulary of CLIP, which every Stable Diffusion has: it follows from the merges in `CLIPMerges.swift`.
package enum CLIPVocabulary {
  /// Two symbols each, with a space between them; the first is joined first.
  package static let merges = clipMerges.withUTF8Buffer {
    $0.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
  }

  /// By id: each byte's character, the printable ones first; the same as the end of a word; what each merge joins;
  /// and the marks of beginning and end.
  package static let symbols: [String] = {
    let characters = ByteAlphabet.scalars
    let isItself = { (byte: Int) in characters[byte].value == UInt32(byte) }
    let order = (0..<256).filter(isItself) + (0..<256).filter { !isItself($0) }
    let bytes = order.map { String(characters[$0]) }
    return bytes + bytes.map { $0 + BytePairEncoder.endOfWord }
      + merges.map { $0.replacing(" ", with: "") } + ["<|startoftext|>", "<|endoftext|>"]
  }()
}
