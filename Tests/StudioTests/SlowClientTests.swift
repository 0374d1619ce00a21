import Foundation
import Imaging
import Studio
import TestSupport
import Testing

/// Clients that take their time are cut off, and others are served meanwhile.
@Suite("The studio and slow clients", .serialized)
struct SlowClientTests {
  /// A studio with little patience.
  private func hasty() throws -> TestStudio {
    try TestStudio {
      $0.deadlines.head = .seconds(1)
      $0.deadlines.body = .seconds(1)
      ($0.deadlines.large, $0.deadlines.piece) = (.seconds(2), .seconds(1))
      $0.deadlines.event = .seconds(1)
    }
  }

  private func request(_ studio: TestStudio, _ method: String, _ path: String, length: Int) -> String {
    "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(studio.port)\r\nCookie: \(studio.cookie)\r\n"
      + "Origin: http://127.0.0.1:\(studio.port)\r\nContent-Type: application/json\r\n"
      + "Content-Length: \(length)\r\n\r\n"
  }

  /// Sends a byte every now and then until the studio has enough of it; others are served. The seconds that it took.
  private func drip(_ studio: TestStudio, _ client: Client, _ text: String) throws -> Double {
    let start = ContinuousClock.now
    var served = 0
    for byte in text.utf8 {
      guard ContinuousClock.now - start < .seconds(60), !client.isClosed, client.send([byte]) else { break }
      #expect(try studio.ask("GET", "/api/studio").status == 200)
      served += 1
      Thread.sleep(forTimeInterval: 0.05)
    }
    #expect(served > 3)
    return (ContinuousClock.now - start) / .seconds(1)
  }

  @Test("a head that comes drop by drop")
  func head() throws {
    let studio = try hasty()
    let client = try Client(port: studio.port)
    let seconds = try drip(studio, client, "GET / HTTP/1.1\r\nX: " + String(repeating: "a", count: 5000))
    #expect((0.9..<20).contains(seconds), "\(seconds) s")
    let answer = client.receive()
    #expect(answer.status == 408 && answer.line == "the client is too slow", "\(answer.text)")
  }

  @Test("a body that never ends", arguments: ["/api/concepts", "/api/settings"])
  func body(_ path: String) throws {
    let studio = try hasty()
    let client = try Client(port: studio.port)
    client.send(request(studio, "POST", path, length: 60_000))
    let seconds = try drip(studio, client, String(repeating: " ", count: 60_000))
    // That of a file may take longer, as long as it moves.
    #expect(((path == "/api/settings" ? 1.9 : 0.9)..<20).contains(seconds), "\(seconds) s")
    let answer = client.receive()
    #expect(answer.status == 408 && answer.line == "the client is too slow", "\(answer.text)")
  }

  @Test("a file that stands still")
  func stands() throws {
    let studio = try hasty()
    let client = try Client(port: studio.port)
    let start = ContinuousClock.now
    client.send(request(studio, "POST", "/api/settings", length: 60_000) + "half")
    let answer = client.receive()
    let seconds = (ContinuousClock.now - start) / .seconds(1)
    #expect(answer.status == 408 && (0.9..<1.9).contains(seconds), "\(seconds) s, \(answer.text)")
  }

  @Test("files that stand still hold up few others, which are told so")
  func turns() throws {
    let studio = try TestStudio {
      ($0.deadlines.turn, $0.deadlines.piece) = (.milliseconds(300), .seconds(2))
    }
    let clients = try (0..<4).map { _ in
      let client = try Client(port: studio.port)
      client.send(request(studio, "POST", "/api/settings", length: 60_000) + "half")
      return client
    }
    let answers = clients.map { $0.receive() }
    #expect(answers.allSatisfy { [408, 429].contains($0.status) })
    let refused = answers.filter { $0.status == 429 }
    #expect(refused.count >= 2)
    #expect(refused.allSatisfy { $0.line == "other files are still being read; try again in a moment" })
  }

  @Test("one that does not read what it asked for")
  func reader() throws {
    let scratch = try Scratch()
    // More than the system keeps for a client: noise does not compress.
    var random = SystemRandomNumberGenerator()
    let pixels = (0..<3 * 1600 * 1600).map { _ in UInt8.random(in: 0...255, using: &random) }
    let image = try Data(Image(width: 1600, height: 1600, pixels: pixels).png(text: [("prompt", "noise")]))
    let folder = scratch.folder.appending(path: "studio")
    for inner in ["concepts", "images", "trash"] {
      try FileManager.default.createDirectory(
        at: folder.appending(path: inner), withIntermediateDirectories: true)
    }
    try image.write(to: folder.appending(path: "images/abc.png"))
    let studio = try TestStudio {
      ($0.folder, $0.deadlines.body, $0.deadlines.event) = (folder, .seconds(1), .seconds(1))
    }
    #expect(try studio.ask("GET", "/api/images/abc").body == image)

    let client = try Client(port: studio.port, buffer: 64 << 10)
    client.send(request(studio, "GET", "/api/images/abc", length: 0))
    let start = ContinuousClock.now
    while ContinuousClock.now - start < .seconds(4) {
      #expect(try studio.ask("GET", "/api/studio").status == 200)
      Thread.sleep(forTimeInterval: 0.1)
    }
    let end = ContinuousClock.now
    #expect(client.receive().body.count < image.count, "it was served to its end")
    // A client waits for 20 seconds where nobody has closed.
    #expect(ContinuousClock.now - end < .seconds(15), "it was not cut off")
  }
}
