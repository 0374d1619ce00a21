package import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A regular file mapped read-only into memory, for as long as this object lives.
///
/// The size is taken once, when the file is opened. A file that someone truncates later makes the
/// system raise SIGBUS when the lost part is read: replace model files by renaming, as `AtomicFile` does.
/// Whoever handles the signal learns from `path(at:)` which file it was.
package final class MappedFile: @unchecked Sendable {  // immutable after init
  /// Where the files that are mapped lie, with their paths.
  private static let mapped = Mutex<[Range<UInt>: String]>([:])

  /// The path of the file that is mapped at an address.
  package static func path(at address: UInt) -> String? {
    mapped.withLock { $0.first { $0.key.contains(address) }?.value }
  }

  package let bytes: UnsafeRawBufferPointer
  /// Whether the bytes can be read again from a file.
  private let isBacked: Bool

  /// Maps the file at `url`, following symbolic links.
  package init(_ url: URL) throws {
    // Without O_NONBLOCK, opening a named pipe would wait for its writer.
    let descriptor = open(url.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
    guard descriptor >= 0 else {
      guard errno != ENOENT else { throw FileError("\(url.path): there is no such file; check the path") }
      throw systemError("cannot read \(url.path)")
    }
    defer { close(descriptor) }
    var status = stat()
    guard fstat(descriptor, &status) == 0 else { throw systemError("cannot read \(url.path)") }
    guard status.st_mode & S_IFMT != S_IFDIR else {
      throw FileError("\(url.path) is a folder, not a file; name the file in it")
    }
    guard status.st_mode & S_IFMT == S_IFREG else {
      throw FileError("\(url.path) is a pipe or device, not a file")
    }
    isBacked = true
    let size = Int(status.st_size)
    guard size > 0 else {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard let base = mmap(nil, size, PROT_READ, MAP_PRIVATE, descriptor, 0), base != MAP_FAILED else {
      throw systemError("cannot read \(url.path)")
    }
    bytes = UnsafeRawBufferPointer(start: base, count: size)
    Self.mapped.withLock { $0[addresses] = url.path }
  }

  /// Where the bytes lie.
  private var addresses: Range<UInt> {
    let start = UInt(bitPattern: bytes.baseAddress)
    return start..<start + UInt(bytes.count)
  }

  /// Bytes that are in memory, as if they were a file's.
  package init(copying contents: [UInt8]) throws {
    isBacked = false
    guard !contents.isEmpty else {
      bytes = UnsafeRawBufferPointer(start: nil, count: 0)
      return
    }
    guard
      let base = mmap(
        nil, contents.count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0), base != MAP_FAILED
    else { throw systemError("no memory for \(contents.count) bytes") }
    contents.withUnsafeBytes {
      base.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(base), byteCount: $0.count)
    }
    bytes = UnsafeRawBufferPointer(start: base, count: contents.count)
  }

  deinit {
    guard let base = bytes.baseAddress else { return }
    // Before the system can give the addresses to another.
    Self.mapped.withLock { $0[addresses] = nil }
    munmap(UnsafeMutableRawPointer(mutating: base), bytes.count)
  }

  /// Gives the memory of `range` back to the system; what is read there again comes from the file again.
  package func forget(_ range: Range<Int>) {
    guard isBacked, let base = bytes.baseAddress, !range.isEmpty else { return }
    let page = Int(sysconf(Int32(_SC_PAGESIZE)))
    // Pages that lie wholly in the range: the others belong to neighbours, too.
    let first = (range.lowerBound + page - 1) / page * page
    let end = range.upperBound / page * page
    guard first < end else { return }
    madvise(UnsafeMutableRawPointer(mutating: base + first), end - first, MADV_DONTNEED)
  }
}
