import Files
public import Foundation

/// What happens while something is fetched.
public enum HubEvent: Sendable {
  /// Another process fetches the same.
  case waitsForAnother
  /// The next attempt comes after some seconds.
  case waits(seconds: Int, reason: String)
  /// Bytes came that count towards the whole; some may be counted down when a file must begin again.
  case received(bytes: Int)
}

/// Asks a Hub for lists and files over HTTP. One request at a time.
///
/// The token goes to the Hub's own origin (scheme, host and port) and to no other, wherever the Hub leads. Redirects are
/// followed up to a number, and never from HTTPS to HTTP.
public final class HubClient {
  static let maximumRedirects = 8
  package static let maximumAnswer = 32 << 20
  static let maximumPages = 200
  /// Attempts in a row that bring nothing.
  static let maximumAttempts = 5
  static let maximumPause = 300
  /// Bytes of a redirection's body, which nobody reads.
  static let maximumRedirectBody = 64 << 10

  public let settings: HubSettings
  let listener: (HubEvent) -> Void
  private let transfer: Transfer
  private let pause: (Int) -> Void
  /// Whether any host has answered: then one that cannot be reached may be there in a moment.
  private var hasAnswered = false

  /// - Parameter pause: waits for some seconds; tests do not.
  public init(
    _ settings: HubSettings, pause: @escaping (Int) -> Void = { Thread.sleep(forTimeInterval: Double($0)) },
    listener: @escaping (HubEvent) -> Void = { _ in }
  ) throws {
    guard !settings.isOffline else {
      throw HubError(
        "HF_HUB_OFFLINE is set, so nothing is fetched; unset it, or name a model that is here already")
    }
    self.settings = settings
    self.pause = pause
    self.listener = listener
    transfer = try Transfer(
      timeout: settings.timeout, patience: settings.patience, certificates: settings.certificates)
  }

  // MARK: The Hub's API

  /// The commit that a branch or tag stands for.
  func commit(of name: RepositoryName) throws -> String {
    struct Info: Decodable { let sha: String? }
    let path = "/api/models/\(name.id)/revision/\(HubAddress.encoded(name.wanted))"
    let (data, response) = try answer(settings.address(path), name)
    let info = try JSONFile.decode(
      Info.self, from: data, name: "what \(response.address.place) says of \(name)")
    guard let sha = info.sha, sha.isHexadecimal(40) else {
      throw HubError(
        "what \(response.address.place) says of \(name) has no commit but \(quoted(info.sha ?? "nothing"))")
    }
    return sha
  }

  /// The files of a commit.
  func files(of name: RepositoryName, _ commit: String) throws -> RepositoryList {
    var list = RepositoryList()
    var next: HubAddress? = try settings.address(
      "/api/models/\(name.id)/tree/\(commit)?recursive=true&expand=false")
    var pages = 0
    while let address = next {
      pages += 1
      guard pages <= Self.maximumPages else {
        throw HubError("\(address.place): the list of \(name) has more than \(Self.maximumPages) pages")
      }
      let (data, response) = try answer(address, name)
      try list.add(data, name: "the list of \(name)")
      next = try nextPage(response)
    }
    return list
  }

  /// `<…>; rel="next"` of a `Link` header (RFC 8288), as the Hub sends it.
  private func nextPage(_ response: HTTPResponse) throws -> HubAddress? {
    guard let link = response.headers["link"],
      let match = link.firstMatch(of: /<([^<>]*)>\s*;\s*rel="?next"?/)
    else { return nil }
    let address = try HubAddress(String(match.output.1), of: response.address)
    if address.isSameOrigin(response.address) { return address }
    // A mirror may pass on what the Hub wrote: its own page of the same path is meant. Nothing goes to another host.
    return try settings.address(address.pathAndQuery)
  }

  /// A small answer, whole.
  private func answer(_ address: HubAddress, _ name: RepositoryName) throws -> (Data, HTTPResponse) {
    try attempts(address) {
      var data = Data()
      let response = try get(address, isSmall: true) { response in
        guard (response.number("content-length") ?? 0) <= Self.maximumAnswer else {
          throw HubError("\(address.place) answers with more than \(Self.maximumAnswer >> 20) MiB")
        }
      } receive: { bytes in
        guard data.count + bytes.count <= Self.maximumAnswer else {
          throw HubError("\(address.place) answers with more than \(Self.maximumAnswer >> 20) MiB")
        }
        data.append(contentsOf: bytes)
      }
      guard response.status == 200 else { throw refusal(response, name) }
      return (data, response)
    }
  }

  // MARK: Files

  /// Where the bytes of a file are.
  func address(of file: RepositoryFile, _ name: RepositoryName, _ commit: String) throws -> HubAddress {
    let path = HubAddress.encoded(file.path, keepingSlashes: true)
    return try settings.address("/\(name.id)/resolve/\(commit)/\(path)")
  }

  /// The first bytes of a file, asked for once; nil where the server sends something else than them.
  func start(of file: RepositoryFile, bytes count: Int, _ name: RepositoryName, _ commit: String) throws
    -> [UInt8]?
  {
    /// Ends the transfer, and with it the connection.
    struct OtherBytes: Error {}
    let address = try address(of: file, name, commit)
    var bytes: [UInt8] = []
    do {
      _ = try get(address, headers: ["Range: bytes=0-\(count - 1)"], isSmall: true) { [self] response in
        guard [200, 206, 416].contains(response.status) else { throw refusal(response, name, file.path) }
        guard response.status == 206,
          ["\(file.size)", "*"].contains(where: {
            response.headers["content-range"] == "bytes 0-\(count - 1)/\($0)"
          })
        else { throw OtherBytes() }
      } receive: { part in
        guard bytes.count + part.count <= count else { throw OtherBytes() }
        bytes.append(contentsOf: part)
      }
    } catch is OtherBytes { return nil }
    return bytes.count == count ? bytes : nil
  }

  // MARK: Requests

  /// Gets an address, and what it leads to.
  ///
  /// - Parameters:
  ///   - isSmall: whether the body must be there within a time, as every header must.
  ///   - begin: called with the last answer before its body.
  ///   - receive: called with the bytes of the last answer's body, whatever its status.
  /// - Returns: the last answer.
  func get(
    _ address: HubAddress, headers: [String] = [], isSmall: Bool = false,
    begin: @escaping (HTTPResponse) throws -> Void,
    receive: @escaping (UnsafeRawBufferPointer) throws -> Void
  ) throws -> HTTPResponse {
    var address = address
    for _ in 0...Self.maximumRedirects {
      let isHub = address.isSameOrigin(settings.endpoint)
      let authorization = isHub ? settings.token.map { ["Authorization: Bearer \($0)"] } ?? [] : []
      let place = address.place
      var (isRedirect, ignored) = (false, 0)
      let response = try transfer.get(address, headers: headers + authorization) { response in
        isRedirect = [301, 302, 303, 307, 308].contains(response.status)
        if !isRedirect { try begin(response) }
        return isRedirect || isSmall
      } receive: { bytes in
        if !isRedirect { return try receive(bytes) }
        ignored += bytes.count
        guard ignored <= Self.maximumRedirectBody else {
          throw HubError(
            "\(place) leads elsewhere with a page of more than \(Self.maximumRedirectBody) bytes")
        }
      }
      hasAnswered = true
      guard isRedirect else { return response }
      guard let target = response.redirect else {
        throw HubError("\(address.place) leads elsewhere without saying where")
      }
      address = try Self.follow(target, from: address)
    }
    throw HubError(
      "\(address.place) leads from one address to another, more than \(Self.maximumRedirects) times")
  }

  /// Where an answer leads, unless that is from HTTPS to HTTP.
  package static func follow(_ target: String, from address: HubAddress) throws -> HubAddress {
    let next = try HubAddress(target)
    guard address.scheme == "http" || next.scheme == "https" else {
      throw HubError(
        "\(address.place) leads from https to http, to \(next.place); nothing is fetched from there")
    }
    return next
  }

  /// Does something that may fail in passing until it succeeds, with pauses that double; a server may ask for one.
  ///
  /// - Parameter advanced: whether the attempt that just failed brought something, so that attempts count anew.
  func attempts<T>(
    _ address: HubAddress, advanced: () -> Bool = { false }, _ body: () throws -> T
  ) throws -> T {
    var failures = 0
    while true {
      let (seconds, reason, error): (Int?, String, any Error)
      var isHopeless = false
      do { return try body() } catch let failure as TransferFailure {
        (seconds, reason, error) = (nil, failure.reason, unreachable(failure.address ?? address, failure))
        // Where nobody answered yet, nobody will in a second.
        isHopeless = !failure.isPassing || (failure.isUnreachable && !hasAnswered)
      } catch let busy as BusyServer {
        (seconds, reason, error) = (busy.seconds, busy.reason, HubError("\(busy.reason); try again later"))
      }
      let hasAdvanced = advanced()
      failures = hasAdvanced ? 1 : failures + 1
      guard !isHopeless || hasAdvanced, failures < Self.maximumAttempts else { throw error }
      let pause = min(seconds ?? 1 << (failures - 1), Self.maximumPause)
      listener(.waits(seconds: pause, reason: reason))
      self.pause(pause)
    }
  }

  private func unreachable(_ address: HubAddress, _ failure: TransferFailure) -> HubError {
    guard !failure.isUntrusted else {
      return HubError(
        "\(address.place): its certificate is not trusted (\(failure.reason)); check the clock, or add the certificate of "
          + "a proxy between to those that the system trusts")
    }
    return HubError(
      "\(address.place): \(failure.reason); check the network, or a proxy in https_proxy"
        + (hasAnswered && failure.isPassing ? ". What was fetched stays, and the same command goes on" : ""))
  }
}

/// A server that asks to come again.
struct BusyServer: Error {
  let seconds: Int?
  let reason: String
}
