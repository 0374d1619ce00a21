import Foundation

/// The entries of a zip archive that are stored as they are, which is all that `torch.save` writes
/// (PKWARE's APPNOTE 6.3.9, sections 4.3.7, 4.3.12 and 4.3.16).
///
/// The archive is taken from strangers: anything that a checkpoint has no need of is refused, such as
/// compression (so nothing can grow), encryption, sizes beyond 4 GB, names that come twice or lead out
/// of the archive, entries that overlap, and contents whose check sum is wrong.
package struct ZipArchive {
  package static let maximumEntries = 10_000
  package static let maximumNameBytes = 512

  private struct Entry {
    var data: Range<Int>
    var checksum: UInt32
  }

  private let bytes: [UInt8]
  private var entries: [String: Entry] = [:]

  package var names: [String] { entries.keys.sorted() }

  /// Reads the central directory and checks every entry's place.
  package init(_ bytes: [UInt8]) throws {
    self.bytes = bytes
    let end = try Self.endOfDirectory(bytes)
    let count = Int(try bytes.uint16(end + 10))
    let size = Int(try bytes.uint32(end + 12))
    let start = Int(try bytes.uint32(end + 16))
    guard try bytes.uint16(end + 8) == count, try bytes.uint32(end + 4) == 0 else {
      throw FileError("the archive is split over several files, which is not supported")
    }
    guard count <= Self.maximumEntries else {
      throw FileError("the archive has \(count) entries, more than the limit of \(Self.maximumEntries)")
    }
    guard start + size <= end else { throw FileError("the archive's directory lies outside the file") }
    try Self.checkZip64(bytes, end: end, count: count, start: start)

    var position = start
    for _ in 0..<count { position = try readEntry(at: position, limit: start) }
    guard position == start + size else { throw FileError("the archive's directory has a wrong size") }
    try refuseOverlaps()
  }

  package func contains(_ name: String) -> Bool { entries[name] != nil }

  /// The contents of the entry `name`, after a look at its check sum.
  package func contents(_ name: String) throws -> ArraySlice<UInt8> {
    guard let entry = entries[name] else { throw FileError("the archive has no entry \(quoted(name))") }
    let contents = bytes[entry.data]
    guard crc32(contents) == entry.checksum else {
      throw FileError("the entry \(quoted(name)) is damaged: its check sum is wrong")
    }
    return contents
  }

  /// The place of the record that ends the archive; a comment may follow it.
  private static func endOfDirectory(_ bytes: [UInt8]) throws -> Int {
    var position = bytes.count - 22
    let first = max(0, position - 0xFFFF)
    while position >= first {
      if try bytes.uint32(position) == 0x0605_4B50,
        position + 22 + Int(try bytes.uint16(position + 20)) == bytes.count
      {
        return position
      }
      position -= 1
    }
    throw FileError("it has no zip directory at its end; the file may be cut short")
  }

  /// PyTorch always writes a 64-bit directory record too. It must say the same: a reader that
  /// believed the other one would see another archive.
  private static func checkZip64(_ bytes: [UInt8], end: Int, count: Int, start: Int) throws {
    guard end >= 20, try bytes.uint32(end - 20) == 0x0706_4B50 else { return }
    let place = try bytes.uint64(end - 12)
    guard place <= UInt64(end), try bytes.uint32(Int(place)) == 0x0606_4B50,
      try bytes.uint64(Int(place) + 32) == UInt64(count),
      try bytes.uint64(Int(place) + 48) == UInt64(start)
    else { throw FileError("the archive's 64-bit directory does not agree with its 32-bit one") }
  }

  /// Reads one record of the directory and returns where the next begins.
  private mutating func readEntry(at position: Int, limit: Int) throws -> Int {
    guard try bytes.uint32(position) == 0x0201_4B50 else {
      throw FileError("the archive's directory is damaged")
    }
    let nameLength = Int(try bytes.uint16(position + 28))
    let next =
      position + 46 + nameLength + Int(try bytes.uint16(position + 30))
      + Int(try bytes.uint16(position + 32))
    let name = try name(at: position + 46, nameLength)
    guard try bytes.uint16(position + 8) & 0x2041 == 0 else {
      throw FileError("the entry \(quoted(name)) is encrypted, which is not supported")
    }
    let packed = try bytes.uint32(position + 20)
    let size = try bytes.uint32(position + 24)
    guard try bytes.uint16(position + 10) == 0, packed == size else {
      throw FileError("the entry \(quoted(name)) is compressed, which torch.save never does")
    }
    let header = try bytes.uint32(position + 42)
    guard size != .max, header != .max else {
      throw FileError("the entry \(quoted(name)) has 64-bit sizes, which are not supported")
    }
    let data = try data(of: name, header: Int(header), size: Int(size), limit: limit)
    let entry = Entry(data: data, checksum: try bytes.uint32(position + 16))
    guard entries.updateValue(entry, forKey: name) == nil else {
      throw FileError("the archive has two entries \(quoted(name))")
    }
    return next
  }

  /// Where an entry's contents lie, from its local header, which must agree with the directory. Its
  /// sizes may be zero there: PyTorch writes them after the contents.
  private func data(of name: String, header: Int, size: Int, limit: Int) throws -> Range<Int> {
    guard try bytes.uint32(header) == 0x0403_4B50, try bytes.uint16(header + 8) == 0,
      try self.name(at: header + 30, Int(bytes.uint16(header + 26))) == name
    else { throw FileError("the entry \(quoted(name)) does not agree with the archive's directory") }
    let start = header + 30 + Int(try bytes.uint16(header + 26)) + Int(try bytes.uint16(header + 28))
    guard start + size <= limit else {
      throw FileError("the entry \(quoted(name)) lies outside the file")
    }
    return start..<start + size
  }

  private func name(at position: Int, _ length: Int) throws -> String {
    guard length <= Self.maximumNameBytes, position + length <= bytes.count,
      let name = String(bytes: bytes[position..<position + length], encoding: .utf8)
    else { throw FileError("the archive has an entry whose name is too long or not UTF-8") }
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    let isOdd =
      parts.contains { $0.isEmpty || $0 == "." || $0 == ".." }
      || name.unicodeScalars.contains { $0.value < 0x20 || $0 == "\\" || $0 == ":" }
    guard !isOdd else { throw FileError("the archive has an entry with the odd name \(quoted(name))") }
    return name
  }

  private func refuseOverlaps() throws {
    let ranges = entries.values.map(\.data).sorted { $0.lowerBound < $1.lowerBound }
    for (a, b) in zip(ranges, ranges.dropFirst()) where a.upperBound > b.lowerBound {
      throw FileError("two entries of the archive overlap")
    }
  }
}

extension [UInt8] {
  fileprivate func uint16(_ position: Int) throws -> UInt16 { try integer(position) }
  fileprivate func uint32(_ position: Int) throws -> UInt32 { try integer(position) }
  fileprivate func uint64(_ position: Int) throws -> UInt64 { try integer(position) }

  private func integer<T: FixedWidthInteger>(_ position: Int) throws -> T {
    let size = MemoryLayout<T>.size
    guard position >= 0, position <= count - size else { throw FileError("the archive is cut short") }
    return (0..<size).reduce(0) { $0 | T(self[position + $1]) << T(8 * $1) }
  }
}
