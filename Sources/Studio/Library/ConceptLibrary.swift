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
        // A page was opened and closed before there was a picture.
        if concept.plan == nil, concept.pictures.isEmpty {
          try? FileManager.default.removeItem(at: place(of: id))
          continue
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

  /// A new concept. Either all of it is there, or nothing.
  ///
  /// - Parameter fill: puts more into it, and into the folder that it gets; no other change comes between.
  func create(
    title: String, kind: String, fill: (inout StudioConcept, _ place: URL) throws -> Void = { _, _ in }
  ) throws -> StudioConcept {
    var concept = StudioConcept(id: ID(), created: Date(), title: title, kind: kind)
    guard lock.withLock({ concepts.count - deleted.count }) < Self.mostConcepts else {
      throw StudioError("\(Self.mostConcepts) concepts are kept; delete one first")
    }
    let scratch = folder.scratch()
    defer { try? FileManager.default.removeItem(at: scratch) }
    try PictureFolder(scratch).make()
    try writing.withLock {
      try fill(&concept, scratch)
      let now = try RunProgress.read(concept, in: scratch)
      try write(concept, in: scratch)
      try StudioFolder.move(scratch, to: place(of: concept.id))
      lock.withLock { (concepts[concept.id], progress[concept.id]) = (concept, now) }
    }
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
      try write(concept, in: place(of: id))
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

  private func write(_ concept: StudioConcept, in place: URL) throws {
    try AtomicFile.write(HTTPResponse.encoded(concept), to: place.appending(path: "concept.json"))
  }

  /// Frees a concept of which nothing is learned: its pictures and captions may change again. What is known of its
  /// learning is read anew.
  func settle(_ id: ID, problem: String?) {
    func readAnew(_ concept: StudioConcept) {
      guard let now = try? RunProgress.read(concept, in: place(of: id)) else { return }
      setProgress(id) {
        $0 = now
        $0.problem = problem
      }
    }
    guard let concept = try? concept(id) else { return }
    let isFree =
      if let plan = concept.plan, plan.isImported != true, let run = try? run(of: id) {
        !RunFolder.holdsRun(run)
      } else { false }
    // Before anyone can ask for it to be learned again.
    if isFree, (try? change(id, { $0.plan = nil }, after: readAnew)) != nil { return }
    readAnew(concept)
  }
}
