import Dispatch
import Files
import Foundation
import Imaging
import Studio
import TestSupport
import Testing

/// What the studio keeps, when several ask at once and when a process ended in between.
@Suite("The studio's concepts", .serialized)
struct LibraryTests {
  private static let plan = #"{"title": "Cat", "kind": "cat", "quality": "quick", "steps": 2}"#

  private func png(_ colour: Colour) throws -> Data {
    Data(try Image(width: 128, height: 128, colour: colour).png())
  }

  @Test("a picture's number is never given twice")
  func numbers() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let path = "/api/concepts/\(id)/pictures"
    #expect(try studio.ask("DELETE", path + "/5").status == 200)
    #expect(try studio.ask("GET", path + "/5").status == 404)
    #expect(try studio.ask("POST", path + "?name=a.png", png(Colour(9, 8, 7))).status == 200)
    #expect(try studio.concepts()[0].pictures.map(\.number) == [1, 2, 3, 4, 6])
  }

  @Test("changes that come at once are all kept")
  func atOnce() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    for round in 0..<5 {
      DispatchQueue.concurrentPerform(iterations: 6) { n in
        let path = "/api/concepts/\(id)" + (n == 0 ? "/title" : "/pictures/\(n)/caption")
        let text = n == 0 ? "title \(round)" : "photo \(round) of a {} by \(n)"
        _ = try? studio.ask("PUT", path, json: "{\"\(n == 0 ? "title" : "caption")\": \"\(text)\"}")
      }
      let concept = try studio.concepts()[0]
      #expect(concept.title == "title \(round)")
      #expect(concept.pictures.map(\.caption) == (1...5).map { "photo \(round) of a {} by \($0)" })
    }
  }

  @Test("what a killed process left beside the list is not learned")
  func leftovers() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let place = studio.scratch.folder.appending(path: "studio/concepts/\(id)")
    #expect(
      try studio.ask("PUT", "/api/concepts/\(id)/pictures/1/caption", json: #"{"caption": "this {}"}"#).status
        == 200)
    for name in ["images/9.png", "images/.neti-1.tmp", "squares/9.png"] {
      try png(Colour(1, 2, 3)).write(to: place.appending(path: name))
    }
    try Data("another {}\n".utf8).write(to: place.appending(path: "images/1.txt"))
    try Data("unlisted {}\n".utf8).write(to: place.appending(path: "images/2.txt"))
    // The same picture can be added: nothing is here already.
    #expect(
      try studio.ask("POST", "/api/concepts/\(id)/pictures?name=a.png", png(Colour(1, 2, 3))).status == 200)
    // What a person put there is his; it is told.
    let own = place.appending(path: "images/own.png")
    try png(Colour(4, 4, 4)).write(to: own)
    let learn = "/api/concepts/\(id)/learn"
    let refused = try studio.ask("POST", learn, json: Self.plan)
    #expect(refused.status == 422 && refused.text.contains("own.png"))
    try FileManager.default.removeItem(at: own)
    try FileManager.default.removeItem(at: place.appending(path: "images/3.jpg"))
    #expect(try studio.ask("POST", learn, json: Self.plan).text.contains("3.jpg is gone"))
    #expect(try studio.ask("DELETE", "/api/concepts/\(id)/pictures/3").status == 200)
    #expect(try studio.ask("POST", learn, json: Self.plan).status == 200)
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place.appending(path: "images").path).sorted()
        == ["1.jpg", "1.txt", "2.jpg", "4.jpg", "5.jpg", "6.png"])
    #expect(
      try String(contentsOf: place.appending(path: "images/1.txt"), encoding: .utf8) == "this {}\n")
    #expect(try studio.wait(for: "learned", of: id) != nil)
  }

  @Test("a run goes on only with the options of the model that it began with, threads aside")
  func sameOptions() throws {
    let studio = try TestStudio { $0.modelWords = ["--threads", "1"] }
    let id = try studio.example()
    let long = Self.plan.replacing("\"steps\": 2", with: "\"steps\": 200")
    #expect(try studio.ask("POST", "/api/concepts/\(id)/learn", json: long).status == 200)
    _ = try studio.wait(for: "learning", of: id)
    #expect(try studio.ask("POST", "/api/concepts/\(id)/stop").status == 200)
    #expect(try studio.wait(for: "stopped", of: id) != nil)
    let copy = studio.scratch.folder.appending(path: "copy")
    try FileManager.default.copyItem(at: studio.scratch.folder.appending(path: "studio"), to: copy)
    let resume = "/api/concepts/\(id)/resume"
    do {
      let other = try TestStudio {
        $0.folder = copy
        $0.modelWords = ["--precision", "bf16"]
      }
      let refused = try other.ask("POST", resume)
      #expect(refused.status == 409 && refused.text.contains("start the studio like that"))
    }
    #expect(try studio.ask("POST", resume).status == 200)
    #expect(try studio.ask("POST", "/api/concepts/\(id)/stop").status == 200)
  }
}
