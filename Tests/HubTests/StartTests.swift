import Foundation
import Hub
import TestSupport
import Testing

@Suite("The first bytes of a file")
struct StartTests {
  private func start(_ desk: Desk, _ path: String = Desk.weights, bytes count: Int = 100) throws -> [UInt8]? {
    let download = try desk.download()
    return try download.start(of: #require(download.list.file(path)), bytes: count)
  }

  /// Answers the store's requests otherwise.
  private func change(_ desk: Desk, _ reply: @escaping @Sendable (LoopbackHub.Reply) -> LoopbackHub.Reply) {
    let store = desk.hub.store.port
    desk.hub.change { request, sound in request.port == store ? reply(sound) : nil }
  }

  @Test("come without the others, of files in git too, and nothing is kept or counted")
  func first() throws {
    let desk = try Desk()
    for (path, count) in [
      (Desk.weights, 1), (Desk.weights, 100_000), (Desk.weights, 300_000), (Desk.config, 8),
    ] {
      let data = try #require(desk.hub.files[path]?.data)
      #expect(try start(desk, path, bytes: count) == Array(data.prefix(count)))
    }
    #expect(desk.ranges == ["bytes=0-0", "bytes=0-99999", "bytes=0-299999"])
    #expect(desk.hub.store.sent <= 1 + 100_000 + 300_000)
    #expect(desk.received == 0 && desk.blobs.isEmpty)
    #expect(!FileManager.default.fileExists(atPath: desk.scratch.file("hub").path))
  }

  @Test("are none where a server sends something else, and the connection ends there")
  func others() throws {
    // More than a connection takes in advance.
    let much = Data(count: 64 << 20)
    let replies: [@Sendable (LoopbackHub.Reply) -> LoopbackHub.Reply] = [
      { _ in .init(200, ["Accept-Ranges": "bytes"], much) },
      { sound in .init(206, sound.headers, much) },
      { sound in
        var reply = LoopbackHub.Reply(206, sound.headers, much)
        reply.length = -1
        return reply
      },
      { sound in .init(206, sound.headers, sound.body.prefix(99)) },
      { sound in .init(206, [:], sound.body) },
      { sound in .init(206, ["Content-Range": "bytes 1-100/300000"], sound.body) },
      { sound in .init(206, ["Content-Range": "bytes 0-99/300001"], sound.body) },
      { sound in .init(206, ["Content-Range": "bytes 0-100/300000"], sound.body) },
      { _ in .init(416) }, { _ in .init(204) }, { _ in .init(403) }, { _ in .init(404) },
      { _ in .init(302, ["Location": "file:///etc/passwd"]) },
    ]
    for (i, reply) in replies.enumerated() {
      let desk = try Desk()
      change(desk, reply)
      #expect(try start(desk) == nil, "\(i)")
      #expect(desk.ranges.count == 1 && desk.pauses.isEmpty, "\(i)")
      #expect(desk.hub.store.sent < 32 << 20, "\(i): \(desk.hub.store.sent)")
      // The file itself comes as ever.
      desk.hub.change { _, reply in reply }
      try desk.fetch()
      #expect(desk.isRight(Desk.weights), "\(i)")
    }
    let desk = try Desk()
    change(desk) { sound in .init(206, ["Content-Range": "bytes 0-99/*"], sound.body) }
    #expect(try start(desk)?.count == 100)
  }

  @Test("are asked for once, also where a server is busy or the line is cut: the download waits, not this")
  func once() throws {
    for isCut in [true, false] {
      let desk = try Desk()
      change(desk) { sound in
        var reply = isCut ? sound : .init(503)
        reply.cut = isCut ? 50 : nil
        return reply
      }
      #expect(try start(desk) == nil)
      #expect(desk.ranges.count == 1 && desk.pauses.isEmpty)
    }
  }
}
