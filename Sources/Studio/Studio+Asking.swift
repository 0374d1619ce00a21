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
    // One after another: a large one needs memory for all its pixels.
    try Self.adding.withLock {
      let folder = PictureFolder(library.place(of: id))
      var number = 0
      try library.change(id) { concept in
        try Self.checkEditable(concept)
        guard concept.pictures.count < PictureFolder.mostPictures else {
          throw StudioError("\(PictureFolder.mostPictures) pictures are here; 3 to 6 are enough")
        }
        // What a killed process left must not be taken for a picture that is here.
        try folder.reconcile(with: concept.pictures)
        number = concept.takeNumber()
      }
      let picture = try folder.add(data, name: name, number: number, side: facts.side)
      do {
        try library.change(id) { concept in
          try Self.checkEditable(concept)
          concept.pictures.append(picture)
        }
      } catch {
        folder.remove(picture)
        throw error
      }
      return number
    }
  }

  private static let adding = NSLock()

  func removePicture(_ number: Int, of id: ID) throws {
    try library.exclusively {
      var removed: StudioConcept.Picture?
      try library.change(id) { concept in
        try Self.checkEditable(concept)
        let index = try Self.index(of: number, in: concept)
        removed = concept.pictures.remove(at: index)
      }
      if let removed { PictureFolder(library.place(of: id)).remove(removed) }
    }
  }

  func setCaption(_ text: String, of number: Int, in id: ID) throws {
    let caption = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard caption.count <= 500 else {
      throw StudioError("a caption is one sentence; this has \(caption.count) letters")
    }
    if !caption.isEmpty { try facts.check(caption: caption) }
    try library.change(id) { concept in
      try Self.checkEditable(concept)
      concept.pictures[try Self.index(of: number, in: concept)].caption = caption
      try PictureFolder(library.place(of: id)).write(caption: caption, of: number)
    }
  }

  private static func index(of number: Int, in concept: StudioConcept) throws -> Int {
    guard let index = concept.pictures.firstIndex(where: { $0.number == number }) else {
      throw StudioError("this picture is not there any more", .notFound)
    }
    return index
  }

  /// Refuses a concept whose pictures may no longer change.
  private static func checkEditable(_ concept: StudioConcept) throws {
    guard concept.plan == nil else {
      throw StudioError("what this concept is learned from stays as it is; begin a new one", .conflict)
    }
  }

  /// Plans how a concept is learned, and puts it into the queue.
  func learn(_ id: ID, _ request: LearnRequest) throws {
    try library.change(id) { concept in
      try Self.checkEditable(concept)
      guard !concept.pictures.isEmpty else { throw StudioError("choose some pictures first") }
      concept.title = try StudioConcept.checked(
        request.title, what: "the name", longest: LearnRequest.longestTitle)
      concept.kind = try StudioConcept.checked(request.kind, what: "the kind", longest: 40)
      let place = library.place(of: id)
      try PictureFolder(place).reconcile(with: concept.pictures)
      let name = library.freeName(for: concept.title)
      let words = try request.words(
        name: name, folder: "{folder}", usualSteps: facts.usualSteps, modelWords: settings.modelWords)
      let plan = StudioConcept.Plan(
        name: name, steps: try request.steps(facts.usualSteps), base: facts.base,
        modelWords: settings.modelWords, words: words)
      // What is wrong with it is told now.
      _ = try settings.configuration(plan.words(in: place))
      concept.plan = plan
    }
    workshop.learn(id)
  }

  /// Goes on with a concept that was stopped or interrupted.
  func goOn(_ id: ID) throws {
    try library.exclusively {
      guard let plan = try library.concept(id).plan, library.progress(of: id).state == .stopped,
        !workshop.isBusy(with: id)
      else { throw StudioError("there is nothing to go on with", .conflict) }
      guard plan.base == facts.base else {
        throw StudioError("this concept is learned on another model; start the studio with that", .conflict)
      }
      // Another precision, say, would lead to another concept.
      let (asked, now) = (plan.modelWords ?? settings.modelWords, settings.modelWords)
      guard Self.withoutThreads(asked) == Self.withoutThreads(now) else {
        let options = asked.isEmpty ? "no option of a model" : shellLine(asked)
        throw StudioError(
          "this concept is learned with \(options); start the studio like that to go on", .conflict)
      }
      workshop.learn(id)
    }
  }

  /// Options without the number of threads, which changes nothing that is learned.
  private static func withoutThreads(_ words: [String]) -> [String] {
    guard let at = words.firstIndex(of: "--threads") else { return words }
    return Array(words[..<at] + words[(at + 1)...].dropFirst())
  }

  /// Puts a concept away that is not being learned.
  func delete(_ id: ID) throws {
    try library.exclusively {
      guard !workshop.isBusy(with: id) else {
        throw StudioError("this concept is being learned; stop that first", .conflict)
      }
      try library.delete(id)
    }
  }

  /// The folder of a concept's run.
  func run(of id: ID) throws -> URL {
    guard let plan = try library.concept(id).plan else {
      throw StudioError("nothing is learned yet", .notFound)
    }
    return library.place(of: id).appending(path: plan.name, directoryHint: .isDirectory)
  }
}
