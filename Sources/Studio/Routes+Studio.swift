import Files
import Foundation
import Imaging
import NeTI

extension Routes {
  /// Everything that a page can ask a studio for.
  init(_ studio: Studio) {
    add("GET", "/") { _, _ in Page.file("index.html") }
    for name in Page.names { add("GET", "/page/\(name)") { _, _ in Page.file(name) } }
    add("GET", "/api/events") { exchange, _ in .events { try studio.tell($0, exchange.connection) } }
    add("GET", "/api/studio") { _, _ in try .json(studio.about) }
    addConcepts(studio)
    addPictures(studio)
    addLearning(studio)
    addGenerating(studio)
  }

  private mutating func addConcepts(_ studio: Studio) {
    let library = studio.library
    struct Title: Decodable { let title: String }
    struct New: Decodable { let example: String? }
    add("POST", "/api/concepts") { exchange, _ in
      try .json(["id": studio.newConcept(example: exchange.json(New.self).example)])
    }
    add("PUT", "/api/concepts/:id/title") { exchange, ids in
      let title = try StudioConcept.checked(
        exchange.json(Title.self).title, what: "the name", longest: LearnRequest.longestTitle)
      try library.change(Self.id(ids)) { $0.title = title }
      return .done()
    }
    add("DELETE", "/api/concepts/:id") { _, ids in
      let id = try Self.id(ids)
      guard !studio.workshop.isBusy(with: id) else {
        throw StudioError("this concept is being learned; stop that first", .conflict)
      }
      try library.delete(id)
      return .done()
    }
    add("POST", "/api/concepts/:id/restore") { _, ids in
      try library.restore(Self.id(ids))
      return .done()
    }
    add("GET", "/api/concepts/:id/file") { exchange, ids in
      let query = exchange.request.query
      guard let format = ConceptFormat(rawValue: query["format"] ?? "neti"), format != .authors else {
        throw StudioError("there is no such format", .notFound)
      }
      let timestep = try query["timestep"].map { text in
        guard let t = Double(text), (0...999).contains(t) else {
          throw StudioError("the timestep is a number from 0 to 999")
        }
        return t
      }
      let (data, name) = try studio.exported(Self.id(ids), format, timestep: timestep)
      return .file(data, name: name)
    }
    add("GET", "/api/concepts/:id/folder") { exchange, ids in
      guard let program = ExportFolder.Program(rawValue: exchange.request.query["for"] ?? "") else {
        throw StudioError("there is no such program", .notFound)
      }
      let (data, name) = try studio.exported(Self.id(ids), for: program)
      return .file(data, name: name, type: "application/zip")
    }
    add("POST", "/api/imports") { exchange, _ in
      let name = exchange.request.query["name"] ?? ""
      return try exchange.large(atMost: Import.mostBytes) {
        try .json(["id": studio.importConcept($0, name: name)])
      }
    }
    add("GET", "/api/concepts/:id/importance") { _, ids in
      HTTPResponse(.ok, "image/png", try studio.importance(of: Self.id(ids)))
    }
    add("GET", "/api/models") { _, _ in try .json(studio.models()) }
  }

  private mutating func addPictures(_ studio: Studio) {
    struct Caption: Decodable { let caption: String }
    struct Part: Decodable { let part: PicturePart? }
    add("POST", "/api/concepts/:id/pictures") { exchange, ids in
      let id = try Self.id(ids)
      guard exchange.request.headers["content-type"]?.hasPrefix("multipart/") != true else {
        throw StudioError("a picture is sent by itself, not in a form", .unsupportedMedia)
      }
      let name = exchange.request.query["name"] ?? ""
      return try exchange.large(atMost: PictureFolder.mostBytes) {
        try .json(["number": studio.addPicture($0, name: name, to: id)])
      }
    }
    add("GET", "/api/concepts/:id/pictures/:number") { _, ids in
      let (id, number) = try (Self.id(ids), Self.number(ids, 1))
      let concept = try studio.library.concept(id)
      _ = try concept.index(of: number)
      let file = PictureFolder(studio.library.place(of: id)).squareFile(number)
      return .png(try readFile(file, limit: PictureFolder.mostBytes, name: "the picture"))
    }
    add("GET", "/api/concepts/:id/pictures/:number/original") { exchange, ids in
      let (id, number) = try (Self.id(ids), Self.number(ids, 1))
      let concept = try studio.library.concept(id)
      let picture = concept.pictures[try concept.index(of: number)]
      guard let quarters = Int(exchange.request.query["quarters"] ?? "0"), (0...3).contains(quarters) else {
        throw StudioError("a picture is turned 0 to 3 times", .badRequest)
      }
      let shown = try PictureFolder(studio.library.place(of: id)).shown(picture, turned: quarters, side: 640)
      return .png(shown)
    }
    add("PUT", "/api/concepts/:id/pictures/:number/part") { exchange, ids in
      let part = try exchange.json(Part.self, atMost: PicturePart.mostBytes).part
      try studio.setPart(part, of: Self.number(ids, 1), in: Self.id(ids))
      return .done()
    }
    add("DELETE", "/api/concepts/:id/pictures/:number") { _, ids in
      try studio.removePicture(Self.number(ids, 1), of: Self.id(ids))
      return .done()
    }
    add("PUT", "/api/concepts/:id/pictures/:number/caption") { exchange, ids in
      try studio.setCaption(
        exchange.json(Caption.self).caption, of: Self.number(ids, 1), in: Self.id(ids))
      return .done()
    }
  }

  private mutating func addLearning(_ studio: Studio) {
    add("POST", "/api/concepts/:id/learn") { exchange, ids in
      try studio.learn(Self.id(ids), exchange.json(LearnRequest.self))
      return .done()
    }
    add("POST", "/api/concepts/:id/resume") { _, ids in
      try studio.goOn(Self.id(ids))
      return .done()
    }
    add("POST", "/api/concepts/:id/stop") { _, ids in
      studio.workshop.stopLearning(try Self.id(ids))
      return .done()
    }
    add("GET", "/api/concepts/:id/losses") { _, ids in
      let place = studio.library.place(of: try studio.library.concept(Self.id(ids)).id)
      return try .json(FixedLoss.read(place.appending(path: FixedLoss.name)))
    }
    add("GET", "/api/concepts/:id/previews/:step/:index") { _, ids in
      let (step, index) = try (Self.number(ids, 1), Self.number(ids, 2))
      let file = try RunProgress.preview(step: step, index: index, run: studio.library.run(of: Self.id(ids)))
      return .png(try readFile(file, limit: Gallery.mostBytes, name: "the picture"))
    }
  }

  private mutating func addGenerating(_ studio: Studio) {
    func order(_ path: String, _ make: @escaping @Sendable (Exchange) throws -> Order) {
      add("POST", path) { exchange, _ in
        let replacing = exchange.request.query["replace"] == "yes"
        return try .json(["id": studio.workshop.generate(make(exchange), replacing: replacing)])
      }
    }
    order("/api/generations") { .images(try $0.json(GenerateRequest.self)) }
    order("/api/grids") { .grid(try $0.json(GridRequest.self)) }
    order("/api/mixtures") { .mix(try $0.json(MixRequest.self)) }
    order("/api/decompositions") { .decompose(try $0.json(DecomposeRequest.self)) }
    add("GET", "/api/sheets/:id") { _, ids in
      let id = try Self.id(ids)
      return .file(try studio.gallery.sheet(id), name: "table-\(id).png", type: "image/png")
    }
    add("POST", "/api/generations/stop") { _, _ in
      studio.workshop.stopGenerating()
      return .done()
    }
    add("POST", "/api/generations/:id/resume") { _, ids in
      try studio.workshop.goOnGenerating(Self.id(ids))
      return .done()
    }
    add("DELETE", "/api/generations/:id") { _, ids in
      try studio.workshop.stopGenerating(Self.id(ids))
      return .done()
    }
    add("GET", "/api/images/:id") { _, ids in .png(try studio.gallery.data(of: Self.id(ids))) }
    add("DELETE", "/api/images/:id") { _, ids in
      try studio.gallery.remove(Self.id(ids))
      return .done()
    }
    add("POST", "/api/settings") { exchange, _ in
      try exchange.large(atMost: Gallery.mostBytes) { try .json(Gallery.settings(of: $0)) }
    }
  }

  private static func id(_ ids: [String]) throws -> ID {
    guard let id = ids.first.flatMap(ID.init) else { throw StudioError("there is nothing here", .notFound) }
    return id
  }

  private static func number(_ ids: [String], _ index: Int) throws -> Int {
    guard let number = Int(ids[index]), (0...1_000_000).contains(number) else {
      throw StudioError("there is nothing here", .notFound)
    }
    return number
  }
}
