import Files
import Foundation
import Hub
import TestSupport
import Testing

@Suite("Where the Hub leads")
struct RedirectTests {
  private static let token = "hf_secretOfThisTest"

  private func redirect(_ place: String, _ status: Int = 302) -> LoopbackHub.Reply {
    .init(status, ["Location": place])
  }

  @Test("the token goes to the Hub, to no other host, and into no message")
  func token() throws {
    let desk = try Desk()
    try desk.fetch(nil, ["HF_TOKEN": Self.token])
    let (own, others) = (
      desk.hub.requests.filter { $0.port == desk.hub.hub.port },
      desk.hub.requests.filter { $0.port != desk.hub.hub.port }
    )
    #expect(own.count > 3 && own.allSatisfy { $0.headers["authorization"] == "Bearer \(Self.token)" })
    #expect(others.count == 1 && others.allSatisfy { $0.headers["authorization"] == nil })

    // Nor where the list itself leads elsewhere, by another name of the same host, or back again.
    let other = try Desk()
    let (hub, store) = (other.hub.hub.port, other.hub.store.port)
    let places = [
      "http://127.0.0.1:\(store)/x", "http://localhost:\(hub)/x", "http://127.1:\(store)/x",
      "//localhost:\(hub)/x",
    ]
    for place in places {
      other.hub.change { request, _ in
        request.path == "/x"
          ? .init(302, ["Location": "http://127.0.0.1:\(hub)/y"])
          : request.path == "/y" ? nil : .init(302, ["Location": place])
      }
      #expect(!other.failure(nil, ["HF_TOKEN": Self.token]).contains(Self.token))
      let seen = other.hub.requests
      #expect(seen.filter { $0.path == "/x" }.allSatisfy { $0.headers["authorization"] == nil }, "\(place)")
      #expect(seen.contains { $0.path == "/x" }, "\(place)")
      #expect(seen.filter { $0.path == "/y" }.allSatisfy { $0.headers["authorization"] != nil }, "\(place)")
    }
  }

  @Test(
    "a renamed repository is followed by its relative address, and kept under the name that was asked for")
  func renamed() throws {
    let desk = try Desk()
    let old = try #require(RepositoryName("old/name"))
    desk.hub.change { request, _ in
      guard request.path.contains("old/name") else { return nil }
      let place = request.path.replacing("old/name", with: "org/mini")
      return .init(307, ["Location": request.query.isEmpty ? place : "\(place)?\(request.query)"])
    }
    let download = try desk.download(old, ["HF_TOKEN": Self.token])
    try download.fetch(download.list.files)
    #expect(FileManager.default.fileExists(atPath: desk.scratch.file("hub/models--old--name/refs/main").path))
    #expect(try desk.cache.snapshot(of: old) != nil)
    #expect(
      desk.hub.requests.filter { $0.port == desk.hub.hub.port }.allSatisfy {
        $0.headers["authorization"] != nil
      })
  }

  @Test("in circles, nowhere, to another kind of address or with a password in it, is not followed")
  func refused() throws {
    let desk = try Desk()
    let hub = desk.hub.hub.address
    for (place, words) in [
      ("/circle", "from one address to another, more than 8 times"),
      ("\(hub)/circle?again", "from one address to another"),
      ("file:///etc/passwd", "only https and http"), ("ftp://127.0.0.1/x", "only https and http"),
      ("gopher://127.0.0.1:70/x", "only https and http"), ("dict://127.0.0.1/x", "only https and http"),
      ("scp://127.0.0.1/x", "only https and http"), ("javascript:1", ""),
      ("http://user:secret@127.0.0.1/x", "a password in it"), ("http://user@127.0.0.1/x", "a password in it"),
      ("http:///x", ""), ("http://[::1", ""), ("", "without saying where"),
    ] {
      desk.hub.change { request, _ in
        request.path.contains("/resolve/") || request.path.hasPrefix("/circle")
          ? .init(302, place.isEmpty ? [:] : ["Location": place]) : nil
      }
      let said = desk.failure()
      #expect(!said.isEmpty && (words.isEmpty || said.contains(words)), "\(place): \(said)")
      #expect(desk.hub.requests.count < 16 && desk.blobs.isEmpty)
    }
  }

  @Test("from https to http is never followed")
  func downgrade() throws {
    // Both addresses are read alike; the refusal comes before any connection.
    let secure = try HubAddress("https://huggingface.co/x")
    #expect(throws: HubError.self) { try HubClient.follow("http://huggingface.co/x", from: secure) }
    #expect(try HubClient.follow("https://cdn.example/x", from: secure).host == "cdn.example")
    let plain = try HubAddress("http://127.0.0.1/x")
    #expect(try HubClient.follow("https://a.b/x", from: plain).scheme == "https")
    #expect(try HubClient.follow("http://a.b/x", from: plain).scheme == "http")
  }

  @Test("the next page of a list is on the same host, and lists end")
  func pages() throws {
    let desk = try Desk()
    // A mirror that passes on what the Hub wrote: its own page is meant, and nobody else is asked.
    for place in ["http://localhost:\(desk.hub.store.port)", "https://elsewhere.example"] {
      let path = "/api/models/org/mini/tree/\(desk.commit)"
      desk.hub.change { request, reply in
        guard request.path == path else { return nil }
        var reply = reply
        if request.query.contains("cursor") {
          reply = .init(json: "[]")
        } else {
          reply.headers["Link"] = "<\(place)\(path)?cursor=x>; rel=\"next\""
        }
        return reply
      }
      #expect(try desk.download().list.files.count == 3)
      #expect(desk.hub.requests.filter { $0.query.contains("cursor") }.map(\.port) == [desk.hub.hub.port])
    }
    desk.hub.change { request, _ in
      guard request.path.contains("/tree/") else { return nil }
      var reply = LoopbackHub.Reply(json: "[]")
      reply.headers["Link"] = "<\(request.path)?again>; rel=\"next\""
      return reply
    }
    #expect(desk.failure(nil).contains("more than 200 pages"))
  }

  @Test("who may not read a model is told why, each in its own line")
  func access() throws {
    let desk = try Desk()
    for (status, headers, token, words) in [
      (401, ["X-Error-Code": "GatedRepo"], nil, "is gated: accept its conditions at http://127.0.0.1:"),
      (403, ["X-Error-Code": "GatedRepo"], "hf_x", "your token's account may not read it"),
      (401, [:], nil, "or it is private; check the name, or put a token"),
      (404, ["X-Error-Code": "RepoNotFound"], "hf_x", "or it is private and your token may not read it"),
      (
        401, ["X-Error-Message": "Invalid credentials in Authorization header"], "hf_x",
        "does not know your token"
      ),
      (403, [:], "hf_x", "check your token's rights"), (404, [:], nil, "answers with status 404"),
      (418, [:], nil, "answers with status 418"),
    ] as [(Int, [String: String], String?, String)] {
      desk.hub.change { request, _ in request.path.contains("/resolve/") ? .init(status, headers) : nil }
      let said = desk.failure(nil, token.map { ["HF_TOKEN": $0] } ?? [:])
      #expect(said.contains(words), "\(status) \(headers): \(said)")
      #expect(!said.contains("\n") && !said.contains("hf_x"))
    }
  }

  @Test("no network is asked for when HF_HUB_OFFLINE says so, and one that is not there is said")
  func offline() throws {
    let desk = try Desk()
    for value in ["1", "true", "YES", "on"] {
      #expect(desk.failure(nil, ["HF_HUB_OFFLINE": value]).contains("HF_HUB_OFFLINE is set"))
    }
    #expect(desk.failure(nil, ["TRANSFORMERS_OFFLINE": "1"]).contains("HF_HUB_OFFLINE is set"))
    #expect(desk.hub.requests.isEmpty)
    try desk.fetch(nil, ["HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"])
    // A port where nobody listens any more.
    let closed = try LoopbackServer { _ in .init() }.port
    let said = desk.failure(nil, ["HF_ENDPOINT": "http://127.0.0.1:\(closed)"])
    #expect(said.contains("127.0.0.1:\(closed): ") && said.contains("check the network"), "\(said)")
    #expect(desk.failure(nil, ["HF_ENDPOINT": "http://nowhere.invalid"]).contains("nowhere.invalid: "))
  }

  @Test("an ETag says nothing, whatever it is: the bytes prove themselves")
  func tags() throws {
    for tag in [
      "\"\(String(repeating: "0", count: 64))\"", "W/\"\(String(repeating: "a", count: 40))\"",
      "\"../../../etc/passwd\"",
      "\"\"", "x", String(repeating: "x", count: 3000),
    ] {
      let desk = try Desk()
      desk.hub.change { request, reply in
        var reply = reply
        if request.path.contains("/resolve/") {
          reply.headers["ETag"] = tag
          reply.headers["X-Linked-Etag"] = nil
        }
        return reply
      }
      try desk.fetch()
      #expect(desk.blobs == desk.hub.files.values.map(\.blobName).sorted())
    }
  }

  @Test("a header without end and an answer without end are refused")
  func endless() throws {
    let desk = try Desk()
    desk.hub.change { _, _ in
      .init(
        200,
        Dictionary(uniqueKeysWithValues: (0..<90).map { ("X-\($0)", String(repeating: "y", count: 4000)) }))
    }
    #expect(desk.failure().contains("sends a header of more than"))
    // A redirection, whose page nobody reads.
    desk.hub.change { request, _ in
      guard request.path.contains("/resolve/") else { return nil }
      return .init(302, ["Location": "/x"], Data(repeating: 0x20, count: 1 << 20))
    }
    #expect(desk.failure().contains("leads elsewhere with a page of more than"))
    let size = HubClient.maximumAnswer + 1
    for length in [nil, -1] as [Int?] {
      desk.hub.change { request, _ in
        var reply = LoopbackHub.Reply(200, [:], Data(repeating: 0x20, count: size))
        reply.length = length
        return reply
      }
      #expect(desk.failure().contains("more than 32 MiB"))
    }
  }
}
