import Diffusion
import Foundation
import TestSupport
import Testing

@Suite("The memory that this process may take")
struct SystemMemoryTests {
  private static let mebibyte = 1_048_576.0

  /// A system with 8 GiB free and the given files.
  private func available(_ files: [String: String]) throws -> Double? {
    let scratch = try Scratch()
    for (name, text) in files.merging(
      ["proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    8388608 kB\n"], uniquingKeysWith: { a, _ in a })
    {
      let file = scratch.file(name)
      try FileManager.default.createDirectory(
        at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
      try Data(text.utf8).write(to: file)
    }
    return SystemMemory.available(in: scratch.folder.path).map { $0 / Self.mebibyte }
  }

  @Test("is what is free on the machine, where no group limits it")
  func machine() throws {
    #expect(try available([:]) == 8192)
    #expect(
      try available([
        "proc/self/cgroup": "0::/user.slice/a.scope\n",
        "sys/fs/cgroup/user.slice/a.scope/memory.max": "max\n",
        "sys/fs/cgroup/user.slice/memory.max": "damaged",
      ]) == 8192)
  }

  @Test(
    "is less in a container, which sees its own group as the root", arguments: ["0::/\n", "", "0::/../..\n"])
  func container(_ groups: String) throws {
    #expect(
      try available([
        "proc/self/cgroup": groups, "sys/fs/cgroup/memory.max": "\(1 << 30)\n",
        "sys/fs/cgroup/memory.current": "\(600 << 20)\n",
        // Pages of files are let go when memory is needed.
        "sys/fs/cgroup/memory.stat": "anon 7\ninactive_file \(400 << 20)\nactive_file \(100 << 20)\n",
      ]) == 924)
  }

  @Test("is that of the narrowest of the groups that lie around the process")
  func scopes() throws {
    let group = "sys/fs/cgroup/user.slice/run-1.scope"
    #expect(
      try available([
        "proc/self/cgroup": "0::/user.slice/run-1.scope\n", "\(group)/memory.max": "\(3 << 30)",
        "\(group)/memory.current": "\(1 << 30)", "sys/fs/cgroup/user.slice/memory.max": "\(2 << 30)",
        "sys/fs/cgroup/user.slice/memory.current": "\(5 << 30)",
      ]) == 0)
    #expect(
      try available([
        "proc/self/cgroup": "0::/user.slice/run-1.scope\n", "\(group)/memory.max": "\(3 << 30)",
        "\(group)/memory.current": "\(1 << 30)", "sys/fs/cgroup/other.slice/memory.max": "1",
      ]) == 2048)
  }

  @Test("is found in groups of version 1, too")
  func version1() throws {
    let group = "sys/fs/cgroup/memory/slurm/job_7"
    #expect(
      try available([
        "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/slurm/job_7\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "\(group)/memory.limit_in_bytes": "\(2 << 30)\n", "\(group)/memory.usage_in_bytes": "\(1 << 30)\n",
        "\(group)/memory.stat":
          "inactive_file 5\ntotal_inactive_file \(200 << 20)\ntotal_active_file \(56 << 20)\n",
      ]) == 1280)
  }
}
