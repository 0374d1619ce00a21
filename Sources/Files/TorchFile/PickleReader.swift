import Foundation

/// Takes bytes and numbers off a pickle, in order, and never beyond its end.
struct PickleReader {
  private let data: [UInt8]
  private(set) var position = 0

  init(_ data: [UInt8]) { self.data = data }

  mutating func byte() throws -> UInt8 {
    guard position < data.count else { throw cutShort }
    defer { position += 1 }
    return data[position]
  }

  mutating func bytes(_ count: Int) throws -> [UInt8] {
    guard count >= 0, count <= data.count - position else {
      throw cutShort
    }
    defer { position += count }
    return Array(data[position..<position + count])
  }

  /// A little-endian number of `size` ≤ 8 bytes, without sign.
  mutating func unsigned(_ size: Int) throws -> Int {
    var value: UInt64 = 0
    for byte in try bytes(size).reversed() { value = value << 8 | UInt64(byte) }
    guard let number = Int(exactly: value) else { throw tooLarge }
    return number
  }

  /// A little-endian number in two's complement; of no bytes, zero.
  mutating func signed(_ size: Int) throws -> Int {
    guard size <= 8 else { throw tooLarge }
    let digits = try bytes(size)
    guard let last = digits.last else { return 0 }
    var value: UInt64 = last & 0x80 == 0 ? 0 : .max
    for byte in digits.reversed() { value = value << 8 | UInt64(byte) }
    return Int(truncatingIfNeeded: value)
  }

  /// A big-endian IEEE number.
  mutating func double() throws -> Double {
    Double(bitPattern: try bytes(8).reduce(0) { $0 << 8 | UInt64($1) })
  }

  mutating func text(_ count: Int) throws -> String {
    guard let text = String(bytes: try bytes(count), encoding: .utf8) else {
      throw FileError("its pickle has text that is not UTF-8 (near byte \(position))")
    }
    return text
  }

  /// Text up to a line's end, which is taken too.
  mutating func line() throws -> String {
    guard let end = data[position...].firstIndex(of: UInt8(ascii: "\n")) else {
      throw cutShort
    }
    let line = try text(end - position)
    position += 1
    return line
  }

  private var cutShort: FileError { FileError("its pickle is cut short (near byte \(position))") }

  private var tooLarge: FileError {
    FileError("its pickle has a number beyond 64 bits (near byte \(position))")
  }
}
