import ArgumentParser
import Diffusion
import Files
import Foundation
import NeTI

/// `neti train --manifest`: the concepts of a list, one after another, on one base model.
///
/// What is finished is skipped and what was interrupted goes on, so that the same command can be given
/// again until everything is done. A concept that fails stops no other. One that another process works
/// on is looked at once more when the others are done.
final class ManifestSession {
  /// A concept to learn.
  private struct Work {
    let entry: ConceptManifest.Entry
    let configuration: RunConfiguration
    /// “spotty (line 3)”
    var title: String { "\(entry.name) (line \(entry.line))" }
  }

  private enum Outcome {
    case learned
    case finishedBefore
    case inUse
  }

  private let model: StableDiffusion
  private let stop: StopOnSignal
  private var counts = (learned: 0, before: 0)
  private var failures: [(title: String, reason: String)] = []

  /// Learns what is left of the shard.
  ///
  /// - Parameters:
  ///   - load: the configuration of an entry; all entries are checked before work begins.
  ///   - options: which base model, and where and how it runs.
  /// - Throws: before any work when the manifest is not right; `NeTIError` in the end when not everything
  ///   is learned.
  static func run(
    _ manifest: ConceptManifest, shard: Shard, model options: ModelOptions,
    load: (ConceptManifest.Entry) throws -> LoadedConfiguration
  ) throws {
    let loaded = try manifest.entries.map { ($0.line, try load($0)) }
    var told: Set<String> = []
    let notices =
      loaded.flatMap(\.1.notices) + loaded.compactMap { TrainingSession.notice($0.1.configuration, options) }
    for line in notices where told.insert(line).inserted { note(line) }
    let byLine = Dictionary(uniqueKeysWithValues: loaded.map { ($0.0, $0.1.configuration) })
    let mine = manifest.shard(shard.index, of: shard.count).compactMap { entry in
      byLine[entry.line].map { Work(entry: entry, configuration: $0) }
    }
    note(
      "\(manifest.name): \(mine.count) of \(manifest.entries.count) concepts"
        + (shard.count > 1 ? " are in shard \(shard.index)/\(shard.count)" : ""))
    guard let first = mine.first else { return }
    let arguments = CommandLine.arguments.dropFirst().map(\.shellQuoted)
    let command = ([Installation.command] + arguments).joined(separator: " ")
    let stop = StopOnSignal(goOn: command, early: "stopped. Go on with: \(command)")
    try withExtendedLifetime(stop) {
      let session = ManifestSession(try TrainingSession.open(first.configuration, options), stop)
      try session.run(mine)
    }
  }

  private init(_ model: StableDiffusion, _ stop: StopOnSignal) {
    self.model = model
    self.stop = stop
  }

  private func run(_ works: [Work]) throws {
    // Before the model takes memory of its own.
    let fitting = works.filter { work in
      attempt(work) { try MemoryEstimate.require(work.configuration, on: model) } != nil
    }
    var busy: [Work] = []
    for (i, work) in fitting.enumerated() {
      let outcome = try learn(work, place: "\(i + 1) of \(fitting.count)")
      if outcome == .inUse { busy.append(work) }
    }
    for work in busy {
      guard try learn(work, place: "once more") == .inUse else { continue }
      failures.append((work.title, "another process works on it"))
    }
    var parts = ["\(counts.learned) learned"]
    if counts.before > 0 { parts.append("\(counts.before) finished before") }
    if !failures.isEmpty { parts.append("\(failures.count) not learned") }
    note("\(parts.joined(separator: ", ")) of \(works.count)")
    guard !failures.isEmpty else { return }
    for f in failures { note("  \(f.title): \(f.reason)".oneLine) }
    throw NeTIError(
      "\(failures.count) of \(works.count) concepts were not learned; the same command tries them again")
  }

  /// Learns one concept; nil when it failed. Throws when a signal ends everything.
  private func learn(_ work: Work, place: String) throws -> Outcome? {
    let c = work.configuration
    let outcome = attempt(work) { () throws -> Outcome in
      if try RunFolder.isFinished(c) { return .finishedBefore }
      note("\(place): \(work.title)")
      do {
        _ = try TrainingSession.run(c, on: model, resume: true, quiet: false, stop: stop)
        return .learned
      } catch let e as RunFolderInUse {
        note("passed over for now: \(e.description.prefix { $0 != ":" })")
        return .inUse
      }
    }
    if stop.code != 0 { throw ExitCode(stop.code) }
    switch outcome {
    case .learned: counts.learned += 1
    case .finishedBefore: counts.before += 1
    case .inUse, nil: break
    }
    return outcome
  }

  /// Does something for one concept; nil when it failed, which is told and kept.
  private func attempt<T>(_ work: Work, _ body: () throws -> T) -> T? {
    do { return try body() } catch {
      // A signal's exit code is no failure of the concept.
      guard stop.code == 0 else { return nil }
      warn("\(work.title) was not learned: \(error)")
      failures.append((work.title, "\(error)"))
      return nil
    }
  }
}
