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

  @Test func `a file that was removed is an error, as the record would be lost`() throws {
    let folder = try Scratch()
    let file = try AppendOnlyFile(folder.file("log"))
    try FileManager.default.removeItem(at: folder.file("log"))
    let error = #expect(throws: FileError.self) { try file.append(Data("a\n".utf8)) }
    #expect(error?.message == "cannot write log: it was removed")
  }

  #if os(Linux)
    @Test func `a full disk is an error in the system's words`() throws {
      let file = try AppendOnlyFile(URL(filePath: "/dev/full"))
      let error = #expect(throws: FileError.self) { try file.append(Data("a\n".utf8)) }
      #expect(error?.message == "cannot write full: No space left on device")
    }
  #endif
}
