import Files
import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// One file's bytes on their way into the cache: first as `HASH.incomplete`, where a download that was cut or killed goes
/// on; as `HASH` when all are there and hash to their name. Whoever works on them holds `HASH.lock`.
final class BlobDownload {
  private let client: HubClient
  private let cache: HubCache
  private let name: RepositoryName
  private let commit: String
  private let file: RepositoryFile
  private let partial: URL
  private var descriptor: Int32 = -1
  /// Bytes in the partial file.
  private var have = 0
  /// Answers to a range that were no part of the file.
  private var strangers = 0
  /// Bytes that the listener counts already.
  private var counted: Int

  /// - Parameter counted: bytes of the partial file that the listener was told of.
  init(
    _ client: HubClient, _ cache: HubCache, _ name: RepositoryName, _ commit: String, _ file: RepositoryFile,
    counted: Int
  ) throws {
    self.client = client
    self.cache = cache
    self.name = name
    self.commit = commit
    self.file = file
    self.counted = counted
    partial = cache.partial(name, file.blobName)
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  private func lock() throws -> FileLock {
    try FileLock(cache.locks(name).appending(path: file.blobName + ".lock")) { [client] in
      client.listener(.waitsForAnother)
    }
  }

  /// Removes the blob where its bytes are not those that it is named by; returns whether it did.
  func removeDamaged() throws -> Bool {
    try withExtendedLifetime(lock()) {
      let place = cache.blob(name, file.blobName).path
      let opened = systemOpen(place, O_RDONLY | O_CLOEXEC, 0)
      guard opened >= 0 else {
        if errno == ENOENT { return false }
        throw HubError("\(systemError("cannot read \(place)").message); check its permissions")
      }
      defer { close(opened) }
      if try hash(opened, at: place) == file.blobName {
        guard cache.hasBlob(name, file) else {
          throw HubError(
            "\(place) is whole, but the list names another size for \(quoted(file.path)); the Hub or its mirror is at fault"
          )
        }
        return false
      }
      guard unlink(place) == 0 else {
        throw HubError("\(systemError("\(place) is damaged, and cannot be removed").message)")
      }
      return true
    }
  }

  /// Fetches the blob unless it is there, once this process has the lock.
  func run() throws {
    try withExtendedLifetime(lock()) {
      if !cache.hasBlob(name, file) {
        try open()
        do { try fetchProven() } catch {
          // Bytes that came stay for the next time; a file without any does not.
          if have == 0 { unlink(partial.path) }
          throw error
        }
        try publish()
      }
      count(file.size)
    }
  }

  /// Fetches what is missing until all bytes hash to their name.
  private func fetchProven() throws {
    if try fetched() { return }
    // Bytes of an earlier download may be at fault: all of them once more.
    try empty()
    if try fetched() { return }
    try empty()
    throw HubError(
      "\(name): what was sent for \(quoted(file.path)) is not the file that the list names (\(file.hashTitle) "
        + "\(file.blobName)); nothing of it was kept. A proxy may be at fault; try again later")
  }

  /// Fetches what is missing; returns whether the bytes hash to their name.
  private func fetched() throws -> Bool {
    let address = try client.address(of: file, name, commit)
    // Only bytes that no attempt reached before are progress, and some at once: a server may send the same ones, or
    // one after the other, for ever.
    var furthest = have
    try client.attempts(address) {
      guard have >= furthest + Self.leastProgress || (have == file.size && have > furthest) else {
        return false
      }
      furthest = have
      return true
    } _: {
      if have < file.size || file.size == 0 { try receive(address) }
    }
    return try hash(descriptor) == file.blobName
  }

  /// Bytes that make an attempt one that brought something.
  private static let leastProgress = 64 << 10

  private func receive(_ address: HubAddress) throws {
    _ = try client.get(address, headers: have > 0 ? ["Range: bytes=\(have)-"] : []) { [self] response in
      try begin(response)
    } receive: { [self] bytes in
      try write(bytes)
    }
    guard have == file.size else {
      throw Self.passing("the transfer ended early")
    }
  }

  /// Whether the answer is for the bytes that are missing.
  private func begin(_ response: HTTPResponse) throws {
    let length = response.number("content-length")
    switch response.status {
    case 200:
      // The whole file, whatever was asked for; or the page of a network that wants a login first.
      if have > 0 {
        if length == file.size {
          try empty()
        } else {
          try doubt("the server sent something else than the file")
        }
      }
    case 206:
      guard have > 0, let range = response.headers["content-range"], range.hasPrefix("bytes \(have)-"),
        range.hasSuffix("/\(file.size)") || range.hasSuffix("/*")
      else {
        let reason = "the server sent another part than was asked for"
        try doubt(reason)
        throw Self.passing(reason)
      }
    case 416:
      try doubt("the server has no such part")
      throw Self.passing("the server has no such part")
    default:
      let commit = response.headers["x-repo-commit"]
      if response.headers["x-error-code"] == "EntryNotFound", commit == self.commit {
        try? cache.setMissing(file.path, name, self.commit)
      }
      throw client.refusal(response, name, file.path)
    }
    if let length, length < 0 || length > file.size - have { throw tooLong() }
  }

  /// An answer to a range that is no part of the file. The first is thrown, as it may pass, and what is here stays; with
  /// another one all begins anew.
  private func doubt(_ reason: String) throws {
    strangers += 1
    guard strangers > 1 else { throw Self.passing(reason) }
    try empty()
  }

  private static func passing(_ reason: String) -> TransferFailure {
    TransferFailure(reason: reason, isUnreachable: false, isPassing: true)
  }

  private func tooLong() -> HubError {
    HubError(
      "\(name): more is sent for \(quoted(file.path)) than the \(file.size) bytes that the list names; a proxy may be "
        + "at fault, try again later")
  }

  // MARK: The partial file

  private func open() throws {
    descriptor = systemOpen(partial.path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o666)
    var found = stat()
    guard descriptor >= 0, fstat(descriptor, &found) == 0 else { throw failure() }
    have = Int(found.st_size)
    if have > file.size { try empty() }
    guard lseek(descriptor, off_t(have), SEEK_SET) >= 0 else { throw failure() }
    count(have)
  }

  /// Begins again.
  private func empty() throws {
    guard ftruncate(descriptor, 0) == 0, lseek(descriptor, 0, SEEK_SET) == 0 else { throw failure() }
    have = 0
    count(0)
  }

  private func write(_ bytes: UnsafeRawBufferPointer) throws {
    guard bytes.count <= file.size - have else { throw tooLong() }
    var rest = bytes[...]
    while !rest.isEmpty {
      let part = UnsafeRawBufferPointer(rebasing: rest)
      let written = systemWrite(descriptor, part.baseAddress, part.count)
      if written < 0, errno == EINTR { continue }
      guard written > 0 else { throw failure() }
      rest = rest.dropFirst(written)
      have += written
    }
    count(have)
  }

  /// What the bytes on the disk hash to. They are read once more when all are there: others may have written to the
  /// file where a disk has no locks, and what came earlier may be damaged.
  ///
  /// - Parameter place: the file, where it is not the one that is being fetched.
  private func hash(_ descriptor: Int32, at place: String? = nil) throws -> String {
    let digest = try file.digest()
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    var at = 0
    while true {
      let count = buffer.withUnsafeMutableBytes { pread(descriptor, $0.baseAddress, $0.count, off_t(at)) }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else {
        guard let place else { throw failure() }
        throw HubError(
          "\(systemError("cannot read \(place)").message); remove it, and the same command fetches it again")
      }
      guard count > 0 else { return digest.hexadecimal() }
      buffer.withUnsafeBytes { digest.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
      at += count
    }
  }

  /// Gives the bytes their name, which all of them have proven.
  private func publish() throws {
    guard fsync(descriptor) == 0 else { throw failure() }
    var (own, there) = (stat(), stat())
    guard fstat(descriptor, &own) == 0, lstat(partial.path, &there) == 0, own.st_ino == there.st_ino,
      own.st_dev == there.st_dev, Int(own.st_size) == file.size
    else {
      throw HubError(
        "\(partial.path): another program changed the file while it was fetched; try again, or set HF_HOME to a folder "
          + "of yours")
    }
    guard rename(partial.path, cache.blob(name, file.blobName).path) == 0 else { throw failure() }
  }

  /// Tells how far this file is.
  private func count(_ bytes: Int) {
    if bytes != counted { client.listener(.received(bytes: bytes - counted)) }
    counted = bytes
  }

  private func failure() -> HubError {
    let code = errno
    let advice =
      switch code {
      case ENOSPC, EDQUOT, EFBIG: "make room or set HF_HOME to a folder on another disk"
      case ENOENT: "it was removed meanwhile"
      case EACCES, EPERM, EROFS: "check its permissions, or set HF_HOME to a folder of yours"
      default: "remove it, or set HF_HOME to another folder"
      }
    return HubError(
      "\(systemError("cannot write \(partial.path)", code).message); \(advice). What was fetched stays, and the same "
        + "command goes on")
  }
}

/// The system's functions of names that the methods above have, too.
private func systemOpen(_ path: String, _ flags: Int32, _ mode: mode_t) -> Int32 { open(path, flags, mode) }
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
  write(descriptor, bytes, count)
}
