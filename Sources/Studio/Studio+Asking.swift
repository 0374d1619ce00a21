import Files
import Foundation
import Imaging
import NeTI

/// What a page asks of a studio, in the studio's words.
extension Studio {
  /// A new concept, empty or with an example's pictures.
  func newConcept(example name: String?) throws -> ID {
    guard let name else { return try library.create(title: "", kind: "").id }
    guard let example = settings.examples.first(where: { $0.name == name }) else {
      throw StudioError("there is no example \(quoted(name))", .notFound)
    }
    let concept = try library.create(title: example.name, kind: example.kind)
    for url in try ImageFolder.list(example.folder).images {
      let data = try readFile(url, limit: PictureFolder.mostBytes)
      _ = try addPicture(data, name: url.lastPathComponent, to: concept.id)
    }
    return concept.id
  }

  /// Keeps a picture; returns its number.
  func addPicture(_ data: Data, name: String, to id: ID) throws -> Int {
    let before = try editable(id)
    guard before.pictures.count < PictureFolder.mostPictures else {
      throw StudioError("\(PictureFolder.mostPictures) pictures are here; 3 to 6 are enough")
    }
    let folder = PictureFolder(library.place(of: id))
    return try Self.adding.withLock {
      let number = (try library.concept(id).pictures.map(\.number).max() ?? 0) + 1
      let picture = try folder.add(data, name: name, number: number, side: facts.side)
      try library.change(id) { $0.pictures.append(picture) }
      return number
    }
  }

  /// One after another, so that each gets a number of its own.
  private static let adding = NSLock()

  func removePicture(_ number: Int, of id: ID) throws {
    guard let picture = try editable(id).pictures.first(where: { $0.number == number }) else {
      throw StudioError("this picture is not there any more", .notFound)
    }
    try library.change(id) { $0.pictures.removeAll { $0.number == number } }
    PictureFolder(library.place(of: id)).remove(picture)
  }

  func setCaption(_ text: String, of number: Int, in id: ID) throws {
    let caption = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard try editable(id).pictures.contains(where: { $0.number == number }) else {
      throw StudioError("this picture is not there any more", .notFound)
    }
    guard caption.count <= 500 else {
      throw StudioError("a caption is one sentence; this has \(caption.count) letters")
    }
    if !caption.isEmpty { try facts.check(caption: caption) }
    try PictureFolder(library.place(of: id)).write(caption: caption, of: number)
    try library.change(id) { concept in
      for i in concept.pictures.indices where concept.pictures[i].number == number {
        concept.pictures[i].caption = caption
      }
    }
  }

  /// A concept whose pictures may still change.
  private func editable(_ id: ID) throws -> StudioConcept {
    let concept = try library.concept(id)
    guard concept.plan == nil else {
      throw StudioError("what this concept is learned from stays as it is; begin a new one", .conflict)
    }
    return concept
  }

  /// Plans how a concept is learned, and puts it into the queue.
  func learn(_ id: ID, _ request: LearnRequest) throws {
    guard try !editable(id).pictures.isEmpty else { throw StudioError("choose some pictures first") }
    let title = try StudioConcept.checked(request.title, what: "the name", longest: LearnRequest.longestTitle)
    let kind = try StudioConcept.checked(request.kind, what: "the kind", longest: 40)
    let name = library.freeName(for: title)
    let words = try request.words(
      name: name, folder: "{folder}", usualSteps: facts.usualSteps, modelWords: settings.modelWords)
    let plan = StudioConcept.Plan(
      name: name, steps: try request.steps(facts.usualSteps), base: facts.base, words: words)
    // What is wrong with it is told now.
    _ = try settings.configuration(plan.words(in: library.place(of: id)))
    try library.change(id) {
      ($0.title, $0.kind, $0.plan) = (title, kind, plan)
    }
    workshop.learn(id)
  }

  /// Goes on with a concept that was stopped or interrupted.
  func goOn(_ id: ID) throws {
    guard let plan = try library.concept(id).plan, library.progress(of: id).state == .stopped,
      !workshop.isBusy(with: id)
    else { throw StudioError("there is nothing to go on with", .conflict) }
    guard plan.base == facts.base else {
      throw StudioError("this concept is learned on another model; start the studio with that", .conflict)
    }
    workshop.learn(id)
  }

  /// The folder of a concept's run.
  func run(of id: ID) throws -> URL {
    guard let plan = try library.concept(id).plan else {
      throw StudioError("nothing is learned yet", .notFound)
    }
    return library.place(of: id).appending(path: plan.name, directoryHint: .isDirectory)
  }
}
