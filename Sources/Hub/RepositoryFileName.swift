/// A model in one file on the Hub: `ORGANISATION/NAME/FILE`, where the file may be in folders, and after the name an `@`
/// with a branch, a tag or a commit that has no slash in it.
public struct RepositoryFileName: Hashable, Sendable, CustomStringConvertible {
  public let repository: RepositoryName
  /// Below the repository's folder, with `/` between its parts.
  public let path: String

  /// Nil for what is no such name.
  public init?(_ text: String) {
    let parts = text.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 3, let repository = RepositoryName("\(parts[0])/\(parts[1])"),
      RepositoryFile.isSound(parts[2]), Self.endings.contains(where: parts[2].hasSuffix)
    else { return nil }
    self.repository = repository
    path = parts[2]
  }

  /// How the files of models end.
  public static let endings = [".safetensors", ".ckpt"]

  public var description: String { "\(repository)/\(path)" }
}
