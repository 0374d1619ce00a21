import Files
import Foundation
import Imaging

/// The images that a studio has generated: PNG files that say themselves what made them. Safe from any thread.
final class Gallery: @unchecked Sendable {
  /// An image and what its file says.
  struct Entry: Encodable, Sendable {
    let id: ID
    let made: Double
    let settings: [String: String]
  }

  private let folder: URL
  private let changes: Changes
  private let lock = NSLock()
  private var entries: [Entry] = []

  /// Bytes of a PNG whose settings are read.
  static let mostBytes = 48 << 20

  init(_ folder: URL, changes: Changes) {
    self.folder = folder
    self.changes = changes
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    entries = names.compactMap { name in
      guard name.hasSuffix(".png"), let id = ID(String(name.dropLast(4))) else { return nil }
      let url = folder.appending(path: name)
      guard let settings = Self.settings(at: url) else { return nil }
      let date = (try? url.resourceValues(forKeys: [.contentModificationDateKey]))?.contentModificationDate
      return Entry(id: id, made: date?.timeIntervalSince1970 ?? 0, settings: settings)
    }.sorted { $0.made > $1.made }
  }

  /// What pages are told of.
  private static let mostShown = 300

  /// The newest first, as many as a page shows.
  var newest: [Entry] { lock.withLock { Array(entries.prefix(Self.mostShown)) } }

  /// A table with its labels, drawn as one picture.
  func sheet(_ id: ID) throws -> Data {
    let cells = lock.withLock { entries.filter { $0.settings["sheet"] == id.description } }.reversed()
    guard let first = cells.first else { throw StudioError("this table is not there any more", .notFound) }
    func labels(_ key: String) -> [String] {
      cells.map { $0.settings[key] ?? "" }.reduce(into: []) { if !$0.contains($1) { $0.append($1) } }
    }
    let (rows, columns) = (labels("row"), labels("column"))
    let sections = try Sheet.Section(
      columns: columns,
      rows: rows.map { row in
        try Sheet.Row(
          label: row,
          images: columns.map { column in
            try cells.first { $0.settings["row"] ?? "" == row && $0.settings["column"] ?? "" == column }.map {
              try Image.decode(data(of: $0.id), name: "an image of the table")
            }
          })
      })
    return Data(try Sheet(title: first.settings["prompt"] ?? "", sections: [sections]).draw().png())
  }

  /// Seconds by which an image counts as older than the one before it.
  private static let moment = 0.0001

  /// Keeps an image with its settings.
  ///
  /// - Parameter previous: the image that it stands behind, as if it were a moment older; nil puts it first.
  @discardableResult
  func add(_ image: Image, settings: [String: String], behind previous: Entry? = nil) throws -> Entry {
    let id = ID()
    let texts = settings.filter { !$0.value.isEmpty }.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    try AtomicFile.write(Data(try image.png(text: texts)), to: file(id))
    let size = ["width": String(image.width), "height": String(image.height)]
    let made = previous.map { $0.made - Self.moment } ?? Date().timeIntervalSince1970
    let entry = Entry(id: id, made: made, settings: settings.merging(size) { $1 })
    // The next studio knows its place by that; where it cannot be set, only by when the file was written.
    try? FileManager.default.setAttributes(
      [.modificationDate: Date(timeIntervalSince1970: made)], ofItemAtPath: file(id).path)
    lock.withLock { entries.insert(entry, at: entries.firstIndex { $0.made < made } ?? entries.endIndex) }
    changes.mark(.images)
    return entry
  }

  func data(of id: ID) throws -> Data {
    guard lock.withLock({ entries.contains { $0.id == id } }) else {
      throw StudioError("this image is not there any more", .notFound)
    }
    return try readFile(file(id), limit: Self.mostBytes, name: "the image")
  }

  func remove(_ id: ID) throws {
    guard lock.withLock({ entries.contains { $0.id == id } }) else {
      throw StudioError("this image is not there any more", .notFound)
    }
    try? FileManager.default.removeItem(at: file(id))
    lock.withLock { entries.removeAll { $0.id == id } }
    changes.mark(.images)
  }

  private func file(_ id: ID) -> URL { folder.appending(path: "\(id).png") }

  /// Bytes at the start of a PNG of ours, which hold its settings unless a text in them is long.
  private static let startBytes = 64 << 10

  /// What a file of ours says, without reading its pixels; nil for any other.
  private static func settings(at url: URL) -> [String: String]? {
    guard let size = try? regularFileSize(url), size <= mostBytes,
      let file = try? FileHandle(forReadingFrom: url)
    else { return nil }
    defer { try? file.close() }
    if let start = try? file.read(upToCount: startBytes),
      let found = try? settings(of: start, beforePixels: true)
    {
      return found
    }
    return (try? readFile(url, limit: mostBytes)).flatMap { try? settings(of: $0) }
  }

  /// What a PNG's text chunks say, as neti writes them, and the size of its header; anything else in them is passed
  /// over.
  static func settings(of data: Data, beforePixels: Bool = false) throws -> [String: String] {
    let known: Set = [
      "prompt", "negative prompt", "seed", "steps", "guidance", "scheduler", "truncation", "concept", "model",
      "software", "names", "lora", "clip skip", "prompt weights", "layout", "regions", "sheet", "row",
      "column",
      "checkpoint", "geometry", "appearance", "geometry layers", "mixed from", "alone", "frozen at",
      "concept down to", "concept within", "original size", "crop", "image",
    ]
    var settings: [String: String] = [:]
    for (key, value) in try PNGText.read([UInt8](data), name: "the image", beforePixels: beforePixels)
    where known.contains(key) {
      settings[key] = String(value.prefix(10_000))
    }
    if let size = Image.sizeOfPNG([UInt8](data.prefix(64))) {
      (settings["width"], settings["height"]) = (String(size.width), String(size.height))
    }
    return settings
  }
}
