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
      guard let data = try? readFile(url, limit: Self.mostBytes), let settings = try? Self.settings(of: data)
      else { return nil }
      let date = (try? url.resourceValues(forKeys: [.contentModificationDateKey]))?.contentModificationDate
      return Entry(id: id, made: date?.timeIntervalSince1970 ?? 0, settings: settings)
    }.sorted { $0.made > $1.made }
  }

  /// The newest first.
  var all: [Entry] { lock.withLock { entries } }

  /// Keeps an image with its settings.
  @discardableResult
  func add(_ image: Image, settings: [String: String]) throws -> ID {
    let id = ID()
    let texts = settings.filter { !$0.value.isEmpty }.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    try AtomicFile.write(Data(try image.png(text: texts)), to: file(id))
    let entry = Entry(id: id, made: Date().timeIntervalSince1970, settings: settings)
    lock.withLock { entries.insert(entry, at: 0) }
    changes.mark(.images)
    return id
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

  /// What a PNG's text chunks say, as neti writes them; anything else in them is passed over.
  static func settings(of data: Data) throws -> [String: String] {
    let known: Set = [
      "prompt", "negative prompt", "seed", "steps", "guidance", "scheduler", "truncation", "concept", "model",
      "software", "names",
    ]
    var settings: [String: String] = [:]
    for (key, value) in try PNGText.read([UInt8](data), name: "the image") where known.contains(key) {
      settings[key] = String(value.prefix(10_000))
    }
    return settings
  }
}
