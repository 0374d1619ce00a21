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
///     experience.json             how long learning takes, for estimates
///     waiting.json                what waits to be learned and generated
///     .neti-studio                says that the folder is a studio's
struct StudioFolder: @unchecked Sendable {
  let url: URL
  let experience: Experience
  // Held as long as the folder is used; nobody asks it anything.
  private let lock: FolderLock

  var concepts: URL { url.appending(path: "concepts", directoryHint: .isDirectory) }
  var images: URL { url.appending(path: "images", directoryHint: .isDirectory) }
  var waiting: URL { url.appending(path: "waiting.json") }
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
    try Self.claim(url)
    experience = Experience(url.appending(path: "experience.json"))
    // What was deleted; nothing else is touched.
    for name in (try? files.contentsOfDirectory(atPath: trash.path)) ?? [] where ID(name) != nil {
      try? files.removeItem(at: trash.appending(path: name))
    }
    for inner in [concepts, images, trash] {
      try Self.make(inner)
      Self.removeLeftovers(inner)
    }
  }

  private static let marker = ".neti-studio"
  /// What a studio's folder held before it said so itself.
  private static let inner: Set = ["concepts", "images", "trash"]

  /// Refuses a folder with other things in it: a studio deletes and lists what it finds.
  private static func claim(_ url: URL) throws {
    let file = url.appending(path: marker)
    guard !FileManager.default.fileExists(atPath: file.path) else { return }
    let found = Set((try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? [])
      .subtracting([FolderLock.fileName, ".DS_Store"])
      // A kill amid the first start leaves the marker unfinished.
      .filter { !AtomicFile.isUnfinished($0) }
    guard found.isEmpty || found == inner else {
      throw FileError(
        "\(url.path) has other things in it and is no studio's folder; choose an empty or new one with `folder`"
      )
    }
    try AtomicFile.write(Data("neti studio keeps everything in this folder.\n".utf8), to: file)
  }

  /// A file for a moment; what a crash leaves of it goes at the next start.
  func scratch() -> URL { trash.appending(path: ".neti-\(ID()).tmp") }

  /// Removes what a process that was killed had not finished writing.
  static func removeLeftovers(_ folder: URL) {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    for name in names where name.hasPrefix(".neti-") && name.hasSuffix(".tmp") {
      try? FileManager.default.removeItem(at: folder.appending(path: name))
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

  static func make(_ folder: URL) throws {
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw FileError("cannot make the folder \(folder.path); check the disk's room and its permissions")
    }
  }

  static func move(_ from: URL, to: URL) throws {
    do { try FileManager.default.moveItem(at: from, to: to) } catch {
      throw FileError("\(from.lastPathComponent) cannot be moved; check the disk's room and its permissions")
    }
  }
}
