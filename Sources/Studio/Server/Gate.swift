import Files
import Foundation
import Synchronization

/// Who may come in: decides every request before anything else looks at it.
///
/// The page's address carries a token that is new with each start. It is exchanged for a cookie that no script
/// can read and no other site can send. Host and Origin are checked too: a foreign name that points here, or a
/// form of another site, gets nowhere.
struct Gate: Sendable {
  /// Where the studio is reached, for the address that is shown.
  let host: String
  let port: UInt16
  /// What stands in the page's address; empty where a password is asked for.
  let token: String
  private let session = Gate.secret()
  private let password: String?

  static let leastPassword = 8
  /// How long a wrong password takes to be refused.
  private static let penalty: UInt32 = 1
  /// Passwords are looked at one after another, however many try.
  private static let turn = NSLock()
  /// Who waits for it; more are sent away at once.
  private static let waiting = Mutex(0)
  private static let mostWaiting = 4

  /// - Parameter password: asked for instead of the token, on connections that others can make.
  init(host: String, port: UInt16, password: String?) {
    self.host = host
    self.port = port
    self.password = password
    token = password == nil ? Self.secret() : ""
  }

  /// 256 random bits from the system.
  static func secret() -> String {
    var random = SystemRandomNumberGenerator()
    return (0..<4).map { _ in
      let digits = String(random.next() as UInt64, radix: 16)
      return String(repeating: "0", count: 16 - digits.count) + digits
    }.joined()
  }

  /// The addresses to open, the likeliest first: of a host that means all of them, each that this machine has.
  var addresses: [String] {
    let every = SocketAddress.isWildcard(host) ? SocketAddress.ofThisMachine(as: host) : [host]
    return every.map { name in
      "http://\(name.contains(":") ? "[\(name)]" : name):\(port)/" + (token.isEmpty ? "" : "?token=\(token)")
    }
  }

  /// Cookies do not know ports: two studios on one machine must not take each other's.
  private var cookieName: String { "neti-studio-\(port)" }

  /// The response that a request gets here; nil lets it in.
  func response(to exchange: Exchange) throws -> HTTPResponse? {
    let request = exchange.request
    guard isOurs(host: request.headers["host"]) else {
      throw StudioError("the studio does not answer to this name", .misdirected)
    }
    try checkOrigin(request)
    if request.path == ["login"] { return try login(exchange) }
    if let cookie = request.cookie(cookieName), Self.areEqual(cookie, session) {
      exchange.connection.isTrusted = true
      return request.query["token"] == nil ? nil : entry
    }
    if password == nil, request.method == "GET", request.path.isEmpty, let given = request.query["token"],
      Self.areEqual(given, token)
    {
      // Not a redirection: after a click on another site's page browsers send no strict cookie with that.
      var response = HTTPResponse(.ok, "text/html; charset=utf-8", Data(Self.entryPage.utf8))
      response.headers.append(cookie)
      return response
    }
    guard password != nil, request.method == "GET", request.path.isEmpty else {
      throw StudioError(
        "this page belongs to whoever started the studio: open the address that it printed", .unauthorized)
    }
    return HTTPResponse(.unauthorized, "text/html; charset=utf-8", Data(Self.loginPage.utf8))
  }

  /// Only names that nobody else can point here: an address, or this machine's own name for itself. The port may be
  /// the one that a tunnel has at its other end.
  private func isOurs(host: String?) -> Bool {
    guard let host else { return false }
    let colon = host.lastIndex(of: ":").flatMap { UInt16(host[host.index(after: $0)...]) == nil ? nil : $0 }
    guard colon != nil || port == 80 else { return false }
    let name = host[..<(colon ?? host.endIndex)]
    if name.lowercased() == "localhost" { return true }
    let bare = name.hasPrefix("[") && name.hasSuffix("]") ? String(name.dropFirst().dropLast()) : String(name)
    return SocketAddress.isLoopback(self.host)
      ? SocketAddress.isLoopback(bare) : SocketAddress.isAddress(bare)
  }

  /// What another site's page makes a browser send says so, and whatever changes something must say where it is
  /// from.
  private func checkOrigin(_ request: HTTPRequest) throws {
    let isForeign: Bool
    if let origin = request.headers["origin"] {
      isForeign = origin != "http://" + (request.headers["host"] ?? "")
    } else {
      isForeign = request.method != "GET"
    }
    let site = request.headers["sec-fetch-site"] ?? "none"
    // Following a link to the page from elsewhere is no harm.
    let isLink = request.method == "GET" && request.path.isEmpty
    guard !isForeign, isLink || ["same-origin", "none"].contains(site) else {
      throw StudioError("another site's page may not ask for this", .forbidden)
    }
  }

  /// To the page, without the token in its address.
  private var entry: HTTPResponse {
    var response = HTTPResponse.text(.seeOther, "")
    response.headers.append(("Location", "/"))
    return response
  }

  private var cookie: (String, String) {
    ("Set-Cookie", "\(cookieName)=\(session); Path=/; HttpOnly; SameSite=Strict")
  }

  private func login(_ exchange: Exchange) throws -> HTTPResponse {
    guard let password, exchange.request.method == "POST" else {
      throw StudioError("there is nothing here", .notFound)
    }
    let body = String(decoding: try exchange.body(atMost: 4096), as: UTF8.self)
    let given = body.hasPrefix("password=") ? body.dropFirst("password=".count) : ""
    let text = given.replacing("+", with: " ").removingPercentEncoding ?? ""
    let hasPlace = Self.waiting.withLock { waiting in
      waiting += 1
      return waiting <= Self.mostWaiting
    }
    defer { Self.waiting.withLock { $0 -= 1 } }
    guard hasPlace else { throw StudioError("many try to come in at once; wait a moment", .tooMany) }
    let isRight = Self.turn.withLock {
      // Within, so that who does not wait for the answer does not get it sooner.
      let isRight = Self.areEqual(text, password)
      if !isRight { _ = sleep(Self.penalty) }
      return isRight
    }
    guard isRight else {
      return HTTPResponse(.unauthorized, "text/html; charset=utf-8", Data(Self.loginPage.utf8))
    }
    var response = entry
    response.headers.append(cookie)
    return response
  }

  /// Compared without telling by its time how much of it is right.
  private static func areEqual(_ a: String, _ b: String) -> Bool {
    let (x, y) = (SHA256.hexadecimal(Array(a.utf8)), SHA256.hexadecimal(Array(b.utf8)))
    return zip(x.utf8, y.utf8).reduce(0) { $0 | ($1.0 ^ $1.1) } == 0
  }

  /// Leads to the page at once.
  private static let entryPage = """
    <!DOCTYPE html>
    <html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">
    <link rel="icon" href="data:,">
    <title>neti studio</title></head><body><p><a href="/">Open the studio</a></p></body></html>

    """

  private static let loginPage = """
    <!DOCTYPE html>
    <html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
    <link rel="icon" href="data:,"><title>neti studio</title></head>
    <body><form method="post" action="/login"><h1>neti studio</h1>
    <p><label>Password <input type="password" name="password" autofocus></label> <button>Open</button></p>
    </form></body></html>

    """
}
