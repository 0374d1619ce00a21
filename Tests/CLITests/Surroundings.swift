import Foundation

/// Shell lines for `setup` under which a command meets what root would not: each replaces the shell by
/// the command, in other surroundings. Nil where this machine does not allow it.
enum Surroundings {
  /// Root passes over permissions; here it has lost the right to.
  static let obeyingPermissions: String? = {
    if getuid() != 0 { return "" }
    let rights = "-dac_override,-dac_read_search"
    return working("setpriv --bounding-set=\(rights) --inh-caps=\(rights)")
      .map { "exec \($0) \"$0\" \"$@\"" }
  }()

  /// The folder `small` is a disk of 200 KiB of its own, seen by the command only.
  static let smallDisk: String? = working("unshare \(getuid() == 0 ? "-m" : "-rm")").map {
    "exec \($0) sh -c 'mount -t tmpfs -o size=200k none small && exec \"$0\" \"$@\"' \"$0\" \"$@\""
  }

  /// The same, and another program fills it once the file `sign` in it holds `word`.
  static func disk(filledOnce sign: String, holds word: String) -> String? {
    let filling =
      "(until grep -q \(word) small/\(sign); do sleep 0.02; done; cat /dev/zero >small/fill) 2>/dev/null"
    return smallDisk?.replacing("none small && ", with: "none small && { \(filling) & } && ")
  }

  /// Whether `threads` can be limited here.
  static let limitsThreads = working("\(threads(5)) &&") != nil

  /// The command, in a control group of its own, may have so many threads. The group stays, empty.
  static func threads(_ count: Int) -> String {
    let old = FileManager.default.fileExists(atPath: "/sys/fs/cgroup/pids")
    let group = "/sys/fs/cgroup/\(old ? "pids/" : "")neti-tests"
    return "mkdir -p \(group) && echo \(count) >\(group)/pids.max && echo $$ >\(group)/cgroup.procs"
  }

  private static func working(_ prefix: String) -> String? {
    let process = Process()
    process.executableURL = URL(filePath: "/bin/sh")
    let mount = prefix.hasPrefix("unshare") ? "sh -c 'mount -t tmpfs none /tmp'" : "true"
    process.arguments = ["-c", "\(prefix) \(mount)"]
    process.standardError = FileHandle.nullDevice
    guard (try? process.run()) != nil else { return nil }
    process.waitUntilExit()
    return process.terminationStatus == 0 ? prefix : nil
  }
}
