import Files
import Foundation

/// What the machine has.
public enum SystemMemory {
  /// Bytes that this process may still take: what is available on the machine, or less where a
  /// control group or a limit of the process says so; nil where nothing tells.
  public static func available() -> Double? {
    var limits: [Double] = []
    if let text = try? String(contentsOfFile: "/proc/meminfo", encoding: .utf8) {
      for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
        let kilobytes = line.split(separator: " ").dropFirst().first.flatMap { Double($0) }
        if let kilobytes { limits.append(kilobytes * 1024) }
      }
    } else {
      limits.append(Double(ProcessInfo.processInfo.physicalMemory))
    }
    func number(_ path: String) -> Double? {
      (try? String(contentsOfFile: path, encoding: .utf8)).flatMap {
        Double($0.trimmingCharacters(in: .whitespacesAndNewlines))
      }
    }
    // Version 2 of control groups, then version 1.
    for (limit, used) in [
      ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
      ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ] {
      if let most = number(limit), most < 1e15 { limits.append(most - (number(used) ?? 0)) }
    }
    if let left = ProcessLimits.addressSpaceLeft() { limits.append(left) }
    return limits.min()
  }

  /// The most that this process has had in memory, in bytes; nil where nothing tells.
  public static func peak() -> Double? {
    guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
    let kilobytes = line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) }
    return kilobytes.map { $0 * 1024 }
  }
}
