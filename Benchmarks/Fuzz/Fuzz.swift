import ArgumentParser
import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport

/// Feeds damaged files to every parser until the time is up.
///
///     swift run -c release fuzz --seconds 600 --seed 1
///
/// A parser may refuse a file with its module's error; anything else is reported, and so is a file that takes more
/// time or memory than it may. A crash, and a file that takes a minute, leave the file at fault in the folder that is
/// printed at the start. Every parser gets the same share of the time.
#if !COVERAGE
  @main
#endif
struct Fuzz: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Feeds damaged files to every parser.")

  @Option(help: "How long to go on.") var seconds = 60.0
  @Option(help: "The same seed damages the files in the same way.") var seed: UInt64 = 1
  @Option(help: "Only parsers whose name contains this.") var parser = ""
  @Option(help: "A file that takes more seconds of the processor than this is reported.") var slow = 1.0
  @Option(
    help: "A file that takes more MiB of memory than this is reported; the largest image may take as many.")
  var memory = 1024.0

  func validate() throws {
    guard seconds > 0, seconds.isFinite else { throw ValidationError("--seconds must be above 0") }
    guard slow > 0 else { throw ValidationError("--slow must be above 0") }
    guard memory > 0 else { throw ValidationError("--memory must be above 0") }
  }

  func run() throws {
    // Where there is one, a folder in memory: it takes thousands of files a second.
    let inMemory = URL(filePath: "/dev/shm")
    let place =
      FileManager.default.isWritableFile(atPath: inMemory.path)
      ? inMemory : FileManager.default.temporaryDirectory
    let folder = place.appending(path: "neti-fuzz-\(seed)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let targets = try FuzzTarget.all(folder).filter { parser.isEmpty || $0.name.contains(parser) }
    guard !targets.isEmpty else { throw ValidationError("no parser's name contains “\(parser)”") }
    print("the file being read lies in \(folder.path)")
    // A parser that refuses the sound file is not tested by damaged ones. What is made once is made here.
    for target in targets {
      for original in target.originals {
        try original.write(to: folder.appending(path: target.file))
        try target.parse(original)
      }
    }

    var tallies = targets.map { _ in Tally() }
    let end = Date(timeIntervalSinceNow: seconds)
    while Date() < end {
      // The one that had the least time.
      guard let i = tallies.indices.min(by: { tallies[$0].seconds < tallies[$1].seconds }) else { break }
      let target = targets[i]
      let original = target.originals[tallies[i].rounds % target.originals.count]
      let round = seed &* 1_000_000_000 &+ UInt64(tallies[i].rounds)
      tallies[i].rounds += 1
      for data in Mutations(of: original, count: 20, seed: round) {
        attempt(target, data, folder, &tallies[i])
      }
    }
    report(targets, tallies)
    guard tallies.allSatisfy({ $0.problems == 0 }) else { throw ExitCode.failure }
    try? FileManager.default.removeItem(at: folder)
  }

  private func attempt(_ target: FuzzTarget, _ data: Data, _ folder: URL, _ tally: inout Tally) {
    // What never returns ends here.
    alarm(60)
    ProcessUse.forgetPeak()
    let before = ProcessUse()
    do {
      try data.write(to: folder.appending(path: target.file))
      try target.parse(data)
      tally.read += 1
    } catch is any DescribedError {
      tally.refused += 1
    } catch {
      keep(target, data, folder, &tally, "threw \(type(of: error)): \(error)")
    }
    let after = ProcessUse()
    let (time, bytes) = (after.seconds - before.seconds, after.peak - before.peak)
    tally.seconds += time
    tally.slowest = max(tally.slowest, time)
    tally.largest = max(tally.largest, bytes)
    if time > slow { keep(target, data, folder, &tally, "took \(time) s") }
    if bytes > memory * 1_048_576 { keep(target, data, folder, &tally, "took \(Int(bytes) >> 20) MiB") }
  }

  /// Reports a problem and keeps the file that caused it.
  private func keep(
    _ target: FuzzTarget, _ data: Data, _ folder: URL, _ tally: inout Tally, _ what: String
  ) {
    tally.problems += 1
    let name = folder.appending(path: target.file).lastPathComponent
    let file = folder.appending(path: "problem-\(tally.problems)-\(name)")
    print("\(target.name): \(file.path) \(what)")
    try? data.write(to: file)
  }

  private func report(_ targets: [FuzzTarget], _ tallies: [Tally]) {
    print("| parser | files | refused | a second | slowest, ms | most memory, MiB | problems |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for (target, t) in zip(targets, tallies) {
      let rate = Int(Double(t.files) / max(t.seconds, 1e-9))
      print(
        "| \(target.name) | \(t.files) | \(t.refused) | \(rate) | \(Int(t.slowest * 1000)) "
          + "| \(Int(t.largest) >> 20) | \(t.problems) |")
    }
    let (all, refused) = tallies.reduce((0, 0)) { ($0.0 + $1.files, $0.1 + $1.refused) }
    print("| all | \(all) | \(refused) | | | | \(tallies.reduce(0) { $0 + $1.problems }) |")
  }
}

private struct Tally {
  var rounds = 0
  var read = 0
  var refused = 0
  var problems = 0
  var seconds = 0.0
  var slowest = 0.0
  var largest = 0.0

  var files: Int { read + refused }
}

/// What this process took so far.
struct ProcessUse {
  /// Of all processors, in seconds: other work on the machine does not count.
  let seconds: Double
  /// The most resident memory since it was forgotten, in bytes.
  let peak: Double

  init() {
    var use = rusage()
    #if canImport(Darwin)
      getrusage(RUSAGE_SELF, &use)
      let unit = 1.0
    #else
      getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &use)
      let unit = 1024.0
    #endif
    func seconds(_ t: timeval) -> Double { Double(t.tv_sec) + Double(t.tv_usec) * 1e-6 }
    self.seconds = seconds(use.ru_utime) + seconds(use.ru_stime)
    peak = Double(use.ru_maxrss) * unit
  }

  private static let clearing = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC)

  /// Linux counts the peak anew from what is resident now; elsewhere only a new peak shows.
  static func forgetPeak() { if clearing >= 0 { _ = pwrite(clearing, "5", 1, 0) } }
}
