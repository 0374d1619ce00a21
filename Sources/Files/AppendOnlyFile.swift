package import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A file that only grows, record by record: a record that did not fit is taken back.
package final class AppendOnlyFile {
  private let descriptor: Int32
  private let url: URL
  private var name: String { url.lastPathComponent }

  /// Opens or creates the file.
  package init(_ url: URL) throws {
    self.url = url
    descriptor = try Self.opened(url)
  }

  /// Creates the file; nil when there is one already.
  package init?(new url: URL) throws {
    self.url = url
    descriptor = try Self.opened(url, O_EXCL)
    guard descriptor >= 0 else { return nil }
  }

  /// Negative where the file must be new and is not.
  private static func opened(_ url: URL, _ more: Int32 = 0) throws -> Int32 {
    let descriptor = open(url.path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | more, 0o666)
    guard descriptor >= 0 || errno == EEXIST else { throw systemError("cannot open \(url.path)") }
    return descriptor
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Writes the bytes at the end of the file, or leaves the file as it was and throws; also where someone removed
  /// or moved it, as what is written would be lost.
  package func append(_ data: Data) throws {
    var (own, there) = (stat(), stat())
    guard fstat(descriptor, &own) == 0, stat(url.path, &there) == 0, own.st_ino == there.st_ino else {
      throw FileError("cannot write \(name): it was removed or moved")
    }
    let end = lseek(descriptor, 0, SEEK_END)
    guard end >= 0 else { throw systemError("cannot write \(name)") }
    let problem = writeAll(data, to: descriptor)
    guard problem == 0 else {
      _ = ftruncate(descriptor, end)
      throw systemError("cannot write \(name)", problem)
    }
  }
}
