import ArgumentParser
import Diffusion
import Files
import Foundation
import NeTI
import Torch

/// What the terminal adds to a training run: words, a progress bar and signals.
enum TrainingSession {
  /// Trains as `c` says; returns the concept, or ends the process when a signal stopped it.
  ///
  /// - Parameters:
  ///   - processes: those that share the run; nil is returned where this is not the first.
  ///   - given: what was asked of the run, for a run that is finished.
  @discardableResult
  static func run(
    _ c: RunConfiguration, model options: ModelOptions, resume: Bool, quiet: Bool,
    processes: any TrainingProcesses = SingleProcess(), given: [String] = []
  ) throws -> Concept? {
    let goOn = goOn(c, options) + (processes.count == 1 ? "" : ", in processes started as these were")
    let stop = StopOnSignal(
      goOn: goOn,
      early: "stopped before the first step. Begin again with the same command and --resume",
      speaks: processes.isFirst)
    return try withExtendedLifetime(stop) {
      if let missing = c.missingFolder {
        throw NeTIError("\(missing.problem); name the one that is there with `\(missing.setting)`")
      }
      let base = try open(c, options)
      try MemoryEstimate.require(c, on: base, processes: processes.count)
      if processes.isFirst {
        do {
          return try run(
            c, on: base, resume: resume, quiet: quiet, stop: stop, processes: processes, given: given)
        } catch let e as InterruptedRun {
          throw NeTIError("\(e). \(e.isSaved ? "Go on with" : "Begin again with"): \(goOn)")
        }
      }
      try assist(c, on: base, processes, stop)
      return nil
    }
  }

  /// The same on a model that is open, in memory that was checked.
  static func run(
    _ c: RunConfiguration, on base: StableDiffusion, resume: Bool, quiet: Bool, stop: StopOnSignal,
    processes: any TrainingProcesses = SingleProcess(), given: [String] = []
  ) throws -> Concept {
    let run = try prepare(c, on: base, resume: resume, quiet: quiet, processes, given)
    for line in run.notices { warn(line) }
    stop.serve(run.trainer.commands)
    let bar = Bar(total: c.optim.maxTrainSteps)
    let concept: Concept
    do { concept = try run(listener: bar.listen) } catch {
      _ = stop.end()
      bar.finish()
      throw error
    }
    let code = stop.end()
    bar.finish()
    if code != 0, concept.about.steps < c.optim.maxTrainSteps {
      note(stop.message(savedStep: concept.about.steps > 0 ? concept.about.steps : nil))
      throw ExitCode(code)
    }
    if concept.about.steps < c.optim.maxTrainSteps {
      throw NeTIError("another process of the run was stopped; step \(concept.about.steps) is saved")
    }
    return concept
  }

  /// The part of another process than the first: it says nothing unless it fails.
  private static func assist(
    _ c: RunConfiguration, on base: StableDiffusion, _ processes: any TrainingProcesses, _ stop: StopOnSignal
  ) throws {
    let images = try TrainingImages(c.data, on: base)
    let trainer = try Trainer(
      model: base, examples: images.examples, configuration: c, processes: processes)
    stop.serve(trainer.commands)
    let concept = try trainer.assist()
    let code = stop.end()
    guard concept.about.steps < c.optim.maxTrainSteps else { return }
    throw code == 0 ? ExitCode.failure : ExitCode(code)
  }

  /// What of the settings has no effect on this device.
  static func notice(_ c: RunConfiguration, _ options: ModelOptions) -> String? {
    guard c.optim.allowTf32, c.optim.mixedPrecision != .bf16, !options.device.hasPrefix("cuda") else {
      return nil
    }
    return "optim.allow_tf32 has no effect here: only CUDA (--device cuda) knows it"
  }

  /// The base model that `c` asks for.
  static func open(_ c: RunConfiguration, _ options: ModelOptions) throws -> StableDiffusion {
    let precision: ModelOptions.Precision =
      c.optim.mixedPrecision == .bf16 ? .bf16 : c.optim.allowTf32 ? .tf32 : .fp32
    return try options.open(
      options.folder(of: c), in: precision, with: c.model.loras.compactMap { LoRAFile($0) },
      usualClipSkip: c.model.clipSkip)
  }

  /// Everything before the first step: the images, the run's folder.
  private static func prepare(
    _ c: RunConfiguration, on base: StableDiffusion, resume: Bool, quiet: Bool,
    _ processes: any TrainingProcesses, _ given: [String]
  ) throws -> TrainingRun {
    let images = try TrainingImages(c.data, on: base)
    for line in images.warnings { warn(line) }
    if images.examples.count == 1, images.examples[0].mask == nil {
      warn("a single image is learned with all that it shows, its background too; 3 to 6 are better")
    }
    if !quiet, c.data.buckets, let line = Self.bucketNote(c.data.resolution, base) { note(line) }
    // What it refuses, it refuses before a word of learning.
    let run = try TrainingRun(
      folder: c.runFolder, configuration: c, model: base, examples: images.examples, resume: resume,
      processes: processes)
    if !quiet, resume, run.stepsDone > 0, (try? RunFolder.isFinished(c)) == true {
      // Images that the last step lacks are drawn all the same.
      let idle = given.filter { !run.lacksSamples || $0.hasPrefix("--log.") }
      let without = idle.joined(separator: ", ") + (idle.count == 1 ? " has" : " have")
      note(
        "the run is finished; `steps N`, more than \(c.optim.maxTrainSteps), learns on"
          + (idle.isEmpty ? "" : "; until then \(without) no effect"))
    } else if !quiet {
      note(
        "learning \(c.data.placeholderToken) from \(images.summary) at \(images.sizes) on \(base.folder.name), "
          + "at a rate of \(rateText(c))"
          + (processes.count == 1
            ? ""
            : ", in \(processes.count) processes of \(c.optim.samplesPerStep / processes.count) samples a step")
      )
    }
    return run
  }

  /// What `--buckets` makes of a resolution that is no multiple of its usual 64 pixels.
  private static func bucketNote(_ resolution: Int?, _ base: StableDiffusion) -> String? {
    guard let resolution, !resolution.isMultiple(of: 64) else { return nil }
    let buckets = SizeBuckets(resolution: resolution, factor: base.vaeFactor)
    let side = buckets.sizes[0].width
    return
      "data.resolution \(resolution) is no multiple of 64: with --buckets the square is \(side)×\(side), and the "
      + "sides of all sizes are multiples of \(buckets.step)"
  }

  /// The learning rate as it is used: that `scale_lr` multiplies it surprises.
  private static func rateText(_ c: RunConfiguration) -> String {
    let o = c.optim
    let used = String(format: "%g", o.learningRateSchedule().base)
    guard o.scaleLr, o.samplesPerStep > 1 else { return used }
    return "\(used) (\(String(format: "%g", o.learningRate)) × batch × accumulation, as optim.scale_lr asks)"
  }

  /// How to continue this run; what its folder does not know has to be said again.
  private static func goOn(_ c: RunConfiguration, _ options: ModelOptions) -> String {
    var words = [Installation.command, "train", "--output", c.runFolder.shownPath.shellQuoted, "--resume"]
    if let threads = options.threads { words += ["--threads", String(threads)] }
    if options.device != "cpu" { words += ["--device", options.device] }
    return words.joined(separator: " ")
  }

  /// The progress bar as a listener, which also says once how long it will take.
  private final class Bar {
    private let total: Int
    private var bar: ProgressBar?
    private var first = 0
    private var smoothed: Double?
    private var seconds: [Double] = []

    init(total: Int) { self.total = total }

    func listen(_ event: TrainingEvent) {
      switch event {
      case .started(let from, let to):
        first = from
        bar = ProgressBar("learning", total: to, first: from)
      case .step(let s):
        smoothed = smoothed.map { 0.95 * $0 + 0.05 * s.loss } ?? s.loss
        seconds.append(s.seconds)
        // The first step makes caches; the next two tell.
        if s.step - first == 3, seconds.dropFirst().max() ?? 0 > 1 {
          let each = seconds.dropFirst().reduce(0, +) / 2
          bar?.finish()
          note(
            "a step takes \(String(format: "%.1f", each)) s: about \(ProgressBar.clock(each * Double(total - s.step))) left"
          )
        }
        bar?.update(s.step, detail: "loss \(String(format: "%.4f", smoothed ?? s.loss))")
      case .warning(let line):
        bar?.finish()
        warn(line)
      case .checkpoint, .samples: break
      }
    }

    func finish() { bar?.finish() }
  }
}
