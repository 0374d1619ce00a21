import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct ImageFolderTests {
  @Test func imagesComeInNaturalOrderAndOthersAreReported() throws {
    let scratch = try Scratch()
    let image = Data(try noise(2, 2).png())
    for name in ["10.png", "2.png", "B1.png", "a3.png", ".hidden.png", "noending", "02.jpg"] {
      try image.write(to: scratch.folder.appending(path: name))
    }
    for name in ["2.txt", "recipe.json", "movie.gif", ".DS_Store"] {
      try Data("text".utf8).write(to: scratch.folder.appending(path: name))
    }
    try FileManager.default.createDirectory(
      at: scratch.folder.appending(path: "more"), withIntermediateDirectories: true)
    let list = try ImageFolder.list(scratch.folder)
    #expect(
      list.images.map(\.lastPathComponent) == ["02.jpg", "2.png", "10.png", "a3.png", "B1.png", "noending"])
    #expect(list.warnings.count == 2)
    #expect(list.warnings.first?.contains("more: not a file; left out") == true)
    #expect(list.warnings.last?.contains("movie.gif: not a JPEG, PNG or WebP image; left out") == true)
  }

  @Test func aFolderWithoutImagesIsAnError() throws {
    let scratch = try Scratch()
    try Data("text".utf8).write(to: scratch.folder.appending(path: "movie.gif"))
    let text = message { _ = try ImageFolder.list(scratch.folder) }
    #expect(text?.contains("no JPEG, PNG or WebP image in this folder, only 1 other file") == true)
  }

  @Test func whatIsNoFolderIsAnError() throws {
    let scratch = try Scratch()
    let file = scratch.folder.appending(path: "x")
    try Data().write(to: file)
    #expect(message { _ = try ImageFolder.list(file) }?.contains("not a folder") == true)
    let missing = scratch.folder.appending(path: "missing")
    #expect(message { _ = try ImageFolder.list(missing) }?.contains("there is no such folder") == true)
  }

  @Test func linksToImagesAreFollowed() throws {
    let scratch = try Scratch()
    try FileManager.default.createSymbolicLink(
      at: scratch.folder.appending(path: "link.png"), withDestinationURL: Fixtures.url("imaging/rgb8.png"))
    try FileManager.default.createSymbolicLink(
      at: scratch.folder.appending(path: "broken.png"), withDestinationURL: URL(filePath: "/nowhere"))
    let list = try ImageFolder.list(scratch.folder)
    #expect(list.images.map(\.lastPathComponent) == ["link.png"])
    #expect(list.warnings.count == 1)
  }
}
