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
  /// temporary file is removed, and a `FileError` says what the system said. What a process that was killed
  /// left there before is removed.
  ///
  /// - Parameter folder: where the temporary file is made, on the same disk; beside `url` when left out.
  public static func write(_ data: Data, to url: URL, by folder: URL? = nil) throws {
    let folder = folder ?? url.deletingLastPathComponent()
    // First, as it may be what fills the disk.
    removeUnfinished(in: folder)
    var problem = replace(url, with: data, by: folder)
    // Where locks are not shared, as on some network disks, a process of another machine may have removed the file.
    if problem == ENOENT { problem = replace(url, with: data, by: folder) }
    guard problem == 0 else { throw failure(url, problem) }
    flushFolder(of: url)
  }

  /// Returns 0, or the system's error number.
  private static func replace(_ url: URL, with data: Data, by folder: URL) -> Int32 {
    let (temporary, descriptor) = locked(in: folder)
    guard descriptor >= 0 else { return errno }
    // Until it is closed, which is when it has its name, the file belongs to a living process.
    defer { close(descriptor) }
    var problem = writeAll(data, to: descriptor)
    if problem == 0, fsync(descriptor) != 0 { problem = errno }
    if problem == 0, rename(temporary.path, url.path) != 0 { problem = errno }
    if problem != 0 { unlink(temporary.path) }
    return problem
  }

  /// A new file that nobody else removes; the descriptor is negative where it cannot be made, and `errno` says why.
  private static func locked(in folder: URL) -> (URL, Int32) {
    var tries = 0
    while true {
      let file = unfinished(in: folder)
      let descriptor = open(file.path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666)
      guard descriptor >= 0 else { return (file, descriptor) }
      // Before it was locked, another writer can have taken it for what a killed process left, and removed it.
      var found = stat()
      let isTaken = flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK
      let isGone = fstat(descriptor, &found) == 0 && found.st_nlink == 0
      tries += 1
      // Some file systems of users' programs count no names at all.
      guard isTaken || isGone, tries < 100 else { return (file, descriptor) }
      unlink(file.path)
      close(descriptor)
    }
  }

  private static let prefix = ".neti-", suffix = ".tmp"

  /// The name of a file that is not finished.
  static func unfinished(in folder: URL) -> URL {
    folder.appending(path: "\(prefix)\(UUID().uuidString)\(suffix)")
  }

  /// Whether a file has the name of one that was not finished, by a process that was killed or is at work.
  public static func isUnfinished(_ name: String) -> Bool {
    name.hasPrefix(prefix) && name.hasSuffix(suffix)
      && UUID(uuidString: String(name.dropFirst(prefix.count).dropLast(suffix.count))) != nil
  }

  /// Removes from a folder what processes that were killed had not finished writing.
  ///
  /// Only regular files of this user are removed that have such a name and that no process holds: a process at work
  /// locks its file, and its lock ends with it. Links are not followed. What cannot be removed stays.
  public static func removeUnfinished(in folder: URL) {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    for name in names where isUnfinished(name) {
      let path = folder.appending(path: name).path
      var found = stat()
      guard lstat(path, &found) == 0, found.st_mode & S_IFMT == S_IFREG, found.st_nlink == 1,
        found.st_uid == geteuid(),
        case let descriptor = open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), descriptor >= 0
      else { continue }
      if flock(descriptor, LOCK_EX | LOCK_NB) == 0 { unlink(path) }
      close(descriptor)
    }
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
