/// Reads from bytes that may be hostile: outside them there is `nil`, never a trap.
extension [UInt8] {
  /// A big- or little-endian number of `count` (at most 4) bytes at `offset`.
  func number(_ count: Int, at offset: Int, bigEndian: Bool = true) -> Int? {
    guard offset >= 0, count <= self.count, offset <= self.count - count else { return nil }
    var value = 0
    for i in 0..<count {
      value = value << 8 | Int(self[bigEndian ? offset + i : offset + count - 1 - i])
    }
    return value
  }

  /// Whether `text` (ASCII) stands at `offset`.
  func has(_ text: String, at offset: Int) -> Bool {
    let wanted = Array(text.utf8)
    guard offset >= 0, wanted.count <= count, offset <= count - wanted.count else { return false }
    return self[offset..<offset + wanted.count].elementsEqual(wanted)
  }
}
