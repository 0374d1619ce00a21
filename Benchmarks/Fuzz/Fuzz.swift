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
/// A parser may refuse a file with its module's error; anything else is reported, and so is a file
/// that takes long. A crash leaves the file at fault in the folder that is printed at the start.
@main
struct Fuzz: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Feeds damaged files to every parser.")

  @Option(help: "How long to go on.") var seconds = 60.0
  @Option(help: "The same seed damages the files in the same way.") var seed: UInt64 = 1
  @Option(help: "Only parsers whose name contains this.") var parser = ""
  @Option(help: "A file that takes more seconds than this is reported.") var slow = 5.0

  func validate() throws {
    guard seconds > 0, seconds.isFinite else { throw ValidationError("--seconds must be above 0") }
    guard slow > 0 else { throw ValidationError("--slow must be above 0") }
  }

  func run() throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "neti-fuzz-\(seed)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    let targets = try FuzzTarget.all(folder).filter { parser.isEmpty || $0.name.contains(parser) }
    guard !targets.isEmpty else { throw ValidationError("no parser's name contains “\(parser)”") }
    print("the file being read lies in \(folder.path)")
    // A parser that refuses the sound file is not tested by damaged ones.
    for target in targets {
      for original in target.originals {
        try original.write(to: folder.appending(path: target.file))
        try target.parse(original)
      }
    }

    var tallies = Dictionary(uniqueKeysWithValues: targets.map { ($0.name, Tally()) })
    let end = Date(timeIntervalSinceNow: seconds)
    var round = seed &* 1_000_000
    while Date() < end {
      for target in targets where Date() < end {
        for original in target.originals where Date() < end {
          for data in Mutations(of: original, count: 20, seed: round) {
            attempt(target, data, folder, &tallies[target.name, default: Tally()])
          }
        }
      }
      round &+= 1
    }
    report(targets, tallies)
    guard tallies.values.allSatisfy({ $0.problems == 0 }) else { throw ExitCode.failure }
    try? FileManager.default.removeItem(at: folder)
  }

  private func attempt(_ target: FuzzTarget, _ data: Data, _ folder: URL, _ tally: inout Tally) {
    let start = Date()
    do {
      try data.write(to: folder.appending(path: target.file))
      try target.parse(data)
      tally.read += 1
    } catch is any DescribedError {
      tally.refused += 1
    } catch {
      keep(target, data, folder, &tally, "threw \(type(of: error)): \(error)")
    }
    let time = -start.timeIntervalSinceNow
    if time > slow { keep(target, data, folder, &tally, "took \(Int(time)) s") }
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

  private func report(_ targets: [FuzzTarget], _ tallies: [String: Tally]) {
    for target in targets {
      guard let tally = tallies[target.name] else { continue }
      print(
        "\(target.name): \(tally.read + tally.refused) files, \(tally.refused) refused, "
          + "\(tally.problems) problems")
    }
  }
}

private struct Tally {
  var read = 0
  var refused = 0
  var problems = 0
}
