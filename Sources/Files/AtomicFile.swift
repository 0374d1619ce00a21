public import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Writing a file so that a reader sees the old contents or the new ones, never a part of them.
public enum AtomicFile {
  /// Writes `data` to a temporary file beside `url`, flushes it to the disk, and renames it into place.
  ///
  /// When anything fails (a full disk, no permission), the file that was there is untouched, the
  /// temporary file is removed, and a `FileError` says what the system said.
  ///
  /// - Parameter folder: where the temporary file is made, on the same disk; beside `url` when left out.
  public static func write(_ data: Data, to url: URL, by folder: URL? = nil) throws {
    let temporary = (folder ?? url.deletingLastPathComponent())
      .appending(path: ".neti-\(UUID().uuidString).tmp")
    let descriptor = open(temporary.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw failure(url, errno) }
    var problem = writeAll(data, to: descriptor)
    if problem == 0, fsync(descriptor) != 0 { problem = errno }
    if close(descriptor) != 0, problem == 0 { problem = errno }
    if problem == 0, rename(temporary.path, url.path) != 0 { problem = errno }
    guard problem == 0 else {
      unlink(temporary.path)
      throw failure(url, problem)
    }
    flushFolder(of: url)
  }

  /// Whether a file has the name of one that was not finished, by a process that was killed.
  public static func isUnfinished(_ name: String) -> Bool {
    name.hasPrefix(".neti-") && name.hasSuffix(".tmp")
  }

  /// Makes the rename itself durable. A file system that cannot is no reason to fail: the data is safe.
  private static func flushFolder(of url: URL) {
    let descriptor = open(url.deletingLastPathComponent().path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return }
    fsync(descriptor)
    close(descriptor)
  }

  private static func failure(_ url: URL, _ code: Int32) -> FileError {
    FileError("\(systemError("cannot write \(url.path)", code).message); nothing was changed")
  }
}
