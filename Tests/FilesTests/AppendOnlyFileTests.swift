import Files
import Foundation
import TestSupport
import Testing

@Suite struct AppendOnlyFileTests {
  @Test func `records are added at the end, also by a second owner`() throws {
    let folder = try Scratch()
    let url = folder.file("log")
    let first = try #require(try AppendOnlyFile(new: url))
    try first.append(Data("a\n".utf8))
    let second = try AppendOnlyFile(url)
    try second.append(Data("b\n".utf8))
    try first.append(Data("c\n".utf8))
    #expect(try Data(contentsOf: url) == Data("a\nb\nc\n".utf8))
    #expect(try AppendOnlyFile(new: url) == nil)
  }

  @Test func `a file that was removed or moved is an error, as the record would be lost`() throws {
    let folder = try Scratch()
    func expectLoss(_ change: (URL) throws -> Void) throws {
      let url = folder.file("log")
      let file = try AppendOnlyFile(url)
      try change(url)
      let error = #expect(throws: FileError.self) { try file.append(Data("a\n".utf8)) }
      #expect(error?.message == "cannot write log: it was removed or moved")
    }
    try expectLoss { try FileManager.default.removeItem(at: $0) }
    try expectLoss { try FileManager.default.moveItem(at: $0, to: folder.file("other")) }
    // Another file is in its place.
    try expectLoss {
      try FileManager.default.removeItem(at: $0)
      try Data("new".utf8).write(to: $0)
    }
  }

  #if os(Linux)
    @Test func `a full disk is an error in the system's words`() throws {
      let file = try AppendOnlyFile(URL(filePath: "/dev/full"))
      let error = #expect(throws: FileError.self) { try file.append(Data("a\n".utf8)) }
      #expect(error?.message == "cannot write full: No space left on device")
    }
  #endif
}
