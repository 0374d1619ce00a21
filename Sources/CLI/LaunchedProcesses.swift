import ArgumentParser
import Foundation
import NeTI

#if NETI_DISTRIBUTED
  import TorchDistributed
#endif

/// The processes that a launcher started for one run, as torchrun's environment variables say.
struct LaunchedProcesses {
  let rank: Int
  let count: Int
  /// This process's number on its machine.
  let localRank: Int
  private let environment: [String: String]

  /// Nil where there is one process only.
  init?(_ environment: [String: String]) throws {
    func number(_ name: String, _ range: ClosedRange<Int>, or other: Int? = nil) throws -> Int {
      guard let text = environment[name] else {
        if let other { return other }
        throw NeTIError("\(name) is not set; start the processes with torchrun, or set what it sets")
      }
      guard let n = Int(text), range.contains(n) else {
        throw NeTIError(
          "\(name) is “\(text)”; it must be a number from \(range.lowerBound) to \(range.upperBound)")
      }
      return n
    }
    self.environment = environment
    count = try number("WORLD_SIZE", 1...65_536, or: 1)
    if count == 1 { return nil }
    rank = try number("RANK", 0...count - 1)
    localRank = try number("LOCAL_RANK", 0...count - 1, or: 0)
    #if NETI_DISTRIBUTED
      _ = try number("MASTER_PORT", 1...65_535)
      if environment["MASTER_ADDR", default: ""].isEmpty {
        throw NeTIError("MASTER_ADDR is not set; it is the machine of the process with RANK 0")
      }
    #else
      throw NeTIError(
        "WORLD_SIZE is \(count), but this neti was built for one process a run: build it with NETI_DISTRIBUTED=1 in "
          + "the environment (NETI_DISTRIBUTED=1 swift build -c release --product neti), or unset WORLD_SIZE")
    #endif
  }

  /// Whether another process speaks for this one, or an error will.
  static var isSilent: Bool {
    do {
      return try LaunchedProcesses(ProcessInfo.processInfo.environment).map { $0.rank > 0 } ?? false
    } catch {
      return true
    }
  }

  /// Waits for the others, at most five minutes; `seconds` is how long one may wait for another later.
  func join(_ seconds: Double) throws -> any TrainingProcesses {
    #if NETI_DISTRIBUTED
      var meeting = GlooGroup.Meeting(
        host: environment["MASTER_ADDR", default: ""],
        port: Int(environment["MASTER_PORT", default: ""]) ?? 0, rank: rank, count: count)
      meeting.isOpen = environment["TORCHELASTIC_USE_AGENT_STORE"] == "True"
      meeting.attempt = Int(environment["TORCHELASTIC_RESTART_COUNT", default: ""]) ?? 0
      meeting.interface = environment["GLOO_SOCKET_IFNAME"]
      do {
        return GlooProcesses(try GlooGroup(meeting, joining: min(300, seconds), seconds: seconds))
      } catch let e as DistributedError {
        throw NeTIError(e.description)
      }
    #else
      throw NeTIError("this neti was built for one process a run")
    #endif
  }
}

#if NETI_DISTRIBUTED
  /// Gloo's processes, as training sees them.
  private final class GlooProcesses: TrainingProcesses {
    private let group: GlooGroup
    init(_ group: GlooGroup) { self.group = group }
    var rank: Int { group.rank }
    var count: Int { group.count }

    func sum(_ values: inout [Float]) throws {
      do { try group.sum(&values) } catch let e as DistributedError { throw LostProcess(e.description) }
    }
  }
#endif
