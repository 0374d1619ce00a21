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
    let pictures = try ImageFolder.list(example.folder).images.map { url in
      try PreparedPicture(
        readFile(url, limit: PictureFolder.mostBytes), name: url.lastPathComponent, side: facts.side)
    }
    let concept = try library.create(title: example.name, kind: example.kind) { concept, place in
      for picture in pictures {
        let number = concept.takeNumber()
        concept.pictures.append(try PictureFolder(place).add(picture, number: number, side: facts.side))
      }
    }
    workshop.foresee(concept.id)
    return concept.id
  }

  /// Keeps a picture; returns its number.
  func addPicture(_ data: Data, name: String, to id: ID) throws -> Int {
    try library.concept(id).requireEditable()
    let folder = PictureFolder(library.place(of: id))
    let prepared = try PreparedPicture(data, name: name, side: facts.side)
    var number = 0
    try library.change(id) { concept in
      try concept.requireEditable()
      guard concept.pictures.count < PictureFolder.mostPictures else {
        throw StudioError("\(PictureFolder.mostPictures) pictures are here; 3 to 6 are enough")
      }
      if let other = folder.twin(of: prepared, among: concept.pictures) {
        throw StudioError(
          "\(prepared.name) shows the same as picture \(other), which is here already", .conflict)
      }
      number = concept.takeNumber()
      concept.pictures.append(try folder.add(prepared, number: number, side: facts.side))
    }
    workshop.foresee(id)
    return number
  }

  /// Changes which part of a picture is learned; nil is the middle, and all of that.
  func setPart(_ part: PicturePart?, of number: Int, in id: ID) throws {
    let folder = PictureFolder(library.place(of: id))
    let before = try library.concept(id)
    try before.requireEditable()
    let picture = before.pictures[try before.index(of: number)]
    let cut = try part.map { try folder.cut(picture, $0, side: facts.side) }
    try library.change(id) { concept in
      try concept.requireEditable()
      let i = try concept.index(of: number)
      try folder.write(cut, of: &concept.pictures[i], part: part, side: facts.side)
    } after: {
      try? folder.keepOnly($0.pictures)
    }
    workshop.foresee(id)
  }

  func removePicture(_ number: Int, of id: ID) throws {
    let folder = PictureFolder(library.place(of: id))
    try library.change(id) { concept in
      try concept.requireEditable()
      concept.pictures.remove(at: try concept.index(of: number))
    } after: {
      // Where that fails, or all ends here, it is removed before anything is learned.
      try? folder.keepOnly($0.pictures)
    }
    workshop.foresee(id)
  }

  func setCaption(_ text: String, of number: Int, in id: ID) throws {
    let caption = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard caption.count <= 500 else {
      throw StudioError("a caption is one sentence; this has \(caption.count) letters")
    }
    if !caption.isEmpty { try CaptionFiles.check(caption) }
    let folder = PictureFolder(library.place(of: id))
    try library.change(id) { concept in
      try concept.requireEditable()
      let i = try concept.index(of: number)
      concept.pictures[i].caption = caption
      try folder.write(caption: caption, of: number)
    }
  }

  /// Plans how a concept is learned, and puts it into the queue.
  func learn(_ id: ID, _ request: LearnRequest) throws {
    let title = try StudioConcept.checked(request.title, what: "the name", longest: LearnRequest.longestTitle)
    let kind = try StudioConcept.checked(request.kind, what: "the kind", longest: 40)
    let place = library.place(of: id)
    try library.change(id) { concept in
      try concept.requireEditable()
      guard !concept.pictures.isEmpty else { throw StudioError("choose some pictures first") }
      // Exactly what is listed is learned from, whatever a crash left there.
      try PictureFolder(place).keepOnly(concept.pictures)
      let name = library.freeName(for: title)
      let words = try request.words(
        name: name, folder: "{folder}", usualSteps: facts.usualSteps, modelWords: settings.modelWords)
      let plan = StudioConcept.Plan(
        name: name, steps: try request.steps(facts.usualSteps), base: facts.base, words: words,
        modelWords: settings.modelWords, baseName: facts.name)
      // What is wrong with it is told now.
      _ = try settings.configuration(plan.words(in: place))
      (concept.title, concept.kind, concept.plan) = (title, kind, plan)
    }
    _ = workshop.learn(id)
  }

  /// Goes on with a concept that was stopped or interrupted.
  func goOn(_ id: ID) throws {
    let concept = try library.concept(id)
    let plan = library.progress(of: id).state == .stopped ? concept.plan : nil
    try plan?.check(facts, settings)
    // Of two who ask at once, one goes on.
    guard plan != nil, workshop.learn(id) else {
      throw StudioError("there is nothing to go on with", .conflict)
    }
  }
}

extension StudioConcept.Plan {
  /// Refuses a model that it was not made for.
  func check(_ facts: ModelFacts, _ settings: StudioSettings) throws {
    guard base == facts.base else {
      throw StudioError("this concept is learned on another model; start the studio with that", .conflict)
    }
    if let words = modelWords, words.withoutThreads != settings.modelWords.withoutThreads {
      throw StudioError(
        "this concept is learned with other options of the model: close the studio and start it with "
          + (words.isEmpty ? "none of them" : words.map(\.shellQuoted).joined(separator: " ")), .conflict)
    }
  }
}

extension [String] {
  /// Options of a model without the number of threads, which changes nothing of what is learned.
  fileprivate var withoutThreads: [String] {
    guard let at = firstIndex(of: "--threads"), at + 1 < count else { return self }
    return Array(self[..<at] + self[(at + 2)...])
  }
}
