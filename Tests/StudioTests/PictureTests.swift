import Files
import Foundation
import Imaging
import NeTI
import Studio
import TestSupport
import Testing

/// Which part of a picture is learned, and what a browser may say of it.
@Suite("The studio's pictures", .serialized)
struct PictureTests {
  private func put(_ part: String, _ id: String, _ studio: TestStudio, number: Int = 1) throws
    -> Client.Response
  {
    try studio.ask("PUT", "/api/concepts/\(id)/pictures/\(number)/part", json: "{\"part\": \(part)}")
  }

  private func mask(_ side: Int, black: Range<Int>) throws -> String {
    var pixels = [UInt8](repeating: 255, count: side * side * 3)
    for y in black { for x in 0..<side * 3 { pixels[y * side * 3 + x] = 0 } }
    return try Data(Image(width: side, height: side, pixels: pixels).png()).base64EncodedString()
  }

  @Test(
    "a part of a picture is cut, turned and masked as the trainer then reads it, and the copy stays whole")
  func parts() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let place = studio.scratch.folder.appending(path: "studio/concepts/\(id)")
    let original = try Data(contentsOf: Fixtures.examples.appending(path: "ginger/1.jpg"))
    let whole = try Image.decode(original, name: "1.jpg")
    let half =
      #"{"x": 0.25, "y": 0.5, "side": 0.5, "quarters": 0, "mask": "\#(try mask(64, black: 0..<32))"}"#
    #expect(try put(half, id, studio).status == 200)
    #expect(try Data(contentsOf: place.appending(path: "originals/1.jpg")) == original)
    #expect(!FileManager.default.fileExists(atPath: place.appending(path: "images/1.jpg").path))

    // Pixel by pixel what was chosen.
    let side = whole.width / 2
    let cut = try Image.load(place.appending(path: "images/1.png"))
    #expect(cut.width == side && cut.height == side)
    for (x, y) in [(0, 0), (side - 1, side - 1), (7, 31)] {
      #expect(cut[x, y] == whole[whole.width / 4 + x, whole.height / 2 + y])
    }
    let read = try TrainingImages(folder: place.appending(path: "images"), side: 128, crop: true)
    #expect(read.examples.count == 5 && read.examples[0].mask != nil && read.examples[1].mask == nil)
    let square = try studio.ask("GET", "/api/concepts/\(id)/pictures/1")
    #expect(try Image.decode(square.body, name: "square") == read.examples[0].image)
    // The upper half is left out.
    let seen = try #require(read.examples[0].mask)
    #expect(seen[5, 5] == Colour(0, 0, 0) && seen[5, 120] == Colour(255, 255, 255))

    // Turned clockwise: what was at the lower left is at the upper left.
    #expect(try put(#"{"x": 0, "y": 0, "side": 1, "quarters": 1}"#, id, studio).status == 200)
    let turned = try Image.load(place.appending(path: "images/1.png"))
    #expect(turned[0, 0] == whole[0, whole.height - 1])
    #expect(!FileManager.default.fileExists(atPath: place.appending(path: "images/1-masklabel.png").path))
    let shown = try studio.ask("GET", "/api/concepts/\(id)/pictures/1/original?quarters=1")
    #expect(try Image.decode(shown.body, name: "shown") == turned)

    // As it came.
    #expect(try put("null", id, studio).status == 200)
    #expect(try Data(contentsOf: place.appending(path: "images/1.jpg")) == original)
    #expect(!FileManager.default.fileExists(atPath: place.appending(path: "images/1.png").path))
    #expect(try studio.concepts()[0].pictures[0].number == 1)
  }

  @Test(
    "refuses what is no square of the picture",
    arguments: [
      (#"{"x": -1, "y": 0, "side": 0.5, "quarters": 0}"#, "the square reaches beyond the picture"),
      (#"{"x": 0.6, "y": 0, "side": 0.5, "quarters": 0}"#, "the square reaches beyond the picture"),
      (#"{"x": 0, "y": 0, "side": 2, "quarters": 0}"#, "this is no square of the picture"),
      (#"{"x": 0, "y": 0, "side": 0, "quarters": 0}"#, "this is no square of the picture"),
      (
        #"{"x": 0, "y": 0, "side": 0.0001, "quarters": 0}"#,
        "the square is 1 pixels wide; at least 32 are needed"
      ),
      (#"{"x": 1e300, "y": 0, "side": 0.5, "quarters": 0}"#, "this is no square of the picture"),
      (#"{"x": 0, "y": 0, "side": 0.5, "quarters": 4}"#, "a picture is turned 0 to 3 times"),
      (#"{"x": 0, "y": 0, "side": 0.5, "quarters": -1}"#, "a picture is turned 0 to 3 times"),
      (
        #"{"x": 0, "y": 0, "side": 0.5, "quarters": 0, "mask": "no base64!"}"#,
        "the mask must be an image in Base64, of at most 1024 KiB"
      ),
      (
        #"{"x": 0, "y": 0, "side": 0.5, "quarters": 0, "mask": "aGVsbG8="}"#,
        "the mask: not a JPEG, PNG or WebP image"
      ),
      (#"{"x": "0", "y": 0, "side": 0.5, "quarters": 0}"#, "what the page sent cannot be read"),
      (#"{"side": 0.5}"#, "what the page sent cannot be read"),
    ])
  func hostileParts(_ part: String, _ words: String) throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let response = try put(part, id, studio)
    #expect([400, 422].contains(response.status) && response.text.hasPrefix(words), "\(response.text)")
    #expect(try put("null", id, studio, number: 99).status == 404)
    #expect(try studio.ask("GET", "/api/concepts/\(id)/pictures/1/original?quarters=9").status == 400)
    let images = studio.scratch.folder.appending(path: "studio/concepts/\(id)/images")
    #expect(try FileManager.default.contentsOfDirectory(atPath: images.path).count == 5)
  }

  @Test("refuses masks that are damaged, oblong, too large, or leave nothing")
  func hostileMasks() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    func answer(_ mask: Data) throws -> Client.Response {
      let part = #"{"x": 0, "y": 0, "side": 1, "quarters": 0, "mask": "\#(mask.base64EncodedString())"}"#
      return try put(part, id, studio)
    }
    func status(_ mask: Data) throws -> Int { try answer(mask).status }
    let good = try #require(Data(base64Encoded: mask(64, black: 0..<10)))
    #expect(try status(good) == 200)
    for (width, height, grey, words) in [
      (64, 32, 255, "the mask is 64×32, and must be a square of at most 1024 pixels a side"),
      (64, 64, 0, "nothing is left to learn from: the brush has covered all of the square"),
      (2000, 2000, 255, "the mask is 2000×2000, and must be a square of at most 1024 pixels a side"),
    ] as [(Int, Int, UInt8, String)] {
      let refused = try answer(
        Data(Image(width: width, height: height, colour: Colour(grey, grey, grey)).png()))
      #expect(refused.status == 422 && refused.line == words, "\(refused.text)")
    }
    for mutation in Mutations(of: good, count: 60, seed: 16) {
      #expect(try [200, 400, 422].contains(status(mutation)))
    }
    #expect(try put(#"{"mask": "\#(String(repeating: "A", count: 3 << 20))"}"#, id, studio).status == 413)
    #expect(try studio.ask("GET", "/").status == 200)
  }

  @Test("says that a picture looks blurred, and not of a sharp one")
  func blurred() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    #expect(try studio.concepts()[0].pictures.allSatisfy { $0.note == nil })
    let sharp = try Image.load(Fixtures.examples.appending(path: "starmug/1.jpg"))
    let blurred = try sharp.resized(width: 20, height: 20).resized(width: 256, height: 256)
    #expect(
      try studio.ask("POST", "/api/concepts/\(id)/pictures?name=soft.png", Data(blurred.png())).status == 200)
    #expect(try studio.concepts()[0].pictures[5].note == "it looks blurred; a sharper one teaches more")
  }

  @Test("a number that was removed does not come again, and what a crash left is not learned")
  func numbers() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let path = "/api/concepts/\(id)/pictures"
    #expect(try studio.ask("DELETE", path + "/5").status == 200)
    let other = try Data(contentsOf: Fixtures.examples.appending(path: "starmug/1.jpg"))
    #expect(try studio.ask("POST", path + "?name=a.jpg", other).status == 200)
    #expect(try studio.concepts()[0].pictures.map(\.number) == [1, 2, 3, 4, 6])

    // A kill between a picture and the list of pictures leaves such files.
    let folder = studio.scratch.folder.appending(path: "left")
    try FileManager.default.copyItem(at: studio.scratch.folder.appending(path: "studio"), to: folder)
    let images = folder.appending(path: "concepts/\(id)/images")
    try other.write(to: images.appending(path: "7.jpg"))
    try Data("a {} that nobody sees".utf8).write(to: images.appending(path: "1.txt"))
    try Data("x".utf8).write(to: images.appending(path: ".neti-123.tmp"))
    let next = try TestStudio { $0.folder = folder }
    let names = try FileManager.default.contentsOfDirectory(atPath: images.path).sorted()
    #expect(names == ["1.jpg", "2.jpg", "3.jpg", "4.jpg", "6.jpg"])
    #expect(try next.ask("POST", path + "?name=b.jpg", other).status == 409)
  }

  @Test(
    "nothing is learned where something stays that would be learned, too",
    .enabled(if: FileManager.default.fileExists(atPath: "/proc/self/fdinfo"), "there is no /proc"))
  func stays() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let squares = studio.place(id).appending(path: "squares")
    try FileManager.default.removeItem(at: squares)
    // Nobody can remove what lies there.
    try FileManager.default.createSymbolicLink(
      at: squares, withDestinationURL: URL(filePath: "/proc/self/fdinfo"))
    let response = try studio.ask(
      "POST", "/api/concepts/\(id)/learn", json: #"{"title": "one", "kind": "cat", "quality": "quick"}"#)
    #expect(
      response.status == 422
        && response.line.hasSuffix(" cannot be removed; check the permissions of the studio's folder"),
      "\(response.text)")
    #expect(try studio.concepts()[0].progress.state == "pictures")
  }

  @Test("two who change one concept at once both succeed")
  func together() async throws {
    let studio = try TestStudio()
    let id = try studio.example()
    // Titles from one, captions from the other; none may undo the other's.
    let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
      for n in 1...5 {
        let ask = studio.asker()
        let caption = "/api/concepts/\(id)/pictures/\(n)/caption"
        group.addTask { try ask("PUT", caption, "{\"caption\": \"a {} \(n)\"}") }
        group.addTask { try ask("PUT", "/api/concepts/\(id)/title", "{\"title\": \"Title \(n)\"}") }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(statuses == [Int](repeating: 200, count: 10))
    #expect(try studio.concepts()[0].pictures.map(\.caption) == (1...5).map { "a {} \($0)" })
  }
}
