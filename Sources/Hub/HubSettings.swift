import Files
public import Foundation

/// Where the Hub is, and who asks, as `huggingface_hub` reads it from the environment.
public struct HubSettings: Sendable {
  package let endpoint: HubAddress
  package let token: String?
  /// Whether `HF_HUB_OFFLINE` forbids the network.
  public let isOffline: Bool
  /// Seconds without a byte after which a connection counts as cut.
  let timeout: Int
  /// Within how many timeouts a header must be there, and a small body.
  package var patience = 10
  /// A file of certificates that are trusted instead of the system's, as OpenSSL names it.
  let certificates: String?

  /// - Parameter environment: `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_OFFLINE`,
  ///   `HF_HUB_DOWNLOAD_TIMEOUT`, `HF_HUB_DISABLE_IMPLICIT_TOKEN`, `SSL_CERT_FILE`.
  /// - Throws: `HubError` that names the variable that is wrong.
  public init(_ environment: [String: String] = ProcessInfo.processInfo.environment) throws {
    func isSet(_ name: String) -> Bool {
      ["1", "ON", "YES", "TRUE"].contains((environment[name] ?? "").uppercased())
    }
    func given(_ name: String) -> String? { environment[name].flatMap { $0.isEmpty ? nil : $0 } }
    isOffline = isSet(given("HF_HUB_OFFLINE") == nil ? "TRANSFORMERS_OFFLINE" : "HF_HUB_OFFLINE")
    var address = given("HF_ENDPOINT") ?? "https://huggingface.co"
    while address.hasSuffix("/") { address.removeLast() }
    do { endpoint = try HubAddress(address) } catch { throw HubError("HF_ENDPOINT: \(error)") }
    guard !address.contains("?"), !address.contains("#") else {
      throw HubError("HF_ENDPOINT: \(quoted(address)) must end before “?” or “#”")
    }
    let seconds = given("HF_HUB_DOWNLOAD_TIMEOUT")
    guard let number = Int(seconds ?? "10") else {
      throw HubError(
        "HF_HUB_DOWNLOAD_TIMEOUT: \(quoted(seconds ?? "")) is no number of seconds; write 30, for example")
    }
    timeout = min(max(number, 1), 3600)
    certificates = try path("SSL_CERT_FILE", environment)?.path
    // As there, one that is blank is none.
    let told = [given("HF_TOKEN"), given("HUGGING_FACE_HUB_TOKEN")].compactMap(\.self)
      .first { !$0.allSatisfy(\.isWhitespace) }
    if isSet("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
      token = nil
    } else if let told {
      token = try Self.checked(told, "HF_TOKEN")
    } else {
      let file =
        try path("HF_TOKEN_PATH", environment) ?? HubCache.home(environment).appending(path: "token")
      let data =
        FileManager.default.fileExists(atPath: file.path) ? try readFile(file, limit: 1 << 14) : Data()
      token = try Self.checked(String(decoding: data, as: UTF8.self), file.path)
    }
  }

  /// The host, as a message names it.
  public var place: String { endpoint.place }

  /// A token goes into a line of a header: nothing in it may end that line. The token itself is in no message.
  private static func checked(_ text: String, _ name: String) throws -> String? {
    let token = text.trimmingCharacters(in: .whitespacesAndNewlines)
    guard token.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
      throw HubError("\(name) holds no token: there are spaces or other signs in it; copy it again")
    }
    return token.isEmpty ? nil : token
  }

  /// The address of an API or a file.
  package func address(_ path: String) throws -> HubAddress {
    try HubAddress(endpoint.text.trimmingSuffix("/") + path)
  }
}

extension String {
  func trimmingSuffix(_ suffix: String) -> String {
    hasSuffix(suffix) ? String(dropLast(suffix.count)) : self
  }
}
