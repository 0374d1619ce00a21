import Files
import Foundation
import Studio
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// What an attacker sends.
@Suite("The studio's server", .serialized)
struct ServerTests {
  @Test(
    "knows ids and no paths",
    arguments: [
      "/page/../../../etc/passwd", "/page/%2e%2e/%2e%2e/etc/passwd", "/page/..%2f..%2fetc%2fpasswd",
      "/page//etc/passwd", "//etc/passwd", "/api/images/..", "/api/images/%2e%2e", "/api/images/a/../b",
      "/api/concepts/../images", "/api/concepts/a%00b/pictures/1", "/api/concepts/ABC/file",
      "/api/images/concepts",
      "/api/concepts/ID/pictures/..", "/api/concepts/ID/pictures/99", "/api/concepts/ID/previews/1/1",
      "/api/concepts/ID/pictures/99999999999999999999",
    ])
  func traversal(_ path: String) throws {
    let studio = try TestStudio()
    let path = path.replacing("ID", with: try studio.example())
    let response = try studio.ask("GET", path)
    #expect([404, 422].contains(response.status), "\(response.status)")
    #expect(!response.text.contains("root:") && !response.text.contains(studio.scratch.folder.path))
  }

  @Test(
    "refuses what is no plain request, and goes on",
    arguments: [
      ("\r\n\r\n", 400), ("GET\r\n\r\n", 400), ("GET / HTTP/2.0\r\n\r\n", 400),
      ("get / HTTP/1.1\r\n\r\n", 400),
      ("GET http://evil.example/ HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nHost: HOST\r\nHost: HOST\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
      ("GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", 400), ("GET /?a=1&a=2 HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
      ("GET /?%zz HTTP/1.1\r\nHost: HOST\r\n\r\n", 400),
      ("POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411),
      ("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\r\n\r\n", 400),
    ])
  func malformed(_ text: String, status: Int) throws {
    let studio = try TestStudio()
    let client = try Client(port: studio.port)
    client.send(text.replacing("HOST", with: "127.0.0.1:\(studio.port)"))
    let response = client.receive()
    let words = status == 411 ? "a body needs a Content-Length" : "this is no plain HTTP/1.1 request"
    #expect(response.status == status && response.text.hasPrefix(words), "\(response.text)")
    #expect(try studio.ask("GET", "/").status == 200)
  }

  @Test("refuses a head that is no text")
  func binary() throws {
    let studio = try TestStudio()
    let client = try Client(port: studio.port)
    client.send(Array("GET /".utf8) + [0xFF, 0xFE] + Array(" HTTP/1.1\r\n\r\n".utf8))
    let response = client.receive()
    #expect(
      response.status == 400
        && response.line == "this is no plain HTTP/1.1 request, which is all that the studio reads")
  }

  @Test("goes on when lines break amid a request")
  func brokenLines() throws {
    let studio = try TestStudio()
    for start in ["", "GET / HTTP/1.1\r\nHost: 127"] {
      do {
        let client = try Client(port: studio.port)
        client.send(start)
        client.breaksOff()
      }
      #expect(try studio.ask("GET", "/api/studio").status == 200)
    }
  }

  @Test("refuses heads and bodies that are too large, or never end")
  func oversized() throws {
    let studio = try TestStudio()
    let client = try Client(port: studio.port)
    client.send("GET / HTTP/1.1\r\n")
    var sent = 0
    while sent < 4 << 20, client.send("X-\(sent): " + String(repeating: "a", count: 1000) + "\r\n") {
      sent += 1000
    }
    #expect(sent < 4 << 20, "the head was read without end")

    let id = try studio.example()
    for length in ["99999999999", "99999999999999999999999"] {
      let huge = try studio.ask("POST", "/api/concepts/\(id)/pictures", headers: ["Content-Length": length])
      #expect(huge.status == 413 && huge.text.hasPrefix("that is too large: at most"), "\(huge.text)")
    }
    for length in ["-1", "1e3", "0x10", "1,1", ""] where !length.isEmpty {
      #expect(try studio.ask("POST", "/api/concepts", headers: ["Content-Length": length]).status == 400)
    }
    #expect(try studio.ask("POST", "/api/concepts", Data(repeating: 32, count: 100_000)).status == 413)

    // A body beyond what was announced is not a second request.
    let smuggling = Data("{}GET /api/studio HTTP/1.1\r\n\r\n".utf8)
    let response = try studio.ask("POST", "/api/concepts", smuggling, headers: ["Content-Length": "2"])
    #expect(response.status == 200 && !response.text.contains("HTTP/1.1"))

    // A body that ends early.
    let short = try Client(port: studio.port)
    short.send(
      "POST /api/concepts HTTP/1.1\r\nHost: 127.0.0.1:\(studio.port)\r\nCookie: \(studio.cookie)\r\n"
        + "Origin: http://127.0.0.1:\(studio.port)\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    )
    #expect(try studio.ask("GET", "/").status == 200)
  }

  @Test("takes pictures by themselves, not in forms, and no damaged ones")
  func uploads() throws {
    let studio = try TestStudio()
    let id = try studio.example()
    let path = "/api/concepts/\(id)/pictures?name=x.jpg"
    let form = Data("--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"../../x\"\r\n\r\n".utf8)
    #expect(
      try studio.ask("POST", path, form, headers: ["Content-Type": "multipart/form-data; boundary=b"]).status
        == 415)
    #expect(try studio.ask("POST", path, Data("<svg onload=alert(1)>".utf8)).status == 422)
    let jpeg = try Data(contentsOf: Fixtures.examples.appending(path: "starmug/1.jpg"))
    for mutation in Mutations(of: jpeg, count: 60, seed: 15) {
      let status = try studio.ask("POST", path, mutation).status
      #expect([200, 409, 422].contains(status))
    }
    let name = "%2e%2e%2f%2e%2e%2f%1b[31mevil.jpg"
    let response = try studio.ask("POST", "/api/concepts/\(id)/pictures?name=\(name)", Data("no".utf8))
    #expect(response.status == 422)
    #expect(response.text.hasPrefix("\\u001B[31mevil.jpg: not a JPEG, PNG or WebP image"))
    #expect(try studio.ask("GET", "/").status == 200)
  }

  @Test("is not kept busy by clients that send their heads drop by drop")
  func slowLoris() throws {
    let studio = try TestStudio()
    var slow: [Client] = []
    for _ in 0..<300 {
      let client = try Client(port: studio.port)
      client.send("GET / HTTP/1.1\r\nHost: 127")
      slow.append(client)
    }
    let start = ContinuousClock.now
    for _ in 0..<10 { #expect(try studio.ask("GET", "/api/studio").status == 200) }
    #expect(ContinuousClock.now - start < .seconds(20))
    withExtendedLifetime(slow) {}
  }

  @Test("withstands ten thousand connections")
  func manyConnections() throws {
    let studio = try TestStudio()
    // Both ends are in this process; those that are given up make room for others.
    let held = max(64, min(10_000, sysconf(Int32(_SC_OPEN_MAX)) - 400))
    var clients: [Client] = []
    for n in 0..<10_000 {
      let client = try Client(port: studio.port)
      if n.isMultiple(of: 3) { client.send("GET ") }
      clients.append(client)
      if clients.count > held { clients.removeFirst() }
    }
    #expect(try studio.ask("GET", "/api/studio").status == 200)
    withExtendedLifetime(clients) {}
  }

  @Test("takes a folder in which its very first start was killed amid a file")
  func firstStartKilled() throws {
    let scratch = try Scratch()
    try Data("neti stud".utf8).write(to: scratch.folder.appending(path: ".neti-\(UUID().uuidString).tmp"))
    let studio = try TestStudio { $0.folder = scratch.folder }
    #expect(try studio.ask("GET", "/api/studio").status == 200)
  }

  @Test("does not take a folder with other things in it, and deletes nothing there")
  func foreignFolder() throws {
    let scratch = try Scratch()
    let letter = scratch.folder.appending(path: "trash/letter")
    try FileManager.default.createDirectory(
      at: letter.deletingLastPathComponent(), withIntermediateDirectories: true)
    try Data("dear".utf8).write(to: letter)
    let refused = refusal { try TestStudio { $0.folder = scratch.folder } }
    #expect(
      refused?.message.contains("is no studio's folder; choose an empty or new one with `folder`") == true)
    #expect(try Data(contentsOf: letter) == Data("dear".utf8))

    // Nor one that cannot be made.
    let inside = letter.appending(path: "studio")
    #expect(
      refusal { try TestStudio { $0.folder = inside } }?.message
        == "\(inside.path): the folder cannot be made; check its permissions, or choose another with `folder`"
    )
    let half = scratch.folder.appending(path: "half")
    for name in [".neti-studio", "images"] {
      try FileManager.default.createDirectory(at: half, withIntermediateDirectories: true)
      try Data().write(to: half.appending(path: name))
    }
    #expect(
      refusal { try TestStudio { $0.folder = half } }?.message.hasSuffix(
        "/half/images; check the disk's room and its permissions") == true)

    // A port that is taken changes nothing either.
    let studio = try TestStudio()
    let fresh = scratch.folder.appending(path: "fresh")
    _ = refusal {
      try TestStudio {
        ($0.port, $0.folder) = (studio.port, fresh)
      }
    }
    #expect(!FileManager.default.fileExists(atPath: fresh.path))
  }

  @Test("says in one line that its port or its folder is taken")
  func taken() throws {
    let studio = try TestStudio()
    let port = refusal { try TestStudio { $0.port = studio.port } }
    #expect(
      port?.message == "port \(studio.port) is taken, perhaps by another studio; choose another with `port`")
    let host = refusal { try TestStudio { ($0.host, $0.password) = ("nowhere", "long enough") } }
    #expect(host?.message == "“nowhere” is no IP address; `host` takes one, such as 127.0.0.1 or 0.0.0.0")
    let away = refusal { try TestStudio { ($0.host, $0.password) = ("192.0.2.1", "long enough") } }
    #expect(
      away?.message
        == "192.0.2.1 is no address of this machine; `host` takes one that it has, such as 127.0.0.1 or 0.0.0.0"
    )
    let folder = studio.scratch.folder.appending(path: "studio")
    let other = refusal { try TestStudio { $0.folder = folder } }
    #expect(other?.message.hasPrefix("another studio uses \(folder.path)") == true)
  }
}
