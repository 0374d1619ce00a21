import Files
public import Foundation

/// The images in a folder.
public struct ImageFolder: Sendable {
  /// In natural order (2.jpg before 10.jpg), the same on every machine.
  public let images: [URL]
  /// Files that may be captions, told by their names, in the same order.
  public let texts: [URL]
  /// One line for each kind of file that is left out though a user may have meant it.
  public let warnings: [String]

  /// How the names of texts end, in any case.
  public static let textEndings: Set = ["txt", "caption"]
  /// What describes images in one file for all, or in another format.
  private static let descriptionEndings: Set = ["json", "jsonl", "csv", "tsv", "parquet", "tags", "text"]
  /// What systems and other trainers leave in folders of images.
  private static let litter: Set = ["thumbs.db", "ehthumbs.db", "desktop.ini", "@eadir", "__macosx"]
  private static let cacheEndings: Set = ["npz"]

  /// Lists the JPEG, PNG and WebP files of a folder, told by their first bytes; folders in it are not searched.
  /// Hidden files and what systems leave behind are passed over silently.
  ///
  /// - Parameters:
  ///   - known: a folder inside that needs no warning.
  ///   - remedy: what to do where there is nothing.
  /// - Throws: `ImagingError` when the folder cannot be read or has no image; it names the folders inside that have.
  public static func list(_ folder: URL, except known: URL? = nil, remedy: String = "put 3 to 6 there") throws
    -> ImageFolder
  {
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: folder.path) } catch {
      throw ImagingError(unreadable(folder))
    }
    var images: [URL] = []
    var texts: [URL] = []
    var kinds: [ForeignFile] = []
    var others: [ForeignFile: [String]] = [:]
    for name in names.sorted(by: naturallyBefore) where isVisible(name) {
      let url = folder.appending(path: name)
      if url.standardizedFileURL.path == known?.standardizedFileURL.path { continue }
      if isFile(url), Image.isImage(url) {
        images.append(url)
      } else if isFile(url), textEndings.contains(ending(name)) {
        texts.append(url)
      } else {
        let kind = kind(of: url)
        if others[kind] == nil { kinds.append(kind) }
        others[kind, default: []].append(name)
      }
    }
    let problems = kinds.map { kind in
      "\(listed(others[kind] ?? [])) (\(kind.title))" + (kind.remedy.isEmpty ? "" : "; \(kind.remedy)")
    }
    guard !images.isEmpty else { throw ImagingError(noImage(in: folder, problems, remedy)) }
    return ImageFolder(
      images: images, texts: texts, warnings: problems.map { "\(folder.path): left out \($0)" })
  }

  /// The first of some names, and how many more there are.
  package static func listed(_ names: [String]) -> String {
    let more = names.count - 3
    return names.prefix(3).joined(separator: ", ") + (more > 0 ? " and \(more) more" : "")
  }

  // MARK: What is no image

  private static func isVisible(_ name: String) -> Bool {
    if name.hasPrefix(".") { return ending(name) == "icloud" }
    return !litter.contains(name.lowercased()) && !cacheEndings.contains(ending(name))
  }

  private static func ending(_ name: String) -> String {
    name.lastIndex(of: ".").map { name[name.index(after: $0)...].lowercased() } ?? ""
  }

  private static func isFile(_ url: URL) -> Bool { (try? regularFileSize(url)) != nil }

  private static func kind(of url: URL) -> ForeignFile {
    let files = FileManager.default
    let name = url.lastPathComponent
    if isFolder(url) {
      let count = imageCount(url)
      return count > 0 ? .folder(images: count) : .folder
    }
    guard let size = try? regularFileSize(url) else {
      if (try? files.destinationOfSymbolicLink(atPath: url.path)) != nil { return .brokenLink }
      // What is listed and is not there: the system's name has bytes that no text has.
      return name.contains("\u{FFFD}") && !files.fileExists(atPath: url.path) ? .notUTF8 : .unknown
    }
    guard files.isReadableFile(atPath: url.path) else { return .noPermission }
    if name.hasPrefix(".") { return .cloud }
    if size == 0 { return .empty }
    if descriptionEndings.contains(ending(name)) { return .descriptions }
    guard let file = try? FileHandle(forReadingFrom: url) else { return .noPermission }
    defer { try? file.close() }
    let head = try? file.read(upToCount: ForeignFile.signatureBytes)
    return head.flatMap { ForeignFile($0, ending: ending(name)) } ?? .unknown
  }

  private static func unreadable(_ folder: URL) -> String {
    guard FileManager.default.fileExists(atPath: folder.path) else {
      return "\(folder.path): there is no such folder; check the path"
    }
    return isFolder(folder)
      ? "\(folder.path): the folder cannot be read; check its permissions"
      : "\(folder.path): not a folder; give the folder that holds the images"
  }

  private static func noImage(in folder: URL, _ problems: [String], _ remedy: String) -> String {
    let inside = foldersWithImages(folder)
    if !inside.isEmpty {
      let more = inside.count > 3 ? " and \(inside.count - 3) more" : ""
      let named = inside.prefix(3).map { "\(quoted($0.path)) (\($0.images))" }.joined(separator: ", ")
      return "\(folder.path): no image in this folder itself, but in \(named)\(more) inside; "
        + "name \(inside.count == 1 ? "that folder" : "one of them")"
    }
    return "\(folder.path): no JPEG, PNG or WebP image in this folder; "
      + (problems.isEmpty ? remedy : "there is " + problems.joined(separator: "; "))
  }

  // MARK: Folders inside

  /// How deep folders of images lie in datasets (`dataset/img/10_toy`), and how many entries are looked at.
  private static let (deepest, mostEntries) = (3, 20_000)

  /// The folders inside that hold images, seen from the folder, with how many they hold.
  private static func foldersWithImages(_ folder: URL) -> [(path: String, images: Int)] {
    var found: [(path: String, images: Int)] = []
    var left = mostEntries
    func look(_ url: URL, _ path: String, _ depth: Int) {
      let names = (try? FileManager.default.contentsOfDirectory(atPath: url.path)) ?? []
      for name in names.sorted(by: naturallyBefore) where isVisible(name) {
        left -= 1
        let inner = url.appending(path: name, directoryHint: .isDirectory)
        guard left > 0, isFolder(inner) else { continue }
        let innerPath = path.isEmpty ? name : "\(path)/\(name)"
        let count = imageCount(inner)
        if count > 0 { found.append((innerPath, count)) }
        if depth < deepest { look(inner, innerPath, depth + 1) }
      }
    }
    look(folder, "", 1)
    return found
  }

  private static func isFolder(_ url: URL) -> Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) && isFolder.boolValue
  }

  /// Images in a folder, of its first thousand files.
  private static func imageCount(_ folder: URL) -> Int {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.prefix(1000).count { isVisible($0) && Image.isImage(folder.appending(path: $0)) }
  }

  // MARK: Order

  /// Runs of digits compare as numbers, letters without regard to case; ties by the bytes.
  static func naturallyBefore(_ a: String, _ b: String) -> Bool {
    let (x, y) = (pieces(a), pieces(b))
    for (p, q) in zip(x, y) where p != q {
      if let m = digits(p), let n = digits(q) {
        if m.count != n.count { return m.count < n.count }
        if m != n { return m < n }
      } else {
        return p < q
      }
    }
    if x.count != y.count { return x.count < y.count }
    return Array(a.utf8).lexicographicallyPrecedes(Array(b.utf8))
  }

  /// The name in lower case, cut where digits begin or end.
  private static func pieces(_ name: String) -> [String] {
    var pieces: [String] = []
    var wasDigit = false
    for character in name.lowercased() {
      let isDigit = "0"..."9" ~= character
      if isDigit == wasDigit, !pieces.isEmpty {
        pieces[pieces.count - 1].append(character)
      } else {
        pieces.append(String(character))
      }
      wasDigit = isDigit
    }
    return pieces
  }

  /// A run of digits without its leading zeros; `nil` for other pieces.
  private static func digits(_ piece: String) -> String? {
    guard let first = piece.first, "0"..."9" ~= first else { return nil }
    return String(piece.drop { $0 == "0" })
  }
}
