import CTorchDistributed
import Foundation

/// Something that went wrong between processes, in one line.
public struct DistributedError: Error, CustomStringConvertible, Sendable {
  public let description: String
}

/// Processes that compute together, over libtorch's engine for that (c10d) with Gloo.
///
/// All of them make the same calls in the same order.
public final class GlooGroup {
  /// This process's number, from 0.
  public let rank: Int
  /// How many processes there are.
  public let count: Int
  private let group: ctd_group

  /// Where the processes meet, and who they are.
  public struct Meeting: Sendable {
    /// The first process's machine, and a port of it.
    public var host: String
    public var port: Int
    public var rank: Int
    public var count: Int
    /// Whether the launcher has opened the port, and not the first process.
    public var isOpen = false
    /// How often the launcher has started these processes before.
    public var attempt = 0
    /// The network interface to use, such as `eth0`; nil takes that of the machine's name, or the local one
    /// when `host` is local.
    public var interface: String?

    public init(host: String, port: Int, rank: Int, count: Int) {
      self.host = host
      self.port = port
      self.rank = rank
      self.count = count
    }

    private static let localNames: Set = ["localhost", "::1"]
    var isLocal: Bool { Self.localNames.contains(host) || host.hasPrefix("127.") }
  }

  /// Waits until all processes are there.
  ///
  /// - Parameters:
  ///   - joining: seconds to wait for the others.
  ///   - seconds: how long one operation may take, the others' delay included.
  /// - Throws: `DistributedError` when they do not come, or the port is taken.
  public init(_ m: Meeting, joining: Double, seconds: Double) throws {
    rank = m.rank
    count = m.count
    let joined = ctd_join(
      m.host, Int32(clamping: m.port), Int32(clamping: m.rank), Int32(clamping: m.count), m.isOpen,
      "neti/\(m.attempt)", m.interface, m.isLocal, joining, seconds)
    guard let joined else { throw DistributedError(description: Self.explanation(m, joining)) }
    group = joined
  }

  deinit { ctd_free(group) }

  /// Replaces the values by their sums over all processes: the same to the last bit on each.
  public func sum(_ values: inout [Float]) throws {
    let status = values.withUnsafeMutableBufferPointer { ctd_sum(group, $0.baseAddress, $0.count) }
    guard status == 0 else { throw DistributedError(description: Self.lastReason) }
  }

  /// What the system said, without the place in libtorch's sources and its advice.
  private static var lastReason: String { shortened(String(cString: ctd_last_error())) }

  private static func shortened(_ message: String) -> String {
    var text = message.split(separator: "\n").first ?? ""
    if text.hasPrefix("["), let end = text.range(of: "] ") { text = text[end.upperBound...] }
    if let end = text.range(of: ". ") { text = text[..<end.lowerBound] }
    return text.isEmpty ? "unknown reason" : String(text)
  }

  private static func explanation(_ m: Meeting, _ seconds: Double) -> String {
    let reason = String(cString: ctd_last_error())
    if reason.contains("EADDRINUSE") {
      return "port \(m.port) is taken, perhaps by another run; set another MASTER_PORT"
    }
    let limit = "within \(Int(seconds)) s"
    if let joined = reason.firstMatch(of: /([0-9]+)\/[0-9]+ clients joined/) {
      return "only \(joined.1) of \(m.count) processes came \(limit); start all of them, with the same "
        + "MASTER_ADDR and MASTER_PORT"
    }
    if reason.lowercased().contains("wait timeout") {
      return "not all of the \(m.count) processes came \(limit)"
    }
    return
      "the first process was not reached at \(m.host):\(m.port) \(limit) (\(shortened(reason))); look at MASTER_ADDR and "
      + "MASTER_PORT, and whether it runs"
  }
}
