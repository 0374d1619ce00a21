import Files
import Foundation
import NeTI

/// The concepts of a studio, on the disk and in memory. Safe from any thread.
final class ConceptLibrary: @unchecked Sendable {
  let folder: StudioFolder
  private let changes: Changes
  // Behind the lock.
  private let lock = NSLock()
  private var concepts: [ID: StudioConcept] = [:]
  private var progress: [ID: StudioConcept.Progress] = [:]
  private var deleted: Set<ID> = []
  /// Held by whoever changes concepts, from the question to the answer. Recursive.
  private let writing = NSRecursiveLock()

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
          notice("\(file.path) is of another concept, \(concept.id); it is passed over")
          continue
        }
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
    guard let plan = try concept(id).plan, progress(of: id).state == .learned else {
      throw StudioError("this concept is not learned yet", .conflict)
    }
    return place(of: id).appending(path: plan.name).appending(path: "concept.safetensors")
  }

  // MARK: Changing

  /// Does several things to concepts that belong together: nobody else changes one meanwhile.
  func exclusively<T>(_ body: () throws -> T) rethrows -> T { try writing.withLock(body) }

  func create(title: String, kind: String) throws -> StudioConcept {
    writing.lock()
    defer { writing.unlock() }
    let concept = StudioConcept(id: ID(), created: Date(), title: title, kind: kind)
    guard lock.withLock({ concepts.count - deleted.count }) < Self.mostConcepts else {
      throw StudioError("\(Self.mostConcepts) concepts are kept; delete one first")
    }
    try StudioFolder.make(PictureFolder(place(of: concept.id)).images)
    try StudioFolder.make(PictureFolder(place(of: concept.id)).squares)
    try write(concept)
    lock.withLock { concepts[concept.id] = concept }
    changes.mark(.concepts)
    return concept
  }

  /// Changes a concept on the disk, then here.
  @discardableResult
  func change(_ id: ID, _ body: (inout StudioConcept) throws -> Void) throws -> StudioConcept {
    try exclusively {
      var concept = try concept(id)
      try body(&concept)
      try write(concept)
      lock.withLock { concepts[id] = concept }
      changes.mark(.concepts)
      return concept
    }
  }

  func setProgress(_ id: ID, _ body: (inout StudioConcept.Progress) -> Void) {
    lock.withLock { body(&progress[id, default: .init()]) }
    changes.mark(.concepts)
  }

  /// Puts a concept away; `restore` brings it back until the studio starts anew.
  func delete(_ id: ID) throws {
    try exclusively {
      _ = try concept(id)
      try StudioFolder.move(place(of: id), to: folder.trash.appending(path: id.description))
      _ = lock.withLock { deleted.insert(id) }
    }
    changes.mark(.concepts)
  }

  func restore(_ id: ID) throws {
    try exclusively {
      guard lock.withLock({ deleted.contains(id) }) else {
        throw StudioError("this concept was not deleted since the studio started", .notFound)
      }
      try StudioFolder.move(folder.trash.appending(path: id.description), to: place(of: id))
      _ = lock.withLock { deleted.remove(id) }
    }
    changes.mark(.concepts)
  }

  /// A name for prompts and folders that no other concept here has.
  func freeName(for title: String) -> String {
    let slug = StudioConcept.slug(title)
    let base = slug.isEmpty ? "concept" : slug
    let taken = Set(["images", "squares"] + lock.withLock { concepts.values.compactMap { $0.plan?.name } })
    if !taken.contains(base) { return base }
    return (2...).lazy.map { "\(base)-\($0)" }.first { !taken.contains($0) } ?? base
  }

  private func write(_ concept: StudioConcept) throws {
    try AtomicFile.write(
      HTTPResponse.encoded(concept), to: place(of: concept.id).appending(path: "concept.json"))
  }
}
