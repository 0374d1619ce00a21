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
      try studio.delete(Self.id(ids))
      return .done()
    }
    add("POST", "/api/concepts/:id/restore") { _, ids in
      try library.restore(Self.id(ids))
      return .done()
    }
    add("GET", "/api/concepts/:id/file") { _, ids in
      let id = try Self.id(ids)
      let file = try library.file(of: id)
      var response = HTTPResponse(
        .ok, "application/octet-stream",
        try readFile(file, limit: Gallery.mostBytes, name: "the concept's file"))
      let name = try library.concept(id).plan?.name ?? "concept"
      response.headers.append(("Content-Disposition", "attachment; filename=\"\(name).safetensors\""))
      return response
    }
  }

  private mutating func addPictures(_ studio: Studio) {
    struct Caption: Decodable { let caption: String }
    add("POST", "/api/concepts/:id/pictures") { exchange, ids in
      let id = try Self.id(ids)
      guard exchange.request.headers["content-type"]?.hasPrefix("multipart/") != true else {
        throw StudioError("a picture is sent by itself, not in a form", .unsupportedMedia)
      }
      let name = exchange.request.query["name"] ?? ""
      return try exchange.withLargeBody(atMost: PictureFolder.mostBytes) {
        try .json(["number": studio.addPicture($0, name: name, to: id)])
      }
    }
    add("GET", "/api/concepts/:id/pictures/:number") { _, ids in
      let (id, number) = try (Self.id(ids), Self.number(ids, 1))
      guard try studio.library.concept(id).pictures.contains(where: { $0.number == number }) else {
        throw StudioError("this picture is not there any more", .notFound)
      }
      let file = PictureFolder(studio.library.place(of: id)).squareFile(number)
      return .png(try readFile(file, limit: PictureFolder.mostBytes, name: "the picture"))
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
      try .json(RunProgress.losses(run: studio.run(of: Self.id(ids))))
    }
    add("GET", "/api/concepts/:id/previews/:step/:index") { _, ids in
      let (step, index) = try (Self.number(ids, 1), Self.number(ids, 2))
      let file = try RunProgress.preview(step: step, index: index, run: studio.run(of: Self.id(ids)))
      return .png(try readFile(file, limit: Gallery.mostBytes, name: "the picture"))
    }
  }

  private mutating func addGenerating(_ studio: Studio) {
    add("POST", "/api/generations") { exchange, _ in
      let request = try exchange.json(GenerateRequest.self)
      let replacing = exchange.request.query["replace"] == "yes"
      return try .json(["id": studio.workshop.generate(request, replacing: replacing)])
    }
    add("POST", "/api/generations/stop") { _, _ in
      studio.workshop.stopGenerating()
      return .done()
    }
    add("GET", "/api/images/:id") { _, ids in .png(try studio.gallery.data(of: Self.id(ids))) }
    add("DELETE", "/api/images/:id") { _, ids in
      try studio.gallery.remove(Self.id(ids))
      return .done()
    }
    add("POST", "/api/settings") { exchange, _ in
      try exchange.withLargeBody(atMost: Gallery.mostBytes) { try .json(Gallery.settings(of: $0)) }
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
