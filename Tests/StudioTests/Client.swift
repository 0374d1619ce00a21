import Diffusion
import Foundation
import Studio
import TestSupport

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A client that sends exactly the bytes that a test wants, right or wrong.
final class Client {
  private let descriptor: Int32

  init(port: UInt16) throws {
    // What the server does not want to hear is no reason to end.
    signal(SIGPIPE, SIG_IGN)
    #if canImport(Glibc)
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    struct Refused: Error {}
    guard descriptor >= 0 else { throw Refused() }
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    let length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let descriptor = descriptor
    let failed = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, length) }
    }
    guard failed == 0 else { throw Refused() }
    var patience = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { close(descriptor) }

  /// False when the server has gone.
  @discardableResult
  func send(_ bytes: some Collection<UInt8>) -> Bool {
    let all = Array(bytes)
    var done = 0
    while done < all.count {
      let n = all[done...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
      guard n > 0 else { return false }
      done += n
    }
    return true
  }

  @discardableResult
  func send(_ text: String) -> Bool { send(Array(text.utf8)) }

  /// Everything that comes until the server closes.
  func receive() -> Response {
    var data = Data()
    var piece = [UInt8](repeating: 0, count: 65536)
    while true {
      let n = read(descriptor, &piece, piece.count)
      guard n > 0 else { break }
      data += piece.prefix(n)
    }
    return Response(data)
  }

  /// What comes until it holds `text`, or the server closes.
  func receive(until text: String) -> String {
    var data = Data()
    var piece = [UInt8](repeating: 0, count: 65536)
    while !String(decoding: data, as: UTF8.self).contains(text) {
      let n = read(descriptor, &piece, piece.count)
      guard n > 0 else { break }
      data += piece.prefix(n)
    }
    return String(decoding: data, as: UTF8.self)
  }

  struct Response {
    let status: Int
    let head: String
    let body: Data
    var text: String { String(decoding: body, as: UTF8.self) }
    /// A refusal without the end of its line.
    var line: String { text.hasSuffix("\n") ? String(text.dropLast()) : text }

    init(_ data: Data) {
      let end = data.range(of: Data("\r\n\r\n".utf8))
      head = String(decoding: data[..<(end?.lowerBound ?? data.endIndex)], as: UTF8.self)
      body = Data(data[(end?.upperBound ?? data.endIndex)...])
      status = head.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    }

    func header(_ name: String) -> String? {
      head.components(separatedBy: "\r\n").first { $0.lowercased().hasPrefix(name.lowercased() + ":") }
        .map { $0.dropFirst(name.count + 1).trimmingCharacters(in: .whitespaces) }
    }
  }
}

/// A studio on mini-sd in a folder of its own, and a browser that was let in.
final class TestStudio {
  let studio: Studio
  let scratch: Scratch
  let port: UInt16
  let cookie: String

  init(_ change: (inout StudioSettings) -> Void = { _ in }) throws {
    scratch = try Scratch()
    var settings = StudioSettings(
      configuration: { words in try configuration(of: words) },
      resource: { Fixtures.repository.appending(path: $0) }, metadata: { _, _ in [:] })
    settings.port = 0
    settings.folder = scratch.folder.appending(path: "studio")
    settings.examples = [
      .init(name: "ginger", kind: "cat", folder: Fixtures.examples.appending(path: "ginger"))
    ]
    change(&settings)
    studio = try Studio(StableDiffusion(ModelFolder(Fixtures.miniSD.path)), settings) { _ in }
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
    struct Queued: Decodable { let kind: String, id: String, isRunning: Bool, prompt: String? }
    let queue: [Queued]
    struct Experience: Decodable, Equatable { let step: Double, pause: Double, memory: Double? }
    struct Job: Decodable { let secondsLeft: Double? }
    let experience: Experience?, isTrying: Bool, trialProblem: String?, closing: String?, learnJob: Job?
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
