import Diffusion
import Files
import Foundation
import NeTI

/// A concept that is being learned.
final class LearnJob: @unchecked Sendable {
  let id: ID
  let ended = DispatchSemaphore(value: 0)
  private let lock = NSLock()
  private var shown = Shown()
  private var commands: TrainingCommands?
  private var stop = false
  /// When pages were last told of a step.
  private var told: ContinuousClock.Instant?

  /// What pages see of it.
  struct Shown: Encodable, Sendable {
    var step = 0
    var total = 0
    var secondsLeft: Double?
    /// Bytes at the process's peak.
    var memory: Double?
    var isStopping = false
    var warnings: [String] = []
  }

  init(id: ID) { self.id = id }

  var view: Shown { lock.withLock { shown } }

  /// Whether a second has passed since a page was last told of a step, or it is the last one.
  func isTimeToTell(_ step: Int) -> Bool {
    lock.withLock {
      let now = ContinuousClock.now
      if let told, step < shown.total, now - told < .seconds(1) { return false }
      told = now
      return true
    }
  }

  func show(_ body: (inout Shown) -> Void) { lock.withLock { body(&shown) } }

  func requestStop() {
    lock.withLock {
      stop = true
      shown.isStopping = true
      commands?.requestStop()
    }
  }

  /// The trainer is there, and hears what was asked before.
  func serve(_ commands: TrainingCommands) {
    lock.withLock {
      self.commands = commands
      if stop { commands.requestStop() }
    }
  }

  var isStopping: Bool { lock.withLock { stop } }

  /// Stops within a moment, however long a step takes, and leaves the last whole step; `body` then ends the process.
  /// It gets the step that was saved, nil where none was complete.
  func stopAtOnce(_ body: (Result<Int?, any Error>) -> Void) {
    requestStop()
    if ended.wait(timeout: .now() + 1.2) == .success {
      return body(.success(view.step > 0 ? view.step : nil))
    }
    guard let commands = lock.withLock({ commands }) else { return body(.success(nil)) }
    commands.saveLastStep { body($0) }
  }
}

extension Workshop {
  /// Learns a concept, or goes on with it; returns when it is learned, stopped or failed.
  func learn(_ job: LearnJob) {
    library.setProgress(job.id) { $0.state = .learning }
    var problem: String?
    do { try run(job) } catch { problem = "\(error)" }
    job.ended.signal()
    update { $0.learning = nil }
    // What failed or was stopped before it began can be mended, and asked for again from then on.
    library.settle(job.id, problem: problem)
    library.folder.experience.save()
  }

  private func run(_ job: LearnJob) throws {
    guard let plan = try library.concept(job.id).plan else { return }
    // Exactly what the command line that is shown does; a run that is there goes on.
    let words = plan.words(in: library.place(of: job.id)) + ["--resume"]
    let c = try settings.configuration(words)
    try MemoryEstimate.require(c, on: model)
    let images = try TrainingImages(c.data, on: model)
    if job.isStopping { return }
    let run = try TrainingRun(
      folder: c.runFolder, configuration: c, model: model, examples: images.examples, resume: true)
    job.serve(run.trainer.commands)
    job.show {
      $0.total = c.optim.maxTrainSteps
      $0.warnings = images.warnings + run.notices
    }
    let circumstances = facts.circumstances(c)
    var pace = Pace(every: c.eval.validationSteps, foreseen: library.folder.experience(circumstances))
    pace.circumstances = circumstances
    var gap = Gap()
    let grid = FixedLoss(
      model, images.examples, templates: c.data.learnableProperty.templates,
      file: library.place(of: job.id).appending(path: FixedLoss.name))
    _ = try run { event in listen(event, job, &pace, &gap, grid) }
  }

  /// The time between two steps, in which nothing else was generated.
  private struct Gap {
    private var start: ContinuousClock.Instant?
    var isPause = false

    mutating func begin() { (start, isPause) = (.now, false) }

    /// Its seconds, where it was a pause.
    func end(beforeStep seconds: Double) -> Double? {
      guard isPause, let start else { return nil }
      return max(0, (ContinuousClock.now - start) / .seconds(1) - seconds)
    }
  }

  private func listen(
    _ event: TrainingEvent, _ job: LearnJob, _ pace: inout Pace, _ gap: inout Gap, _ grid: FixedLoss
  ) {
    switch event {
    case .started(let from, let to):
      job.show {
        $0.step = from
        $0.total = to
        $0.secondsLeft = pace.secondsLeft(after: from, of: to)
      }
      // What a kill came before.
      for checkpoint in (try? grid.missing(of: library.run(of: job.id))) ?? []
      where checkpoint.step <= from && !job.isStopping {
        measure(checkpoint.url, checkpoint.step, job, grid)
      }
    case .step(let s):
      // Each page that shows a step takes milliseconds of the processor that learns.
      defer { if job.isTimeToTell(s.step) { changes.mark(.work) } }
      if let seconds = gap.end(beforeStep: s.seconds) { pace.paused(seconds) }
      pace.stepped(s.seconds)
      let memory = SystemMemory.peak()
      job.show { shown in
        shown.step = s.step
        shown.secondsLeft = pace.secondsLeft(after: s.step, of: shown.total, beforePause: true)
        shown.memory = memory
      }
      if let entry = pace.entry(memory: memory) {
        library.folder.experience.learn(pace.circumstances, entry)
      }
      // One image: who waits for many does not starve what is learned, nor a stop.
      if !job.isStopping { generateOne(beside: job) }
      gap.begin()
      return
    case .checkpoint(let step, let file):
      library.setProgress(job.id) { if !$0.checkpoints.contains(step) { $0.checkpoints.append(step) } }
      measure(file, step, job, grid)
    case .samples(let step, let images):
      gap.isPause = true
      library.setProgress(job.id) {
        if !$0.previews.contains(step) { $0.previews.append(step) }
        $0.previewCount = images.count
      }
    case .warning(let line): job.show { $0.warnings.append(line) }
    }
    changes.mark(.work)
  }

  private func measure(_ checkpoint: URL, _ step: Int, _ job: LearnJob, _ grid: FixedLoss) {
    do { try grid.measure(checkpoint, step: step) } catch {
      job.show { $0.warnings.append("the loss on the fixed grid was not measured: \(error)") }
    }
  }
}

extension StudioConcept.Plan {
  /// The words with the concept's folder put in.
  func words(in place: URL) -> [String] {
    let folder = place.path.hasSuffix("/") ? String(place.path.dropLast()) : place.path
    // Only the two that are paths: a kind may be called anything.
    return zip(words, [""] + words).map { word, before in
      ["--images", "--output"].contains(before) ? word.replacing("{folder}", with: folder) : word
    }
  }

  /// The line that learns the same anywhere, byte for byte: its result goes into the current folder.
  func commandLine(_ command: String, in place: URL) -> String {
    var words = words(in: place)
    if let at = words.firstIndex(of: "--output"), at + 1 < words.count { words[at + 1] = name }
    return ([command] + words.map(\.shellQuoted)).joined(separator: " ")
  }
}
