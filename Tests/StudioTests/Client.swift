import Diffusion
import Foundation
import Imaging
import NeTI
import Studio
import TestSupport

/// A studio on mini-sd in a folder of its own, and a browser that was let in.
final class TestStudio {
  let studio: Studio
  let scratch: Scratch
  let port: UInt16
  let cookie: String
  /// What it said of its folder as it began.
  let notices: [String]

  init(_ change: (inout StudioSettings) throws -> Void = { _ in }) throws {
    scratch = try Scratch()
    var settings = StudioSettings(
      configuration: { words in try configuration(of: words) },
      resource: { Fixtures.repository.appending(path: $0) }, metadata: { _, _ in [:] })
    settings.port = 0
    settings.folder = scratch.folder.appending(path: "studio")
    settings.examples = [
      .init(name: "ginger", kind: "cat", folder: Fixtures.examples.appending(path: "ginger"))
    ]
    try change(&settings)
    var lines: [String] = []
    studio = try Studio(StableDiffusion(ModelFolder(Fixtures.miniSD.path)), settings) { lines.append($0) }
    notices = lines
    studio.start()
    port = UInt16(studio.addresses[0].split(separator: ":")[2].prefix { $0.isNumber }) ?? 0
    let token = studio.addresses[0].split(separator: "?").dropFirst().first ?? ""
    let client = try Client(port: port)
    client.send("GET /?\(token) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\n\r\n")
    cookie = client.receive().header("Set-Cookie")?.split(separator: ";").first.map(String.init) ?? ""
  }

  /// Asks as the page does; headers that are given replace the page's, and an empty one is left out.
  func ask(
    _ method: String, _ path: String, _ body: Data = Data(), headers: [String: String] = [:]
  ) throws -> Client.Response {
    var all = [
      "Host": "127.0.0.1:\(port)", "Cookie": cookie, "Origin": "http://127.0.0.1:\(port)",
      "Content-Type": "application/json", "Content-Length": String(body.count),
    ]
    all.merge(headers) { $1 }
    let client = try Client(port: port)
    client.send(
      "\(method) \(path) HTTP/1.1\r\n"
        + all.filter { !$0.value.isEmpty }.map { "\($0.key): \($0.value)\r\n" }.joined() + "\r\n")
    client.send(body)
    return client.receive()
  }

  /// Asks from any thread; gives the status.
  func asker() -> @Sendable (_ method: String, _ path: String, _ json: String) throws -> Int {
    let (port, cookie) = (port, cookie)
    return { method, path, json in
      let client = try Client(port: port)
      client.send(
        "\(method) \(path) HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nCookie: \(cookie)\r\n"
          + "Origin: http://127.0.0.1:\(port)\r\nContent-Type: application/json\r\n"
          + "Content-Length: \(json.utf8.count)\r\n\r\n\(json)")
      return client.receive().status
    }
  }

  func ask(_ method: String, _ path: String, json: String) throws -> Client.Response {
    try ask(method, path, Data(json.utf8))
  }

  /// The page's view of the concepts, as its events tell it.
  func concepts() throws -> [ConceptView] {
    let client = try Client(port: port)
    client.send("GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nCookie: \(cookie)\r\n\r\n")
    let text = client.receive(until: "event: images")
    let line = text.components(separatedBy: "\n").first { $0.hasPrefix("data: [") } ?? "data: []"
    return try JSONDecoder().decode([ConceptView].self, from: Data(line.dropFirst("data: ".count).utf8))
  }

  /// The page's view of the work, as its events tell it.
  func work() throws -> WorkView {
    let client = try Client(port: port)
    client.send("GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nCookie: \(cookie)\r\n\r\n")
    let start = "event: work\ndata: "
    let text = client.receive(until: start)
    // The rest of the line may come later.
    let all = text + (text.hasSuffix("}\n\n") ? "" : client.receive(until: "\n\n"))
    let line = all.components(separatedBy: start).last?.components(separatedBy: "\n").first ?? ""
    return try JSONDecoder().decode(WorkView.self, from: Data(line.utf8))
  }

  /// What the page's view of the images says of each, the newest first.
  func images() throws -> [[String: String]] {
    struct Entry: Decodable { let settings: [String: String] }
    let client = try Client(port: port)
    client.send("GET /api/events HTTP/1.1\r\nHost: 127.0.0.1:\(port)\r\nCookie: \(cookie)\r\n\r\n")
    let start = "event: images\ndata: "
    let text = client.receive(until: "event: work")
    let line = text.components(separatedBy: start).last?.components(separatedBy: "\n").first ?? "[]"
    return try JSONDecoder().decode([Entry].self, from: Data(line.utf8)).map(\.settings)
  }

  struct WorkView: Decodable {
    struct Queued: Decodable {
      let kind: String, id: String, isRunning: Bool, isBrokenOff: Bool, prompt: String?
    }
    let queue: [Queued]
    struct Experience: Decodable, Equatable { let step: Double, pause: Double, memory: Double? }
    struct Job: Decodable { let secondsLeft: Double?, step: Int }
    let learning: String?, toLearn: [String], generating: String?, toGenerate: Int, problem: String?
    let experience: Experience?, isTrying: Bool, trialProblem: String?, closing: String?, learnJob: Job?,
      generateJob: Job?
  }

  struct ConceptView: Decodable {
    struct Picture: Decodable { let number: Int, caption: String, note: String? }
    struct Progress: Decodable { let state: String, step: Int, previews: [Int], problem: String? }
    let id: String, title: String, kind: String, name: String?, commandLine: String?
    let pictures: [Picture], progress: Progress
  }

  /// Waits until a concept has a state, for some minutes at most.
  func wait(for state: String, of id: String) throws -> ConceptView? {
    let end = ContinuousClock.now + .seconds(300)
    while ContinuousClock.now < end {
      if let found = try concepts().first(where: { $0.id == id }), found.progress.state == state {
        return found
      }
      Thread.sleep(forTimeInterval: 0.2)
    }
    return nil
  }

  /// Waits until its work is as a test wants it, for some minutes at most.
  @discardableResult
  func wait(_ isSo: (WorkView) throws -> Bool) throws -> WorkView {
    let end = ContinuousClock.now + .seconds(300)
    while true {
      let work = try self.work()
      if try isSo(work) || ContinuousClock.now > end { return work }
      Thread.sleep(forTimeInterval: 0.05)
    }
  }

  /// The names of the images that it has generated.
  var imageFiles: [String] {
    let folder = scratch.folder.appending(path: "studio/images")
    return ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).filter {
      $0.hasSuffix(".png") && !$0.hasPrefix(".")
    }
  }

  /// Another studio, which finds in its folder what this one has now, as a kill would leave it.
  ///
  /// - Parameter change: changes something in that folder before.
  func next(_ change: (_ folder: URL) throws -> Void = { _ in }) throws -> TestStudio {
    try TestStudio { settings in
      let copy = Process()
      copy.executableURL = URL(filePath: "/bin/cp")
      // With the times of files.
      copy.arguments = ["-a", scratch.folder.appending(path: "studio").path, settings.folder?.path ?? ""]
      try copy.run()
      copy.waitUntilExit()
      if let folder = settings.folder { try change(folder) }
    }
  }

  /// Changes what is written down of a concept, in a studio's folder.
  static func change(_ id: String, in folder: URL, _ body: (inout [String: Any]) -> Void) throws {
    let file = folder.appending(path: "concepts/\(id)/concept.json")
    var record = try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any] ?? [:]
    body(&record)
    try JSONSerialization.data(withJSONObject: record).write(to: file)
  }

  /// A concept that came as a file.
  func imported() throws -> String {
    let file = try Data(contentsOf: Fixtures.url("integrations/toy.safetensors"))
    let made = try ask("POST", "/api/imports?name=toy.safetensors", file)
    return try JSONDecoder().decode([String: String].self, from: made.body)["id"] ?? ""
  }

  /// The bytes of the images that it has generated, by their seed.
  func imagesBySeed() throws -> [String: [Data]] {
    let files = try imageFiles.map {
      try Data(contentsOf: scratch.folder.appending(path: "studio/images/\($0)"))
    }
    return try Dictionary(grouping: files) { data in
      try PNGText.read([UInt8](data), name: "an image").first { $0.0 == "seed" }?.1 ?? ""
    }
  }

  /// What waits, as it is written down.
  var waiting: Waiting { Waiting(scratch.folder.appending(path: "studio/waiting.json")) }

  /// Whether nothing waits, as it is written down: shortly after the work itself is told to be done.
  var nothingWaits: Bool {
    let end = ContinuousClock.now + .seconds(30)
    while waiting.count != (0, 0, 0), ContinuousClock.now < end { Thread.sleep(forTimeInterval: 0.02) }
    return waiting.count == (0, 0, 0)
  }

  /// The folder of a concept.
  func place(_ id: String) -> URL { scratch.folder.appending(path: "studio/concepts/\(id)") }

  /// Asks for a concept of so many steps to be learned.
  func learn(_ id: String, _ name: String, steps: Int, isStyle: Bool = false) throws {
    let plan =
      #"{"title": "\#(name)", "kind": "cat", "quality": "quick", "steps": \#(steps), "seed": 1, "isStyle": \#(isStyle)}"#
    let response = try ask("POST", "/api/concepts/\(id)/learn", json: plan)
    struct Refused: Error { let text: String }
    guard response.status == 200 else { throw Refused(text: response.text) }
  }

  /// Asks for images; gives the order's id.
  func generate(_ json: String, replacing: Bool = false) throws -> String {
    let response = try ask("POST", "/api/generations" + (replacing ? "?replace=yes" : ""), json: json)
    return (try? JSONDecoder().decode([String: String].self, from: response.body)["id"]) ?? response.text
  }

  /// The steps that a concept's run has logged.
  func steps(_ id: String, _ name: String) throws -> [Int] {
    let log = place(id).appending(path: "\(name)/events.jsonl")
    return ((try? RunLog.read(log)) ?? []).filter { $0.kind == .step }.map(\.step)
  }

  /// How many concepts its folder has.
  var conceptCount: Int {
    let folder = scratch.folder.appending(path: "studio/concepts")
    return (try? FileManager.default.contentsOfDirectory(atPath: folder.path).count) ?? 0
  }

  /// A new concept with an example's pictures.
  func example() throws -> String {
    let made = try ask("POST", "/api/concepts", json: #"{"example": "ginger"}"#)
    return try JSONDecoder().decode([String: String].self, from: made.body)["id"] ?? ""
  }
}
