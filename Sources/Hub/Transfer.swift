import CCurl
import Files
import Foundation

/// What a server answered, without the body.
struct HTTPResponse {
  let status: Int
  /// By lower-case name; the last one counts.
  let headers: [String: String]
  let address: HubAddress
  /// Where it leads, when it leads elsewhere.
  let redirect: String?

  /// A header that holds a whole number.
  func number(_ name: String) -> Int? { headers[name].flatMap { Int($0) } }
}

/// A connection that failed: nobody there, cut, or silent for too long.
struct TransferFailure: Error {
  let reason: String
  /// No connection came about at all.
  let isUnreachable: Bool
  /// Whether another attempt may go better.
  let isPassing: Bool
  /// Whether nobody vouches for who answers.
  var isUntrusted = false
  /// Whom it was asked of.
  var address: HubAddress?
}

/// One HTTP request after another over libcurl, which keeps the connections. Follows no redirects, sends no passwords of
/// its own, speaks nothing but HTTP and HTTPS, and decodes nothing: bytes arrive as they were sent.
///
/// Proxies come from the environment, as curl's manual says (`https_proxy`, `no_proxy`).
final class Transfer {
  static let maximumHeader = 256 << 10
  private static let started = ccurl_start() == CURLE_OK
  private let handle: UnsafeMutableRawPointer
  private let timeout: Int
  private let patience: Int
  private let certificates: String?

  /// - Parameters:
  ///   - timeout: seconds without a byte after which a connection counts as cut.
  ///   - patience: within how many timeouts every header must be there, and a small body.
  ///   - certificates: a file of those to trust; those of the system when nil.
  init(timeout: Int, patience: Int, certificates: String?) throws {
    guard Self.started, let handle = curl_easy_init() else { throw HubError("libcurl cannot be started") }
    self.handle = handle
    self.timeout = timeout
    self.patience = patience
    self.certificates = certificates
  }

  deinit { curl_easy_cleanup(handle) }

  /// Gets an address.
  ///
  /// - Parameters:
  ///   - headers: lines such as `Range: bytes=7-`.
  ///   - begin: called with the answer before the first byte of its body; returns whether that must be there within
  ///     `patience` timeouts, as every header must. What is silent for the timeout has failed in any case.
  ///   - receive: called with the bytes of the body. What either throws ends the transfer.
  func get(
    _ address: HubAddress, headers: [String], begin: @escaping (HTTPResponse) throws -> Bool,
    receive: @escaping (UnsafeRawBufferPointer) throws -> Void
  ) throws -> HTTPResponse {
    do { return try perform(address, headers, begin, receive) } catch var failure as TransferFailure {
      failure.address = address
      throw failure
    }
  }

  private func perform(
    _ address: HubAddress, _ headers: [String], _ begin: @escaping (HTTPResponse) throws -> Bool,
    _ receive: @escaping (UnsafeRawBufferPointer) throws -> Void
  ) throws -> HTTPResponse {
    curl_easy_reset(handle)
    let lines = Headers(["Accept-Encoding: identity"] + headers)
    let receiver = Receiver(
      handle, address, deadline: .now + .seconds(patience * timeout), begin: begin, receive: receive)
    let context = Unmanaged.passUnretained(receiver).toOpaque()
    let codes =
      [
        ccurl_set_text(handle, CURLOPT_URL, address.text),
        ccurl_set_protocols(handle, address.scheme == "http" ? 1 : 0),
        ccurl_set_text(handle, CURLOPT_USERAGENT, "neti"),
        ccurl_set_number(handle, CURLOPT_NOSIGNAL, 1),
        ccurl_set_number(handle, CURLOPT_FOLLOWLOCATION, 0),
        ccurl_set_number(handle, CURLOPT_CONNECTTIMEOUT, timeout),
        ccurl_set_number(handle, CURLOPT_LOW_SPEED_LIMIT, 1),
        ccurl_set_number(handle, CURLOPT_LOW_SPEED_TIME, timeout),
        ccurl_set_headers(handle, lines.list),
        ccurl_set_receivers(handle, receiveHeader, receiveBody, context),
      ]
      + (certificates.map { [ccurl_set_text(handle, CURLOPT_CAINFO, $0)] } ?? [])
    if let wrong = codes.first(where: { $0 != CURLE_OK }) { throw Self.failure(wrong) }
    let code = withExtendedLifetime((lines, receiver)) { curl_easy_perform(handle) }
    if let error = receiver.error { throw error }
    guard code == CURLE_OK else { throw Self.failure(code) }
    // An answer without a body begins, too.
    try receiver.beginOnce()
    return receiver.response
  }

  private static func failure(_ code: CURLcode) -> TransferFailure {
    let unreachable = [CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY, CURLE_COULDNT_CONNECT]
    let passing = [
      CURLE_PARTIAL_FILE, CURLE_OPERATION_TIMEDOUT, CURLE_GOT_NOTHING, CURLE_SEND_ERROR, CURLE_RECV_ERROR,
      CURLE_SSL_CONNECT_ERROR, CURLE_HTTP2, CURLE_HTTP2_STREAM,
    ]
    let untrusted = [CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR]
    return TransferFailure(
      reason: String(cString: curl_easy_strerror(code)), isUnreachable: unreachable.contains(code),
      isPassing: unreachable.contains(code) || passing.contains(code), isUntrusted: untrusted.contains(code))
  }
}

/// Lines of a request's header, as libcurl wants them.
private final class Headers {
  private(set) var list: UnsafeMutablePointer<curl_slist>?

  init(_ lines: [String]) {
    for line in lines { list = curl_slist_append(list, line) ?? list }
  }

  deinit { curl_slist_free_all(list) }
}

/// Takes what libcurl hands over.
private final class Receiver {
  private let handle: UnsafeMutableRawPointer
  private let address: HubAddress
  private let deadline: ContinuousClock.Instant
  private let begin: (HTTPResponse) throws -> Bool
  private let receive: (UnsafeRawBufferPointer) throws -> Void
  private var headers: [String: String] = [:]
  private var headerBytes = 0
  private var hasBegun = false
  /// Whether the deadline counts: for headers, and for small bodies.
  private var isSmall = true
  private(set) var error: (any Error)?

  init(
    _ handle: UnsafeMutableRawPointer, _ address: HubAddress, deadline: ContinuousClock.Instant,
    begin: @escaping (HTTPResponse) throws -> Bool,
    receive: @escaping (UnsafeRawBufferPointer) throws -> Void
  ) {
    self.handle = handle
    self.address = address
    self.deadline = deadline
    self.begin = begin
    self.receive = receive
  }

  var response: HTTPResponse {
    HTTPResponse(
      status: Int(ccurl_status(handle)), headers: headers, address: address,
      redirect: ccurl_redirect(handle).map { String(cString: $0) })
  }

  func beginOnce() throws {
    guard !hasBegun else { return }
    hasBegun = true
    isSmall = try begin(response)
  }

  private func checkDeadline() throws {
    guard isSmall, ContinuousClock.now > deadline else { return }
    throw TransferFailure(reason: "the answer comes too slowly", isUnreachable: false, isPassing: true)
  }

  /// One line of a header. A line that tells a status begins another one: that of a proxy came before.
  func header(_ bytes: UnsafeRawBufferPointer) -> Int {
    headerBytes += bytes.count
    guard headerBytes <= Transfer.maximumHeader else {
      error = HubError("\(address.place) sends a header of more than \(Transfer.maximumHeader) bytes")
      return -1
    }
    do { try checkDeadline() } catch {
      self.error = error
      return -1
    }
    let line = String(decoding: bytes, as: UTF8.self)
    if line.hasPrefix("HTTP/") {
      headers = [:]
    } else if let colon = line.firstIndex(of: ":") {
      headers[line[..<colon].lowercased()] = line[line.index(after: colon)...].trimmingCharacters(
        in: .whitespacesAndNewlines)
    }
    return bytes.count
  }

  func body(_ bytes: UnsafeRawBufferPointer) -> Int {
    do {
      try beginOnce()
      try checkDeadline()
      try receive(bytes)
      return bytes.count
    } catch {
      self.error = error
      return -1
    }
  }
}

/// Hands bytes to the receiver that `context` points to. A number other than that of the bytes ends the transfer.
private func receiveHeader(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context else { return -1 }
  return Unmanaged<Receiver>.fromOpaque(context).takeUnretainedValue()
    .header(UnsafeRawBufferPointer(start: bytes, count: size * count))
}

private func receiveBody(
  _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
) -> Int {
  guard let context else { return -1 }
  return Unmanaged<Receiver>.fromOpaque(context).takeUnretainedValue()
    .body(UnsafeRawBufferPointer(start: bytes, count: size * count))
}
