import Files
package import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A lock on a file, held until it is released or the process ends: `flock`, as the Python library `filelock` does it.
package final class FileLock {
  private let descriptor: Int32

  /// Waits for the lock; says so first, where another process has it.
  ///
  /// - Throws: `HubError` where there can be no lock.
  package convenience init(_ url: URL, waiting: @escaping () -> Void) throws {
    guard let lock = try FileLock.take(url, create: true, waiting: waiting) else {
      throw HubError("\(url.path): the lock cannot be had")
    }
    self.init(lock)
  }

  /// The lock of a file that exists, where nobody has it; nil where somebody does.
  package static func ifFree(_ url: URL) throws -> FileLock? {
    try take(url, create: false, waiting: nil).map { FileLock($0) }
  }

  private init(_ descriptor: Int32) { self.descriptor = descriptor }

  deinit { close(descriptor) }

  private static func take(_ url: URL, create: Bool, waiting: (() -> Void)?) throws -> Int32? {
    var hasWaited = false
    while true {
      // Others of a group may share a cache, as with the Python library.
      let descriptor = open(url.path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (create ? O_CREAT : 0), 0o664)
      guard descriptor >= 0 else { throw failure(url, errno) }
      while flock(descriptor, LOCK_EX | (hasWaited ? 0 : LOCK_NB)) != 0 {
        let code = errno
        if code == EINTR { continue }
        guard code == EWOULDBLOCK else {
          close(descriptor)
          throw failure(url, code)
        }
        guard let waiting else {
          close(descriptor)
          return nil
        }
        waiting()
        hasWaited = true
      }
      // Whoever had it may have removed the file: then this lock is of a file that nobody else finds.
      var (own, there) = (stat(), stat())
      if fstat(descriptor, &own) == 0, stat(url.path, &there) == 0, own.st_ino == there.st_ino,
        own.st_dev == there.st_dev
      {
        return descriptor
      }
      close(descriptor)
      if !create { return nil }
    }
  }

  private static func failure(_ url: URL, _ code: Int32) -> HubError {
    HubError(
      "\(systemError("cannot lock \(url.path)", code).message); set HF_HOME to a folder of yours on a disk that has locks"
    )
  }
}

/// A lock on a folder itself, which adds no file to it: shared by those who write into it, exclusive for who removes it.
///
/// Where a disk has no locks on folders, it holds nobody off.
final class FolderHold {
  private let descriptor: Int32

  /// - Returns: nil where others hold it, or the folder is not there.
  init?(_ folder: URL, isExclusive: Bool) {
    descriptor = open(folder.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    while flock(descriptor, isExclusive ? LOCK_EX | LOCK_NB : LOCK_SH) != 0 {
      if errno == EINTR { continue }
      if errno == EWOULDBLOCK { return nil }
      break
    }
    var (own, there) = (stat(), stat())
    guard fstat(descriptor, &own) == 0, stat(folder.path, &there) == 0, own.st_ino == there.st_ino,
      own.st_dev == there.st_dev
    else { return nil }
  }

  deinit { if descriptor >= 0 { close(descriptor) } }
}
