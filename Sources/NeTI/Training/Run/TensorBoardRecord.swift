package import Foundation

/// The framing of TensorBoard's event files: length, its checksum, the bytes, their checksum
/// (tensorflow/core/lib/io/record_writer.h).
package enum TensorBoardRecord {
  /// One record with `payload` in it.
  package static func frame(_ payload: Data) -> Data {
    let length = littleEndian(UInt64(payload.count))
    return length + littleEndian(maskedChecksum(length)) + payload
      + littleEndian(maskedChecksum(payload))
  }

  /// The CRC-32C (Castagnoli) of the bytes.
  package static func checksum(_ bytes: Data) -> UInt32 {
    ~bytes.reduce(UInt32.max) { crc, byte in
      (crc >> 8) ^ table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)]
    }
  }

  /// The checksum as it stands in a file: rotated and shifted, so that checksums of data that holds
  /// checksums stay good.
  package static func maskedChecksum(_ bytes: Data) -> UInt32 {
    let crc = checksum(bytes)
    return ((crc >> 15) | (crc << 17)) &+ 0xa282_ead8
  }

  private static let table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { crc, _ in (crc >> 1) ^ (crc & 1 == 0 ? 0 : 0x82F6_3B78) }
  }
}

func littleEndian<T: FixedWidthInteger>(_ value: T) -> Data {
  withUnsafeBytes(of: value.littleEndian) { Data($0) }
}

/// The little of protocol buffers that an event needs: fields are appended in the order of calls.
struct ProtobufMessage {
  private(set) var data = Data()

  private mutating func varint(_ value: UInt64) {
    var rest = value
    while rest >= 0x80 {
      data.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    data.append(UInt8(rest))
  }

  private mutating func tag(_ field: UInt64, wireType: UInt64) { varint(field << 3 | wireType) }

  mutating func add(_ field: UInt64, int value: Int) {
    tag(field, wireType: 0)
    varint(UInt64(bitPattern: Int64(value)))
  }

  mutating func add(_ field: UInt64, double value: Double) {
    tag(field, wireType: 1)
    data += littleEndian(value.bitPattern)
  }

  mutating func add(_ field: UInt64, float value: Float) {
    tag(field, wireType: 5)
    data += littleEndian(value.bitPattern)
  }

  mutating func add(_ field: UInt64, bytes: Data) {
    tag(field, wireType: 2)
    varint(UInt64(bytes.count))
    data += bytes
  }

  mutating func add(_ field: UInt64, text: String) { add(field, bytes: Data(text.utf8)) }
  mutating func add(_ field: UInt64, message: ProtobufMessage) { add(field, bytes: message.data) }
}
