import ArgumentParser

/// Which part of a list one of several processes works on: the `index`-th of `count`, from 1 on.
struct Shard: Equatable {
  var index = 1
  var count = 1

  /// Everything.
  init() {}

  /// Reads i/n; or takes i, and n where it is known, from what a scheduler tells its tasks:
  ///
  /// | | |
  /// |---|---|
  /// | `auto` | Slurm's job array: `SLURM_ARRAY_TASK_ID`, `…_MIN`, `…_MAX`, `…_STEP`, `…_COUNT` |
  /// | `auto/n` | Kubernetes' indexed job of n completions: `JOB_COMPLETION_INDEX`, from 0; or an array of n |
  /// | `auto` | torchrun's processes: `RANK`, from 0, and `WORLD_SIZE` |
  ///
  /// Throws a `ValidationError` that says what is wrong.
  init(_ text: String, environment: [String: String]) throws {
    func fail(_ why: String) -> ValidationError { ValidationError("--shard \(text): \(why)") }
    let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
    let given = parts.count == 2 ? Int(parts[1]) : nil
    guard parts.count == 1 || given.map({ $0 >= 1 && $0 <= Self.largestCount }) == true,
      parts[0] == "auto" || parts.count == 2
    else { throw fail("write 2/8 for the second of eight, or auto") }

    if parts[0] != "auto" {
      guard let i = Int(parts[0]), let n = given, (1...n).contains(i) else {
        throw fail("the first number is from 1 to the second")
      }
      (index, count) = (i, n)
      return
    }
    func number(_ name: String) throws -> Int? {
      guard let value = environment[name] else { return nil }
      guard let n = Int(value), (0...Self.largestCount).contains(n) else {
        throw fail("\(name) is “\(value)”, which is no number of a task")
      }
      return n
    }
    if let id = try number("SLURM_ARRAY_TASK_ID") {
      guard let n = try number("SLURM_ARRAY_TASK_COUNT"), let first = try number("SLURM_ARRAY_TASK_MIN"),
        let last = try number("SLURM_ARRAY_TASK_MAX")
      else { throw fail("SLURM_ARRAY_TASK_COUNT, _MIN or _MAX is not set; write i/n") }
      let step = max(1, try number("SLURM_ARRAY_TASK_STEP") ?? 1)
      guard (first...max(first, last)).contains(id), (id - first) % step == 0, last - first == (n - 1) * step
      else {
        throw fail("the array's numbers are not evenly spaced; submit one such as --array=0-7, or write i/n")
      }
      guard given == nil || given == n else {
        throw fail("the array has \(n) tasks; submit all of it again: what is finished is skipped")
      }
      (index, count) = ((id - first) / step + 1, n)
    } else if let i = try number("JOB_COMPLETION_INDEX") {
      guard let n = given else {
        throw fail("Kubernetes does not say how many tasks there are; write auto/N, as in completions: N")
      }
      guard i < n else { throw fail("JOB_COMPLETION_INDEX is \(i), from 0 to \(n - 1) were expected") }
      (index, count) = (i + 1, n)
    } else if let rank = try number("RANK"), let n = try number("WORLD_SIZE") {
      guard n > 0 else { throw fail("WORLD_SIZE is \(n); at least 1 was expected") }
      guard rank < n else {
        throw fail("RANK is \(rank), from 0 to \(n - 1) were expected by WORLD_SIZE \(n)")
      }
      guard given == nil || given == n else { throw fail("WORLD_SIZE is \(n); write auto or auto/\(n)") }
      (index, count) = (rank + 1, n)
    } else {
      throw fail("neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; write i/n")
    }
  }

  private static let largestCount = 1_000_000
}
