import Files

/// One chunk of a PNG file: where it lies and what it is.
package struct PNGChunk {
  static let signature: [UInt8] = [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]

  /// Four ASCII letters as one number.
  struct Kind: Equatable, CustomStringConvertible {
    let code: Int
    static let header = Kind("IHDR")
    static let palette = Kind("PLTE")
    static let transparency = Kind("tRNS")
    static let data = Kind("IDAT")
    static let animation = Kind("acTL")
    static let end = Kind("IEND")
    static let exif = Kind("eXIf")
    static let profile = Kind("iCCP")
    static let text = Kind("tEXt")
    static let compressedText = Kind("zTXt")
    static let internationalText = Kind("iTXt")

    init(_ letters: StaticString) {
      code = letters.withUTF8Buffer { $0.reduce(0) { $0 << 8 | Int($1) } }
    }
    init(code: Int) { self.code = code }
    /// A decoder must understand it.
    var isCritical: Bool { code >> 24 & 0x20 == 0 }
    var bytes: [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: code >> (24 - 8 * $0)) } }
    var description: String { String(decoding: bytes.map { 33...126 ~= $0 ? $0 : 63 }, as: UTF8.self) }
  }

  let kind: Kind
  /// Where its contents lie in the file.
  let data: Range<Int>
  /// The same with length, kind and checksum.
  var whole: Range<Int> { data.lowerBound - 8..<data.upperBound + 4 }

  /// Calls `body` with each chunk up to IEND, or until it returns false, or before the first of the kind `before`.
  /// Throws when a chunk reaches beyond the file or there is no IEND.
  static func forEach(
    in bytes: [UInt8], before: Kind? = nil, name: String, _ body: (PNGChunk) throws -> Bool
  ) throws {
    var at = signature.count
    while let length = bytes.number(4, at: at), let code = bytes.number(4, at: at + 4) {
      if Kind(code: code) == before { return }
      guard length <= bytes.count - at - 12 else { break }
      let chunk = PNGChunk(kind: Kind(code: code), data: at + 8..<at + 8 + length)
      guard try body(chunk), chunk.kind != .end else { return }
      at += length + 12
    }
    throw ImagingError("\(name): the PNG data is cut short; replace the file")
  }

  /// A chunk with these contents, as it stands in a file.
  static func encode(_ kind: Kind, _ data: [UInt8]) -> [UInt8] {
    let body = kind.bytes + data
    return bigEndian(UInt32(data.count)) + body + bigEndian(crc32(body))
  }

  static func bigEndian(_ value: UInt32) -> [UInt8] {
    (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
  }
}
