import Files
public import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// The folder that Hugging Face's libraries keep models in, as `huggingface_hub` lays it out:
///
///     models--ORG--NAME/blobs/HASH                    a file's bytes, named by what they hash to
///     models--ORG--NAME/snapshots/COMMIT/unet/…       links to blobs, relative
///     models--ORG--NAME/refs/main                     the commit that a branch or tag stands for
///     models--ORG--NAME/trees/COMMIT.json             every file that the commit has
///     models--ORG--NAME/.no_exist/COMMIT/FILE         files that were asked for and are not there
///     .locks/models--ORG--NAME/HASH.lock              held by whoever fetches the blob
public struct HubCache: Sendable {
  public let folder: URL

  public init(_ folder: URL) { self.folder = folder }

  /// The rule of `huggingface_hub`: `HF_HUB_CACHE`, else `HF_HOME/hub`, else the user's cache.
  /// Paths may have `~` and variables in them, as there.
  public init(_ environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    let named = try path("HF_HUB_CACHE", environment) ?? path("HUGGINGFACE_HUB_CACHE", environment)
    folder = try named ?? Self.home(environment).appending(path: "hub")
  }

  /// `HF_HOME`, or where it is when nothing says so.
  static func home(_ environment: [String: String]) throws -> URL {
    if let home = try path("HF_HOME", environment) { return home }
    let user = try path("HOME", environment) ?? FileManager.default.homeDirectoryForCurrentUser
    let cache = try path("XDG_CACHE_HOME", environment) ?? user.appending(path: ".cache")
    return cache.appending(path: "huggingface")
  }

  // MARK: Where things lie

  func repository(_ name: RepositoryName) -> URL { folder.appending(path: name.folderName) }

  /// Where the snapshots of a repository lie.
  public func snapshots(of name: RepositoryName) -> URL { repository(name).appending(path: "snapshots") }

  func snapshot(_ name: RepositoryName, _ commit: String) -> URL {
    snapshots(of: name).appending(path: commit, directoryHint: .isDirectory)
  }

  func blob(_ name: RepositoryName, _ blob: String) -> URL {
    repository(name).appending(path: "blobs").appending(path: blob)
  }

  func partial(_ name: RepositoryName, _ blob: String) -> URL { self.blob(name, blob + ".incomplete") }

  func locks(_ name: RepositoryName) -> URL {
    folder.appending(path: ".locks").appending(path: name.folderName)
  }

  func tree(_ name: RepositoryName, _ commit: String) -> URL {
    repository(name).appending(path: "trees").appending(path: commit + ".json")
  }

  func missing(_ name: RepositoryName, _ commit: String) -> URL {
    repository(name).appending(path: ".no_exist").appending(path: commit)
  }

  // MARK: Finding

  /// The folder of the named revision, or of the only one there is where no reference says which is the main one;
  /// nil where it is not here.
  ///
  /// - Throws: `HubError` where a reference holds no commit.
  public func snapshot(of name: RepositoryName) throws -> URL? {
    let there = commits(of: name)
    if let revision = name.revision, let commit = commit(like: revision, of: name) {
      return snapshot(name, commit)
    }
    if let commit = try commit(of: name) { return there.contains(commit) ? snapshot(name, commit) : nil }
    return name.revision == nil && there.count == 1 ? snapshot(name, there[0]) : nil
  }

  /// A file of the named revision; nil where it is not here.
  ///
  /// - Throws: as `snapshot(of:)`.
  public func file(_ name: RepositoryFileName) throws -> URL? {
    guard let file = try snapshot(of: name.repository)?.appending(path: name.path), size(file) != nil else {
      return nil
    }
    return file
  }

  /// The commit that a branch or tag stands for here.
  func commit(of name: RepositoryName) throws -> String? {
    let reference = repository(name).appending(path: "refs").appending(path: name.wanted)
    guard let data = try? readFile(reference, limit: 1 << 10) else { return nil }
    let commit = String(decoding: data, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    guard (1...64).contains(commit.utf8.count), commit.isHexadecimal else {
      throw HubError("\(reference.path) does not hold a revision; remove the file, and fetch the model again")
    }
    return commit
  }

  /// The commit of which there is a snapshot, by its hash or by the beginning of it that no other has.
  func commit(like text: String, of name: RepositoryName) -> String? {
    let there = commits(of: name)
    if there.contains(text) { return text }
    let alike = there.filter { $0.hasPrefix(text) }
    return text.utf8.count >= 7 && text.isHexadecimal && alike.count == 1 ? alike[0] : nil
  }

  /// The commits of which there is a snapshot.
  func commits(of name: RepositoryName) -> [String] {
    names(in: snapshots(of: name)).filter { !$0.hasPrefix(".") }
  }

  func names(in folder: URL) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
  }

  // MARK: Keeping

  /// Makes the folders of a repository, and the mark by which backups know a cache.
  func prepare(_ name: RepositoryName) throws {
    let blobs = repository(name).appending(path: "blobs")
    for folder in [blobs, locks(name)] { try makeFolder(folder) }
    // Known before the first byte.
    let trial = blobs.appending(path: ".neti-\(UUID().uuidString).tmp")
    guard symlink("x", trial.path) == 0 else {
      throw HubError("\(systemError("\(blobs.path): no link can be made").message); \(Self.linkAdvice)")
    }
    unlink(trial.path)
    let tag = folder.appending(path: "CACHEDIR.TAG")
    if !FileManager.default.fileExists(atPath: tag.path) {
      let text = """
        Signature: 8a477f597d28d172789f06886806bc55
        # This file is a cache directory tag created by huggingface_hub.
        # For information about cache directory tags, see:
        #\thttps://bford.info/cachedir/

        """
      try AtomicFile.write(Data(text.utf8), to: tag)
    }
  }

  /// Links a file of a snapshot to its blob.
  func link(_ file: RepositoryFile, _ name: RepositoryName, _ commit: String) throws {
    let place = snapshot(name, commit).appending(path: file.path)
    let depth = file.path.split(separator: "/").count + 1
    let target = String(repeating: "../", count: depth) + "blobs/" + file.blobName
    let files = FileManager.default
    if (try? files.destinationOfSymbolicLink(atPath: place.path)) == target { return }
    try makeFolder(place.deletingLastPathComponent())
    // What stands there is replaced at once, and only when there is a link.
    let temporary = repository(name).appending(path: "blobs/.neti-\(UUID().uuidString).tmp")
    defer { unlink(temporary.path) }
    guard symlink(target, temporary.path) == 0, rename(temporary.path, place.path) == 0 else {
      throw HubError("\(systemError("\(place.path): the link cannot be made").message); \(Self.linkAdvice)")
    }
  }

  private static let linkAdvice = "set HF_HOME to a folder of yours, on a disk that has symbolic links"

  /// Notes which commit a branch or tag stands for; a commit stands for itself.
  func setReference(_ name: RepositoryName, to commit: String) throws {
    guard name.wanted != commit, (try? self.commit(of: name)) != commit else { return }
    let reference = repository(name).appending(path: "refs").appending(path: name.wanted)
    try makeFolder(reference.deletingLastPathComponent())
    // A name in `refs` that is not finished would be taken for a branch.
    try AtomicFile.write(Data(commit.utf8), to: reference, by: repository(name).appending(path: "blobs"))
  }

  /// Keeps the list of a commit's files.
  func keep(_ list: RepositoryList, _ name: RepositoryName, _ commit: String) throws {
    let place = tree(name, commit)
    try makeFolder(place.deletingLastPathComponent())
    try AtomicFile.write(list.cached(), to: place)
  }

  /// Notes that a commit lacks a file.
  func setMissing(_ path: String, _ name: RepositoryName, _ commit: String) throws {
    let place = missing(name, commit).appending(path: path)
    try makeFolder(place.deletingLastPathComponent())
    try AtomicFile.write(Data(), to: place)
  }

  private func makeFolder(_ folder: URL) throws {
    do { try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true) } catch {
      throw HubError(
        "\(folder.path): the folder cannot be made; check its permissions, or set HF_HOME to a folder of yours"
      )
    }
  }
}

/// The path that a variable of the environment holds.
func path(_ variable: String, _ environment: [String: String]) throws -> URL? {
  guard let text = environment[variable], !text.isEmpty else { return nil }
  return URL(filePath: try expandedPath(text, environment: environment))
}
