import Foundation

/// The statuses that the studio answers with.
enum HTTPStatus: Int {
  case ok = 200
  case seeOther = 303
  case badRequest = 400
  case unauthorized = 401
  case forbidden = 403
  case notFound = 404
  case methodNotAllowed = 405
  case timeout = 408
  case conflict = 409
  case lengthRequired = 411
  case tooLarge = 413
  case unsupportedMedia = 415
  case misdirected = 421
  case unprocessable = 422
  case tooMany = 429
  case failed = 500
}

/// What is sent back. Each connection carries one response and ends with it.
struct HTTPResponse {
  var status = HTTPStatus.ok
  var headers: [(name: String, value: String)] = []
  var body = Data()
  /// Writes events after the head until the client goes; then `body` is empty.
  var stream: ((EventStream) throws -> Void)?

  init(_ status: HTTPStatus = .ok, _ type: String, _ body: Data, cached: Bool = false) {
    self.status = status
    self.body = body
    headers = [
      ("Content-Type", type),
      ("Cache-Control", cached ? "private, max-age=31536000, immutable" : "no-store"),
    ]
  }

  static func json(_ value: some Encodable, _ status: HTTPStatus = .ok) throws -> HTTPResponse {
    HTTPResponse(status, "application/json", try encoded(value))
  }

  static func encoded(_ value: some Encodable) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = .convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
    return try encoder.encode(value)
  }

  static func done() -> HTTPResponse { HTTPResponse(.ok, "application/json", Data("{}".utf8)) }

  static func text(_ status: HTTPStatus, _ line: String) -> HTTPResponse {
    HTTPResponse(status, "text/plain; charset=utf-8", Data((line + "\n").utf8))
  }

  static func png(_ data: Data) -> HTTPResponse { HTTPResponse(.ok, "image/png", data, cached: true) }

  /// Something to save under a name, which is one of ours.
  static func file(_ data: Data, name: String, type: String = "application/octet-stream") -> HTTPResponse {
    var response = HTTPResponse(.ok, type, data)
    response.headers.append(("Content-Disposition", "attachment; filename=\"\(name)\""))
    return response
  }

  /// Server-sent events.
  static func events(_ stream: @escaping (EventStream) throws -> Void) -> HTTPResponse {
    var response = HTTPResponse(.ok, "text/event-stream", Data())
    response.stream = stream
    return response
  }

  /// What every response says: nothing of this page may be framed, run from elsewhere or looked at by others.
  private static let always = [
    (
      "Content-Security-Policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        + "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    ("X-Content-Type-Options", "nosniff"), ("X-Frame-Options", "DENY"), ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"), ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), microphone=(), geolocation=()"), ("Connection", "close"),
  ]

  /// Status line and headers.
  var head: Data {
    var lines = ["HTTP/1.1 \(status.rawValue) \(status)"]
    lines += (headers + Self.always).map { "\($0.name): \($0.value)" }
    if stream == nil { lines.append("Content-Length: \(body.count)") }
    return Data((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8)
  }
}

/// Where server-sent events are written to.
struct EventStream {
  let connection: Connection
  let patience: Duration

  /// One event; `data` has no line break, as JSON has none.
  func send(_ event: String, _ data: Data) throws {
    try write(Data("event: \(event)\ndata: ".utf8) + data + Data("\n\n".utf8))
  }

  /// Nothing, to learn whether someone still listens.
  func ping() throws { try write(Data(":\n\n".utf8)) }

  private func write(_ data: Data) throws {
    try connection.write(data, before: .now + patience)
  }
}
