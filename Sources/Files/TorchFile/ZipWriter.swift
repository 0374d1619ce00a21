package import Foundation

/// Writes a zip archive of stored entries as `torch.save` lays it out: each entry's contents begin at
/// a multiple of 64 bytes, so that they can be mapped into memory.
package struct ZipWriter {
  private static let alignment = 64

  private var file = Data()
  private var directory = Data()
  private var count: UInt16 = 0

  package init() {}

  package mutating func add(_ name: String, _ contents: Data) throws {
    let start = file.count
    guard let size = UInt32(exactly: contents.count), let offset = UInt32(exactly: start), count < .max,
      UInt16(exactly: name.utf8.count) != nil
    else { throw FileError("the file grows beyond what a zip archive can hold") }
    let used = start + 30 + name.utf8.count + 4
    let padding = (Self.alignment - used % Self.alignment) % Self.alignment
    // Flag 0x800: the name is UTF-8. The date is the format's first day, 1 January 1980.
    var common = Data()
    common.put16(0x0800, 0, 0, 0x0021)
    common.put32(crc32(contents), size, size)
    common.put16(UInt16(name.utf8.count))

    file.put32(0x0403_4B50)
    file.put16(20)
    file.append(common)
    file.put16(UInt16(padding + 4))
    file.append(Data(name.utf8))
    file.put16(0x4246, UInt16(padding))  // “FB”, PyTorch's mark for padding
    file.append(Data(repeating: 0x5A, count: padding))
    file.append(contents)

    directory.put32(0x0201_4B50)
    directory.put16(20, 20)
    directory.append(common)
    directory.put16(0, 0, 0, 0)
    directory.put32(0, offset)
    directory.append(Data(name.utf8))
    count += 1
  }

  /// The archive, with its directory.
  package consuming func finish() throws -> Data {
    guard let start = UInt32(exactly: file.count), let size = UInt32(exactly: directory.count) else {
      throw FileError("the file grows beyond what a zip archive can hold")
    }
    file.append(directory)
    file.put32(0x0605_4B50)
    file.put16(0, 0, count, count)
    file.put32(size, start)
    file.put16(0)
    return file
  }
}

extension Data {
  fileprivate mutating func put16(_ values: UInt16...) { put(values) }
  fileprivate mutating func put32(_ values: UInt32...) { put(values) }

  private mutating func put(_ values: [some FixedWidthInteger]) {
    for value in values { Swift.withUnsafeBytes(of: value.littleEndian) { append(contentsOf: $0) } }
  }
}
