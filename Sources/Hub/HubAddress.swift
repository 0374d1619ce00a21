import CCurl
import Files
import Foundation

/// An address on the web, read by libcurl, which also connects to it: no two parsers can disagree on the host.
package struct HubAddress: Sendable, Equatable {
  static let maximumLength = 16 << 10
  package let text: String
  package let scheme: String
  package let host: String
  package let port: String

  /// - Throws: `HubError` for what is no address of HTTP or HTTPS, or one with a password in it.
  package init(_ text: String, of base: HubAddress? = nil) throws {
    guard text.utf8.count <= Self.maximumLength, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
      let handle = curl_url()
    else { throw HubError("\(quoted(text)) is no address of the web") }
    defer { curl_url_cleanup(handle) }
    if let base { _ = curl_url_set(handle, CURLUPART_URL, base.text, 0) }
    guard curl_url_set(handle, CURLUPART_URL, text, UInt32(CURLU_NON_SUPPORT_SCHEME)) == CURLUE_OK else {
      throw HubError("\(quoted(text)) is no address of the web")
    }
    func part(_ which: CURLUPart, _ flags: Int32 = 0) -> String? {
      var found: UnsafeMutablePointer<CChar>?
      guard curl_url_get(handle, which, &found, UInt32(flags)) == CURLUE_OK, let found else { return nil }
      defer { curl_free(found) }
      return String(cString: found)
    }
    scheme = part(CURLUPART_SCHEME)?.lowercased() ?? ""
    host = part(CURLUPART_HOST)?.lowercased() ?? ""
    port = part(CURLUPART_PORT, CURLU_DEFAULT_PORT) ?? ""
    self.text = part(CURLUPART_URL) ?? text
    guard ["http", "https"].contains(scheme) else {
      throw HubError("\(quoted(text)) is of \(quoted(scheme)), and only https and http are spoken")
    }
    guard !host.isEmpty, part(CURLUPART_USER) == nil, part(CURLUPART_PASSWORD) == nil else {
      throw HubError("\(quoted(text)) has no host, or has a name or a password in it; write it without")
    }
  }

  /// Scheme, host and port: what a token is for.
  package func isSameOrigin(_ other: HubAddress) -> Bool {
    scheme == other.scheme && host == other.host && port == other.port
  }

  /// What follows scheme and host.
  var pathAndQuery: String {
    let start = text.firstRange(of: "://")?.upperBound ?? text.startIndex
    return text[start...].firstIndex(of: "/").map { String(text[$0...]) } ?? ""
  }

  /// The host, as a message names it.
  var place: String { ["443", "80"].contains(port) ? host : "\(host):\(port)" }

  /// With all but unreserved characters written as `%20`; `/` too, unless it is kept.
  package static func encoded(_ text: String, keepingSlashes: Bool = false) -> String {
    var result = ""
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."),
        UInt8(ascii: "~"):
        result.unicodeScalars.append(Unicode.Scalar(byte))
      case UInt8(ascii: "/") where keepingSlashes: result += "/"
      default: result += (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
      }
    }
    return result
  }
}
