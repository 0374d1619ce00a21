import Files
import Foundation
import NeTI

/// The folder that a studio keeps everything in; one studio at a time.
///
///     concepts/ID/concept.json    what a person said of it
///     concepts/ID/images/1.jpg    copies of the pictures, and 1.txt, their captions
///     concepts/ID/squares/1.png   what the trainer sees of them
///     concepts/ID/NAME/           the run, as `neti train` makes it
///     images/ID.png               what was generated
///     trash/ID/                   what was deleted, until the next start
///     .neti-studio                says that the folder is a studio's
struct StudioFolder: @unchecked Sendable {
  let url: URL
  // Held as long as the folder is used; nobody asks it anything.
  private let lock: FolderLock

  var concepts: URL { url.appending(path: "concepts", directoryHint: .isDirectory) }
  var images: URL { url.appending(path: "images", directoryHint: .isDirectory) }
  var trash: URL { url.appending(path: "trash", directoryHint: .isDirectory) }

  /// Makes the folder, or takes it over from a studio that has ended.
  init(_ url: URL) throws {
    self.url = url
    let files = FileManager.default
    // Pictures are nobody else's business.
    let mine: [FileAttributeKey: Any] = [.posixPermissions: 0o700]
    do {
      try files.createDirectory(at: url, withIntermediateDirectories: true, attributes: mine)
    } catch {
      throw FileError(
        "\(url.path): the folder cannot be made; check its permissions, or choose another with `folder`")
    }
    do { lock = try FolderLock(url) } catch is RunFolderInUse {
      throw FileError(
        "another studio uses \(url.path): open its page, or choose another folder with `folder`")
    }
    try checkIsOurs()
    for inner in [concepts, images, trash] { try Self.make(inner, attributes: mine) }
    try AtomicFile.write(Data("1\n".utf8), to: marker)
  }

  /// Says that the folder is a studio's, and of which version.
  private var marker: URL { url.appending(path: ".neti-studio") }

  /// Refuses a folder in which someone keeps something else.
  private func checkIsOurs() throws {
    let files = FileManager.default
    if files.fileExists(atPath: marker.path) { return }
    // The first studios wrote no marker.
    let names = try? files.contentsOfDirectory(atPath: url.path).filter { !$0.hasPrefix(".") }
    guard let names, names.isEmpty || Set(names) == ["concepts", "images", "trash"] else {
      throw FileError(
        "\(url.path) has other things in it than a studio's; choose an empty or a new folder with `folder`")
    }
  }

  /// Ends what was deleted, and what a process that was killed had half written.
  func tidy() {
    let files = FileManager.default
    func names(_ folder: URL) -> [String] { (try? files.contentsOfDirectory(atPath: folder.path)) ?? [] }
    for name in names(trash) where ID(name) != nil { try? files.removeItem(at: trash.appending(path: name)) }
    let places = names(concepts).filter { ID($0) != nil }.map { concepts.appending(path: $0) }
    for folder in [images] + places
      + places.flatMap({ [$0.appending(path: "images"), $0.appending(path: "squares")] })
    {
      for name in names(folder) where AtomicFile.isUnfinished(name) {
        try? files.removeItem(at: folder.appending(path: name))
      }
    }
  }

  /// Where a studio keeps its things when nobody says: the user's data directory.
  static func standard(_ environment: [String: String] = ProcessInfo.processInfo.environment) throws -> URL {
    #if os(macOS)
      return URL.applicationSupportDirectory.appending(path: "neti/studio", directoryHint: .isDirectory)
    #else
      if let data = environment["XDG_DATA_HOME"], data.hasPrefix("/") {
        return URL(filePath: data).appending(path: "neti/studio", directoryHint: .isDirectory)
      }
      return URL(filePath: try expandedPath("~/.local/share/neti/studio"), directoryHint: .isDirectory)
    #endif
  }

  static func make(_ folder: URL, attributes: [FileAttributeKey: Any]? = nil) throws {
    do {
      try FileManager.default.createDirectory(
        at: folder, withIntermediateDirectories: true, attributes: attributes)
    } catch {
      throw FileError("cannot make the folder \(folder.path); check the disk's room and its permissions")
    }
  }

  static func move(_ from: URL, to: URL) throws {
    do { try FileManager.default.moveItem(at: from, to: to) } catch {
      throw FileError(
        "cannot move \(from.lastPathComponent) to \(to.deletingLastPathComponent().lastPathComponent)")
    }
  }
}
