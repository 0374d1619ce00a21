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
    let file = run.appending(path: "concept.safetensors")
    progress.bytes = (try? file.resourceValues(forKeys: [.fileSizeKey]))?.fileSize
    if plan.isImported == true {
      if progress.bytes != nil { (progress.state, progress.step) = (.learned, plan.steps) }
      return progress
    }
    guard RunFolder.holdsRun(run) else { return progress }
    let isFinished = (try? RunFolder.isFinished(RunFolder.configuration(of: run))) ?? false
    if isFinished { progress.state = .learned }
    let events = (try? RunLog.read(run.appending(path: "events.jsonl"))) ?? []
    progress.checkpoints = RunFolder.checkpoints(in: run).map(\.step).sorted()
    // What a resumed run goes on from.
    let saved = progress.checkpoints.last ?? 0
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

  /// The concept as it was after `step` steps.
  static func checkpoint(step: Int, run: URL) throws -> URL {
    guard let found = RunFolder.checkpoints(in: run).first(where: { $0.step == step }) else {
      throw StudioError("the concept after \(step) steps is not kept", .notFound)
    }
    return found.url
  }
}
