import Files
import Foundation

/// What the machine has.
public enum SystemMemory {
  /// Bytes that this process may still take: what is available on the machine, or less where a
  /// control group or a limit of the process says so; nil where nothing tells.
  public static func available() -> Double? { available(in: "") }

  /// The same, of the files of a system below a folder.
  package static func available(in root: String) -> Double? {
    var limits = ControlGroups(root: root).bytesLeft
    if let text = try? String(contentsOfFile: root + "/proc/meminfo", encoding: .utf8) {
      for line in text.split(separator: "\n") where line.hasPrefix("MemAvailable:") {
        let kilobytes = line.split(separator: " ").dropFirst().first.flatMap { Double($0) }
        if let kilobytes { limits.append(kilobytes * 1024) }
      }
    } else {
      limits.append(Double(ProcessInfo.processInfo.physicalMemory))
    }
    if let left = ProcessLimits.addressSpaceLeft() { limits.append(left) }
    return limits.min()
  }

  /// The most that this process has had in memory, in bytes; nil where nothing tells.
  public static func peak() -> Double? { status("VmHWM:") }

  /// Bytes that this process holds already, pages of files left out: what an estimate of a whole process counts again.
  public static func held() -> Double { status("RssAnon:") ?? 0 }

  private static func status(_ name: String) -> Double? {
    guard let text = try? String(contentsOfFile: "/proc/self/status", encoding: .utf8) else { return nil }
    let line = text.split(separator: "\n").first { $0.hasPrefix(name) }
    let kilobytes = line?.split(whereSeparator: \.isWhitespace).dropFirst().first.flatMap { Double($0) }
    return kilobytes.map { $0 * 1024 }
  }
}

/// The control groups that this process is in, as containers, systemd and Slurm make them: each may limit memory, and
/// the kernel kills without a word what takes more.
private struct ControlGroups {
  let root: String

  /// What each limit leaves, in bytes.
  var bytesLeft: [Double] {
    // Lines are `number:controllers:path`; version 2 has number 0 and names no controllers.
    let lines = text("/proc/self/cgroup")?.split(separator: "\n") ?? []
    var paths = ["2": "/", "1": "/"]
    for line in lines {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3 else { continue }
      if parts[0] == "0" { paths["2"] = String(parts[2]) }
      if parts[1].split(separator: ",").contains("memory") { paths["1"] = String(parts[2]) }
    }
    let version2 = Names(
      folder: "/sys/fs/cgroup", limit: "memory.max", used: "memory.current",
      files: ["inactive_file", "active_file"])
    let version1 = Names(
      folder: "/sys/fs/cgroup/memory", limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes",
      files: ["total_inactive_file", "total_active_file"])
    return left(paths["2"] ?? "/", version2) + left(paths["1"] ?? "/", version1)
  }

  private struct Names {
    let folder, limit, used: String
    /// The lines of `memory.stat` that say how much of what is used are pages of files, which the kernel lets go.
    let files: [String]
  }

  /// A limit holds for all groups below it. A container sees its own group as the root.
  private func left(_ path: String, _ names: Names) -> [Double] {
    let parts = path.split(separator: "/").filter { $0 != ".." }
    return (0...parts.count).compactMap { n in
      let group = names.folder + parts.prefix(n).map { "/" + $0 }.joined()
      guard let most = number("\(group)/\(names.limit)"), most < 1e15 else { return nil }
      let pages = (text("\(group)/memory.stat")?.split(separator: "\n") ?? []).reduce(0.0) { sum, line in
        let words = line.split(separator: " ")
        guard words.count == 2, names.files.contains(String(words[0])) else { return sum }
        return sum + (Double(words[1]) ?? 0)
      }
      return max(0, most - max(0, (number("\(group)/\(names.used)") ?? 0) - pages))
    }
  }

  private func text(_ path: String) -> String? { try? String(contentsOfFile: root + path, encoding: .utf8) }

  private func number(_ path: String) -> Double? {
    text(path).flatMap { Double($0.trimmingCharacters(in: .whitespacesAndNewlines)) }
  }
}
