import Foundation

/// What a model is called on the Hub: `ORGANISATION/NAME`, or a name alone, and after an `@` a branch, a tag or a commit.
public struct RepositoryName: Hashable, Sendable, CustomStringConvertible {
  /// Without the revision.
  public let id: String
  /// Nil for the main branch.
  public let revision: String?

  /// Nil for what is no such name. The rule for names is that of `huggingface_hub`'s `validate_repo_id`.
  public init?(_ text: String) {
    let halves = text.split(separator: "@", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard Self.isID(halves[0]), halves.count == 1 || Self.isRevision(halves[1]) else { return nil }
    id = halves[0]
    revision = halves.count == 1 ? nil : halves[1]
  }

  init(id: String, revision: String?) {
    self.id = id
    self.revision = revision
  }

  public var description: String { revision.map { "\(id)@\($0)" } ?? id }

  /// The branch, tag or commit.
  var wanted: String { revision ?? "main" }

  /// What its folder in the cache is called.
  package var folderName: String { "models--" + id.replacingOccurrences(of: "/", with: "--") }

  /// The name that a folder in the cache stands for.
  package init?(folderName: String) {
    guard folderName.hasPrefix("models--") else { return nil }
    self.init(folderName.dropFirst("models--".count).replacing("--", with: "/", maxReplacements: 1))
    guard self.folderName == folderName, revision == nil else { return nil }
  }

  private init?(_ text: Substring) { self.init(String(text)) }

  private static func isID(_ text: String) -> Bool {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    return (1...2).contains(parts.count) && text.utf8.count <= 96 && !text.contains("--")
      && !text.hasSuffix(".git")
      && parts.allSatisfy { part in
        !part.isEmpty && !part.contains("..") && !part.hasPrefix(".") && !part.hasPrefix("-")
          && part.utf8.allSatisfy(isPlain)
      }
  }

  /// What git allows as a name, as far as it is also a path of plain letters.
  private static func isRevision(_ text: String) -> Bool {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    return text.utf8.count <= 200
      && parts.allSatisfy { part in
        !part.isEmpty && !part.contains("..") && !part.hasPrefix(".") && !part.hasPrefix("-")
          && !part.hasSuffix(".lock") && part.utf8.allSatisfy { isPlain($0) || $0 == UInt8(ascii: "+") }
      }
  }

  private static func isPlain(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
      UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."):
      true
    default: false
    }
  }
}

extension String {
  /// Lower-case hexadecimal digits, as many as `count` says.
  package func isHexadecimal(_ count: Int) -> Bool { utf8.count == count && isHexadecimal }

  var isHexadecimal: Bool {
    utf8.allSatisfy {
      (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0)
        || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
    }
  }
}
