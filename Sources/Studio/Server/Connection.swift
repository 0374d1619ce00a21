import Files
import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// A client's connection, read and written by one thread. Nothing waits longer than its deadline, and any thread
/// may cut it off.
final class Connection: @unchecked Sendable {
  // `descriptor` is closed by the thread that serves it, once; the rest is behind the lock.
  private let descriptor: Int32
  private let lock = NSLock()
  private var isClosed = false
  private var trusted = false

  /// What is read in one go.
  private static let pieceBytes = 64 << 10

  init(_ descriptor: Int32) {
    self.descriptor = descriptor
    #if canImport(Darwin)
      var on: Int32 = 1
      setsockopt(descriptor, SOL_SOCKET, SO_NOSIGPIPE, &on, socklen_t(MemoryLayout<Int32>.size))
    #endif
  }

  /// Whether it sent the studio's cookie. Of the others the oldest gives way when there are too many.
  var isTrusted: Bool {
    get { lock.withLock { trusted } }
    set { lock.withLock { trusted = newValue } }
  }

  /// The next bytes, at most `count`; empty at the end. Throws when none come before `deadline`.
  func read(atMost count: Int, before deadline: ContinuousClock.Instant) throws -> Data {
    var piece = [UInt8](repeating: 0, count: min(count, Self.pieceBytes))
    while true {
      try wait(for: Int16(POLLIN), before: deadline)
      let got = recv(descriptor, &piece, piece.count, Int32(MSG_DONTWAIT))
      if got >= 0 { return Data(piece.prefix(got)) }
      guard [EINTR, EAGAIN, EWOULDBLOCK].contains(errno) else { throw systemError("reading a request") }
    }
  }

  /// Throws when the client does not take all of `data` before `deadline`.
  func write(_ data: Data, before deadline: ContinuousClock.Instant) throws {
    try data.withUnsafeBytes { bytes in
      var rest = bytes[...]
      while !rest.isEmpty {
        try wait(for: Int16(POLLOUT), before: deadline)
        let part = UnsafeRawBufferPointer(rebasing: rest)
        let sent = send(descriptor, part.baseAddress, part.count, Self.sendFlags)
        if sent >= 0 {
          rest = rest.dropFirst(sent)
        } else if ![EINTR, EAGAIN, EWOULDBLOCK].contains(errno) {
          throw systemError("writing a response")
        }
      }
    }
  }

  #if canImport(Darwin)
    private static let sendFlags = Int32(MSG_DONTWAIT)
  #else
    private static let sendFlags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
  #endif

  private func wait(for events: Int16, before deadline: ContinuousClock.Instant) throws {
    while true {
      let left = (deadline - .now) / .milliseconds(1)
      guard left > 0 else { throw StudioError("the client is too slow", .timeout) }
      var item = pollfd(fd: descriptor, events: events, revents: 0)
      let ready = poll(&item, 1, Int32(min(left.rounded(.up), 1000)))
      if ready > 0 { return }
      guard ready == 0 || errno == EINTR else { throw systemError("waiting for a client") }
    }
  }

  /// Whether the client has gone.
  var isGone: Bool {
    var item = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
    guard poll(&item, 1, 0) > 0 else { return false }
    var byte: UInt8 = 0
    return recv(descriptor, &byte, 1, Int32(MSG_DONTWAIT) | Int32(MSG_PEEK)) == 0
      || item.revents & Int16(POLLERR | POLLHUP) != 0
  }

  /// Ends it from any thread: whoever waits for it is woken.
  func cutOff() {
    lock.withLock { if !isClosed { _ = shutdown(descriptor, Int32(SHUT_RDWR)) } }
  }

  /// Ends it by the thread that serves it, after a client that still sends has had a moment to read the response.
  func finish() {
    lock.withLock { if !isClosed { _ = shutdown(descriptor, Int32(SHUT_WR)) } }
    let deadline = ContinuousClock.now + .milliseconds(300)
    var left = 256 << 10
    while left > 0, let data = try? read(atMost: left, before: deadline), !data.isEmpty { left -= data.count }
    close()
  }

  func close() {
    lock.withLock {
      guard !isClosed else { return }
      isClosed = true
      #if canImport(Glibc)
        Glibc.close(descriptor)
      #elseif canImport(Musl)
        Musl.close(descriptor)
      #else
        Darwin.close(descriptor)
      #endif
    }
  }
}
