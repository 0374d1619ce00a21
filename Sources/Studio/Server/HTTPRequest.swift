import Dispatch
package import Foundation

/// What a client asks for: the head of a request, strictly read. Its body stays on the connection until someone
/// wants it.
package struct HTTPRequest {
  /// What is accepted from a client.
  enum Limit {
    /// Bytes of the request line and all headers.
    static let head = 16 << 10
    /// Large bodies at once.
    static let mostLarge = 2
    /// Bytes of a body that is words and numbers.
    static let words = 64 << 10
  }

  let method: String
  /// What stands between the slashes; “/” has nothing. Never decoded: no address of the studio needs it.
  let path: [String]
  let query: [String: String]
  /// By their names in lower case.
  let headers: [String: String]

  /// - Throws: a `StudioError` for whatever is not a plain HTTP/1.1 request.
  package init(head: Data) throws {
    guard let text = String(data: head, encoding: .utf8) else { throw Self.malformed }
    let lines = text.components(separatedBy: "\r\n")
    let words = lines[0].components(separatedBy: " ")
    guard words.count == 3, ["HTTP/1.1", "HTTP/1.0"].contains(words[2]), words[1].hasPrefix("/"),
      !words[0].isEmpty, words[0].utf8.allSatisfy({ (65...90).contains($0) })
    else { throw Self.malformed }
    method = words[0]
    let parts = words[1].split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    path = parts[0].dropFirst().split(separator: "/", omittingEmptySubsequences: false)
      .map(String.init).filter { parts[0] != "/" || !$0.isEmpty }
    query = try Self.query(parts.count > 1 ? parts[1] : "")
    headers = try Self.headers(lines.dropFirst().filter { !$0.isEmpty })
    // One way to say where a body ends leaves nothing to disagree about.
    guard headers["transfer-encoding"] == nil else {
      throw StudioError("a body needs a Content-Length; Transfer-Encoding is not read", .lengthRequired)
    }
  }

  private static let malformed = StudioError(
    "this is no plain HTTP/1.1 request, which is all that the studio reads", .badRequest)

  private static func query(_ text: Substring) throws -> [String: String] {
    var query: [String: String] = [:]
    for pair in text.split(separator: "&") {
      let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      guard let name = String(sides[0]).removingPercentEncoding,
        let value = String(sides.count > 1 ? sides[1] : "").removingPercentEncoding,
        query.updateValue(value, forKey: name) == nil
      else { throw malformed }
    }
    return query
  }

  private static func headers(_ lines: [String]) throws -> [String: String] {
    var headers: [String: String] = [:]
    for line in lines {
      guard let colon = line.firstIndex(of: ":") else { throw malformed }
      let name = line[..<colon]
      let isName = { (c: Character) in c.isASCII && (c.isLetter || c.isNumber || "-_".contains(c)) }
      let value = line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
      guard !name.isEmpty, name.allSatisfy(isName), !value.contains("\0"), !value.contains("\n"),
        // Twice the same header is two answers to one question.
        headers.updateValue(value, forKey: name.lowercased()) == nil
      else { throw malformed }
    }
    return headers
  }

  /// Bytes of the body that is announced.
  package func contentLength(atMost limit: Int) throws -> Int {
    guard let text = headers["content-length"] else { return 0 }
    guard !text.isEmpty, text.utf8.allSatisfy({ (48...57).contains($0) }) else { throw Self.malformed }
    guard let length = Int(text), length <= limit else {
      throw StudioError("that is too large: at most \(limit >> 10) KiB are taken here", .tooLarge)
    }
    return length
  }

  /// The value of a cookie.
  package func cookie(_ name: String) -> String? {
    for pair in (headers["cookie"] ?? "").split(separator: ";") {
      let sides = pair.split(separator: "=", maxSplits: 1)
      if sides.count == 2, sides[0].trimmingCharacters(in: .whitespaces) == name {
        return String(sides[1]).trimmingCharacters(in: .whitespaces)
      }
    }
    return nil
  }
}

/// A request with the connection that it came over.
struct Exchange {
  let request: HTTPRequest
  let connection: Connection
  let deadlines: Deadlines
  /// What came after the head already.
  let early: Data

  /// The body, read whole.
  func body(atMost limit: Int = HTTPRequest.Limit.words) throws -> Data {
    try body(atMost: limit, within: deadlines.body)
  }

  private static let large = DispatchSemaphore(value: HTTPRequest.Limit.mostLarge)

  /// Reads a large body and does something with it; few of them are in memory at once.
  func large<T>(atMost limit: Int, _ work: (Data) throws -> T) throws -> T {
    _ = try request.contentLength(atMost: limit)
    guard Self.large.wait(timeout: .now() + deadlines.turn / .seconds(1)) == .success else {
      throw StudioError("other files are still being read; try again in a moment", .tooMany)
    }
    defer { Self.large.signal() }
    return try work(body(atMost: limit, within: deadlines.large))
  }

  private func body(atMost limit: Int, within time: Duration) throws -> Data {
    let length = try request.contentLength(atMost: limit)
    let deadline = ContinuousClock.now + time
    if length > 0, request.headers["expect"]?.lowercased() == "100-continue" {
      try connection.write(Data("HTTP/1.1 100 Continue\r\n\r\n".utf8), before: deadline)
    }
    var body = early.prefix(length)
    while body.count < length {
      let piece = try connection.read(
        atMost: length - body.count, before: min(deadline, .now + deadlines.piece))
      guard !piece.isEmpty else { throw StudioError("the request is cut short", .badRequest) }
      body += piece
    }
    return Data(body)
  }

  /// The body as JSON of a type. Only JSON: what a form of another page can send is none.
  func json<T: Decodable>(_ type: T.Type, atMost limit: Int = HTTPRequest.Limit.words) throws -> T {
    let kind = request.headers["content-type"]?.split(separator: ";").first?.trimmingCharacters(
      in: .whitespaces)
    guard kind?.lowercased() == "application/json" else {
      throw StudioError("this must be JSON, sent with Content-Type: application/json", .unsupportedMedia)
    }
    let data = try body(atMost: limit)
    do { return try JSONDecoder().decode(type, from: data) } catch {
      throw StudioError("what the page sent cannot be read; load the page anew", .badRequest)
    }
  }
}
