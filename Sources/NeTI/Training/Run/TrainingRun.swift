public import Diffusion
import Files
public import Foundation
import Imaging
import Torch

/// A training run with its folder: the trainer, its logs, its checkpoints and its result.
///
/// What `neti train` does between reading its flags and drawing its progress bar.
public final class TrainingRun {
  public let trainer: Trainer
  /// Lines for the user: categories of several tokens, captions that are cut off, checkpoints that were skipped.
  public private(set) var notices: [String] = []
  /// Steps of the checkpoint that it goes on from, 0 without one.
  public let stepsDone: Int

  private let configuration: RunConfiguration
  private let folder: RunFolder
  private let content: RunContent
  private let validation: ConceptGenerator.Request?
  /// Whether the step that the run goes on from should have validation images, and has not: the process was
  /// killed, or stopped, while it drew them.
  package let lacksSamples: Bool
  private let log: RunLog
  private let board: TensorBoardWriter
  private let model: StableDiffusion
  /// Room for a checkpoint and for the concept, which no other program can fill meanwhile.
  private let spare: SpareRoom
  /// What was warned of.
  private var told: Set<String> = []

  /// Opens the folder and prepares the trainer.
  ///
  /// - Parameters:
  ///   - resume: go on from the latest checkpoint that can be read.
  ///   - examples: prepared as `TrainingImages(configuration.data, on: model)` does it.
  ///   - processes: those that share the run, of which this one is the first; the others call
  ///     `Trainer.assist`, and have no folder.
  /// - Throws: also when a run is resumed with another model, other images, captions or masks than it began with,
  ///   wherever they lie now.
  public init(
    folder url: URL, configuration: RunConfiguration, model: StableDiffusion, examples: [TrainingExample],
    resume: Bool, processes: any TrainingProcesses = SingleProcess()
  ) throws {
    self.model = model
    self.configuration = configuration
    // Everything that can fail later, before the folder is made: what is wrong should leave nothing behind, and
    // no step should be taken in vain.
    let there = RunFolder.checkpoints(in: url)
    let goesOn = resume && RunFolder.holdsRun(url)
    // The checkpoints hold what became of the concept that the configuration names.
    let begun = goesOn ? there.lazy.compactMap { try? Checkpoint(contentsOf: $0.url) }.first : nil
    if let done = begun?.concept.about.steps, done > configuration.optim.maxTrainSteps {
      throw NeTIError(
        "the run in \(url.relativePath) has \(done) steps already, more than the "
          + "\(configuration.optim.maxTrainSteps) asked for; leave `steps` out to go on to its own number, or ask for more"
      )
    }
    let start = try TrainingStart(configuration, resuming: begun)
    let prompts = try TrainingPrompts(
      configuration.data, examples, model.tokenizers, vectorCount: start.vectorCount)
    // What was changed by hand is told as that, before what does not go with it.
    if let begun {
      try RunFolder.require(RunFolder.configuration(of: url), asLearned: begun.concept, in: url)
    }
    try RunFolder.require(configuration, in: url, resume: resume)
    var content = try RunContent(configuration, examples, model)
    var lines: [String] = []
    if goesOn, let line = try content.requireSame(asIn: url, configuration, isSaved: !there.isEmpty) {
      lines.append(line)
    }
    self.content = content
    let concept = try start.concept(model, prompts.category, RandomKeys(seed: 0)) { _ in }
    if configuration.data.learnableProperty != .object, examples.allSatisfy({ $0.caption != nil }) {
      lines.append(
        "`property` has no effect: every image has a caption, which stands for the sentences it chooses")
    }
    validation = try Self.validation(configuration, model, concept) { lines.append($0) }
    let estimate = DiskEstimate(
      configuration, numbers: try concept.tensors.reduce(0) { $0 + $1.1.count }, side: model.resolution,
      done: there.first?.step ?? 0, kept: there.count)
    try estimate.require(DiskEstimate.available(url), in: url)

    folder = try RunFolder(url, configuration: configuration, resume: resume)
    spare = SpareRoom(
      checkpoint: ReservedRoom(estimate.bytesOfCheckpoint, in: url),
      concept: ReservedRoom(estimate.bytesOfConcept, in: url))
    // Reading it is the check; what cannot be read is passed over for the one before.
    let (checkpoint, broken) =
      resume ? folder.latestCheckpoint { try? Checkpoint(contentsOf: $0.url) } : (nil, [])
    lines += broken.map { "\($0) cannot be read and is passed over" }
    if goesOn, checkpoint == nil {
      lines.append("there is no checkpoint to go on from; the run begins at step 1")
    }
    trainer = try Trainer(
      model: model, examples: examples, prompts: prompts, configuration: configuration,
      resuming: checkpoint, processes: processes, notice: { lines.append($0) })
    notices = lines
    let done = checkpoint?.concept.about.steps ?? 0
    stepsDone = done
    log = try RunLog(folder.eventsFile, keepingThrough: done)
    board = try TensorBoardWriter(folder: folder.tensorBoardFolder, resumingAt: done > 0 ? done + 1 : nil)
    lacksSamples =
      if let validation, done > 0, done.isMultiple(of: configuration.eval.validationSteps) {
        try !folder.holdsSamples(Self.sampleNames(step: done, validation), step: done)
      } else { false }
  }

  /// The names of a step's validation images, in the order in which they are generated.
  private static func sampleNames(step: Int, _ request: ConceptGenerator.Request) -> [String] {
    let seeds = request.prompts.flatMap { _ in request.seeds }
    return seeds.enumerated().map { sampleName(step: step, $0, seed: $1) }
  }

  private static func sampleName(step: Int, _ index: Int, seed: UInt64) -> String {
    RunFolder.stepName(step) + "-\(index)-seed-\(seed).png"
  }

  /// The request for the run's validation images; nil where none are due. Throws when they cannot be generated.
  private static func validation(
    _ configuration: RunConfiguration, _ model: StableDiffusion, _ concept: Concept,
    _ notice: (String) -> Void
  ) throws -> ConceptGenerator.Request? {
    let eval = configuration.eval
    guard !eval.validationPrompts.isEmpty, eval.validationSteps <= configuration.optim.maxTrainSteps else {
      return nil
    }
    var request = ConceptGenerator.Request(prompts: eval.validationPrompts)
    request.seeds = eval.seeds.map { UInt64($0) }
    request.steps = eval.numDenoisingSteps
    request.guidance = eval.guidanceScale
    request.scheduler = try ModelDefaults.load(model.folder)?.scheduler ?? request.scheduler
    request.promptWeights = eval.promptWeights
    func works(_ kind: SchedulerKind) -> Bool {
      (try? makeScheduler(kind, model.schedulerConfiguration, steps: request.steps)) != nil
    }
    // Some models ask of a scheduler what it cannot do here; which one denoises these images matters little.
    if !works(request.scheduler), let other = SchedulerKind.allCases.first(where: works) {
      notice(
        "\(model.folder.name) asks the scheduler \(request.scheduler.rawValue) for what it cannot do here; "
          + "\(other.rawValue) denoises the validation images")
      request.scheduler = other
    }
    do {
      let generator = try ConceptGenerator(model, concepts: [.init(concept)])
      try generator.prepare(request, .init(weighing: "eval.prompt_weights true", lora: "lora FILE:WEIGHT"))
        .warnings.forEach(notice)
    } catch let e as any DescribedError {
      let why =
        "validation images cannot be generated: \(e); `eval.validation_prompts []` trains without them"
      let isWrongUsage = (e as? NeTIError)?.isWrongUsage ?? (e as? DiffusionError)?.isWrongUsage ?? false
      throw isWrongUsage ? NeTIError(wrongUsage: why) : NeTIError(why)
    }
    return request
  }

  /// Trains until the last step or until asked to stop; the result is written only when it is whole.
  public func callAsFunction(listener: (TrainingEvent) throws -> Void = { _ in }) throws -> Concept {
    let (folder, configuration) = (folder, configuration)
    let limit = configuration.log.checkpointsTotalLimit
    let concept = try trainer.run(
      save: { [spare] step, data in
        let file = folder.checkpointFile(step: step)
        try folder.makeAgain(configuration)
        do {
          try AtomicFile.write(data, to: file)
        } catch  where spare.checkpoint != nil {
          spare.checkpoint = nil
          try AtomicFile.write(data, to: file)
        }
        folder.prune(keeping: limit)
        return file
      },
      validate: validation.map { request in { [self] in try validate($0, request) } },
      validatesFirst: lacksSamples,
      listener: { event in
        try record(event) { try listener(.warning($0)) }
        try listener(event)
      })
    let steps = concept.about.steps
    try optional("the log has no end", { try listener(.warning($0)) }) {
      try log.append(RunEvent(.stop, step: steps))
    }
    if steps >= configuration.optim.maxTrainSteps {
      do {
        try folder.makeAgain(configuration)
        spare.release()
        try concept.write(to: folder.conceptFile)
      } catch let e as any DescribedError {
        let step = folder.checkpoints().first?.step
        throw InterruptedRun(
          reason(e) + (step.map { "; step \($0) is saved" } ?? "; no step is saved"), isSaved: step != nil)
      }
    }
    return concept
  }

  /// Writes an event down; where that fails, training goes on without it.
  private func record(_ event: TrainingEvent, _ warn: (String) throws -> Void) throws {
    func log(_ event: RunEvent) throws {
      try optional("the log lacks a line", warn) { try self.log.append(event) }
    }
    func board(_ write: () throws -> Void) throws { try optional("TensorBoard lacks a value", warn, write) }
    switch event {
    case .started(let from, _): try log(RunEvent(.start, step: from, content: content.hashes))
    case .step(let s):
      try log(RunEvent(.step, step: s.step, loss: s.loss, learningRate: s.learningRate, seconds: s.seconds))
      try board {
        try self.board.scalar("loss", s.loss, step: s.step)
        try self.board.scalar("lr", s.learningRate, step: s.step)
      }
    case .checkpoint(let step, let file):
      try log(RunEvent(.checkpoint, step: step, files: [file.lastPathComponent]))
    case .samples(let step, let images):
      var files: [String] = []
      for (i, p) in images.enumerated() {
        let name = Self.sampleName(step: step, i, seed: p.seed)
        let weights = configuration.eval.promptWeights ? [("prompt weights", "AUTOMATIC1111")] : []
        let data = Data(
          try p.image.png(
            text: [("prompt", p.prompt), ("seed", String(p.seed)), ("step", String(step))] + weights))
        try optional("a validation image is not written", warn) {
          try AtomicFile.write(data, to: folder.samplesFolder.appending(path: name))
          files.append(name)
        }
        try board {
          try self.board.image(
            "samples/\(i)", encoded: data, width: p.image.width, height: p.image.height, step: step)
        }
      }
      try log(RunEvent(.sample, step: step, files: files))
    case .warning: break
    }
  }

  /// `attempt`, which tells of each kind of failure once: a full disk fails every line and image after the first.
  private func optional(
    _ otherwise: String, _ warn: (String) throws -> Void, _ work: () throws -> Void
  ) throws {
    _ = try attempt(otherwise, { if told.insert(otherwise).inserted { try warn($0) } }, work)
  }

  /// The validation images of the concept as it is now.
  private func validate(
    _ concept: Concept, _ request: ConceptGenerator.Request
  ) throws -> [(prompt: String, seed: UInt64, image: Image)] {
    let commands = trainer.commands
    do {
      return try ConceptGenerator(model, concepts: [.init(concept)])(request) { _ in
        if commands.stopRequested { throw Stopped() }
      }.map { ($0.prompt, $0.seed, $0.image) }
    } catch is Stopped {
      return []
    }
  }

  private struct Stopped: Error {}

  /// By itself, so that what saves a step, which the trainer keeps, does not keep the run and its lock.
  private final class SpareRoom {
    var checkpoint: ReservedRoom?
    var concept: ReservedRoom?

    init(checkpoint: ReservedRoom?, concept: ReservedRoom?) {
      (self.checkpoint, self.concept) = (checkpoint, concept)
    }

    func release() { (checkpoint, concept) = (nil, nil) }
  }
}
