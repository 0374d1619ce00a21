import Foundation
import Imaging
import TestSupport
import Testing

/// `neti studio` as a process, and a browser that was let in.
private final class StudioProcess {
  private let tool: RunningTool
  private let port: UInt16
  private let cookie: String

  init(_ place: Workplace) throws {
    // Its address is there long before it ends; that of an earlier one is not it.
    try? FileManager.default.removeItem(at: place.path("address.txt"))
    tool = try RunningTool(
      URL(filePath: "/bin/sh"),
      [
        "-c", "exec \"$0\" \"$@\" > address.txt", CommandLineTool.executable.path, "studio", "--folder",
        "studio", "--port", "0", "--threads", "1",
      ], in: place.folder, environment: ["NETI_COMMAND": "neti"])
    var address = ""
    place.wait(tool) {
      address = (try? String(contentsOf: place.path("address.txt"), encoding: .utf8)) ?? ""
      return address.contains("token=") && address.hasSuffix("\n")
    }
    let found = try #require(address.firstMatch(of: /127\.0\.0\.1:(\d+)\/\?(token=\w+)/))
    port = try #require(UInt16(found.output.1))
    let client = try Client(port: port)
    client.send("GET /?\(found.output.2) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\n\r\n")
    cookie = client.receive().header("Set-Cookie")?.split(separator: ";").first.map(String.init) ?? ""
  }

  deinit { tool.send(SIGKILL) }

  /// As a crash ends it.
  func kill() {
    tool.send(SIGKILL)
    _ = tool.wait()
  }

  /// As Ctrl-C or a system that shuts down ends it.
  func close() {
    tool.send(SIGTERM)
    #expect(tool.wait().code == 128 + SIGTERM)
  }

  private func start(_ method: String, _ path: String, _ body: Data = Data()) throws -> Client {
    let client = try Client(port: port)
    client.send(
      "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nCookie: \(cookie)\r\n"
        + "Origin: http://127.0.0.1:\(port)\r\nContent-Type: application/json\r\n"
        + "Content-Length: \(body.count)\r\n\r\n")
    client.send(body)
    return client
  }

  /// Asks, and expects that it is granted.
  @discardableResult
  func ask(_ method: String, _ path: String, _ json: [String: Any] = [:]) throws -> Data {
    let response = try start(method, path, JSONSerialization.data(withJSONObject: json)).receive()
    #expect(response.status == 200, "\(path): \(response.text)")
    return response.body
  }

  struct Concept: Decodable {
    struct Progress: Decodable { let state: String, step: Int, problem: String? }
    let id: String, commandLine: String?, progress: Progress
  }

  /// The one concept, as pages are told of it.
  func concept() throws -> Concept? { try concepts().first }

  func concepts() throws -> [Concept] {
    let text = try start("GET", "/api/events").receive(until: "event: images")
    let line = text.components(separatedBy: "\n").first { $0.hasPrefix("data: [") } ?? "data: []"
    return try JSONDecoder().decode([Concept].self, from: Data(line.dropFirst("data: ".count).utf8))
  }

  func wait(_ place: Workplace, for states: [String]) throws -> Concept {
    var found: Concept?
    place.wait(tool) {
      found = try? concept()
      return found.map { states.contains($0.progress.state) } ?? false
    }
    return try #require(found)
  }

  func wait(_ place: Workplace, until condition: () -> Bool) { place.wait(tool, until: condition) }
}

@Suite("The line that the studio shows", .serialized)
struct StudioLineTests {
  @Test(
    "learns the studio's concept, byte for byte: of a part of a picture, a mask, a caption, a style, and after a stop",
    arguments: [false, true])
  func same(isStyle: Bool) throws {
    let place = try Workplace()
    let studio = try StudioProcess(place)
    let made = try studio.ask("POST", "/api/concepts", ["example": "ginger"])
    let id = try #require(JSONDecoder().decode([String: String].self, from: made)["id"])
    let mask = try Image(
      width: 64, height: 64,
      pixels: (0..<64 * 64).flatMap { [UInt8](repeating: $0 % 64 < 20 ? 0 : 255, count: 3) })
    let part: [String: Any] = [
      "x": 0.1, "y": 0.05, "side": 0.8, "quarters": 1, "mask": Data(try mask.png()).base64EncodedString(),
    ]
    try studio.ask("PUT", "/api/concepts/\(id)/pictures/1/part", ["part": part])
    try studio.ask(
      "PUT", "/api/concepts/\(id)/pictures/2/caption",
      ["caption": isStyle ? "a house in the style of {}" : "a {} in the snow"])
    try studio.ask(
      "POST", "/api/concepts/\(id)/learn",
      [
        "title": "one", "kind": "cat", "quality": "quick", "steps": 4, "seed": 1, "isStyle": isStyle,
      ])
    let run = "studio/concepts/\(id)/one"
    studio.wait(place) { !place.stepsLogged(run).isEmpty }
    try studio.ask("POST", "/api/generations", ["prompt": "a red mug", "seeds": [0, 1], "steps": 1])
    try studio.ask("POST", "/api/concepts/\(id)/stop")
    let stopped = try studio.wait(place, for: ["stopped", "learned"])
    #expect(stopped.progress.state == "stopped" && (1..<4).contains(stopped.progress.step))
    try studio.ask("POST", "/api/concepts/\(id)/resume")
    let learned = try studio.wait(place, for: ["learned"])

    let line = try #require(learned.commandLine)
    #expect(line.contains("--property style") == isStyle)
    let here = place.path("here")
    try FileManager.default.createDirectory(at: here, withIntermediateDirectories: true)
    let result = try RunningTool(
      URL(filePath: "/bin/sh"),
      ["-c", "neti() { \"$0\" \"$@\"; }\n\(line)", CommandLineTool.executable.path], in: here
    ).wait()
    #expect(result.code == 0, "\(result.error)")
    let mine = try Data(contentsOf: here.appending(path: "one/concept.safetensors"))
    #expect(try mine == Data(contentsOf: place.path(run + "/concept.safetensors")))
  }

  @Test("that was kept and is none any more is told on the concept's page, and the studio goes on")
  func damaged() throws {
    let place = try Workplace()
    var ids: [String] = []
    do {
      let studio = try StudioProcess(place)
      for title in ["one", "two"] {
        let made = try studio.ask("POST", "/api/concepts", ["example": "ginger"])
        let id = try #require(JSONDecoder().decode([String: String].self, from: made)["id"])
        try studio.ask(
          "POST", "/api/concepts/\(id)/learn",
          ["title": title, "kind": "cat", "quality": "quick", "steps": 90_000, "seed": 1, "isStyle": false])
        ids.append(id)
      }
      studio.wait(place) { !place.stepsLogged("studio/concepts/\(ids[0])/one").isEmpty }
      studio.kill()
    }
    for (id, words) in zip(ids, [["inspect", "--"], ["train", "--steps", "0"]]) {
      let file = place.path("studio/concepts/\(id)/concept.json")
      var json = try #require(
        JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
      var plan = try #require(json["plan"] as? [String: Any])
      plan["words"] = words
      json["plan"] = plan
      try JSONSerialization.data(withJSONObject: json).write(to: file)
    }
    let studio = try StudioProcess(place)
    // What waited is taken up by itself, what was begun when it is asked for.
    try studio.ask("POST", "/api/concepts/\(ids[0])/resume")
    var problems: [String: String] = [:]
    studio.wait(place) {
      for concept in (try? studio.concepts()) ?? [] { problems[concept.id] = concept.progress.problem }
      return problems.count == 2
    }
    #expect(
      problems[ids[0]]
        == "“inspect -- --resume” is no command line of `train`; what was kept of it is damaged, "
        + "so begin a new one")
    #expect(problems[ids[1]]?.contains("--steps 0: at least 1") == true, "\(problems)")
    studio.close()
  }
}
