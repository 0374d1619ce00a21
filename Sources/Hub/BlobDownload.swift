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
  private var digest: Digest
  /// Bytes in the partial file, all of which the digest has seen.
  private var have = 0
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
    digest = try file.digest()
  }

  deinit { if descriptor >= 0 { close(descriptor) } }

  /// Fetches the blob unless it is there, once this process has the lock.
  func run() throws {
    let lock = try FileLock(cache.locks(name).appending(path: file.blobName + ".lock")) { [client] in
      client.listener(.waitsForAnother)
    }
    try withExtendedLifetime(lock) {
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
    let path = HubAddress.encoded(file.path, keepingSlashes: true)
    let address = try client.settings.address("/\(name.id)/resolve/\(commit)/\(path)")
    // Only bytes that no attempt reached before are progress: a server may send the same ones for ever.
    var furthest = have
    try client.attempts(address) {
      defer { furthest = max(furthest, have) }
      return have > furthest
    } _: {
      if have < file.size || file.size == 0 { try receive(address) }
    }
    return digest.hexadecimal() == file.blobName
  }

  private func receive(_ address: HubAddress) throws {
    let (_, tag) = try client.get(address, headers: have > 0 ? ["Range: bytes=\(have)-"] : []) {
      [self] response in
      try begin(response)
    } receive: { [self] bytes in
      try write(bytes)
    }
    try checkTag(tag)
    guard have == file.size else {
      throw TransferFailure(reason: "the transfer ended early", isUnreachable: false, isPassing: true)
    }
  }

  /// Whether the answer is for the bytes that are missing.
  private func begin(_ response: HTTPResponse) throws {
    switch response.status {
    case 200:
      // The whole file, whatever was asked for.
      if have > 0 { try empty() }
    case 206:
      guard have > 0, let range = response.headers["content-range"], range.hasPrefix("bytes \(have)-"),
        range.hasSuffix("/\(file.size)") || range.hasSuffix("/*")
      else {
        try empty()
        throw TransferFailure(
          reason: "the server sent another part than was asked for", isUnreachable: false, isPassing: true)
      }
    case 416:
      try empty()
      throw TransferFailure(reason: "the server has no such part", isUnreachable: false, isPassing: true)
    default:
      let commit = response.headers["x-repo-commit"]
      if response.headers["x-error-code"] == "EntryNotFound", commit == self.commit {
        try? cache.setMissing(file.path, name, self.commit)
      }
      throw client.refusal(response, name, file.path)
    }
    if let length = response.number("content-length"), have + length > file.size { throw tooLong() }
  }

  /// The Hub names a file by its hash in each answer: another hash is another file. What is no hash says nothing.
  private func checkTag(_ tag: String?) throws {
    // As `_normalize_etag` of `huggingface_hub`.
    guard let tag else { return }
    let bare = tag.drop { $0 == "W" || $0 == "/" }.trimmingCharacters(in: CharacterSet(charactersIn: "\""))
    guard bare != file.blobName, bare.isHexadecimal(40) || bare.isHexadecimal(64) else { return }
    throw HubError(
      "\(name): the server names \(quoted(file.path)) \(bare) where its list says \(file.blobName); try again later"
    )
  }

  private func tooLong() -> HubError {
    unlink(partial.path)
    return HubError(
      "\(name): more is sent for \(quoted(file.path)) than the \(file.size) bytes that the list names; nothing of it was kept"
    )
  }

  // MARK: The partial file

  private func open() throws {
    descriptor = systemOpen(partial.path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o666)
    guard descriptor >= 0 else { throw failure() }
    var buffer = [UInt8](repeating: 0, count: 1 << 20)
    while true {
      let count = buffer.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
      if count < 0 {
        if errno == EINTR { continue }
        throw failure()
      }
      if count == 0 { break }
      have += count
      if have > file.size { return try empty() }
      buffer.withUnsafeBytes { digest.update(UnsafeRawBufferPointer(rebasing: $0[..<count])) }
    }
    count(have)
  }

  /// Begins again.
  private func empty() throws {
    guard ftruncate(descriptor, 0) == 0, lseek(descriptor, 0, SEEK_SET) == 0 else { throw failure() }
    have = 0
    digest = try file.digest()
    count(0)
  }

  private func write(_ bytes: UnsafeRawBufferPointer) throws {
    guard have + bytes.count <= file.size else { throw tooLong() }
    var rest = bytes[...]
    while !rest.isEmpty {
      let part = UnsafeRawBufferPointer(rebasing: rest)
      let written = systemWrite(descriptor, part.baseAddress, part.count)
      if written < 0, errno == EINTR { continue }
      guard written > 0 else {
        let error = failure()
        // What could not be written whole must not count as read.
        _ = ftruncate(descriptor, off_t(have))
        throw error
      }
      rest = rest.dropFirst(written)
    }
    digest.update(bytes)
    have += bytes.count
    count(have)
  }

  /// Gives the bytes their name, which all of them have proven.
  private func publish() throws {
    guard fsync(descriptor) == 0, rename(partial.path, cache.blob(name, file.blobName).path) == 0 else {
      throw failure()
    }
  }

  /// Tells how far this file is.
  private func count(_ bytes: Int) {
    if bytes != counted { client.listener(.received(bytes: bytes - counted)) }
    counted = bytes
  }

  private func failure() -> HubError {
    HubError(
      "\(systemError("cannot write \(partial.path)").message); make room or set HF_HOME to a folder on another disk. "
        + "What was fetched stays, and the same command goes on")
  }
}

/// The system's functions of names that the methods above have, too.
private func systemOpen(_ path: String, _ flags: Int32, _ mode: mode_t) -> Int32 { open(path, flags, mode) }
private func systemWrite(_ descriptor: Int32, _ bytes: UnsafeRawPointer?, _ count: Int) -> Int {
  write(descriptor, bytes, count)
}
