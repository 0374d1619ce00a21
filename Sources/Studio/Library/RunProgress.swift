import Foundation
import NeTI

/// How far a concept's run has come, as its folder tells.
enum RunProgress {
  /// - Parameter place: the concept's folder.
  static func read(_ concept: StudioConcept, in place: URL) throws -> StudioConcept.Progress {
    var progress = StudioConcept.Progress()
    guard let plan = concept.plan else { return progress }
    let run = place.appending(path: plan.name, directoryHint: .isDirectory)
    progress.state = .stopped
    guard RunFolder.holdsRun(run) else { return progress }
    let isFinished = (try? RunFolder.isFinished(RunFolder.configuration(of: run))) ?? false
    if isFinished { progress.state = .learned }
    let events = (try? RunLog.read(run.appending(path: "events.jsonl"))) ?? []
    // What a resumed run goes on from.
    let saved = RunFolder.checkpoints(in: run).map(\.step).max() ?? 0
    progress.step = isFinished ? plan.steps : saved
    let samples = events.filter { $0.kind == .sample && $0.step <= progress.step }
    progress.previews = Array(Set(samples.map(\.step))).sorted()
    progress.previewCount = samples.map { $0.files?.count ?? 0 }.max() ?? 0
    return progress
  }

  /// A picture of how a concept looked after `step` steps.
  static func preview(step: Int, index: Int, run: URL) throws -> URL {
    let folder = run.appending(path: "samples", directoryHint: .isDirectory)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    let start = RunFolder.stepName(step) + "-\(index)-seed-"
    guard let name = names.first(where: { $0.hasPrefix(start) && $0.hasSuffix(".png") }) else {
      throw StudioError("there is no such picture", .notFound)
    }
    return folder.appending(path: name)
  }

  /// The loss of every step.
  static func losses(run: URL) throws -> [Double] {
    let file = run.appending(path: "events.jsonl")
    guard FileManager.default.fileExists(atPath: file.path) else { return [] }
    return try RunLog.read(file).compactMap { $0.kind == .step ? $0.loss : nil }
  }
}
