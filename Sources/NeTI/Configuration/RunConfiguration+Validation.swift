import Files
import Diffusion
import Foundation

extension RunConfiguration {
  /// Largest counts that are accepted: products of them fit into 64 bits.
  private static let largestCount = 1_000_000
  private static let largestSteps = 100_000_000

  /// Checks every value's range. Throws one line that names the key, its value and what it may be.
  public func validate() throws {
    try validateLog()
    try validatePictures()
    try validateModel()
    try validateDrawings()
    try validateOptimization()
  }

  private func validateLog() throws {
    try require(!log.expName.isEmpty, "log.exp_name is not set: name the run")
    let parts = log.expName.split(separator: "/", omittingEmptySubsequences: false)
    try require(
      parts.allSatisfy { !$0.isEmpty && $0 != "." && $0 != ".." } && isCleanText(log.expName),
      "log.exp_name \(quoted(log.expName)) must be the name of a folder inside log.exp_dir")
    try require(isCleanText(log.expDir), "log.exp_dir is not a path")
    try inRange("log.save_steps", log.saveSteps, 1...Self.largestSteps)
    try inRange("log.checkpoints_total_limit", log.checkpointsTotalLimit, 1...Self.largestCount)
  }

  private func validatePictures() throws {
    try require(isCleanText(data.trainDataDir), "data.train_data_dir is not set: name the folder of pictures")
    let token = data.placeholderToken
    try require(!token.isEmpty, "data.placeholder_token is not set: choose a word for the concept, as <toy>")
    try require(
      isCleanText(token) && !token.contains(Templates.placeholder) && token.first?.isWhitespace == false
        && token.last?.isWhitespace == false,
      "data.placeholder_token \(quoted(token)) must be a word without {} and without spaces around it")
    try require(
      isCleanText(data.superCategoryToken), "data.super_category_token is empty: name the concept's category")
    try require(
      data.masksDir.map(isCleanText) ?? true, "data.masks_dir is empty: leave it out to train without masks")
    try inRange("data.dataloader_num_workers", data.dataloaderNumWorkers, 0...Self.largestCount)
    try inRange("data.repeats", data.repeats, 1...Self.largestCount)
    try inRange("data.resolution", data.resolution, 8...8192)
  }

  private func validateModel() throws {
    try require(
      model.pretrainedModelNameOrPath.map(isCleanText) ?? true,
      "model.pretrained_model_name_or_path is empty: leave it out for the embedded model")
    try require(
      (0...1).contains(model.nestedDropoutProb),
      "model.nested_dropout_prob is \(model.nestedDropoutProb); it must be between 0 and 1")
    try require(
      model.targetNorm.map { $0.isFinite && $0 > 0 } ?? true, "model.target_norm must be above 0, or null")
    try positive("model.pe_sigmas.sigma_t", model.peSigmas.sigmaT)
    try positive("model.pe_sigmas.sigma_l", model.peSigmas.sigmaL)
    let anchors = model.numPeTimeAnchors
    try inRange("model.num_pe_time_anchors", anchors, 1...1000)
    let spaced = (1000 + 1000 / anchors - 1) / (1000 / anchors)
    try require(
      spaced == anchors,
      "model.num_pe_time_anchors \(anchors) gives \(spaced) anchors at their spacing of \(1000 / anchors) timesteps; "
        + "10, 20, 25, 40 and 50 are among those that fit")
    if let path = model.mapperCheckpointPath {
      try require(isCleanText(path), "model.mapper_checkpoint_path is empty: leave it out to start anew")
    }
  }

  private func validateDrawings() throws {
    try inRange("eval.num_validation_images", eval.numValidationImages, 1...10_000)
    try inRange("eval.validation_steps", eval.validationSteps, 1...Self.largestSteps)
    try inRange("eval.num_denoising_steps", eval.numDenoisingSteps, 1...1000)
    try require(
      (0...100).contains(eval.guidanceScale),
      "eval.guidance_scale is \(eval.guidanceScale); it must be between 0 and 100")
    if let seeds = eval.validationSeeds {
      try require(
        seeds.count == eval.numValidationImages,
        "eval.validation_seeds has \(seeds.count) seeds for eval.num_validation_images \(eval.numValidationImages)"
      )
      for seed in seeds { try inRange("eval.validation_seeds", seed, 0...Int(UInt32.max)) }
    }
    for prompt in eval.validationPrompts {
      try require(
        prompt.components(separatedBy: Templates.placeholder).count == 2,
        "eval.validation_prompts: \(quoted(prompt)) must have {} once, where the concept goes")
    }
  }

  private func validateOptimization() throws {
    try inRange("optim.max_train_steps", optim.maxTrainSteps, 1...Self.largestSteps)
    try inRange("optim.train_batch_size", optim.trainBatchSize, 1...4096)
    try inRange("optim.gradient_accumulation_steps", optim.gradientAccumulationSteps, 1...65_536)
    try inRange("optim.seed", optim.seed, 0...Int(UInt32.max))
    try inRange("optim.lr_warmup_steps", optim.lrWarmupSteps, 0...Self.largestSteps)
    try positive("optim.learning_rate", optim.learningRate)
    try positive("optim.adam_epsilon", optim.adamEpsilon)
    for (name, beta) in [("optim.adam_beta1", optim.adamBeta1), ("optim.adam_beta2", optim.adamBeta2)] {
      try require(beta >= 0 && beta < 1, "\(name) is \(beta); it must be at least 0 and below 1")
    }
    try require(
      optim.adamWeightDecay.isFinite && optim.adamWeightDecay >= 0,
      "optim.adam_weight_decay is \(optim.adamWeightDecay); it must be at least 0")
    let base = optim.learningRateSchedule().base
    try require(
      optim.lrScheduler != .polynomial || base > LearningRate.polynomialEnd,
      "optim.lr_scheduler polynomial ends at \(LearningRate.polynomialEnd), and the learning rate is \(base); "
        + "it must be larger")
  }

  private func require(_ condition: Bool, _ message: @autoclosure () -> String) throws {
    if !condition { throw NeTIError(message()) }
  }

  private func inRange(_ name: String, _ value: Int?, _ range: ClosedRange<Int>) throws {
    guard let value, !range.contains(value) else { return }
    throw NeTIError("\(name) is \(value); it must be between \(range.lowerBound) and \(range.upperBound)")
  }

  private func positive(_ name: String, _ value: Double) throws {
    try require(value.isFinite && value > 0, "\(name) is \(value); it must be a number above 0")
  }

  /// Text that can be a word or a path: something, and nothing that a terminal or a path trips over.
  private func isCleanText(_ text: String) -> Bool {
    !text.isEmpty && text.utf8.count <= 4096
      && text.unicodeScalars.allSatisfy { $0.properties.generalCategory != .control }
  }
}
