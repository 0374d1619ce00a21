import Files
public import Foundation

/// PNG files that the project does not write.
public enum PNGs {
  /// Transparent everywhere; by hand, as no image of the project is written with transparency.
  public static func transparent(_ width: Int, _ height: Int) -> Data {
    func bigEndian(_ value: UInt32) -> [UInt8] {
      (0..<4).map { UInt8(truncatingIfNeeded: value >> (24 - 8 * $0)) }
    }
    func chunk(_ kind: String, _ data: [UInt8]) -> [UInt8] {
      let body = Array(kind.utf8) + data
      return bigEndian(UInt32(data.count)) + body + bigEndian(crc32(body))
    }
    let rows = [UInt8](repeating: 0, count: height * (1 + 4 * width))
    let length = UInt16(rows.count)
    // One stored block.
    let block =
      [1, UInt8(length & 255), UInt8(length >> 8), UInt8(~length & 255), UInt8(~length >> 8)] + rows
    // The checksum of so many zeros: 1, and their number.
    let sum = bigEndian(UInt32(length) << 16 | 1)
    return Data(
      [0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A]
        + chunk("IHDR", bigEndian(UInt32(width)) + bigEndian(UInt32(height)) + [8, 6, 0, 0, 0])
        + chunk("IDAT", [0x78, 0x01] + block + sum) + chunk("IEND", []))
  }
}
