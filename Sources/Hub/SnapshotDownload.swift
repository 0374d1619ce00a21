import Files
public import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A model on its way from the Hub into the cache: its list first, then those of its files that somebody chose.
public final class SnapshotDownload {
  /// Bytes that stay free on the disk.
  static let reserve = 64 << 20

  public let name: RepositoryName
  /// What the revision stands for on the Hub today.
  public let commit: String
  /// Every file of the repository.
  public let list: RepositoryList
  private let client: HubClient
  private let cache: HubCache
  /// Keeps others from removing the repository while this is at work.
  private var hold: FolderHold?

  /// Asks the Hub for the commit and its files.
  ///
  /// - Throws: `HubError` that says why there is no such model for whoever asks; `FileError` for a broken answer.
  public init(_ name: RepositoryName, from client: HubClient, into cache: HubCache) throws {
    self.name = name
    self.client = client
    self.cache = cache
    commit = try name.wanted.isHexadecimal(40) ? name.wanted : client.commit(of: name)
    list = try client.files(of: name, commit)
  }

  /// The snapshot's folder.
  public var folder: URL { cache.snapshot(name, commit) }

  /// Bytes that are here of those that are to be fetched.
  public func present(_ files: [RepositoryFile]) -> Int {
    blobs(files).reduce(0) { $0 + cache.present(name, $1) }
  }

  /// Those of the repository's files at this commit whose bytes are here, right or not, whoever fetched them. Of files
  /// with the same bytes the first.
  public var kept: [RepositoryFile] {
    blobs(list.files).filter { cache.size(cache.blob(name, $0.blobName)) != nil }
  }

  /// Bytes of files; what several share counts once.
  public func size(_ files: [RepositoryFile]) -> Int { blobs(files).reduce(0) { $0 + $1.size } }

  /// Checks that what is missing has room on the disk.
  ///
  /// - Throws: `HubError` with both numbers where it has not.
  public func requireRoom(for files: [RepositoryFile]) throws {
    let needed = size(files) - present(files)
    guard let room, needed > 0, needed + Self.reserve > room else { return }
    throw HubError(
      "\(name) needs \(byteText(needed)), and the disk of \(cache.folder.path) has \(byteText(room)) left; make room, "
        + "or set HF_HOME to a folder on another disk")
  }

  /// Free bytes on the disk of the cache; nil where nothing tells.
  public var room: Int? {
    var disk = statvfs()
    var folder = cache.folder.standardizedFileURL
    // What is made only later lies on the disk of what is there.
    while statvfs(folder.path, &disk) != 0 {
      guard folder.pathComponents.count > 1 else { return nil }
      folder.deleteLastPathComponent()
    }
    return Int(exactly: (Double(disk.f_bavail) * Double(disk.f_frsize)).rounded())
  }

  /// Hashes those of some files that are here again, and removes what does not hash to its name.
  ///
  /// - Returns: what was removed.
  public func removeDamaged(of files: [RepositoryFile]) throws -> [RepositoryFile] {
    let here = Set(kept.map(\.blobName))
    return try blobs(files).filter { file in
      guard here.contains(file.blobName) else { return false }
      try holdRepository()
      return try BlobDownload(client, cache, name, commit, file, counted: 0).removeDamaged()
    }
  }

  /// The first bytes of a file, to see what it is before all of it comes. They are not kept, nor proven by its hash.
  ///
  /// - Parameter count: not more than the file has.
  /// - Returns: nil where they cannot be had, be it that the server sends no parts of files; why nothing comes at all is
  ///   told when the file is fetched.
  public func start(of file: RepositoryFile, bytes count: Int) -> [UInt8]? {
    try? client.start(of: file, bytes: count, name, commit)
  }

  /// Fetches a file, and links it into the snapshot.
  ///
  /// - Throws: `HubError` in one line; what came of the file stays, and goes on next time.
  public func fetch(_ file: RepositoryFile) throws {
    try holdRepository()
    try BlobDownload(client, cache, name, commit, file, counted: cache.present(name, file)).run()
    try cache.link(file, name, commit)
  }

  /// Fetches files; then the revision's name stands for the snapshot.
  public func fetch(_ files: [RepositoryFile]) throws {
    for file in files { try fetch(file) }
    try cache.setReference(name, to: commit)
  }

  private func holdRepository() throws {
    guard hold == nil else { return }
    hold = try cache.hold(name)
    try cache.keep(list, name, commit)
  }

  private func blobs(_ files: [RepositoryFile]) -> [RepositoryFile] {
    var seen: Set<String> = []
    return files.filter { seen.insert($0.blobName).inserted }
  }
}

extension HubCache {
  /// Makes the folders of a repository, and keeps them from being removed.
  fileprivate func hold(_ name: RepositoryName) throws -> FolderHold {
    for _ in 0..<3 {
      try prepare(name)
      // Unless it was removed just now.
      if let hold = FolderHold(repository(name), isExclusive: false) { return hold }
    }
    throw HubError(
      "\(repository(name).path) cannot be opened, or is being removed by another process; try again")
  }

  /// Whether a blob is there, whole by its size.
  func hasBlob(_ name: RepositoryName, _ file: RepositoryFile) -> Bool {
    size(blob(name, file.blobName)) == file.size
  }

  /// Bytes of a file that are here, of a part, too.
  func present(_ name: RepositoryName, _ file: RepositoryFile) -> Int {
    if hasBlob(name, file) { return file.size }
    return size(partial(name, file.blobName)).map { $0 <= file.size ? $0 : 0 } ?? 0
  }

  /// Bytes of a regular file, or of what a link leads to.
  func size(_ url: URL) -> Int? {
    var found = stat()
    guard stat(url.path, &found) == 0, found.st_mode & S_IFMT == S_IFREG else { return nil }
    return Int(found.st_size)
  }
}

/// 3.4 GB, as disks and the Hub count.
public func byteText(_ bytes: Int) -> String {
  let units = ["bytes", "kB", "MB", "GB", "TB"]
  var (value, unit) = (Double(bytes), 0)
  while value >= 999.5, unit < units.count - 1 { (value, unit) = (value / 1000, unit + 1) }
  return unit == 0
    ? "\(bytes) bytes" : String(format: value < 9.95 ? "%.1f %@" : "%.0f %@", value, units[unit])
}
