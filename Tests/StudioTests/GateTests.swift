import Files
import Foundation
import Studio
import TestSupport
import Testing

/// Who is let in, and what strangers get.
@Suite("The studio's gate")
struct GateTests {
  @Test("lets in who has the token, by a cookie that no script reads and no other site sends")
  func token() throws {
    let studio = try TestStudio()
    #expect(try studio.ask("GET", "/", headers: ["Cookie": ""]).status == 401)
    #expect(try studio.ask("GET", "/?token=wrong", headers: ["Cookie": ""]).status == 401)
    #expect(
      try studio.ask("GET", "/api/studio", headers: ["Cookie": "neti-studio-\(studio.port)=guess"]).status
        == 401)
    // The token opens the page only; everything else wants the cookie.
    let token = studio.studio.addresses[0].split(separator: "?")[1]
    #expect(try studio.ask("GET", "/api/studio?\(token)", headers: ["Cookie": ""]).status == 401)
    #expect(
      try studio.ask("GET", "/api/studio", headers: ["Cookie": ""]).line
        == "this page belongs to whoever started the studio: open the address that it printed")
    let login = try studio.ask("POST", "/login", Data("password=guess".utf8))
    #expect(login.status == 404 && login.line == "there is nothing here")
    let entry = try studio.ask("GET", "/?\(token)", headers: ["Cookie": ""])
    // A page that leads on, since a redirection from another site's link gets no strict cookie.
    #expect(
      entry.status == 200 && entry.text.contains("content=\"0;url=/\"") && !entry.text.contains("token"))
    #expect(entry.header("Set-Cookie")?.hasSuffix("; Path=/; HttpOnly; SameSite=Strict") == true)
    #expect(try studio.ask("GET", "/").status == 200)
    #expect(try studio.ask("GET", "/api/studio").status == 200)
  }

  @Test(
    "answers only to its own name",
    arguments: [
      "evil.example:PORT", "127.0.0.1.evil.example:PORT", "127.0.0.1", "127.0.0.1:x", "192.168.0.1:PORT",
      "0.0.0.0:PORT",
      "evil.example", "",
    ])
  func foreignHost(_ host: String) throws {
    let studio = try TestStudio()
    let name = host.replacing("PORT", with: String(studio.port))
    #expect(try studio.ask("GET", "/", headers: ["Host": name, "Origin": ""]).status == 421)
    #expect(
      try studio.ask("GET", "/", headers: ["Host": "localhost:\(studio.port)", "Origin": ""]).status == 200)
  }

  @Test("answers through a tunnel, which has another port at the browser's end")
  func tunnel() throws {
    let studio = try TestStudio()
    let (near, foreign) = ("localhost:9000", "http://localhost:9001")
    func create(_ origin: String) throws -> Int {
      try studio.ask("POST", "/api/concepts", Data("{}".utf8), headers: ["Host": near, "Origin": origin])
        .status
    }
    #expect(try create(foreign) == 403)
    #expect(try create("http://" + near) == 200)
  }

  @Test("tells addresses that others can open where it listens on all of them")
  func wildcard() throws {
    let studio = try TestStudio {
      $0.host = "0.0.0.0"
      $0.password = "open + sesame"
    }
    let addresses = studio.studio.addresses
    #expect(!addresses.isEmpty && !addresses.contains { $0.contains("0.0.0.0") })
    let host = addresses[0].dropFirst("http://".count).dropLast()
    #expect(
      try studio.ask("GET", "/", headers: ["Host": String(host), "Cookie": "", "Origin": ""]).status == 401)
  }

  @Test("does nothing for another site's page, even with the cookie")
  func foreignOrigin() throws {
    let studio = try TestStudio()
    func create(_ headers: [String: String]) throws -> Int {
      try studio.ask("POST", "/api/concepts", Data("{}".utf8), headers: headers).status
    }
    #expect(try create(["Origin": "http://evil.example"]) == 403)
    #expect(try create(["Origin": "null"]) == 403)
    #expect(try create(["Origin": "http://127.0.0.1:1"]) == 403)
    #expect(try create(["Origin": ""]) == 403)
    #expect(try create(["Sec-Fetch-Site": "cross-site"]) == 403)
    #expect(try create(["Sec-Fetch-Site": "same-site"]) == 403)
    // What a form can send is no JSON.
    #expect(try create(["Content-Type": "text/plain"]) == 415)
    #expect(try create(["Content-Type": "application/x-www-form-urlencoded"]) == 415)
    #expect(
      try studio.ask("GET", "/api/studio", headers: ["Sec-Fetch-Site": "cross-site", "Origin": ""]).status
        == 403)
    #expect(studio.conceptCount == 0)
    #expect(try create([:]) == 200)
    #expect(studio.conceptCount == 1)
  }

  @Test("has a strict policy on every response, and a page that keeps it")
  func policy() throws {
    let studio = try TestStudio()
    for response in [
      try studio.ask("GET", "/"), try studio.ask("GET", "/nothing"),
      try studio.ask("GET", "/", headers: ["Cookie": ""]),
    ] {
      let policy = try #require(response.header("Content-Security-Policy"))
      #expect(policy.hasPrefix("default-src 'none'; script-src 'self'; style-src 'self';"))
      #expect(!policy.contains("unsafe"))
      #expect(response.header("X-Content-Type-Options") == "nosniff")
      #expect(response.header("Access-Control-Allow-Origin") == nil)
    }
    let page = try studio.ask("GET", "/").text
    #expect(page.contains("/page/app.js"))
    #expect(!page.contains("style=") && !page.contains(" onclick") && !page.contains("<style"))
    #expect(page.components(separatedBy: "<script").count == 2)
    for name in Page.names { #expect(try studio.ask("GET", "/page/\(name)").status == 200, "\(name)") }
  }

  @Test("wants a password where others can reach it")
  func password() throws {
    let problem = try #require(refusal { try TestStudio { $0.host = "0.0.0.0" } })
    #expect(problem.message.contains("`password-file`"))
    let studio = try TestStudio {
      $0.host = "0.0.0.0"
      $0.password = "open + sesame"
    }
    #expect(!studio.studio.addresses[0].contains("token"))
    let stranger = ["Cookie": ""]
    let form = try studio.ask("GET", "/", headers: stranger)
    #expect(form.status == 401 && form.text.contains("type=\"password\""))
    #expect(try studio.ask("GET", "/api/studio", headers: stranger).status == 401)
    #expect(try studio.ask("POST", "/login", Data("password=guess".utf8), headers: stranger).status == 401)
    // A name that points here is not the studio's, whatever the password.
    let named = [
      "Cookie": "", "Host": "evil.example:\(studio.port)", "Origin": "http://evil.example:\(studio.port)",
    ]
    #expect(
      try studio.ask("POST", "/login", Data("password=open+%2B+sesame".utf8), headers: named).status == 421)
    let entry = try studio.ask("POST", "/login", Data("password=open+%2B+sesame".utf8), headers: stranger)
    #expect(entry.status == 303)
    let cookie = entry.header("Set-Cookie")?.split(separator: ";").first.map(String.init) ?? ""
    #expect(try studio.ask("GET", "/api/studio", headers: ["Cookie": cookie]).status == 200)
    // Who tries many at once is sent away, but for a few who wait.
    let many = try (0..<8).map { _ in
      let client = try Client(port: studio.port)
      client.send(
        "POST /login HTTP/1.1\r\nHost: 127.0.0.1:\(studio.port)\r\nOrigin: http://127.0.0.1:\(studio.port)\r\n"
          + "Content-Length: 14\r\n\r\npassword=guess")
      return client
    }
    let answers = many.map { $0.receive() }
    #expect(answers.allSatisfy { [401, 429].contains($0.status) })
    #expect(
      answers.first { $0.status == 429 }?.line == "many try to come in at once; wait a moment")
  }

  @Test("reads a password that is long enough from a file's first line")
  func passwordFile() throws {
    let scratch = try Scratch()
    let file = scratch.folder.appending(path: "secret.txt")
    try Data("  sesame street \nmore\n".utf8).write(to: file)
    #expect(try StudioSettings.password(from: file) == "sesame street")
    try Data("short\n".utf8).write(to: file)
    #expect(refusal { try StudioSettings.password(from: file) }?.message.contains("at least 8") == true)
  }
}
