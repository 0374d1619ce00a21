public import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// An HTTP server for tests, on a port of 127.0.0.1 that the system chooses, which can also behave badly: a connection
/// that is cut, a length that is a lie, bytes that come slowly. Each connection has a thread and takes one request.
public final class LoopbackServer: Sendable {
  public struct Request: Sendable {
    public let method: String
    /// Without the query, as it was sent.
    public let path: String
    public let query: String
    /// By lower-case name.
    public let headers: [String: String]
    public let port: Int
  }

  public struct Reply: Sendable {
    public var status: Int
    public var headers: [String: String]
    public var body: Data
    /// What `Content-Length` says; the truth when nil, no such header when negative.
    public var length: Int?
    /// Bytes of the body after which the connection is reset.
    public var cut: Int?
    /// Milliseconds after each 64 KB of the body.
    public var pause: Int = 0

    public init(_ status: Int = 200, _ headers: [String: String] = [:], _ body: Data = Data()) {
      self.status = status
      self.headers = headers
      self.body = body
    }

    public init(_ status: Int = 200, json: String) {
      self.init(status, ["Content-Type": "application/json"], Data(json.utf8))
    }
  }

  public let port: Int
  private let descriptor: Int32
  private let count = Count()

  private final class Count: Sendable {
    let bytes = Mutex(0)
  }

  /// Bytes of bodies that were sent, as far as connections took them.
  public var sent: Int { count.bytes.withLock { $0 } }

  public init(_ answer: @escaping @Sendable (Request) -> Reply) throws {
    // A proxy of this machine's has no part in it.
    setenv("no_proxy", "127.0.0.1,localhost", 1)
    #if canImport(Glibc)
      let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      let descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let isBound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { at in
        bind(descriptor, at, size) == 0 && listen(descriptor, 64) == 0
          && getsockname(descriptor, at, &size) == 0
      }
    }
    guard descriptor >= 0, isBound else { throw POSIXError(.EADDRNOTAVAIL) }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    let port = Int(UInt16(bigEndian: address.sin_port))
    (self.descriptor, self.port) = (descriptor, port)
    Thread.detachNewThread { [count] in
      while true {
        let connection = accept(descriptor, nil, nil)
        if connection < 0 {
          if errno == EINTR { continue }
          return
        }
        _ = fcntl(connection, F_SETFD, FD_CLOEXEC)
        Thread.detachNewThread { Self.serve(connection, port, count, answer) }
      }
    }
  }

  deinit {
    shutdown(descriptor, Int32(SHUT_RDWR))
    close(descriptor)
  }

  public var address: String { "http://127.0.0.1:\(port)" }

  private static func serve(_ connection: Int32, _ port: Int, _ count: Count, _ answer: (Request) -> Reply) {
    defer { close(connection) }
    guard let request = read(connection, port) else { return }
    let reply = answer(request)
    var head = "HTTP/1.1 \(reply.status) X\r\nConnection: close\r\n"
    for (name, value) in reply.headers { head += "\(name): \(value)\r\n" }
    let length = reply.length ?? reply.body.count
    if length >= 0 { head += "Content-Length: \(length)\r\n" }
    guard send(Array((head + "\r\n").utf8)[...], to: connection), request.method != "HEAD" else { return }
    var rest = Array(reply.body.prefix(reply.cut ?? reply.body.count))[...]
    while !rest.isEmpty {
      guard send(rest.prefix(1 << 16), to: connection) else { return }
      count.bytes.withLock { [part = rest.prefix(1 << 16).count] in $0 += part }
      rest = rest.dropFirst(1 << 16)
      if reply.pause > 0 { usleep(UInt32(reply.pause) * 1000) }
    }
    if reply.cut != nil {
      // What was sent arrives, then the line is dead.
      usleep(20_000)
      var now = linger(l_onoff: 1, l_linger: 0)
      setsockopt(connection, SOL_SOCKET, SO_LINGER, &now, socklen_t(MemoryLayout<linger>.size))
    }
  }

  private static func read(_ connection: Int32, _ port: Int) -> Request? {
    var data = Data()
    var buffer = [UInt8](repeating: 0, count: 4096)
    while data.range(of: Data("\r\n\r\n".utf8)) == nil {
      let count = recv(connection, &buffer, buffer.count, 0)
      guard count > 0, data.count < 1 << 20 else { return nil }
      data += buffer.prefix(count)
    }
    let lines = String(decoding: data, as: UTF8.self).split(separator: "\r\n").map(String.init)
    let first = lines[0].split(separator: " ")
    guard first.count == 3 else { return nil }
    var headers: [String: String] = [:]
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { continue }
      headers[line[..<colon].lowercased()] =
        line[line.index(after: colon)...].trimmingCharacters(in: .whitespaces)
    }
    let target = first[1].split(separator: "?", maxSplits: 1).map(String.init)
    return Request(
      method: String(first[0]), path: target[0], query: target.count > 1 ? target[1] : "", headers: headers,
      port: port)
  }

  private static func send(_ bytes: ArraySlice<UInt8>, to connection: Int32) -> Bool {
    var rest = bytes
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes {
        #if canImport(Darwin)
          Darwin.send(connection, $0.baseAddress, $0.count, 0)
        #else
          Glibc.send(connection, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        #endif
      }
      guard count > 0 else { return false }
      rest = rest.dropFirst(count)
    }
    return true
  }
}
