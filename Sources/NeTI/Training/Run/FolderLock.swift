import Files
public import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A lock on a folder for as long as the object lives; the system frees it when the process dies.
package final class FolderLock {
  package static let fileName = ".lock"
  private let descriptor: Int32

  /// Throws when another process has it. Where the file system knows no locks, there is none.
  package init(_ folder: URL) throws {
    let path = folder.appending(path: Self.fileName).path
    descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw systemError("cannot write into \(folder.path)") }
    guard flock(descriptor, LOCK_EX | LOCK_NB) != 0, errno == EWOULDBLOCK else { return }
    throw RunFolderInUse(folder: folder)
  }

  deinit { close(descriptor) }
}

/// Another process trains in a folder.
public struct RunFolderInUse: Error, CustomStringConvertible {
  public let folder: URL
  public var description: String {
    "another process trains in \(folder.path): wait for it, or choose another `output`"
  }
}
