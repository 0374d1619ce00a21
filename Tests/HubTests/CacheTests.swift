import Files
import Foundation
import Hub
import Synchronization
import TestSupport
import Testing

@Suite("The cache")
struct CacheTests {
  private let files = FileManager.default

  /// Two revisions that share the weights.
  private func two() throws -> (Desk, second: String) {
    let desk = try Desk()
    try desk.fetch()
    let second = String(repeating: "e", count: 40)
    let folder = desk.repository.appending(path: "snapshots/\(second)/unet")
    try files.createDirectory(at: folder, withIntermediateDirectories: true)
    try files.createSymbolicLink(
      atPath: folder.appending(path: "diffusion_pytorch_model.safetensors").path,
      withDestinationPath: "../../../blobs/\(desk.blob(Desk.weights).lastPathComponent)")
    try Data(second.utf8).write(to: desk.repository.appending(path: "refs/v2"))
    return (desk, second)
  }

  @Test("lists every revision with its names, size and whether it is whole")
  func list() throws {
    let (desk, second) = try two()
    let models = desk.cache.models()
    #expect(models.map(\.commit) == [desk.commit, second])
    #expect(models.map(\.references) == [["main"], ["v2"]])
    #expect(models.map(\.size) == [300_008, 300_000])
    #expect(models.allSatisfy { $0.isWhole && $0.name.id == "org/mini" && $0.lastUsed != nil })
    try files.removeItem(at: desk.blob(Desk.weights))
    #expect(desk.cache.models().allSatisfy { !$0.isWhole })
    #expect(HubCache(desk.scratch.file("nothing")).models().isEmpty)
    #expect(desk.cache.models(try #require(RepositoryName("org/mini@v2"))).map(\.commit) == [second])
    // As a list shows a commit, so it can be named, unless it is too short to be one.
    for (text, count) in [("eeeeeeeeeeee", 1), ("eeee", 0), ("eeeeeeez", 0)] {
      let name = try #require(RepositoryName("org/mini@\(text)"))
      #expect(desk.cache.models(name).count == count, "\(text)")
      #expect(try desk.cache.snapshot(of: name)?.lastPathComponent == (count == 1 ? second : nil))
    }
    #expect((desk.cache.size(of: desk.name) ?? 0) > 0)
  }

  @Test("removes one revision with the blobs that no other uses, and then the rest")
  func remove() throws {
    let (desk, second) = try two()
    let main = try #require(RepositoryName("org/mini@main"))
    #expect(try desk.cache.remove(main) > 0)
    #expect(desk.blobs == [desk.blob(Desk.weights).lastPathComponent])
    #expect(try desk.cache.snapshot(of: main) == nil)
    #expect(try desk.cache.snapshot(of: #require(RepositoryName("org/mini@v2")))?.lastPathComponent == second)
    #expect(!files.fileExists(atPath: desk.repository.path + "/trees/\(desk.commit).json"))
    #expect(refusal { try desk.cache.remove(main) }?.message.contains("is not in") == true)
    #expect(try desk.cache.remove(try #require(RepositoryName("org/mini@\(second)"))) == 300_000 + 40)
    #expect(!files.fileExists(atPath: desk.repository.path))
    #expect(!files.fileExists(atPath: desk.scratch.file("hub/.locks/models--org--mini").path))
    #expect(refusal { try desk.cache.remove(desk.name) }?.message.contains("org/mini is not in") == true)
  }

  @Test("removes nothing behind a link, and nothing that is being fetched")
  func linked() throws {
    for part in ["", "/blobs", "/snapshots", "/refs", "/trees", "/../.locks", "/../.locks/models--org--mini"]
    {
      let desk = try Desk()
      try desk.fetch()
      let place = URL(filePath: desk.repository.path + part).standardizedFileURL
      let away = desk.scratch.file("away")
      try files.moveItem(at: place, to: away)
      try files.createSymbolicLink(at: place, withDestinationURL: away)
      let before = try files.subpathsOfDirectory(atPath: away.path).sorted()
      #expect(
        refusal { try desk.cache.remove(desk.name) }?.message.contains("leads elsewhere") == true, "\(part)")
      #expect(try files.subpathsOfDirectory(atPath: away.path).sorted() == before)
    }
    // Between two files of a download no lock of a file is held; that of the folder is.
    let between = try Desk()
    let download = try between.download()
    try download.fetch(try #require(download.list.file(Desk.config)))
    #expect(refusal { try between.cache.remove(between.name) }?.message.contains("being fetched") == true)
    try withExtendedLifetime(download) { try download.fetch(download.list.files) }
    #expect(between.isRight(Desk.weights))
    // A blob that is a link, as the library's store of shared blobs makes them, and a link out of the snapshot.
    let desk = try Desk()
    try desk.fetch()
    let victim = try desk.scratch.file(Data("mine".utf8), "victim")
    for place in [
      desk.blob(Desk.weights), desk.repository.appending(path: "snapshots/\(desk.commit)/unet/out"),
    ] {
      try? files.removeItem(at: place)
      try files.createSymbolicLink(at: place, withDestinationURL: victim)
    }
    let lock = try FileLock(desk.scratch.file("hub/.locks/models--org--mini/x.lock")) {}
    #expect(refusal { try desk.cache.remove(desk.name) }?.message.contains("being fetched") == true)
    #expect(files.fileExists(atPath: desk.repository.path))
    withExtendedLifetime(lock) {}
    #expect(files.fileExists(atPath: victim.path))
  }

  @Test("what is removed leaves what links lead to")
  func victims() throws {
    let desk = try Desk()
    try desk.fetch()
    let victim = try desk.scratch.file(Data("mine".utf8), "victim")
    try files.removeItem(at: desk.blob(Desk.weights))
    try files.createSymbolicLink(at: desk.blob(Desk.weights), withDestinationURL: victim)
    _ = try desk.cache.remove(desk.name)
    #expect(!files.fileExists(atPath: desk.repository.path))
    #expect(try Data(contentsOf: victim) == Data("mine".utf8))
  }

  @Test("one lock at a time: the second waits, and says so once")
  func locks() throws {
    let desk = try Desk()
    try desk.begin(Desk.weights, Data())
    try files.createDirectory(
      at: desk.scratch.file("hub/.locks/models--org--mini"), withIntermediateDirectories: true)
    let place = desk.scratch.file(
      "hub/.locks/models--org--mini/\(desk.blob(Desk.weights).lastPathComponent).lock")
    // A process of another kind that holds it, as the Python library would.
    let holder = Process()
    holder.executableURL = URL(filePath: "/bin/sh")
    holder.arguments = ["-c", "exec 9>\"$0\"; flock 9; echo held; read line", place.path]
    let (input, output) = (Pipe(), Pipe())
    (holder.standardInput, holder.standardOutput) = (input, output)
    try holder.run()
    #expect(output.fileHandleForReading.availableData == Data("held\n".utf8))
    #expect(try FileLock.ifFree(place) == nil)
    let waits = Mutex(0)
    let hub = desk.hub
    let settings = try desk.settings()
    let client = try HubClient(settings) { _ in
    } listener: { event in
      guard case .waitsForAnother = event else { return }
      waits.withLock { $0 += 1 }
      #expect(hub.requests.allSatisfy { $0.port == hub.hub.port })
      try? input.fileHandleForWriting.close()
    }
    let download = try SnapshotDownload(desk.name, from: client, into: desk.cache)
    try download.fetch(download.list.files)
    #expect(waits.withLock { $0 } == 1 && desk.isRight(Desk.weights))
    holder.waitUntilExit()
    #expect(try FileLock.ifFree(place) != nil)
  }

  @Test("a reference that holds no commit is refused")
  func references() throws {
    let desk = try Desk()
    try desk.fetch()
    for text in ["../../../etc", "", "main", String(repeating: "a", count: 65)] {
      try Data(text.utf8).write(to: desk.repository.appending(path: "refs/main"))
      #expect(
        refusal { try desk.cache.snapshot(of: desk.name) }?.message.contains("does not hold a revision")
          == true)
    }
  }
}
