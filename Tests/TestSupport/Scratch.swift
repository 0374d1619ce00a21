public import Foundation

/// A temporary folder of a test's own, removed with this object.
public final class Scratch {
  public let folder: URL

  public init() throws {
    folder = FileManager.default.temporaryDirectory.appending(path: "neti-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  /// The file `name` in here.
  public func file(_ name: String) -> URL { folder.appending(path: name) }

  /// Writes `data` to the file `name` in here, over what was there.
  public func file(_ data: Data, _ name: String) throws -> URL {
    let url = folder.appending(path: name)
    try data.write(to: url)
    return url
  }

  /// The names of what lies in here, sorted.
  public var contents: [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
  }

  /// mini-sd as a folder at `path` in here whose files are symbolic links, as a snapshot's are.
  @discardableResult
  public func linkMiniSD(_ path: String) throws -> URL {
    let files = FileManager.default
    let root = folder.appending(path: path, directoryHint: .isDirectory)
    for component in ["scheduler", "text_encoder", "tokenizer", "unet", "vae"] {
      let source = Fixtures.miniSD.appending(path: component)
      let target = root.appending(path: component)
      try files.createDirectory(at: target, withIntermediateDirectories: true)
      for name in try files.contentsOfDirectory(atPath: source.path) {
        try files.createSymbolicLink(
          at: target.appending(path: name), withDestinationURL: source.appending(path: name))
      }
    }
    return root
  }
}
