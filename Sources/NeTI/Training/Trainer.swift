public import Diffusion
public import Foundation
public import Imaging
import Torch

/// Learns a concept from images, with the diffusion model frozen.
///
/// Per sample: an image, perhaps mirrored; a prompt with the placeholder in it; t ~ U{0 … 999}; ε ~ N(0, I);
/// how many units nested dropout keeps; and `NoiseSchedule.loss`. Only the representation is trained, by
/// AdamW. NeTI, section 4 (https://arxiv.org/abs/2305.15391).
///
/// The trainer emits events and takes commands; it shows nothing on a screen and writes no file except the
/// checkpoints that its caller's `save` makes.
public final class Trainer {
  public let configuration: RunConfiguration
  public let commands = TrainingCommands()
  /// The concept as it is now.
  public private(set) var concept: Concept

  let optimizer: AdamW
  let processes: any TrainingProcesses
  private let keys: RandomKeys
  private let model: StableDiffusion
  private let unet: UNet
  private let conditioner: SpaceTimeConditioner
  private let schedule: NoiseSchedule
  private let data: TrainingData
  private let learningRate: LearningRate
  /// Whether any of several processes was asked to stop.
  private var allStop = false

  /// Prepares a run: encodes the images, makes the concept or takes it from `checkpoint`.
  ///
  /// - Parameters:
  ///   - examples: already prepared to the training size (see `TrainingImages`).
  ///   - configuration: resolved: no field that decides the result is left open.
  ///   - checkpoint: what to go on from; of several processes, the first's counts.
  ///   - processes: those that share the run; its batch is that of all together.
  ///   - notice: receives one line for each thing the user should know.
  public convenience init(
    model: StableDiffusion, examples: [TrainingExample], configuration: RunConfiguration,
    resuming checkpoint: Checkpoint? = nil, processes: any TrainingProcesses = SingleProcess(),
    notice: (String) -> Void = { _ in }
  ) throws {
    try self.init(
      model: model, examples: examples,
      prompts: TrainingPrompts(
        configuration.data, examples, model.tokenizers,
        vectorCount: TrainingStart(configuration, resuming: checkpoint).vectorCount),
      configuration: configuration,
      resuming: checkpoint, processes: processes, notice: notice)
  }

  /// As above, with the words of the run checked already.
  init(
    model: StableDiffusion, examples: [TrainingExample], prompts: TrainingPrompts,
    configuration: RunConfiguration, resuming checkpoint: Checkpoint?, processes: any TrainingProcesses,
    notice: (String) -> Void
  ) throws {
    guard !examples.isEmpty else { throw NeTIError("there are no images to learn from") }
    self.configuration = configuration
    self.model = model
    self.processes = processes
    let start = try TrainingStart(configuration, resuming: checkpoint)
    try processes.requireSame(configuration, examples)

    keys = RandomKeys(seed: UInt64(configuration.optim.seed ?? 0))
    schedule = try NoiseSchedule(model.schedulerConfiguration)
    data = try TrainingData(
      examples, prompts, model, repeats: configuration.data.repeats,
      timesteps: schedule.alphasCumprod.count, keys: keys)

    if let line = prompts.category.notice { notice(line) }
    concept = try start.concept(model, prompts.category, keys, notice)
    prompts.notices.forEach(notice)
    conditioner = try SpaceTimeConditioner(
      model.textEncoders, concepts: [concept.representation], layerCount: concept.about.base.layers.count)
    unet = try model.unet

    let trained = concept.representation.parameters.map(\.tensor)
    for p in trained { try p.requireGradient() }
    optimizer = try AdamW(trained, AdamW.Options(configuration.optim))
    learningRate = configuration.optim.learningRateSchedule()
    try checkpoint?.restore(optimizer)
    completedSteps = try processes.takeOver(
      step: completedSteps,
      trained + concept.representation.buffers.map(\.tensor) + optimizer.averages + optimizer.squareAverages)
    try optimizer.setStepCount(completedSteps)
  }

  private(set) var completedSteps: Int {
    get { concept.about.steps }
    set { concept.about.steps = newValue }
  }

  // MARK: The loop

  /// Trains up to the configured number of steps, or until asked to stop.
  ///
  /// - Parameters:
  ///   - save: writes a checkpoint's bytes for a step and says where.
  ///   - validate: generates validation images of the concept as it is now.
  ///   - validatesFirst: the step that the run goes on from lacks its validation images: they come before the next.
  ///   - listener: receives every event, in order, on this thread.
  ///
  /// Of several processes only the first saves and validates. A checkpoint that cannot be written while the run goes
  /// on or is done, and validation images that cannot be generated, are a warning; what ends the run saves the last
  /// completed step.
  /// - Returns: the concept, with the steps that it has.
  public func run(
    save: @escaping (_ step: Int, _ checkpoint: Data) throws -> URL,
    validate: ((Concept) throws -> [(prompt: String, seed: UInt64, image: Image)])? = nil,
    validatesFirst: Bool = false,
    listener: (TrainingEvent) throws -> Void
  ) throws -> Concept {
    let total = configuration.optim.maxTrainSteps
    var saved = Saved(step: completedSteps)
    func warn(_ line: String) throws { try listener(.warning(line)) }
    func tell(_ written: (step: Int, file: URL)?) throws {
      saved = Saved(step: written?.step ?? saved.step)
      if let written { try listener(.checkpoint(step: written.step, file: written.file)) }
    }
    func draw() throws {
      guard let validate, completedSteps.isMultiple(of: configuration.eval.validationSteps) else { return }
      let images = try attempt("no validation images of step \(completedSteps)", warn) {
        try withoutGradients { try validate(concept) }
      }
      // None when a request to stop came meanwhile.
      if let images, !images.isEmpty { try listener(.samples(step: completedSteps, images: images)) }
    }
    do {
      try listener(.started(from: completedSteps, to: total))
      if completedSteps > 0 { try keepLastStep(save) }
      if validatesFirst, completedSteps > 0, processes.isFirst { try draw() }
      while completedSteps < total, !isStopping {
        let start = ContinuousClock.now
        let rate = learningRate(completedSteps)
        let loss = try update(rate)
        completedSteps += 1
        guard processes.isFirst else { continue }
        try keepLastStep(save)
        let seconds = (ContinuousClock.now - start) / .seconds(1)
        try listener(
          .step(TrainingStep(step: completedSteps, loss: loss, learningRate: rate, seconds: seconds)))
        if isCheckpointDue(saved) {
          // Where it fails, the next is due as if it had been written.
          try tell(attempt("step \(completedSteps) is not saved", warn, commands.saveLastStep) ?? nil)
        }
        try draw()
      }
      processes.leave()
      if saved.step < completedSteps, processes.isFirst {
        if completedSteps < total {
          try tell(commands.saveLastStep())
        } else if !completedSteps.isMultiple(of: configuration.log.saveSteps) {
          // The concept is still to be written, and may fit where a checkpoint does not.
          try tell(attempt("step \(completedSteps) is not saved", warn, commands.saveLastStep) ?? nil)
        }
      }
    } catch {
      throw ending(error, saved, learningRate(completedSteps))
    }
    return concept
  }

  private var isStopping: Bool { processes.count > 1 ? allStop : commands.stopRequested }

  // MARK: One step

  /// One step of AdamW on the mean loss of the step's samples; returns the loss.
  private func update(_ learningRate: Double) throws -> Double {
    let perStep = configuration.optim.samplesPerStep
    let own = processes.part(of: perStep)
    let perPass = Self.samplesPerPass(
      microBatch: configuration.optim.trainBatchSize / processes.count, perStep: own.count,
      area: data.latentArea, positions: latentPositionsPerPass)
    var loss = 0.0
    for start in stride(from: own.lowerBound, to: own.upperBound, by: perPass) {
      let count = min(perPass, own.upperBound - start)
      let part =
        try meanLoss(step: completedSteps, first: completedSteps * perStep + start, count: count)
        * (Double(count) / Double(perStep))
      // Before the value is asked for, so that a GPU need not wait for the next thing to do.
      try part.backward()
      loss += try part.item()
      guard loss.isFinite else { break }
    }
    (loss, allStop) = try processes.sumGradients(
      of: optimizer.parameters, loss: loss, stop: commands.stopRequested)
    try requireFinite(loss)
    try optimizer.step(learningRate: learningRate)
    optimizer.clearGradients()
    try requireFiniteParameters()
    return loss
  }

  /// The mean loss of samples `first` ..< `first` + `count`.
  private func meanLoss(step: Int, first: Int, count: Int) throws -> Tensor {
    let batch = try data.batch(step: step, first: first, count: count)
    let context = try conditioner(
      batch.prompts, samples: batch.rows, keep: nestedDropout(step: step, first: first, count: count))
    return try schedule.loss(
      unet: unet, clean: batch.clean, noise: batch.noise, timesteps: batch.timesteps, context: context,
      added: conditioner.added(batch.prompts, batch.rows, sizes: batch.sizes),
      predicting: model.predictionType, weights: batch.weights)
  }

  /// How many hidden units each layer and sample keeps, of the one concept; empty where none are ordered.
  private func nestedDropout(step: Int, first: Int, count: Int) throws -> [[Int?]] {
    guard let width = concept.representation.truncationWidth else { return [] }
    return [
      try NestedDropout.sample(
        keys: keys, step: step, firstSample: first, samples: count,
        microBatch: configuration.optim.trainBatchSize, layers: conditioner.distinctLayers, width: width,
        probability: configuration.model.nestedDropoutProb)
    ]
  }

  /// Samples that run as one batch. Micro-batches are merged while images are small, where a larger batch is
  /// faster; what is sampled, and so the result but for rounding, does not depend on it.
  ///
  /// - Parameters:
  ///   - microBatch: samples that have to run together.
  ///   - perStep: of one process.
  ///   - area: positions of an image's latents.
  static func samplesPerPass(
    microBatch: Int, perStep: Int, area: Int, positions: Int = Trainer.latentPositionsPerPass
  ) -> Int {
    let micro = max(1, microBatch)
    return min(max(micro, positions / max(area, 1) / micro * micro), max(perStep, 1))
  }
  static let latentPositionsPerPass = 4096

  package var latentPositionsPerPass = Trainer.latentPositionsPerPass
}

extension AdamW.Options {
  fileprivate init(_ optim: RunConfiguration.Optimization) {
    self.init()
    beta1 = optim.adamBeta1
    beta2 = optim.adamBeta2
    epsilon = optim.adamEpsilon
    weightDecay = optim.adamWeightDecay
  }
}
