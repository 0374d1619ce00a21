import Foundation
import Synchronization

/// The entries of a zip archive that are stored as they are, which is all that `torch.save` writes
/// (PKWARE's APPNOTE 6.3.9, sections 4.3.7, 4.3.12, 4.3.14 to 4.3.16 and 4.5.3).
///
/// The archive is taken from strangers: anything that a checkpoint has no need of is refused, such as
/// compression (so nothing can grow), encryption, names that come twice or lead out of the archive,
/// entries that overlap, and contents whose check sum is wrong.
package struct ZipArchive: Sendable {
  package static let maximumEntries = 10_000
  package static let maximumNameBytes = 512

  private struct Entry {
    var data: Range<Int>
    var checksum: UInt32
  }

  private let file: MappedFile
  private var entries: [String: Entry] = [:]
  /// Entries whose check sums were right: many tensors may share one.
  private let checked = Checked()

  private final class Checked: Sendable {
    private let names = Mutex<Set<String>>([])
    func contains(_ name: String) -> Bool { names.withLock { $0.contains(name) } }
    func insert(_ name: String) { names.withLock { _ = $0.insert(name) } }
  }

  package var names: [String] { entries.keys.sorted() }

  /// Reads the central directory and checks every entry's place.
  package init(_ file: MappedFile) throws {
    self.file = file
    let bytes = file.bytes
    let end = try Self.endOfDirectory(bytes)
    let directory = try Directory(bytes, end: end)
    guard directory.count <= Self.maximumEntries else {
      throw FileError(
        "the archive has \(directory.count) entries, more than the limit of \(Self.maximumEntries)")
    }
    guard directory.start <= end, directory.size <= end - directory.start else {
      throw Self.damaged("its directory lies outside the file")
    }
    var position = directory.start
    for _ in 0..<directory.count { position = try readEntry(at: position, limit: directory.start) }
    guard position == directory.start + directory.size else {
      throw Self.damaged("its directory has a wrong size")
    }
    try refuseOverlaps()
  }

  /// The same for bytes that are in memory.
  package init(_ bytes: [UInt8]) throws { try self.init(MappedFile(copying: bytes)) }

  package func contains(_ name: String) -> Bool { entries[name] != nil }

  /// A copy of the contents of the entry `name`, after a look at its check sum.
  package func contents(_ name: String) throws -> [UInt8] { Array(file.bytes[try checkedRange(name)]) }

  /// Where the contents of the entry `name` lie in the file.
  func range(_ name: String) -> Range<Int>? { entries[name]?.data }

  /// Where the contents of the entry `name` lie in the file, after a look at their check sum.
  func checkedRange(_ name: String) throws -> Range<Int> {
    guard let entry = entries[name] else { throw FileError("the archive has no entry \(quoted(name))") }
    if checked.contains(name) { return entry.data }
    guard
      crc32(UnsafeRawBufferPointer(rebasing: file.bytes[entry.data]).bindMemory(to: UInt8.self))
        == entry.checksum
    else { throw Self.damaged("the check sum of its entry \(quoted(name)) is wrong") }
    checked.insert(name)
    return entry.data
  }

  /// The place of the record that ends the archive; a comment may follow it.
  private static func endOfDirectory(_ bytes: UnsafeRawBufferPointer) throws -> Int {
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
    throw Self.damaged("it has no zip directory at its end; it may be cut short")
  }

  /// Where the directory lies and how many entries it has.
  private struct Directory {
    let count: Int
    let size: Int
    let start: Int

    /// PyTorch always writes a 64-bit record too. Where the 32-bit one says anything it must say the same: a reader
    /// that believed the other one would see another archive.
    init(_ bytes: UnsafeRawBufferPointer, end: Int) throws {
      let short = (
        count: UInt64(try bytes.uint16(end + 10)), size: UInt64(try bytes.uint32(end + 12)),
        start: UInt64(try bytes.uint32(end + 16))
      )
      guard try UInt64(bytes.uint16(end + 8)) == short.count, try bytes.uint32(end + 4) == 0 else {
        throw FileError("the archive is split over several files, which is not supported")
      }
      var long = short
      if end >= 20, try bytes.uint32(end - 20) == 0x0706_4B50 {
        let disagreement = ZipArchive.damaged("its 64-bit directory does not agree with its 32-bit one")
        let place = try bytes.uint64(end - 12)
        guard place <= UInt64(end), try bytes.uint32(Int(place)) == 0x0606_4B50 else { throw disagreement }
        long = (
          count: try bytes.uint64(Int(place) + 32), size: try bytes.uint64(Int(place) + 40),
          start: try bytes.uint64(Int(place) + 48)
        )
        guard short.count == long.count || short.count == 0xFFFF,
          short.size == long.size || short.size == 0xFFFF_FFFF,
          short.start == long.start || short.start == 0xFFFF_FFFF
        else { throw disagreement }
      }
      let numbers = [long.count, long.size, long.start].map { Int(exactly: $0) ?? .max }
      (count, size, start) = (numbers[0], numbers[1], numbers[2])
    }
  }

  /// Reads one record of the directory and returns where the next begins.
  private mutating func readEntry(at position: Int, limit: Int) throws -> Int {
    let bytes = file.bytes
    guard try bytes.uint32(position) == 0x0201_4B50 else {
      throw Self.damaged("its directory is none")
    }
    let nameLength = Int(try bytes.uint16(position + 28))
    let extraLength = Int(try bytes.uint16(position + 30))
    let extra = position + 46 + nameLength..<position + 46 + nameLength + extraLength
    let name = try name(at: position + 46, nameLength)
    guard try bytes.uint16(position + 8) & 0x2041 == 0 else {
      throw FileError("the entry \(quoted(name)) is encrypted, which is not supported")
    }
    // In the order in which a 64-bit field has those that do not fit.
    let (size, packed, header) = try Self.sizes(
      bytes, [position + 24, position + 20, position + 42], extra: extra, name)
    guard try bytes.uint16(position + 10) == 0, packed == size else {
      throw FileError(
        "the entry \(quoted(name)) is compressed, which torch.save never does; if a model is packed in it, unpack it"
      )
    }
    let data = try data(of: name, header: header, size: size, limit: limit)
    let entry = Entry(data: data, checksum: try bytes.uint32(position + 16))
    guard entries.updateValue(entry, forKey: name) == nil else {
      throw FileError("the archive has two entries \(quoted(name))")
    }
    return extra.upperBound + Int(try bytes.uint16(position + 32))
  }

  /// Three numbers of a record, taken from its 64-bit field where they do not fit into 32 bits.
  private static func sizes(
    _ bytes: UnsafeRawBufferPointer, _ places: [Int], extra: Range<Int>, _ name: String
  ) throws -> (Int, Int, Int) {
    var field = try longField(bytes, extra)
    let numbers = try places.map { place in
      let short = try bytes.uint32(place)
      guard short == .max else { return Int(short) }
      guard field.count >= 8, let number = Int(exactly: try bytes.uint64(field.lowerBound)) else {
        throw FileError("the entry \(quoted(name)) lacks its 64-bit sizes, or they are too large")
      }
      field = field.lowerBound + 8..<field.upperBound
      return number
    }
    return (numbers[0], numbers[1], numbers[2])
  }

  /// The contents of the 64-bit field among a record's extra ones; empty where there is none.
  private static func longField(_ bytes: UnsafeRawBufferPointer, _ extra: Range<Int>) throws -> Range<Int> {
    var position = extra.lowerBound
    while position + 4 <= extra.upperBound {
      let length = Int(try bytes.uint16(position + 2))
      let field = position + 4..<position + 4 + length
      guard field.upperBound <= extra.upperBound else { break }
      if try bytes.uint16(position) == 1 { return field }
      position = field.upperBound
    }
    return extra.lowerBound..<extra.lowerBound
  }

  /// Where an entry's contents lie, from its local header, which must agree with the directory. Its
  /// sizes may be zero there: PyTorch writes them after the contents.
  private func data(of name: String, header: Int, size: Int, limit: Int) throws -> Range<Int> {
    let bytes = file.bytes
    guard header <= limit else { throw Self.damaged("it is cut short") }
    guard try bytes.uint32(header) == 0x0403_4B50, try bytes.uint16(header + 8) == 0,
      try self.name(at: header + 30, Int(bytes.uint16(header + 26))) == name
    else { throw Self.damaged("its entry \(quoted(name)) does not agree with its directory") }
    let start = header + 30 + Int(try bytes.uint16(header + 26)) + Int(try bytes.uint16(header + 28))
    guard start <= limit, size <= limit - start else {
      throw Self.damaged("its entry \(quoted(name)) lies outside the file")
    }
    return start..<start + size
  }

  private func name(at position: Int, _ length: Int) throws -> String {
    guard length <= Self.maximumNameBytes, position + length <= file.bytes.count,
      let name = String(bytes: file.bytes[position..<position + length], encoding: .utf8)
    else { throw FileError("the archive has an entry whose name is too long or not UTF-8") }
    let isOdd =
      name.pathParts.contains { $0.isEmpty || $0 == "." || $0 == ".." }
      || name.unicodeScalars.contains { $0.value < 0x20 || $0 == "\\" || $0 == ":" }
    guard !isOdd else { throw FileError("the archive has an entry with the odd name \(quoted(name))") }
    return name
  }

  fileprivate static func damaged(_ what: String) -> FileError {
    FileError("the zip archive is damaged (\(what)); fetch or save the file again")
  }

  private func refuseOverlaps() throws {
    let ranges = entries.values.map(\.data).sorted { $0.lowerBound < $1.lowerBound }
    for (a, b) in zip(ranges, ranges.dropFirst()) where a.upperBound > b.lowerBound {
      throw Self.damaged("two entries overlap")
    }
  }
}

extension UnsafeRawBufferPointer {
  fileprivate func uint16(_ position: Int) throws -> UInt16 { try integer(position) }
  fileprivate func uint32(_ position: Int) throws -> UInt32 { try integer(position) }
  fileprivate func uint64(_ position: Int) throws -> UInt64 { try integer(position) }

  private func integer<T: FixedWidthInteger>(_ position: Int) throws -> T {
    guard position >= 0, position <= count - MemoryLayout<T>.size else {
      throw ZipArchive.damaged("it is cut short")
    }
    return T(littleEndian: loadUnaligned(fromByteOffset: position, as: T.self))
  }
}
