import Files
import Foundation
import Hub
import Synchronization
import TestSupport
import Testing

@Suite("A download from the Hub")
struct DownloadTests {
  @Test("puts every file where huggingface_hub looks for it")
  func whole() throws {
    let desk = try Desk(pageSize: 2)
    try desk.fetch()
    for path in desk.hub.files.keys { #expect(desk.isRight(path), "\(path)") }
    let root = desk.repository.path
    let files = FileManager.default
    #expect(
      try files.destinationOfSymbolicLink(atPath: "\(root)/snapshots/\(desk.commit)/\(Desk.config)")
        == "../../../blobs/\(desk.blob(Desk.config).lastPathComponent)")
    #expect(
      try files.destinationOfSymbolicLink(atPath: "\(root)/snapshots/\(desk.commit)/empty.txt")
        == "../../blobs/e69de29bb2d1d6434b8b29ae775ad8c2e48c5391")
    #expect(try String(contentsOfFile: "\(root)/refs/main", encoding: .utf8) == desk.commit)
    #expect(desk.blobs == desk.hub.files.values.map(\.blobName).sorted())
    #expect(files.fileExists(atPath: desk.scratch.file("hub/CACHEDIR.TAG").path))
    #expect(try desk.cache.snapshot(of: desk.name)?.lastPathComponent == desk.commit)
    // The list had two pages, and nothing that is here is asked for again.
    #expect(desk.hub.requests.filter { $0.path.contains("/tree/") }.count == 2)
    #expect(desk.received == desk.hub.files.values.reduce(0) { $0 + $1.data.count })
    desk.hub.change { _, reply in reply }
    try desk.fetch()
    #expect(desk.hub.requests.allSatisfy { $0.path.hasPrefix("/api/") })
  }

  @Test("of a commit or a branch by its name writes the reference that it asked for")
  func revisions() throws {
    let desk = try Desk()
    let byCommit = try #require(RepositoryName("org/mini@\(desk.commit)"))
    try desk.download(byCommit).fetch(desk.download(byCommit).list.files)
    #expect(!FileManager.default.fileExists(atPath: desk.repository.path + "/refs"))
    #expect(try desk.cache.snapshot(of: byCommit) != nil)
    let none = refusal { try desk.download(RepositoryName("org/mini@v9")) }?.message ?? ""
    #expect(none.contains("org/mini has no revision “v9”"))
    let other = refusal { try desk.download(RepositoryName("org/mino")) }?.message ?? ""
    #expect(other.contains("has no model org/mino, or it is private") && other.contains("HF_TOKEN"))
    let commit = desk.commit
    let branch = try #require(RepositoryName("org/mini@pr/4"))
    for (answer, shown) in [("{}", "nothing"), (#"{"sha": null}"#, "nothing"), (#"{"sha": "../x"}"#, "../x")]
    {
      desk.hub.change { request, _ in request.path.contains("/revision/") ? .init(json: answer) : nil }
      let said = refusal { try desk.download(branch) }?.message ?? ""
      #expect(said.contains(" says of org/mini@pr/4 has no commit but “\(shown)”"), "\(said)")
    }
    desk.hub.change { request, _ in
      request.path.contains("/revision/pr%2F4") ? .init(json: #"{"sha": "\#(commit)"}"#) : nil
    }
    try desk.download(branch).fetch([])
    #expect(try String(contentsOfFile: desk.repository.path + "/refs/pr/4", encoding: .utf8) == commit)
  }

  @Test("that is cut goes on where it was, again and again")
  func cut() throws {
    let desk = try Desk()
    let store = desk.hub.store.port
    desk.hub.change { request, reply in
      var reply = reply
      if request.port == store { reply.cut = 70_000 }
      return reply
    }
    try desk.fetch()
    #expect(desk.isRight(Desk.weights))
    #expect(desk.ranges.count > 3 && desk.ranges[0] == nil)
    #expect(desk.ranges.dropFirst().allSatisfy { $0?.hasPrefix("bytes=") == true })
    // Each attempt brought something, so none was the last.
    #expect(desk.pauses.allSatisfy { $0 == 1 })
    #expect(desk.received == desk.hub.files.values.reduce(0) { $0 + $1.data.count })
  }

  @Test("that brings nothing more ends after five attempts, keeps what it has, and goes on later")
  func stuck() throws {
    let desk = try Desk()
    let data = try #require(desk.hub.files[Desk.weights]?.data)
    try desk.begin(Desk.weights, data.prefix(100_000))
    let store = desk.hub.store.port
    desk.hub.change { request, reply in
      var reply = reply
      if request.port == store { reply.cut = 0 }
      return reply
    }
    #expect(desk.failure().contains("the same command goes on"))
    #expect(desk.pauses == [1, 2, 4, 8])
    #expect(try Data(contentsOf: desk.partial(Desk.weights)) == data.prefix(100_000))
    #expect(try desk.cache.snapshot(of: desk.name) == nil)
    desk.hub.change { _, reply in reply }
    try desk.fetch(Desk.weights)
    #expect(desk.ranges == ["bytes=100000-"] && desk.isRight(Desk.weights))
  }

  @Test("goes on from what another program left as .incomplete, whatever that is")
  func leftovers() throws {
    let data = Desk.noise(300_000)
    var wrong = Desk.noise(120_000, seed: 7)
    for (left, ranges) in [
      (data.prefix(1), ["bytes=1-"]), (data, []), (Data(), [nil]), (data + Data([0]), [nil]),
      (wrong, ["bytes=120000-", nil]),
    ] as [(Data, [String?])] {
      let desk = try Desk()
      try desk.begin(Desk.weights, left)
      try desk.fetch(Desk.weights)
      #expect(desk.isRight(Desk.weights) && desk.ranges == ranges, "\(left.count)")
      #expect(desk.blobs == [desk.blob(Desk.weights).lastPathComponent])
    }
    // The right length and wrong bytes.
    wrong = Desk.noise(300_000, seed: 8)
    let desk = try Desk()
    try desk.begin(Desk.weights, wrong)
    try desk.fetch(Desk.weights)
    #expect(desk.isRight(Desk.weights))
  }

  @Test("replaces a blob that is cut off, and follows no link where a partial file should be")
  func foreignBlobs() throws {
    let desk = try Desk()
    try desk.begin(Desk.weights, Data())
    try Desk.noise(10).write(to: desk.blob(Desk.weights))
    try desk.fetch(Desk.weights)
    #expect(desk.isRight(Desk.weights))
    let other = try Desk()
    try other.begin(Desk.weights, Data())
    let victim = try other.scratch.file(Data("mine".utf8), "victim")
    try FileManager.default.removeItem(at: other.partial(Desk.weights))
    try FileManager.default.createSymbolicLink(at: other.partial(Desk.weights), withDestinationURL: victim)
    #expect(other.failure().contains("cannot write"))
    #expect(try Data(contentsOf: victim) == Data("mine".utf8))
  }

  @Test("from a server that ignores ranges, or sends others, begins anew and is right")
  func ranges() throws {
    let data = Desk.noise(300_000)
    let replies: [@Sendable (LoopbackHub.Request) -> LoopbackHub.Reply?] = [
      { _ in .init(200, [:], data) },
      { $0.headers["range"] == nil ? nil : .init(206, ["Content-Range": "bytes 7-299999/300000"], data) },
      { $0.headers["range"] == nil ? nil : .init(206, [:], data) },
      { $0.headers["range"] == nil ? nil : .init(206, ["Content-Range": "bytes 1000-2/17"], data) },
      { $0.headers["range"] == nil ? nil : .init(416) },
    ]
    for (i, reply) in replies.enumerated() {
      let desk = try Desk()
      try desk.begin(Desk.weights, data.prefix(1000))
      let store = desk.hub.store.port
      desk.hub.change { request, _ in request.port == store ? reply(request) : nil }
      try desk.fetch(Desk.weights)
      #expect(desk.isRight(Desk.weights), "\(i)")
      #expect(desk.received == 299_000, "\(i)")
    }
  }

  @Test("does not lose what is here to the page of a network that wants a login")
  func loginPage() throws {
    let desk = try Desk()
    let data = Desk.noise(300_000)
    try desk.begin(Desk.weights, data.prefix(100_000))
    let store = desk.hub.store.port
    let asked = Mutex(0)
    desk.hub.change { request, _ in
      guard request.port == store else { return nil }
      let count = asked.withLock {
        $0 += 1
        return $0
      }
      return count == 1 ? .init(200, ["Content-Type": "text/html"], Data("<html>log in".utf8)) : nil
    }
    try desk.fetch(Desk.weights)
    #expect(desk.isRight(Desk.weights) && desk.ranges == ["bytes=100000-", "bytes=100000-"])
  }

  @Test("gives a name to nothing but the bytes that it hashed, whoever else writes there")
  func foreignWriter() throws {
    for replaces in [false, true] {
      let desk = try Desk()
      let (partial, store) = (desk.partial(Desk.weights), desk.hub.store.port)
      desk.hub.change { request, reply in
        guard request.port == store else { return nil }
        // As a program would that does not know the lock, or on a disk without locks.
        if replaces { try? FileManager.default.removeItem(at: partial) }
        try? Desk.noise(300_000, seed: 9).write(to: partial, options: replaces ? .atomic : [])
        return reply
      }
      if replaces {
        #expect(desk.failure().contains("another program changed the file while it was fetched"))
      } else {
        try desk.fetch(Desk.weights)
        #expect(desk.isRight(Desk.weights))
      }
      let blob = desk.blob(Desk.weights)
      if FileManager.default.fileExists(atPath: blob.path) {
        #expect(try Data(contentsOf: blob) == Desk.noise(300_000))
      }
    }
  }

  @Test("of wrong bytes is refused, in both kinds of hash, and nothing has the blob's name")
  func wrongBytes() throws {
    for path in [Desk.weights, Desk.config] {
      let desk = try Desk()
      let count = desk.hub.files[path]?.data.count ?? 0
      desk.hub.change { request, reply in
        guard !request.path.hasPrefix("/api"), reply.status == 200 else { return nil }
        var reply = reply
        reply.body = Desk.noise(count, seed: 99)
        return reply
      }
      let said = desk.failure(path)
      #expect(
        said.contains(
          "is not the file that the list names (\(path == Desk.weights ? "SHA-256" : "git SHA-1")"))
      #expect(desk.blobs.isEmpty)
      #expect(try desk.cache.snapshot(of: desk.name) == nil)
    }
  }

  @Test("that is longer or shorter than announced is refused")
  func lengths() throws {
    let longer = Desk.noise(300_000) + Data([1])
    let shorter = Desk.noise(300_000).prefix(299_999)
    for (body, length, words) in [
      (longer, nil, "more is sent"), (longer, -1, "more is sent"),
      (Desk.noise(300_000), 1 << 40, "more is sent"),
      // What is missing is asked for as a range, and that brings nothing.
      (shorter, nil, "cannot answer now (503)"), (shorter, -1, "cannot answer now (503)"),
      (shorter, 300_000, "cannot answer now (503)"),
    ] as [(Data, Int?, String)] {
      let desk = try Desk()
      let store = desk.hub.store.port
      desk.hub.change { request, _ in
        guard request.port == store else { return nil }
        // A later range brings nothing.
        var reply =
          request.headers["range"] == nil ? LoopbackHub.Reply(200, [:], body) : LoopbackHub.Reply(503)
        if request.headers["range"] == nil { reply.length = length }
        return reply
      }
      let said = desk.failure()
      #expect(said.contains(words), "\(said)")
      #expect(!desk.blobs.contains(desk.blob(Desk.weights).lastPathComponent))
    }
    // A length that no number beside it can hold, and what is here stays.
    for length in [Int.max, 1 << 40] {
      let desk = try Desk()
      try desk.begin(Desk.weights, Desk.noise(300_000).prefix(1000))
      let store = desk.hub.store.port
      desk.hub.change { request, reply in
        guard request.port == store else { return nil }
        var reply = reply
        reply.length = length
        return reply
      }
      #expect(desk.failure().contains("more is sent"))
      #expect(try Data(contentsOf: desk.partial(Desk.weights)).count == 1000)
    }
    // A length that says less than the bytes: what follows it is not read.
    let desk = try Desk()
    let store = desk.hub.store.port
    desk.hub.change { request, reply in
      guard request.port == store, request.headers["range"] == nil else { return nil }
      var reply = reply
      reply.length = 1000
      return reply
    }
    try desk.fetch(Desk.weights)
    #expect(desk.isRight(Desk.weights) && desk.ranges == [nil, "bytes=1000-"])
  }

  @Test("that never reaches the length of the list ends, though each attempt brings bytes")
  func neverWhole() throws {
    let desk = try Desk()
    let (hub, data) = (desk.hub.hub.port, Desk.noise(300_000))
    desk.hub.change { request, reply in
      guard request.port == hub, request.path.contains("/tree/") else {
        return request.path.hasPrefix("/lfs/") && request.headers["range"] == nil
          ? .init(200, [:], data) : nil
      }
      return .init(json: String(decoding: reply.body, as: UTF8.self).replacing("300000", with: "300001"))
    }
    #expect(desk.failure().contains("goes on"))
    #expect(desk.pauses.count < 6)
  }

  @Test("waits as long as a busy server asks, and not longer than five minutes")
  func busy() throws {
    let desk = try Desk()
    let asked = Mutex(0)
    desk.hub.change { _, _ in
      let count = asked.withLock {
        $0 += 1
        return $0
      }
      return switch count {
      case 1: .init(429, ["Retry-After": "7"])
      case 2: .init(429, ["Retry-After": "86400"])
      case 3: .init(503)
      case 4: .init(429, ["RateLimit": "\"api\";r=0;t=55"])
      default: nil
      }
    }
    try desk.fetch(Desk.config)
    #expect(desk.isRight(Desk.config))
    #expect(desk.pauses == [7, 300, 4, 56])
    desk.hub.change { _, _ in .init(429) }
    #expect(desk.failure().contains("limits how often it is asked (429); try again later"))
  }

  @Test("from a server that falls silent ends the wait")
  func silent() throws {
    let desk = try Desk()
    let store = desk.hub.store.port
    desk.hub.change { request, reply in
      guard request.port == store, request.headers["range"] == nil else { return nil }
      var reply = reply
      reply.pause = 20_000
      return reply
    }
    try desk.fetch(Desk.weights, ["HF_HUB_DOWNLOAD_TIMEOUT": "1"])
    #expect(desk.isRight(Desk.weights) && desk.ranges.count == 2)
  }

  @Test("from a server that is never silent and never done ends, in words")
  func slow() throws {
    let desk = try Desk()
    var settings = try desk.settings()
    settings.patience = 0
    let client = try HubClient(settings, pause: { _ in })
    let said = refusal { try SnapshotDownload(desk.name, from: client, into: desk.cache) }?.message ?? ""
    let words =
      "127.0.0.1:\(desk.hub.hub.port): the answer comes too slowly; check the network, or a proxy in"
    #expect(said.hasPrefix(words), "\(said)")
  }

  @Test("whose list gives one file two sizes is refused, when what is here is looked at")
  func twoSizes() throws {
    let data = Desk.noise(3210)
    let desk = try Desk(["a.safetensors": data, "b.safetensors": data])
    try desk.fetch()
    desk.hub.change { request, reply in
      guard request.path.contains("/tree/") else { return nil }
      let lines = String(decoding: reply.body, as: UTF8.self).components(separatedBy: ",\n")
      return .init(
        json: lines.map { $0.contains("a.safetensors") ? $0.replacing("3210", with: "3211") : $0 }
          .joined(separator: ",\n"))
    }
    let download = try desk.download()
    let said = refusal { try download.removeDamaged(of: download.list.files) }?.message ?? ""
    #expect(
      said
        == "\(desk.blob("a.safetensors").path) is whole, but the list names another size for “a.safetensors”; "
        + "the Hub or its mirror is at fault")
  }

  @Test("needs room on the disk")
  func room() throws {
    let desk = try Desk()
    let huge = 1 << 43
    desk.hub.change { request, reply in
      guard request.path.contains("/tree/") else { return nil }
      let text = String(decoding: reply.body, as: UTF8.self).replacing(
        "\"size\": 300000", with: "\"size\": \(huge)")
      return .init(json: text)
    }
    let download = try desk.download()
    let files = download.list.files.filter { $0.path == Desk.weights }
    let said = refusal { try download.requireRoom(for: files) }?.message ?? ""
    #expect(said.contains("org/mini needs 8.8 TB, and the disk of ") && said.contains("HF_HOME"))
    try download.requireRoom(for: download.list.files.filter { $0.path == Desk.config })
    #expect(desk.blobs.isEmpty && desk.scratch.contents.isEmpty)
  }

  @Test("of a file that the list names and the Hub lacks is noted as huggingface_hub notes it")
  func missingEntry() throws {
    let desk = try Desk()
    let commit = desk.commit
    desk.hub.change { request, _ in
      request.path.contains("/resolve/")
        ? .init(404, ["X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit]) : nil
    }
    #expect(desk.failure(Desk.config).contains("lists “unet/config.json” but does not have it"))
    #expect(
      FileManager.default.fileExists(atPath: desk.repository.path + "/.no_exist/\(commit)/\(Desk.config)"))
  }
}
