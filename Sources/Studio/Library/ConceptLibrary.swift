import Files
import Foundation
import NeTI

/// The concepts of a studio, on the disk and in memory. Safe from any thread.
final class ConceptLibrary: @unchecked Sendable {
  let folder: StudioFolder
  private let changes: Changes
  // Behind the lock.
  private let lock = NSLock()
  /// One change at a time, from reading a concept to keeping it. Taken before the other lock, never within it.
  private let writing = NSLock()
  private var concepts: [ID: StudioConcept] = [:]
  private var progress: [ID: StudioConcept.Progress] = [:]
  private var deleted: Set<ID> = []

  /// Concepts that a studio keeps.
  static let mostConcepts = 500

  /// Reads what an earlier studio left; what cannot be read is passed over, with a line for each.
  init(_ folder: StudioFolder, changes: Changes, notice: (String) -> Void) {
    self.folder = folder
    self.changes = changes
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.concepts.path)) ?? []
    for id in names.sorted().compactMap(ID.init) {
      let file = place(of: id).appending(path: "concept.json")
      guard FileManager.default.fileExists(atPath: file.path) else { continue }
      do {
        let concept = try JSONFile.decode(StudioConcept.self, from: file)
        guard concept.id == id else {
          throw StudioError("\(file.path) belongs to another folder: it is a copy, and is passed over")
        }
        StudioFolder.removeLeftovers(place(of: id))
        let pictures = PictureFolder(place(of: id))
        // Before anything is learned it is done again, and must succeed.
        if concept.plan == nil { try? pictures.keepOnly(concept.pictures) }
        concepts[id] = concept
        progress[id] = try RunProgress.read(concept, in: place(of: id))
      } catch { notice("\(error)") }
    }
  }

  /// The folder of a concept.
  func place(of id: ID) -> URL {
    folder.concepts.appending(path: id.description, directoryHint: .isDirectory)
  }

  // MARK: Asking

  /// All concepts, the newest first.
  var all: [(concept: StudioConcept, progress: StudioConcept.Progress)] {
    lock.withLock {
      concepts.values.filter { !deleted.contains($0.id) }
        .sorted { ($0.created, $0.id.description) > ($1.created, $1.id.description) }
        .map { ($0, progress[$0.id] ?? .init()) }
    }
  }

  /// Throws when there is none of this id.
  func concept(_ id: ID) throws -> StudioConcept {
    guard let found = lock.withLock({ deleted.contains(id) ? nil : concepts[id] }) else {
      throw StudioError("this concept is not there any more", .notFound)
    }
    return found
  }

  func progress(of id: ID) -> StudioConcept.Progress { lock.withLock { progress[id] ?? .init() } }

  /// The file of a concept that is learned.
  func file(of id: ID) throws -> URL {
    guard progress(of: id).state == .learned else {
      throw StudioError("this concept is not learned yet", .conflict)
    }
    return try run(of: id).appending(path: "concept.safetensors")
  }

  /// The folder of a concept's run.
  func run(of id: ID) throws -> URL {
    guard let plan = try concept(id).plan else {
      throw StudioError("this concept is not learned yet; learn it first", .notFound)
    }
    return place(of: id).appending(path: plan.name, directoryHint: .isDirectory)
  }

  // MARK: Changing

  func create(title: String, kind: String) throws -> StudioConcept {
    let concept = StudioConcept(id: ID(), created: Date(), title: title, kind: kind)
    guard lock.withLock({ concepts.count - deleted.count }) < Self.mostConcepts else {
      throw StudioError("\(Self.mostConcepts) concepts are kept; delete one first")
    }
    try PictureFolder(place(of: concept.id)).make()
    try write(concept)
    lock.withLock { concepts[concept.id] = concept }
    changes.mark(.concepts)
    return concept
  }

  /// Changes a concept on the disk, then here. No other change comes between, so that what `body` finds is so.
  ///
  /// - Parameter after: tidies up when the change is kept, before another begins.
  func change(
    _ id: ID, _ body: (inout StudioConcept) throws -> Void, after: (StudioConcept) -> Void = { _ in }
  ) throws {
    try writing.withLock {
      var concept = try concept(id)
      try body(&concept)
      try write(concept)
      lock.withLock { concepts[id] = concept }
      changes.mark(.concepts)
      after(concept)
    }
  }

  func setProgress(_ id: ID, _ body: (inout StudioConcept.Progress) -> Void) {
    lock.withLock { body(&progress[id, default: .init()]) }
    changes.mark(.concepts)
  }

  /// Puts a concept away; `restore` brings it back until the studio starts anew.
  func delete(_ id: ID) throws {
    try writing.withLock {
      _ = try concept(id)
      try StudioFolder.move(place(of: id), to: folder.trash.appending(path: id.description))
      _ = lock.withLock { deleted.insert(id) }
    }
    changes.mark(.concepts)
    changes.mark(.work)
  }

  func restore(_ id: ID) throws {
    try writing.withLock {
      guard lock.withLock({ deleted.contains(id) }) else {
        throw StudioError("this concept was not deleted since the studio started", .notFound)
      }
      try StudioFolder.move(folder.trash.appending(path: id.description), to: place(of: id))
      _ = lock.withLock { deleted.remove(id) }
    }
    changes.mark(.concepts)
    changes.mark(.work)
  }

  /// What can be brought back, by its title.
  var restorable: [(id: ID, title: String)] {
    lock.withLock { deleted.compactMap { id in concepts[id].map { (id, $0.title) } } }
      .sorted { ($0.title, $0.id.description) < ($1.title, $1.id.description) }
  }

  /// A name for prompts and folders that no other concept here has.
  func freeName(for title: String) -> String {
    let slug = StudioConcept.slug(title)
    let base = slug.isEmpty ? "concept" : slug
    let taken = Set(PictureFolder.names + lock.withLock { concepts.values.compactMap { $0.plan?.name } })
    if !taken.contains(base) { return base }
    return (2...).lazy.map { "\(base)-\($0)" }.first { !taken.contains($0) } ?? base
  }

  private func write(_ concept: StudioConcept) throws {
    try AtomicFile.write(
      HTTPResponse.encoded(concept), to: place(of: concept.id).appending(path: "concept.json"))
  }
}
