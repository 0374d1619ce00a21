import Foundation

/// The JSON part of a safetensors file, read strictly.
///
/// Its grammar is so narrow (an object of objects with three known fields) that reading it directly is
/// simpler than a general parser, and safer: nothing recurses, a key that comes twice is seen, and
/// numbers are exact integers.
struct SafetensorsHeader {
  /// One tensor as the header declares it; `begin` and `end` count from the start of the data part.
  struct Declaration {
    var dtype: String
    var shape: [Int]
    var begin: Int
    var end: Int
  }

  /// Names of tensors and fields; the longest real one has some 150 bytes. Swift compares names by their normal form,
  /// which takes long for a long one of combining marks.
  static let maximumNameBytes = 512
  static let maximumTensors = 100_000

  private(set) var metadata: [String: String] = [:]
  private(set) var tensors: [String: Declaration] = [:]

  init(_ json: [UInt8]) throws {
    var reader = JSONReader(json)
    guard json.first == UInt8(ascii: "{") else { throw reader.problem("the header does not begin with {") }
    var hasMetadata = false
    try reader.object { reader, key in
      if key == "__metadata__" {
        if hasMetadata { throw reader.problem("__metadata__ comes twice") }
        hasMetadata = true
        metadata = try Self.strings(&reader)
      } else {
        let declaration = try Self.declaration(&reader, key)
        guard tensors.count < Self.maximumTensors else {
          throw reader.problem("there are more than \(Self.maximumTensors) tensors")
        }
        if tensors.updateValue(declaration, forKey: key) != nil {
          throw reader.problem("the tensor \(quoted(key)) comes twice")
        }
      }
    }
    try reader.finish()
  }

  private static func strings(_ reader: inout JSONReader) throws -> [String: String] {
    var result: [String: String] = [:]
    try reader.object { reader, key in
      if result.updateValue(try reader.string(), forKey: key) != nil {
        throw reader.problem("the metadata key \(quoted(key)) comes twice")
      }
    }
    return result
  }

  private static func declaration(_ reader: inout JSONReader, _ name: String) throws -> Declaration {
    var dtype: String?
    var shape: [Int]?
    var offsets: [Int]?
    try reader.object { reader, field in
      switch field {
      case "dtype" where dtype == nil: dtype = try reader.string()
      case "shape" where shape == nil: shape = try reader.integers()
      case "data_offsets" where offsets == nil: offsets = try reader.integers()
      default:
        throw reader.problem("\(quoted(name)) has a field \(quoted(field)) that is unknown or comes twice")
      }
    }
    guard let dtype, let shape, let offsets, offsets.count == 2 else {
      throw reader.problem("\(quoted(name)) lacks one of dtype, shape, and two data_offsets")
    }
    return Declaration(dtype: dtype, shape: shape, begin: offsets[0], end: offsets[1])
  }
}

/// Reads the few JSON forms that a safetensors header has.
struct JSONReader {
  private let bytes: [UInt8]
  private var position = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func problem(_ text: String) -> FileError {
    FileError("\(text) (near byte \(position) of the header)")
  }

  /// `{ key: value, … }`; `member` reads each value.
  mutating func object(_ member: (inout JSONReader, String) throws -> Void) throws {
    try expect("{")
    if take("}") { return }
    repeat {
      let key = try string(atMost: SafetensorsHeader.maximumNameBytes)
      try expect(":")
      try member(&self, key)
    } while take(",")
    try expect("}")
  }

  /// `[n, …]` of whole numbers that are not negative.
  mutating func integers() throws -> [Int] {
    try expect("[")
    if take("]") { return [] }
    var result: [Int] = []
    repeat { result.append(try integer()) } while take(",")
    try expect("]")
    return result
  }

  /// The end of the header: nothing but white space.
  mutating func finish() throws {
    skipSpace()
    if position != bytes.count { throw problem("something follows the header's last brace") }
  }

  private mutating func integer() throws -> Int {
    skipSpace()
    let start = position
    var value = 0
    while let byte = peek, (0x30...0x39).contains(byte) {
      let (product, over) = value.multipliedReportingOverflow(by: 10)
      let (sum, over2) = product.addingReportingOverflow(Int(byte) - 0x30)
      if over || over2 { throw problem("a number is too large") }
      value = sum
      position += 1
    }
    let digits = position - start
    guard digits > 0, digits == 1 || bytes[start] != 0x30 else {
      throw problem("expected a whole number that is not negative")
    }
    return value
  }

  /// - Parameter limit: bytes of it.
  mutating func string(atMost limit: Int = .max) throws -> String {
    try expect("\"")
    var text: [UInt8] = []
    while let byte = peek {
      guard text.count <= limit else { throw problem("a name has more than \(limit) bytes") }
      position += 1
      switch byte {
      case UInt8(ascii: "\""):
        guard let string = String(bytes: text, encoding: .utf8) else {
          throw problem("a string is not UTF-8")
        }
        return string
      case UInt8(ascii: "\\"): text.append(contentsOf: try escape())
      case 0..<0x20: throw problem("a control character in a string")
      default: text.append(byte)
      }
    }
    throw problem("a string has no end")
  }

  /// What follows a backslash, as UTF-8.
  private mutating func escape() throws -> [UInt8] {
    guard let byte = peek else { throw problem("a string has no end") }
    position += 1
    switch byte {
    case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
    case UInt8(ascii: "b"): return [0x08]
    case UInt8(ascii: "f"): return [0x0C]
    case UInt8(ascii: "n"): return [0x0A]
    case UInt8(ascii: "r"): return [0x0D]
    case UInt8(ascii: "t"): return [0x09]
    case UInt8(ascii: "u"): break
    default: throw problem("an unknown escape in a string")
    }
    var code = try fourHexDigits()
    if (0xD800..<0xDC00).contains(code) {
      guard take("\\", skippingSpace: false), take("u", skippingSpace: false) else {
        throw problem("half a surrogate pair")
      }
      let low = try fourHexDigits()
      guard (0xDC00..<0xE000).contains(low) else { throw problem("half a surrogate pair") }
      code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
    }
    guard let scalar = Unicode.Scalar(code) else { throw problem("half a surrogate pair") }
    return Array(String(Character(scalar)).utf8)
  }

  private mutating func fourHexDigits() throws -> UInt32 {
    var code: UInt32 = 0
    for _ in 0..<4 {
      guard let byte = peek, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw problem("an escape lacks its four digits")
      }
      code = code << 4 | UInt32(digit)
      position += 1
    }
    return code
  }

  private var peek: UInt8? { position < bytes.count ? bytes[position] : nil }

  private mutating func skipSpace() {
    while let byte = peek, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
  }

  private mutating func take(_ character: Unicode.Scalar, skippingSpace: Bool = true) -> Bool {
    if skippingSpace { skipSpace() }
    guard peek == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  private mutating func expect(_ character: Unicode.Scalar) throws {
    guard take(character) else { throw problem("expected \(character)") }
  }
}
