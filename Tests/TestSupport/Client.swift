package import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A client that sends exactly the bytes that a test wants, right or wrong.
package final class Client {
  private let descriptor: Int32

  /// - Parameter buffer: bytes that the system keeps of what it has not read; as many as it likes when nil.
  package init(port: UInt16, buffer: Int32? = nil) throws {
    // What the server does not want to hear is no reason to end.
    signal(SIGPIPE, SIG_IGN)
    #if canImport(Glibc)
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    struct Refused: Error {}
    guard descriptor >= 0 else { throw Refused() }
    if var buffer {
      setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &buffer, socklen_t(MemoryLayout<Int32>.size))
    }
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

  /// Its end is then that of a line that breaks.
  package func breaksOff() {
    var now = linger(l_onoff: 1, l_linger: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
  }

  /// False when the server has gone.
  @discardableResult
  package func send(_ bytes: some Collection<UInt8>) -> Bool {
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
  package func send(_ text: String) -> Bool { send(Array(text.utf8)) }

  /// Everything that comes until the server closes.
  package func receive() -> Response {
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
  package func receive(until text: String) -> String {
    var data = Data()
    var piece = [UInt8](repeating: 0, count: 65536)
    while !String(decoding: data, as: UTF8.self).contains(text) {
      let n = read(descriptor, &piece, piece.count)
      guard n > 0 else { break }
      data += piece.prefix(n)
    }
    return String(decoding: data, as: UTF8.self)
  }

  /// Whether the server has answered, or gone.
  package var isClosed: Bool {
    var byte: UInt8 = 0
    let n = recv(descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
    return n >= 0
  }

  package struct Response {
    package let status: Int
    package let head: String
    package let body: Data
    package var text: String { String(decoding: body, as: UTF8.self) }
    /// A refusal without the end of its line.
    package var line: String { text.hasSuffix("\n") ? String(text.dropLast()) : text }

    init(_ data: Data) {
      let end = data.range(of: Data("\r\n\r\n".utf8))
      head = String(decoding: data[..<(end?.lowerBound ?? data.endIndex)], as: UTF8.self)
      body = Data(data[(end?.upperBound ?? data.endIndex)...])
      status = head.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
    }

    package func header(_ name: String) -> String? {
      head.components(separatedBy: "\r\n").first { $0.lowercased().hasPrefix(name.lowercased() + ":") }
        .map { $0.dropFirst(name.count + 1).trimmingCharacters(in: .whitespaces) }
    }
  }
}
