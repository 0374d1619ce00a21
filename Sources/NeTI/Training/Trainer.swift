public import Diffusion
public import Foundation
public import Imaging
import Torch

/// Learns a concept from pictures, with the diffusion model frozen.
///
/// Per sample: a picture, perhaps mirrored; a prompt with the placeholder in it; t ~ U{0 … 999};
/// ε ~ N(0, I); z_t = √ᾱ_t z + √(1 − ᾱ_t) ε; the loss is the mean of (U(z_t, t, conditioning) − ε)²,
/// or against v, as the model predicts. Only the representation is trained, by AdamW. NeTI, section
/// 4 (https://arxiv.org/abs/2305.15391).
///
/// The trainer emits events and takes commands; it draws nothing on a screen and writes no file
/// except the checkpoints that its caller's `save` makes.
public final class Trainer {
  public let configuration: RunConfiguration
  public let commands = TrainingCommands()
  /// What is being learned.
  public let representation: any ConceptRepresentation

  private let model: StableDiffusion
  private let unet: UNet
  private let conditioner: SpaceTimeConditioner
  /// The templates, then the captions.
  private let prompts: [ConceptPrompt]
  /// Per picture, its caption's index in `prompts`, if it has one.
  private let captions: [Int?]
  /// Where the loss counts; nil everywhere.
  private let weights: LossWeights?
  private let latents: LatentCache
  private let samples: TrainingSamples
  private let schedule: NoiseSchedule
  private let optimizer: AdamW
  private let learningRate: LearningRate
  private let about: Concept.About
  private let placeholder: Tensor
  private let processes: (any TrainingProcesses)?
  private var completedSteps = 0
  /// Whether any of several processes was asked to stop.
  private var allStop = false

  /// Prepares a run: encodes the pictures, makes the representation or takes it from `checkpoint`.
  ///
  /// - Parameters:
  ///   - examples: already prepared to the training size (see `TrainingPictures`).
  ///   - configuration: resolved: no field that decides the result is left open.
  ///   - start: a concept to begin at, with a fresh optimiser, instead of a random mapper.
  ///   - checkpoint: what to go on from; of several processes, the first's counts.
  ///   - processes: those that share the run; its batch is that of all together.
  ///   - notice: receives one line for each thing the user should know.
  public init(
    model: StableDiffusion, examples: [TrainingExample], configuration: RunConfiguration,
    startingFrom start: Concept? = nil,
    resuming checkpoint: Checkpoint? = nil, processes: (any TrainingProcesses)? = nil,
    notice: (String) -> Void = { _ in }
  ) throws {
    guard !examples.isEmpty else { throw NeTIError("there are no pictures to learn from") }
    let pictures = examples.map(\.picture)
    self.configuration = configuration
    self.processes = processes
    if let processes { try Self.check(processes, configuration, examples) }
    self.model = model
    let keys = DrawKeys(seed: UInt64(configuration.optim.seed ?? 0))

    let vae = try model.vae
    latents = try LatentCache(pictures, vae: vae, scalingFactor: model.scalingFactor, device: model.device)
    model.release(.vae)
    weights = try LossWeights(
      examples, height: latents.latentShape[1], width: latents.latentShape[2], device: model.device)

    let encoder = try model.textEncoder
    let category = try CategoryToken(configuration.data.superCategoryToken, model.tokenizer)
    if let line = category.notice { notice(line) }
    let row = try encoder.tokenEmbedding.selected(0, category.id).to(.float32, device: .cpu, copy: true)
    let base = try model.baseIdentity
    let layerCount = base.layers.count
    if let checkpoint {
      if let warning = try checkpoint.concept.check(against: base) { notice(warning) }
      representation = checkpoint.concept.representation
      placeholder = checkpoint.concept.placeholder
      completedSteps = checkpoint.concept.about.steps
    } else if let start {
      if let warning = try start.check(against: base) { notice(warning) }
      representation = start.representation
      placeholder = start.placeholder
    } else {
      representation = try configuration.model.representation.type.init(
        startingAs: configuration.model.representationSettings, row: row, layerCount: layerCount, keys: keys)
      placeholder = row
    }
    about = Concept.About(
      token: configuration.data.placeholderToken, category: configuration.data.superCategoryToken, base: base,
      steps: completedSteps, training: configuration.withoutPaths().resolvedYAML())

    let prompter = try ConceptPrompter(model.tokenizer, [.init(token: configuration.data.placeholderToken)])
    let templates = try configuration.data.learnableProperty.templates.map { try prompter($0) }
    (prompts, captions) = try Self.withCaptions(templates, examples, prompter, notice)
    conditioner = try SpaceTimeConditioner(encoder, concepts: [representation], layerCount: layerCount)
    unet = try model.unet
    schedule = try NoiseSchedule(model.schedulerConfiguration)
    samples = TrainingSamples(
      keys: keys, pictureCount: pictures.count, repeats: configuration.data.repeats,
      templateCount: templates.count,
      timestepCount: schedule.alphasCumprod.count, latentShape: latents.latentShape)

    let optim = configuration.optim
    var options = AdamW.Options()
    options.beta1 = optim.adamBeta1
    options.beta2 = optim.adamBeta2
    options.epsilon = optim.adamEpsilon
    options.weightDecay = optim.adamWeightDecay
    let parameters = representation.parameters.map(\.tensor)
    for p in parameters { try p.requireGradient() }
    optimizer = try AdamW(parameters, options)
    learningRate = optim.learningRateSchedule()
    if let checkpoint {
      for (a, b) in zip(optimizer.averages, checkpoint.averages) { try a.copy(from: b) }
      for (a, b) in zip(optimizer.squareAverages, checkpoint.squareAverages) { try a.copy(from: b) }
      try optimizer.setStepCount(completedSteps)
    }
    if let processes { try takeOver(from: processes) }
  }

  /// Throws when the step's samples cannot be shared equally, or the processes do not train the same.
  private static func check(
    _ processes: any TrainingProcesses, _ configuration: RunConfiguration, _ examples: [TrainingExample]
  ) throws {
    let samples = configuration.optim.samplesPerStep
    guard samples % processes.count == 0 else {
      throw NeTIError(
        "a step's \(samples) samples (batch × accumulation of the run) cannot be shared equally by "
          + "\(processes.count) processes; choose a number of processes that divides them")
    }
    try processes.requireSame(configuration.identity + TrainingExample.fingerprint(examples))
  }

  /// Every process begins where the first is.
  private func takeOver(from processes: any TrainingProcesses) throws {
    // Two numbers, each exact in a Float.
    let large = 1 << 16
    let steps = try Tensor([Float(completedSteps / large), Float(completedSteps % large)])
    try withoutGradients {
      try processes.broadcast(
        [steps] + (representation.parameters + representation.buffers).map(\.tensor)
          + optimizer.averages + optimizer.squareAverages)
    }
    let parts = try steps.integers()
    completedSteps = parts[0] * large + parts[1]
    try optimizer.setStepCount(completedSteps)
  }

  /// As above, for pictures without captions and masks.
  public convenience init(
    model: StableDiffusion, pictures: [Picture], configuration: RunConfiguration,
    startingFrom start: Concept? = nil, resuming checkpoint: Checkpoint? = nil
  ) throws {
    try self.init(
      model: model, examples: pictures.map { TrainingExample($0) }, configuration: configuration,
      startingFrom: start, resuming: checkpoint)
  }

  /// The templates and after them the captions, and where each picture's is.
  static func withCaptions(
    _ templates: [ConceptPrompt], _ examples: [TrainingExample], _ prompter: ConceptPrompter,
    _ notice: (String) -> Void
  ) throws -> ([ConceptPrompt], [Int?]) {
    var prompts = templates
    let indices = try examples.map { example -> Int? in
      guard let caption = example.caption else { return nil }
      do { prompts.append(try prompter(caption)) } catch let e as NeTIError {
        throw NeTIError("the caption of \(example.name): \(e.message)")
      }
      if let cut = prompts.last?.cutOff, !cut.isEmpty {
        notice("the caption of \(example.name) is longer than the model reads; “\(cut)” was cut off")
      }
      return prompts.count - 1
    }
    return (prompts, indices)
  }

  // MARK: Running

  /// The concept as it is now.
  public func concept() -> Concept {
    var about = about
    about.steps = completedSteps
    return Concept(representation, about: about, placeholder: placeholder)
  }

  /// Trains up to the configured number of steps, or until asked to stop.
  ///
  /// - Parameters:
  ///   - save: writes a checkpoint's bytes for a step and says where.
  ///   - validate: draws validation pictures of the concept as it is now.
  ///   - listener: receives every event, in order, on this thread.
  ///
  /// Of several processes only the first saves and validates.
  /// - Returns: the concept, with the steps that it has.
  public func run(
    save: @escaping (_ step: Int, _ checkpoint: Data) throws -> URL,
    validate: ((Concept) throws -> [(prompt: String, seed: UInt64, picture: Picture)])? = nil,
    listener: (TrainingEvent) throws -> Void
  ) throws -> Concept {
    let total = configuration.optim.maxTrainSteps
    try listener(.started(from: completedSteps, to: total))
    var lastSave = ContinuousClock.now
    var saved = completedSteps
    func checkpoint() throws {
      let file = try save(completedSteps, snapshot(copied: false)())
      lastSave = .now
      saved = completedSteps
      try listener(.checkpoint(step: completedSteps, file: file))
    }
    let isFirst = processes?.isFirst ?? true
    if completedSteps > 0, isFirst { try offerLastStep(save) }
    while completedSteps < total, processes == nil ? !commands.stopRequested : !allStop {
      let start = ContinuousClock.now
      let rate = learningRate(completedSteps)
      let loss: Double
      do {
        loss = try step(completedSteps, learningRate: rate)
      } catch let e as NonFiniteLoss {
        // The step before, as it was: this one may have spoiled the mapper already.
        if saved < completedSteps { _ = try commands.saveLastStep() }
        throw NeTIError(
          "the loss or the mapper became \(e.loss) in step \(completedSteps + 1), so that step was not taken"
            + (completedSteps > 0 ? " and step \(completedSteps) is saved. " : ". ")
            + "Try a smaller learning rate (this step's was \(rate))"
            + (configuration.optim.mixedPrecision == .no ? "" : " or --precision fp32"))
      } catch let e as LostProcess {
        if saved < completedSteps { _ = try commands.saveLastStep() }
        throw NeTIError(
          "another process of this run was lost in step \(completedSteps + 1) (\(e.reason))"
            + (isFirst && completedSteps > 0 ? "; step \(completedSteps) is saved" : "")
            + ". Go on by starting all of them again with --resume")
      }
      completedSteps += 1
      guard isFirst else { continue }
      try offerLastStep(save)
      let time = (ContinuousClock.now - start).components
      let seconds = Double(time.seconds) + Double(time.attoseconds) * 1e-18
      try listener(
        .step(TrainingStep(step: completedSteps, loss: loss, learningRate: rate, seconds: seconds)))
      let due =
        completedSteps % max(configuration.log.saveSteps, 1) == 0
        || ContinuousClock.now - lastSave > Self.saveInterval
      if due || commands.takeCheckpoint() { try checkpoint() }
      let every = configuration.eval.validationSteps
      if let validate,
        (every > 0 && completedSteps % every == 0) || commands.takeSamples()
      {
        let pictures = try withoutGradients { try validate(concept()) }
        // None when a request to stop came meanwhile.
        if !pictures.isEmpty { try listener(.samples(step: completedSteps, pictures: pictures)) }
      }
    }
    // Nobody leaves while another may still be receiving the last sums; nothing is lost if one does.
    var none: [Float] = [0]
    try? processes?.sum(&none)
    if saved < completedSteps, isFirst { try checkpoint() }
    return concept()
  }

  /// Checkpoints come at least this often.
  static let saveInterval: Duration = .seconds(600)

  private struct NonFiniteLoss: Error { let loss: Double }

  /// What a checkpoint of this moment holds.
  ///
  /// - Parameter copied: whether the next step leaves it as it is.
  private func snapshot(copied: Bool) throws -> () throws -> Data {
    func kept(_ t: Tensor) throws -> Tensor { try copied ? t.clone() : t }
    let concept = concept()
    return try withoutGradients {
      let tensors = try concept.tensors.map { ($0, try kept($1)) }
      let averages = try optimizer.averages.map(kept)
      let squareAverages = try optimizer.squareAverages.map(kept)
      return {
        try Checkpoint.encode(
          concept, tensors: tensors, averages: averages, squareAverages: squareAverages)
      }
    }
  }

  /// Gives the commands a copy of this step, so that a signal can save it while the next one runs.
  private func offerLastStep(_ save: @escaping (Int, Data) throws -> URL) throws {
    let (step, frozen) = (completedSteps, try snapshot(copied: true))
    commands.completed(step: step) { try save(step, frozen()) }
  }

  // MARK: One step

  /// Samples that run as one batch. Micro-batches are merged while pictures are small, where a
  /// larger batch is faster; the draws, and so the result but for rounding, do not depend on it.
  ///
  /// - Parameters:
  ///   - microBatch: samples that have to run together.
  ///   - perStep: of one process.
  ///   - area: positions of a picture's latents.
  public static func samplesPerPass(
    microBatch: Int, perStep: Int, area: Int, positions: Int = Trainer.latentPositionsPerPass
  ) -> Int {
    let micro = max(1, microBatch)
    return min(max(micro, positions / max(area, 1) / micro * micro), max(perStep, 1))
  }
  public static let latentPositionsPerPass = 4096

  package var latentPositionsPerPass = Trainer.latentPositionsPerPass

  /// One update; returns the loss.
  private func step(_ step: Int, learningRate: Double) throws -> Double {
    // Of several processes, each takes an equal run of the step's samples.
    let perStep = configuration.optim.samplesPerStep
    let own = perStep / (processes?.count ?? 1)
    let begin = step * perStep + own * (processes?.rank ?? 0)
    let perPass = Self.samplesPerPass(
      microBatch: configuration.optim.trainBatchSize / (processes?.count ?? 1), perStep: own,
      area: latents.latentShape[1] * latents.latentShape[2], positions: latentPositionsPerPass)
    var loss = 0.0
    for start in stride(from: 0, to: own, by: perPass) {
      let count = min(perPass, own - start)
      let part =
        try denoisingLoss(step: step, first: begin + start, count: count)
        * (Double(count) / Double(perStep))
      // Before the value is asked for, so that a GPU need not wait for the next thing to do.
      try part.backward()
      loss += try part.item()
      guard loss.isFinite else { break }
    }
    if let processes {
      let sums = try processes.sumGradients(
        optimizer.parameters, others: [Float(loss), commands.stopRequested ? 1 : 0])
      loss = Double(sums[0])
      allStop = sums[1] > 0
    }
    guard loss.isFinite else {
      optimizer.clearGradients()
      throw NonFiniteLoss(loss: loss)
    }
    // A gradient that overflowed would spoil the mapper although the loss was still finite.
    for p in optimizer.parameters {
      guard let g = p.gradient, try g.norm().item().isFinite else {
        optimizer.clearGradients()
        throw NonFiniteLoss(loss: .nan)
      }
    }
    try optimizer.step(learningRate: learningRate)
    optimizer.clearGradients()
    for p in optimizer.parameters {
      guard try p.detached().norm().item().isFinite else { throw NonFiniteLoss(loss: .infinity) }
    }
    return loss
  }

  /// The mean denoising loss of samples first ..< first + count.
  private func denoisingLoss(step: Int, first: Int, count: Int) throws -> Tensor {
    let draws = try (0..<count).map { try samples.draw(step: step, number: first + $0) }
    let device = model.device
    let clean = try Tensor.stacked(
      try draws.map {
        try latents.sample(picture: $0.picture, flipped: $0.flipped, noise: $0.posterior.to(device: device))
      }, 0)
    let noise = try Tensor.stacked(draws.map(\.noise), 0).to(device: device)
    let times = draws.map(\.timestep)

    let sentences = draws.map { captions[$0.picture] ?? $0.template }
    let used = Array(Set(sentences)).sorted()
    let rows = zip(draws, sentences).map { d, sentence in
      SpaceTimeConditioner.Sample(prompt: used.firstIndex(of: sentence) ?? 0, timestep: Double(d.timestep))
    }
    var keep: [[Int?]] = []
    if let width = representation.truncationWidth {
      keep = [
        try NestedDropout.draw(
          keys: samples.keys, step: step, firstSample: first, samples: count,
          microBatch: configuration.optim.trainBatchSize, layers: conditioner.distinctLayers, width: width,
          probability: configuration.model.nestedDropoutProb)
      ]
    }
    let context = try conditioner(used.map { prompts[$0] }, samples: rows, keep: keep)
    return try schedule.loss(
      unet: unet, clean: clean, noise: noise, timesteps: times, context: context,
      predicting: model.predictionType,
      weights: weights.map { w in
        try .stacked(try draws.map { try w.weights(picture: $0.picture, flipped: $0.flipped) }, 0)
      })
  }
}

extension NoiseSchedule {
  /// The mean of (prediction − target)² in fp32, over all samples; with `weights` w [B, 1, h, w], the
  /// mean over the samples of mean(w · (prediction − target)²) / mean(w).
  func loss(
    unet: UNet, clean: Tensor, noise: Tensor, timesteps: [Int], context: [CrossAttentionContext],
    predicting: PredictionType, weights: Tensor? = nil
  ) throws -> Tensor {
    let noisy = try addNoise(clean, noise, timesteps: timesteps)
    let t = try Tensor(timesteps.map { Float($0) }).to(device: clean.device)
    let prediction = try unet(noisy, timesteps: t, context: context).to(.float32)
    let target =
      switch predicting {
      case .epsilon: noise
      case .vPrediction: try velocity(clean, noise, timesteps: timesteps)
      case .sample: clean
      }
    guard let weights else { return try meanSquaredError(prediction, target) }
    return try weightedSquaredError(prediction, target, weights: weights)
  }
}
