import Dispatch
import Files
import Foundation
import Synchronization
import TestSupport
import Testing

@Suite struct AtomicFileTests {
  @Test func `A file is replaced, and nothing else is left`() throws {
    let scratch = try Scratch()
    let url = scratch.folder.appending(path: "file")
    try AtomicFile.write(Data("one".utf8), to: url)
    try AtomicFile.write(Data("two".utf8), to: url)
    #expect(try Data(contentsOf: url) == Data("two".utf8))
    #expect(scratch.contents == ["file"])
  }

  @Test func `A write that fails names the file and leaves everything as it was`() throws {
    let scratch = try Scratch()
    let folder = scratch.folder.appending(path: "folder")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try Data("kept".utf8).write(to: folder.appending(path: "kept"))
    for url in [folder, scratch.folder.appending(path: "missing/file")] {
      let error = #expect(throws: FileError.self) { try AtomicFile.write(Data("x".utf8), to: url) }
      #expect(error?.message.contains(url.path) == true)
    }
    #expect(scratch.contents == ["folder"])
    #expect(try Data(contentsOf: folder.appending(path: "kept")) == Data("kept".utf8))
  }

  private func unfinished() -> String { ".neti-\(UUID().uuidString).tmp" }

  @Test func `What a process that is gone had not finished is removed by the next write`() throws {
    let scratch = try Scratch()
    let other = scratch.folder.appending(path: "other")
    try FileManager.default.createDirectory(at: other, withIntermediateDirectories: false)
    for _ in 0..<3 { _ = try scratch.file(Data("half".utf8), unfinished()) }
    _ = try scratch.file(Data("half".utf8), "other/" + unfinished())
    try AtomicFile.write(Data("x".utf8), to: scratch.file("file"))
    #expect(scratch.contents == ["file", "other"])
    try AtomicFile.write(Data("x".utf8), to: scratch.file("file"), by: other)
    #expect(try FileManager.default.contentsOfDirectory(atPath: other.path).isEmpty)
    // A write that fails has made room all the same.
    _ = try scratch.file(Data("half".utf8), unfinished())
    #expect(throws: FileError.self) { try AtomicFile.write(Data("x".utf8), to: other) }
    #expect(scratch.contents == ["file", "other"])
  }

  @Test func `What a living process writes stays, until that ends`() throws {
    let scratch = try Scratch()
    let name = unfinished()
    let descriptor = open(try scratch.file(Data("half".utf8), name).path, O_WRONLY)
    #expect(descriptor >= 0 && flock(descriptor, LOCK_EX | LOCK_NB) == 0)
    try AtomicFile.write(Data("x".utf8), to: scratch.file("file"))
    #expect(scratch.contents == [name, "file"])
    close(descriptor)
    try AtomicFile.write(Data("x".utf8), to: scratch.file("file"))
    #expect(scratch.contents == ["file"])
  }

  @Test func `What is not neti's by name and kind stays, and links are not followed`() throws {
    let scratch = try Scratch()
    let id = UUID().uuidString
    for name in [
      ".neti-A.tmp", ".neti-.tmp", ".neti-\(id)", ".neti-\(id).tmp.bak", "neti-\(id).tmp", ".neti-\(id)x.tmp",
    ] {
      _ = try scratch.file(Data("mine".utf8), name)
      #expect(!AtomicFile.isUnfinished(name))
    }
    let files = FileManager.default
    let mine = try scratch.file(Data("mine".utf8), "mine")
    try files.createSymbolicLink(at: scratch.file(unfinished()), withDestinationURL: mine)
    try files.createSymbolicLink(atPath: scratch.file(unfinished()).path, withDestinationPath: "nowhere")
    try files.linkItem(at: mine, to: scratch.file(unfinished()))
    try files.createDirectory(at: scratch.file(unfinished()), withIntermediateDirectories: false)
    #expect(mkfifo(scratch.file(unfinished()).path, 0o600) == 0)
    let before = scratch.contents
    #expect(before.count { AtomicFile.isUnfinished($0) } == 5)
    try AtomicFile.write(Data("x".utf8), to: scratch.file("file"))
    #expect(scratch.contents.filter { $0 != "file" } == before)
    #expect(try Data(contentsOf: mine) == Data("mine".utf8))
  }

  @Test func `Writers of one folder do not disturb each other`() throws {
    let scratch = try Scratch()
    let folder = scratch.folder
    let failures = Mutex(0)
    DispatchQueue.concurrentPerform(iterations: 8) { n in
      for round in 0..<200 {
        let data = Data(repeating: UInt8(n), count: 100 * round)
        do {
          let file = folder.appending(path: "\(n)")
          try AtomicFile.write(data, to: file)
          if try Data(contentsOf: file) != data { failures.withLock { $0 += 1 } }
        } catch {
          failures.withLock { $0 += 1 }
        }
      }
    }
    #expect(failures.withLock { $0 } == 0)
    #expect(scratch.contents == (0..<8).map(String.init))
  }
}
