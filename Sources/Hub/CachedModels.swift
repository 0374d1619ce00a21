import Files
public import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// One revision of a model in the cache.
public struct CachedModel: Sendable {
  public let name: RepositoryName
  public let commit: String
  /// Branches and tags that stand for it here.
  public let references: [String]
  public let folder: URL
  /// Bytes of its blobs; other revisions may share some.
  public let size: Int
  /// Whether each of its links leads to a blob.
  public let isWhole: Bool
  /// When a blob of it was read last, as far as the disk notes that.
  public let lastUsed: Date?
}

extension HubCache {
  /// The models that there is anything of, by name.
  public var repositories: [RepositoryName] {
    names(in: folder).compactMap { RepositoryName(folderName: $0) }
  }

  /// Every revision of every model here, by name.
  public func models() -> [CachedModel] { repositories.flatMap { models($0) } }

  /// The revisions of a model that are here, or the one that its name says.
  public func models(_ name: RepositoryName) -> [CachedModel] {
    let bare = RepositoryName(id: name.id, revision: nil)
    let references = references(bare)
    return commits(of: bare).compactMap { commit in
      let own = references.filter { $0.value == commit }.keys.sorted()
      if let revision = name.revision, !own.contains(revision),
        self.commit(like: revision, of: bare) != commit
      {
        return nil
      }
      let folder = snapshot(bare, commit)
      let links = links(folder)
      let blobs = Set(links.map { $0.resolvingSymlinksInPath().path })
      var (size, last, isWhole) = (0, 0, true)
      for blob in blobs {
        var found = stat()
        guard stat(blob, &found) == 0, found.st_mode & S_IFMT == S_IFREG else {
          isWhole = false
          continue
        }
        size += Int(found.st_size)
        last = max(last, found.accessed)
      }
      return CachedModel(
        name: bare, commit: commit, references: own, folder: folder, size: size,
        isWhole: isWhole && !links.isEmpty,
        lastUsed: last > 0 ? Date(timeIntervalSince1970: Double(last)) : nil)
    }
  }

  /// The commit of every branch and tag.
  private func references(_ name: RepositoryName) -> [String: String] {
    let folder = repository(name).appending(path: "refs")
    let paths = (try? FileManager.default.subpathsOfDirectory(atPath: folder.path)) ?? []
    return paths.reduce(into: [:]) { found, path in
      guard !AtomicFile.isUnfinished(URL(filePath: path).lastPathComponent) else { return }
      guard let data = try? readFile(folder.appending(path: path), limit: 1 << 10) else { return }
      found[path] = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }
  }

  /// Every file of a snapshot, links among them.
  private func links(_ folder: URL) -> [URL] {
    let paths = (try? FileManager.default.subpathsOfDirectory(atPath: folder.path)) ?? []
    return paths.map { folder.appending(path: $0) }.filter { kind($0) != S_IFDIR }
  }

  /// Bytes of everything that there is of a model, parts of files too; nil where there is nothing.
  public func size(of name: RepositoryName) -> Int? {
    let root = repository(name)
    return kind(root) == S_IFDIR ? bytes(root) : nil
  }

  // MARK: Removing

  /// Removes a model, or the revision that its name says, with the blobs that no other revision uses.
  ///
  /// Links are removed, never followed; nothing outside the model's folders is touched.
  ///
  /// - Returns: bytes that became free.
  /// - Throws: `HubError` where it is not here, is being fetched, or lies behind a link.
  public func remove(_ name: RepositoryName) throws -> Int {
    let bare = RepositoryName(id: name.id, revision: nil)
    let root = repository(bare)
    let parts = ["", "blobs", "snapshots", "refs", "trees", ".no_exist"].map {
      $0.isEmpty ? root : root.appending(path: $0)
    }
    for place in parts + [folder.appending(path: ".locks"), locks(bare)] {
      guard let kind = kind(place) else { continue }
      guard kind == S_IFDIR else {
        throw HubError("\(place.path) is no folder but leads elsewhere; nothing was removed")
      }
    }
    guard kind(root) == S_IFDIR else { throw HubError("\(bare) is not in \(folder.path)") }
    let doomed = models(name)
    guard name.revision == nil || !doomed.isEmpty else {
      throw HubError("\(name) is not in \(folder.path); see what is with `model list`")
    }
    let busy = HubError(
      "\(bare) is being fetched by another process; wait until it is done. Nothing was removed")
    guard let hold = FolderHold(root, isExclusive: true) else { throw busy }
    let locks = try takeLocks(bare, busy)
    return try withExtendedLifetime((hold, locks)) {
      let before = bytes(root)
      if name.revision == nil || doomed.count == commits(of: bare).count {
        try delete(root)
        try delete(self.locks(bare))
        return before
      }
      for model in doomed { try remove(model) }
      return before - bytes(root)
    }
  }

  /// Removes one of several revisions, references first, so that no name stands for half of it.
  private func remove(_ model: CachedModel) throws {
    let root = repository(model.name)
    for reference in model.references { try delete(root.appending(path: "refs").appending(path: reference)) }
    try delete(model.folder)
    for place in [tree(model.name, model.commit), missing(model.name, model.commit)] { try delete(place) }
    let used = Set(
      commits(of: model.name).flatMap { links(snapshot(model.name, $0)) }.compactMap { link in
        (try? FileManager.default.destinationOfSymbolicLink(atPath: link.path)).map {
          URL(filePath: $0).lastPathComponent
        }
      })
    let blobs = root.appending(path: "blobs")
    // Parts of files may be those of another revision that is being fetched.
    for blob in names(in: blobs) where !used.contains(blob) && !blob.hasSuffix(".incomplete") {
      try delete(blobs.appending(path: blob))
    }
  }

  /// The locks of all blobs of a model, so that nobody fetches meanwhile.
  private func takeLocks(_ name: RepositoryName, _ busy: HubError) throws -> [FileLock] {
    let folder = locks(name)
    return try names(in: folder).filter { $0.hasSuffix(".lock") }.map {
      guard let lock = try FileLock.ifFree(folder.appending(path: $0)) else { throw busy }
      return lock
    }
  }

  private func delete(_ place: URL) throws {
    guard kind(place) != nil else { return }
    do { try FileManager.default.removeItem(at: place) } catch {
      throw HubError("\(place.path) cannot be removed; check its permissions")
    }
  }

  /// Bytes of the regular files below a folder.
  private func bytes(_ folder: URL) -> Int {
    let paths = (try? FileManager.default.subpathsOfDirectory(atPath: folder.path)) ?? []
    return paths.reduce(0) { sum, path in
      var found = stat()
      guard lstat(folder.appending(path: path).path, &found) == 0, found.st_mode & S_IFMT == S_IFREG else {
        return sum
      }
      return sum + Int(found.st_size)
    }
  }

  /// What lies at a path, without following a link; nil for nothing.
  private func kind(_ url: URL) -> mode_t? {
    var found = stat()
    return lstat(url.path, &found) == 0 ? found.st_mode & S_IFMT : nil
  }
}

extension stat {
  /// Seconds since 1970.
  fileprivate var accessed: Int {
    #if canImport(Darwin)
      st_atimespec.tv_sec
    #else
      st_atim.tv_sec
    #endif
  }
}
