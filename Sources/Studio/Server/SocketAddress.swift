import Files
import Foundation

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// An IP address with a port, as the system's calls want it.
struct SocketAddress {
  let family: Int32
  private var storage = sockaddr_storage()
  private let length: socklen_t

  /// - Throws: a `FileError` when `host` is no IP address.
  init(_ host: String, _ port: UInt16) throws {
    var four = in_addr()
    var six = in6_addr()
    if inet_pton(AF_INET, host, &four) == 1 {
      family = AF_INET
      length = socklen_t(MemoryLayout<sockaddr_in>.size)
      withUnsafeMutableBytes(of: &storage) { bytes in
        bytes.withMemoryRebound(to: sockaddr_in.self) {
          $0[0].sin_family = sa_family_t(AF_INET)
          $0[0].sin_port = port.bigEndian
          $0[0].sin_addr = four
        }
      }
    } else if inet_pton(AF_INET6, host, &six) == 1 {
      family = AF_INET6
      length = socklen_t(MemoryLayout<sockaddr_in6>.size)
      withUnsafeMutableBytes(of: &storage) { bytes in
        bytes.withMemoryRebound(to: sockaddr_in6.self) {
          $0[0].sin6_family = sa_family_t(AF_INET6)
          $0[0].sin6_port = port.bigEndian
          $0[0].sin6_addr = six
        }
      }
    } else {
      throw FileError("\(quoted(host)) is no IP address; `host` takes one, such as 127.0.0.1 or 0.0.0.0")
    }
  }

  func withPointer<T>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> T) -> T {
    withUnsafePointer(to: storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
    }
  }

  /// Whether a text is an IP address, perhaps in brackets.
  static func isAddress(_ text: some StringProtocol) -> Bool {
    var text = String(text)
    if text.hasPrefix("["), text.hasSuffix("]") { text = String(text.dropFirst().dropLast()) }
    return (try? SocketAddress(text, 0)) != nil
  }

  /// Whether only this machine reaches an address.
  static func isLoopback(_ host: String) -> Bool {
    host == "::1" || (host.hasPrefix("127.") && isAddress(host))
  }

  /// Whether an address stands for all that a machine has.
  static func isWildcard(_ host: String) -> Bool { ["0.0.0.0", "::"].contains(host) }

  /// The addresses of this machine that others can reach, of the family of `host`; those of the loopback when there
  /// are none.
  static func ofThisMachine(as host: String) -> [String] {
    var first: UnsafeMutablePointer<ifaddrs>?
    guard getifaddrs(&first) == 0 else { return [host] }
    defer { freeifaddrs(first) }
    let isSix = host.contains(":")
    var found: [String] = []
    for item in sequence(first: first, next: { $0?.pointee.ifa_next }) {
      guard let item = item?.pointee, let address = item.ifa_addr, item.ifa_flags & UInt32(IFF_UP) != 0,
        Int32(address.pointee.sa_family) == (isSix ? AF_INET6 : AF_INET)
      else { continue }
      let size = isSix ? MemoryLayout<sockaddr_in6>.size : MemoryLayout<sockaddr_in>.size
      var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
      guard getnameinfo(address, socklen_t(size), &text, socklen_t(text.count), nil, 0, NI_NUMERICHOST) == 0
      else { continue }
      let name = String(decoding: text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
      // Addresses with a zone (fe80::1%eth0) do not fit into a browser's line.
      if !isLoopback(name), !name.contains("%") { found.append(name) }
    }
    return found.isEmpty ? [isSix ? "::1" : "127.0.0.1"] : found
  }

  /// The port that a socket is bound to.
  static func port(of descriptor: Int32) throws -> UInt16 {
    var storage = sockaddr_storage()
    var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
    let failed = withUnsafeMutablePointer(to: &storage) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
    }
    guard failed == 0 else { throw systemError("cannot ask for the port") }
    // The port stands at the same place for both families.
    return withUnsafeBytes(of: storage) {
      UInt16(bigEndian: $0.loadUnaligned(fromByteOffset: 2, as: UInt16.self))
    }
  }
}
