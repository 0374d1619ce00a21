import Files
import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A small HTTP/1.1 server for one person's pages: a thread for each connection, one request on each.
///
/// It is written for what such a server must withstand: heads and bodies have sizes and deadlines, and when there
/// are too many connections the oldest that has not shown the studio's cookie gives way, so that no stranger's can
/// keep the page's out.
final class HTTPServer: @unchecked Sendable {
  /// Connections at once; a browser opens six, and one for events, for each page.
  static let mostConnections = 64

  /// What answers a request. What it throws becomes a response, too.
  typealias Handler = @Sendable (Exchange) throws -> HTTPResponse

  /// The port that it listens on.
  let port: UInt16
  private let listener: Int32
  private let handler: Handler
  private let deadlines: Deadlines
  private let lock = NSLock()
  /// The oldest first; behind the lock.
  private var open: [Connection] = []
  /// Connections whose threads have not ended, those that were cut off among them; behind the lock.
  private var served = 0

  /// Begins to listen.
  ///
  /// - Parameters:
  ///   - host: an address, such as 127.0.0.1 or ::1.
  ///   - port: 0 takes any that is free.
  /// - Throws: one line that says why not.
  init(host: String, port: UInt16, _ deadlines: Deadlines, handler: @escaping Handler) throws {
    self.handler = handler
    self.deadlines = deadlines
    let address = try SocketAddress(host, port)
    let listener = socket(address.family, Self.streamType, 0)
    self.listener = listener
    guard listener >= 0 else { throw systemError("cannot open a socket") }
    var on: Int32 = 1
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    _ = fcntl(listener, F_SETFD, FD_CLOEXEC)
    guard address.withPointer({ bind(listener, $0, $1) }) == 0, listen(listener, 128) == 0 else {
      let code = errno
      close(listener)
      switch code {
      case EADDRINUSE:
        throw FileError("port \(port) is taken, perhaps by another studio; choose another with `port`")
      case EACCES:
        throw FileError("port \(port) needs permission; choose one above 1023 with `port`")
      case EADDRNOTAVAIL:
        throw FileError(
          "\(host) is no address of this machine; `host` takes one that it has, such as 127.0.0.1 or 0.0.0.0")
      default: throw systemError("cannot listen on \(host), port \(port)", code)
      }
    }
    self.port = try SocketAddress.port(of: listener)
  }

  #if canImport(Glibc)
    private static let streamType = Int32(SOCK_STREAM.rawValue)
  #else
    private static let streamType = SOCK_STREAM
  #endif

  /// Accepts connections on a thread of its own from now on.
  func start() {
    Self.thread("studio connections") { [self] in
      while true { acceptOne() }
    }
  }

  private static func thread(_ name: String, _ body: @escaping @Sendable () -> Void) {
    let thread = Thread(block: body)
    thread.name = name
    thread.stackSize = 1 << 20
    thread.start()
  }

  private func acceptOne() {
    let descriptor = accept(listener, nil, nil)
    guard descriptor >= 0 else {
      // No descriptors are left, most likely: one that can be spared is given back.
      _ = lock.withLock { makeRoom(for: Self.mostConnections / 2) }
      usleep(20_000)
      return
    }
    _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC)
    let connection = Connection(descriptor)
    // The threads of those that were cut off end within a moment: who comes behind many of them waits so long.
    let patience = ContinuousClock.now + .seconds(1)
    while lock.withLock({ served >= 2 * Self.mostConnections }), ContinuousClock.now < patience {
      usleep(1_000)
    }
    let isTaken = lock.withLock {
      guard makeRoom(for: Self.mostConnections - 1), served < 2 * Self.mostConnections else { return false }
      open.append(connection)
      served += 1
      return true
    }
    guard isTaken else { return connection.close() }
    Self.thread("studio connection") { [self] in
      serve(connection)
      lock.withLock {
        open.removeAll { $0 === connection }
        served -= 1
      }
    }
  }

  /// Cuts connections off until at most `count` are left; false where all that are left are trusted.
  private func makeRoom(for count: Int) -> Bool {
    while open.count > count {
      guard let oldest = open.firstIndex(where: { !$0.isTrusted }) else { return false }
      open.remove(at: oldest).cutOff()
    }
    return true
  }

  private func serve(_ connection: Connection) {
    do {
      guard let response = try response(to: connection) else { return connection.close() }
      let deadline = ContinuousClock.now + deadlines.body
      try connection.write(response.head + response.body, before: deadline)
      try response.stream?(EventStream(connection: connection, patience: deadlines.event))
      connection.finish()
    } catch {
      // The client has gone, or is too slow to be told.
      connection.close()
    }
  }

  /// Nil where the client went before it asked.
  private func response(to connection: Connection) throws -> HTTPResponse? {
    do {
      guard let (head, early) = try head(of: connection) else { return nil }
      let exchange = Exchange(
        request: try HTTPRequest(head: head), connection: connection, deadlines: deadlines, early: early)
      return try handler(exchange)
    } catch let e as StudioError {
      return .text(e.status, e.message)
    } catch let e as any DescribedError {
      return .text(.unprocessable, e.message)
    } catch {
      return .text(.failed, "\(error)")
    }
  }

  /// What stands before the empty line, and what came after it already.
  private func head(of connection: Connection) throws -> (head: Data, early: Data)? {
    let end = Data("\r\n\r\n".utf8)
    let deadline = ContinuousClock.now + deadlines.head
    var data = Data()
    while true {
      let piece = try connection.read(atMost: HTTPRequest.Limit.head, before: deadline)
      guard !piece.isEmpty else { return nil }
      let from = max(0, data.count - end.count)
      data += piece
      if let found = data.range(of: end, in: from..<data.count) {
        guard found.lowerBound <= HTTPRequest.Limit.head else { break }
        return (data[..<found.lowerBound], Data(data[found.upperBound...]))
      }
      guard data.count <= HTTPRequest.Limit.head else { break }
    }
    throw StudioError("the head of the request is too large", .tooLarge)
  }
}
