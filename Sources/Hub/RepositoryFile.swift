import Files
public import Foundation

/// A file of a repository, as the Hub's list names it.
public struct RepositoryFile: Sendable, Equatable {
  /// Below the repository's folder, with `/` between its parts.
  public let path: String
  /// Bytes.
  public let size: Int
  /// What git calls it: the SHA-1 of its bytes, or of the pointer that stands for them.
  let gitName: String
  /// The SHA-256 of its bytes, where they are kept outside git (LFS).
  let sha256: String?
  /// What Xet, the Hub's newest store, calls it.
  let xetHash: String?

  /// What the file with its bytes is called in the cache, and the ETag that the Hub gives it.
  public var blobName: String { sha256 ?? gitName }

  /// What its bytes must hash to.
  ///
  /// git's SHA-1 is of a header and the bytes: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects.
  func digest() throws -> Digest {
    let digest = try Digest(sha256 == nil ? .sha1 : .sha256)
    if sha256 == nil { digest.update("blob \(size)\0") }
    return digest
  }

  /// Whether a path stays below its folder, on every system.
  static func isSound(_ path: String) -> Bool {
    (1...1024).contains(path.utf8.count) && !path.utf8.contains(UInt8(ascii: "\\"))
      && !path.unicodeScalars.contains { $0.value < 32 || $0.value == 127 }
      && path.pathParts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." && $0.utf8.count <= 255 }
  }

  /// What its hash is called in a sentence.
  var hashTitle: String { sha256 == nil ? "git SHA-1" : "SHA-256" }
}

/// The files of a repository at one commit, read from the Hub's answers: a list in one or more pages.
public struct RepositoryList: Sendable {
  public static let maximumFiles = 100_000
  /// Bytes of a file that are believed, 16 TiB.
  public static let maximumSize = 1 << 44

  public private(set) var files: [RepositoryFile] = []
  /// Places in `files`, by the bytes of the path: what looks alike may be two files.
  private var places: [[UInt8]: Int] = [:]

  public init() {}

  /// Adds a page, JSON of `/api/models/…/tree/…?recursive=true`.
  ///
  /// - Throws: `FileError` or `HubError` that names what is at fault: a path that leads out of the repository, a hash
  ///   that is none, a size that cannot be.
  public mutating func add(_ page: Data, name: String) throws {
    for entry in try JSONFile.decode([Entry].self, from: page, name: name) where entry.type == "file" {
      let file = try entry.file(name)
      guard places.updateValue(files.count, forKey: Array(file.path.utf8)) == nil else {
        throw HubError("\(name): the list names \(quoted(file.path)) twice")
      }
      guard files.count < Self.maximumFiles else {
        throw HubError("\(name): the list names more than \(Self.maximumFiles) files")
      }
      files.append(file)
    }
  }

  /// The file of this path.
  public func file(_ path: String) -> RepositoryFile? { places[Array(path.utf8)].map { files[$0] } }

  /// `trees/COMMIT.json` as `huggingface_hub` writes it (`_tree_cache.py`): what lets diffusers work offline.
  package func cached() -> Data {
    let items = files.sorted { $0.path.unicodeScalars.lexicographicallyPrecedes($1.path.unicodeScalars) }.map
    {
      file in
      var fields = [("size", "\(file.size)"), ("blob_id", jsonText(file.gitName))]
      if let sha256 = file.sha256 {
        fields += [("lfs_sha256", jsonText(sha256)), ("lfs_size", "\(file.size)")]
      }
      if let xet = file.xetHash { fields.append(("xet_hash", jsonText(xet))) }
      let lines = fields.map { "   \"\($0.0)\": \($0.1)" }.joined(separator: ",\n")
      return "  \(jsonText(file.path)): {\n\(lines)\n  }"
    }
    let all = items.isEmpty ? "{}" : "{\n\(items.joined(separator: ",\n"))\n }"
    return Data("{\n \"format_version\": 1,\n \"files\": \(all)\n}".utf8)
  }

  private struct Entry: Decodable {
    struct Outside: Decodable { let oid: String, size: Int }
    let type: String, path: String, size: Int?, oid: String?, lfs: Outside?, xetHash: String?

    func file(_ name: String) throws -> RepositoryFile {
      guard RepositoryFile.isSound(path) else {
        throw HubError("\(name): \(quoted(path)) is no path below a model's folder")
      }
      let at = "\(name): \(quoted(path))"
      guard let oid, oid.isHexadecimal(40) else {
        throw HubError("\(at) has no git hash but \(quoted(oid ?? "nothing"))")
      }
      if let lfs, !lfs.oid.isHexadecimal(64) {
        throw HubError("\(at) has no SHA-256 but \(quoted(lfs.oid))")
      }
      guard let size = lfs?.size ?? size, (0...RepositoryList.maximumSize).contains(size) else {
        throw HubError("\(at) has a size that cannot be")
      }
      return RepositoryFile(
        path: path, size: size, gitName: oid, sha256: lfs?.oid,
        // Only passed on.
        xetHash: xetHash.flatMap { $0.isHexadecimal(64) ? $0 : nil })
    }

  }
}

/// As Python's `json.dump` writes it: ASCII only.
private func jsonText(_ text: String) -> String {
  var result = "\""
  for unit in text.utf16 {
    switch unit {
    case 0x22: result += "\\\""
    case 0x5C: result += "\\\\"
    case 0x20...0x7E: result.unicodeScalars.append(Unicode.Scalar(UInt8(unit)))
    default:
      result +=
        "\\u" + String(repeating: "0", count: 4 - String(unit, radix: 16).count) + String(unit, radix: 16)
    }
  }
  return result + "\""
}
