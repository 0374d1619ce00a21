import Files

/// The texts in a PNG file: pairs of a keyword and a value (PNG specification, 11.3.4).
public enum PNGText {
  /// Bytes of all texts that `read` gives back, and of one that it inflates; what lies beyond is an error.
  public static let maximumBytes = 16 << 20

  /// The texts in their order: tEXt (Latin-1) and iTXt (UTF-8). Compressed texts are left out, but for one that is asked
  /// for: they may inflate without end, and this project writes none. Throws when `bytes` is no PNG file, is cut short, or
  /// a text's checksum is wrong.
  ///
  /// - Parameters:
  ///   - beforePixels: only those that stand before the pixels, where this project writes them; then `bytes` need not
  ///     reach further.
  ///   - compressed: the keyword of a text that is read from zTXt, too.
  public static func read(
    _ bytes: [UInt8], name: String = "PNG", beforePixels: Bool = false, compressed keyword: String? = nil
  ) throws -> [(String, String)] {
    guard Image.format(bytes) == .png else {
      throw ImagingError("\(name): not a PNG file; only PNG files hold texts that are read here")
    }
    let wanted = keyword.map { Array($0.utf8) + [0] }
    var texts: [(String, String)] = []
    var total = 0
    try PNGChunk.forEach(in: bytes, before: beforePixels ? .data : nil, name: name) { chunk in
      let isCompressed =
        chunk.kind == .compressedText && wanted.map { bytes[chunk.data].starts(with: $0) } == true
      guard chunk.kind == .text || chunk.kind == .internationalText || isCompressed else { return true }
      let data = Array(bytes[chunk.data])
      total += data.count
      guard total <= maximumBytes else {
        throw ImagingError("\(name): more than \(maximumBytes >> 20) MB of text; not written by this program")
      }
      guard bytes.number(4, at: chunk.data.upperBound) == Int(crc32(chunk.kind.bytes + data))
      else {
        throw ImagingError("\(name): a text in the PNG file is damaged (checksum); replace the file")
      }
      if isCompressed {
        if let text = try inflated(data, name) { texts.append(text) }
      } else if let text = chunk.kind == .text ? latin(data) : international(data) {
        texts.append(text)
      }
      return true
    }
    return texts
  }

  private static func latin(_ data: [UInt8]) -> (String, String)? {
    guard let end = data.firstIndex(of: 0) else { return nil }
    return (fromLatin1(data[..<end]), fromLatin1(data[(end + 1)...]))
  }

  private static func inflated(_ data: [UInt8], _ name: String) throws -> (String, String)? {
    // keyword \0 method text
    guard let end = data.firstIndex(of: 0), data.number(1, at: end + 1) == 0 else { return nil }
    do {
      let text = try Files.inflated(Array(data[(end + 2)...]), limit: maximumBytes)
      return (fromLatin1(data[..<end]), fromLatin1(text[...]))
    } catch let error as FileError {
      throw ImagingError("\(name): a text in the PNG file cannot be read: \(error.message); replace the file")
    }
  }

  private static func international(_ data: [UInt8]) -> (String, String)? {
    // keyword \0 compressed? method language \0 translated keyword \0 text
    guard let keyword = data.firstIndex(of: 0), data.number(1, at: keyword + 1) == 0,
      keyword + 3 <= data.count,
      let language = data[(keyword + 3)...].firstIndex(of: 0),
      let translated = data[(language + 1)...].firstIndex(of: 0)
    else { return nil }
    return (fromLatin1(data[..<keyword]), String(decoding: data[(translated + 1)...], as: UTF8.self))
  }

  private static func fromLatin1(_ bytes: ArraySlice<UInt8>) -> String {
    var text = String.UnicodeScalarView()
    for b in bytes { text.append(Unicode.Scalar(b)) }
    return String(text)
  }

  /// One text as a chunk: tEXt when it is plain Latin-1, else iTXt. Throws when the keyword is not 1 to 79
  /// printable Latin-1 characters without spaces at the ends or in a row, or the value has a NUL.
  static func chunk(_ keyword: String, _ value: String) throws -> [UInt8] {
    guard let key = latin1(keyword), 1...79 ~= key.count, !key.contains(10), key.first != 32, key.last != 32,
      !keyword.contains("  "), !key.contains(0xA0)
    else {
      throw ImagingError("PNG text: \"\(keyword)\" is no keyword; use 1 to 79 printable Latin-1 characters")
    }
    guard !value.unicodeScalars.contains("\0"), value.utf8.count <= maximumBytes else {
      throw ImagingError("PNG text \(keyword): the value has a NUL or is too long; remove it")
    }
    if let plain = latin1(value) { return PNGChunk.encode(.text, key + [0] + plain) }
    return PNGChunk.encode(.internationalText, key + [0, 0, 0, 0, 0] + Array(value.utf8))
  }

  /// The Latin-1 bytes of a text of printable characters and line feeds; `nil` for any other.
  private static func latin1(_ text: String) -> [UInt8]? {
    var bytes: [UInt8] = []
    for scalar in text.unicodeScalars {
      switch scalar.value {
      case 10, 32...126, 160...255: bytes.append(UInt8(scalar.value))
      default: return nil
      }
    }
    return bytes
  }
}
