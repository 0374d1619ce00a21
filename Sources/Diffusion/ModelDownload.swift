import Files
public import Foundation
public import Hub

/// What neti needs of a model, fetched from the Hub into the cache.
public final class ModelDownload {
  /// What is needed, and what else was `damaged`.
  public let files: [RepositoryFile]
  /// What was here and did not hash to its name: it was removed, and `run` fetches it anew.
  public let damaged: [RepositoryFile]
  private let snapshot: SnapshotDownload

  /// Asks the Hub what there is, and chooses. Indexes of shards are hashed or fetched, as they say what else is needed; of
  /// one file that is not here the beginning is asked for, as that says what it is.
  ///
  /// - Parameters:
  ///   - file: the path of the one file that is wanted, instead of a model in the diffusers layout.
  ///   - variant: of the weights, such as `fp16`, where a part has it; nil prefers the plain ones.
  ///   - verifying: called with those of the revision's files that are here, needed or not, before all of them are hashed
  ///     again; when nil, only the indexes are.
  /// - Throws: one line that says why it cannot be fetched or is not a model that neti opens.
  public init(
    _ name: RepositoryName, file: String? = nil, variant: String? = nil, from client: HubClient,
    into cache: HubCache,
    verifying: ((_ kept: [RepositoryFile]) -> Void)? = nil
  ) throws {
    snapshot = try SnapshotDownload(name, from: client, into: cache)
    let list = snapshot.list
    let choice =
      try file.map { try ModelFileChoice(list, name: name, only: $0) }
      ?? ModelFileChoice(list, name: name, variant: variant)
    var files = choice.files
    if let large = choice.indexes.first(where: { $0.size > JSONFile.maximumSize }) {
      throw DiffusionError(
        "\(name): the index \(quoted(large.path)) is said to have \(byteText(large.size)), which no index has; the Hub or its mirror is at fault"
      )
    }
    let suspects = verifying == nil ? choice.indexes : snapshot.kept
    verifying?(suspects)
    damaged = try snapshot.removeDamaged(of: suspects)
    if file != nil {
      for file in files where snapshot.present([file]) < file.size {
        try ModelFileStart.check("\(name)/\(file.path)", size: file.size) { [snapshot] in
          snapshot.start(of: file, bytes: $0)
        }
      }
    }
    try snapshot.requireRoom(for: choice.indexes)
    for index in choice.indexes {
      try snapshot.fetch(index)
      let folder = index.path.split(separator: "/").dropLast().map { $0 + "/" }.joined()
      for shard in try WeightFile.shards(snapshot.folder.appending(path: index.path)) {
        let path = folder + shard.lastPathComponent
        guard let file = snapshot.list.file(path) else {
          throw DiffusionError(
            "\(name): \(index.path) names \(quoted(path)), which the repository has not; try another revision"
          )
        }
        files.append(file)
      }
    }
    let needed = Set(files.map(\.path))
    self.files = files + damaged.filter { !needed.contains($0.path) }
  }

  /// The commit that is fetched.
  public var commit: String { snapshot.commit }
  /// The snapshot's folder in the cache.
  public var folder: URL { snapshot.folder }
  /// Bytes in all.
  public var size: Int { snapshot.size(files) }
  /// Bytes of them that are in the cache.
  public var present: Int { snapshot.present(files) }

  /// Free bytes on the disk of the cache; nil where nothing tells.
  public var room: Int? { snapshot.room }

  /// Checks that what is missing has room on the disk.
  ///
  /// - Throws: `HubError` with both numbers where it has not.
  public func requireRoom() throws { try snapshot.requireRoom(for: files) }

  /// Fetches what is missing.
  ///
  /// - Throws: `HubError` before the first byte where the disk has no room; then in one line what went wrong.
  public func run() throws {
    try requireRoom()
    try snapshot.fetch(files)
  }
}
