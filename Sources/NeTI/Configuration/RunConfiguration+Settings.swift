import Diffusion
import Files
import Foundation

extension RunConfiguration {
  static let sections = ["log", "data", "model", "eval", "optim"]

  /// Largest counts that are accepted: products of them fit into 64 bits.
  private static let largestCount = 1_000_000
  private static let largestSteps = 100_000_000
  private static let largestSeed = Int(UInt32.max)

  /// Every setting, in the order of the authors' file: what a configuration's files, flags, checks and
  /// notices know of it, and the authors' checkpoints.
  package static let settings: [Setting] = [
    Setting("log.exp_name", \.log.expName, .runName, effect: .run),
    Setting("log.exp_dir", \.log.expDir, .clean("is not a path"), effect: .run, isPath: true),
    Setting("log.save_steps", \.log.saveSteps, .between(1...largestSteps), effect: .run),
    Setting(
      "log.logging_dir", \.log.loggingDir, effect: .run, isPath: true,
      noEffect: .always("TensorBoard files are in tensorboard/ of the run folder")),
    Setting(
      "log.report_to", \.log.reportTo, effect: .run,
      noEffect: .unlessDefault("only TensorBoard files are written")),
    Setting(
      "log.checkpoints_total_limit", \.log.checkpointsTotalLimit, .between(1...largestCount), effect: .run),

    Setting(
      "data.train_data_dir", \.data.trainDataDir, .clean("is not set: name the folder of images"),
      inTheirs: .filler, isPath: true, short: "images"),
    Setting("data.placeholder_token", \.data.placeholderToken, .placeholder, short: "token"),
    Setting(
      "data.super_category_token", \.data.superCategoryToken,
      .clean("is empty: name the concept's category"), short: "category"),
    Setting(
      "data.dataloader_num_workers", \.data.dataloaderNumWorkers, .between(0...largestCount), effect: .run,
      noEffect: .always("images are encoded once, before the first step")),
    Setting("data.learnable_property", \.data.learnableProperty, short: "property"),
    Setting("data.repeats", \.data.repeats, .between(1...largestCount)),
    Setting("data.resolution", \.data.resolution, .between(8...8192)),
    Setting("data.center_crop", \.data.centerCrop, noEffect: .onCrop),
    Setting("data.buckets", \.data.buckets, inTheirs: .absent, short: "buckets"),
    Setting("data.use_captions", \.data.useCaptions, inTheirs: .absent, short: "captions"),
    Setting(
      "data.masks_dir", \.data.masksDir, .clean("is empty: leave it out to train without masks"),
      inTheirs: .absent, isPath: true, short: "masks"),
    Setting("data.alpha_mask", \.data.alphaMask, inTheirs: .absent),

    Setting(
      "model.pretrained_model_name_or_path", \.model.pretrainedModelNameOrPath,
      .clean("is empty: leave it out for the embedded model"), isPath: true),
    Setting("model.prediction_type", \.model.predictionType, inTheirs: .absent),
    Setting("model.use_nested_dropout", \.model.useNestedDropout, noEffect: .onMapper),
    Setting(
      "model.nested_dropout_prob", \.model.nestedDropoutProb, .between(0...1), noEffect: .onNestedDropout),
    Setting("model.normalize_mapper_output", \.model.normalizeMapperOutput, noEffect: .onMapper),
    Setting(
      "model.target_norm", \.model.targetNorm, .positive, effect: .run, inTheirs: .kept,
      noEffect: .unlessDefault("the norm is that of the super-category's embedding")),
    Setting("model.use_positional_encoding", \.model.usePositionalEncoding, noEffect: .onMapper),
    Setting("model.pe_sigmas.sigma_t", \.model.peSigmas.sigmaT, .positive, noEffect: .onPositionalEncoding),
    Setting("model.pe_sigmas.sigma_l", \.model.peSigmas.sigmaL, .positive, noEffect: .onPositionalEncoding),
    Setting(
      "model.num_pe_time_anchors", \.model.numPeTimeAnchors, .timeAnchors, noEffect: .onPositionalEncoding),
    Setting("model.output_bypass", \.model.outputBypass, noEffect: .onMapper),
    Setting(
      "model.revision", \.model.revision, effect: .run,
      noEffect: .unlessDefault("the revision is the one in the folder or the local cache")),
    Setting(
      "model.mapper_checkpoint_path", \.model.mapperCheckpointPath,
      .clean("is empty: leave it out to start anew"), inTheirs: .filler, isPath: true),
    Setting("model.loras", \.model.loras, .lora, inTheirs: .absent, isPath: true),
    Setting(
      "model.representation", \.model.representation, inTheirs: .absent, short: "representation",
      noEffect: .onRepresentation),
    Setting(
      "model.num_vectors", \.model.numVectors, .between(RepresentationSettings.vectorCounts),
      inTheirs: .absent,
      short: "vectors", noEffect: .onRepresentation),
    Setting(
      "model.clip_skip", \.model.clipSkip, .between(1...StableDiffusion.largestClipSkip), inTheirs: .absent),

    Setting("eval.validation_prompts", \.eval.validationPrompts, effect: .run),
    Setting(
      "eval.prompt_weights", \.eval.promptWeights, effect: .run, inTheirs: .absent, noEffect: .onValidation),
    Setting(
      "eval.num_validation_images", \.eval.numValidationImages, .between(1...10_000), effect: .run,
      noEffect: .onValidation),
    Setting(
      "eval.validation_seeds", \.eval.validationSeeds, .between(0...largestSeed), effect: .run,
      noEffect: .onValidation),
    Setting(
      "eval.validation_steps", \.eval.validationSteps, .between(1...largestSteps), effect: .run,
      noEffect: .onValidationSteps),
    Setting(
      "eval.num_denoising_steps", \.eval.numDenoisingSteps, .between(1...1000), effect: .run,
      noEffect: .onValidation),
    Setting(
      "eval.guidance_scale", \.eval.guidanceScale, .between(0...100), effect: .run, inTheirs: .absent,
      noEffect: .onValidation),

    Setting(
      "optim.max_train_steps", \.optim.maxTrainSteps, .between(1...largestSteps), effect: .length,
      short: "steps"),
    Setting("optim.learning_rate", \.optim.learningRate, .positive),
    Setting("optim.scale_lr", \.optim.scaleLr),
    Setting("optim.train_batch_size", \.optim.trainBatchSize, .between(1...4096)),
    Setting(
      "optim.gradient_checkpointing", \.optim.gradientCheckpointing, effect: .run,
      noEffect: .unlessDefault("nothing is computed twice to save memory; SDXL learns in 11 GiB with bf16")),
    Setting(
      "optim.gradient_accumulation_steps", \.optim.gradientAccumulationSteps, .between(1...65_536)),
    Setting("optim.seed", \.optim.seed, .between(0...largestSeed), short: "seed"),
    Setting("optim.lr_scheduler", \.optim.lrScheduler, noEffect: .onScheduler),
    Setting("optim.lr_warmup_steps", \.optim.lrWarmupSteps, .between(0...largestSteps), noEffect: .onWarmup),
    Setting("optim.adam_beta1", \.optim.adamBeta1, .share),
    Setting("optim.adam_beta2", \.optim.adamBeta2, .share),
    Setting("optim.adam_weight_decay", \.optim.adamWeightDecay, .notNegative),
    Setting("optim.adam_epsilon", \.optim.adamEpsilon, .positive),
    Setting("optim.mixed_precision", \.optim.mixedPrecision, noEffect: .onPrecision),
    Setting("optim.allow_tf32", \.optim.allowTf32, effect: .run, noEffect: .onTF32),
  ]

  /// The setting whose key other programs' flags have by itself, as `--train_batch_size`, and how it is set here.
  package static func option(forFlag flag: String) -> String? {
    let key = String(flag.trimmingPrefix("--").prefix { $0 != "=" }).replacing("-", with: "_")
    guard let setting = settings.first(where: { $0.path.last == key }) else { return nil }
    let own = setting.short.flatMap { ["images", "token", "category"].contains($0) ? $0 : nil }
    return own ?? setting.name
  }

  static let settingsByName = Dictionary(uniqueKeysWithValues: settings.map { ($0.name, $0) })

  /// The known name nearest to an unknown one, when it is near: the last part counts first, so that a
  /// key in the wrong section is found.
  static func suggestion(for unknown: String) -> String? {
    let names = settings.map(\.name) + ["model.pe_sigmas"]
    return nearest(to: unknown, among: unknown.contains(".") ? names : names + sections)
  }

  /// Checks every value. Throws one line that names the key, its value and what it may be.
  public func validate() throws {
    for setting in Self.settings { try setting.check(self) }
    for prompt in eval.validationPrompts {
      let text = try PromptText(
        prompt, [.init(token: data.placeholderToken)], kind: "prompt of `eval.validation_prompts`",
        weighted: eval.promptWeights)
      guard text.count(of: 0) == 1 else {
        throw NeTIError(
          wrongUsage:
            "the \(text.kind) \(quoted(prompt)) must have {} or \(data.placeholderToken) once, where the concept goes"
        )
      }
    }
    if let seeds = eval.validationSeeds, seeds.count != eval.numValidationImages {
      throw NeTIError(
        "eval.validation_seeds has \(seeds.count) seeds for eval.num_validation_images \(eval.numValidationImages)"
      )
    }
    let base = optim.learningRateSchedule().base
    if optim.lrScheduler == .polynomial, base <= LearningRate.polynomialEnd {
      throw NeTIError(
        "optim.lr_scheduler polynomial ends at \(LearningRate.polynomialEnd), and the learning rate is \(base); "
          + "it must be larger")
    }
  }

  /// What decides the run, without where its files lie: equal for the processes that share it.
  var identity: String {
    let configuration = withoutPaths()
    return Self.settings.filter { $0.effect != .run }
      .map { "\($0.name) \($0.write(configuration))" }.joined(separator: "\n")
  }

  /// Keys that differ and would give another concept, with both values (“optim.seed is 0, was 1”).
  ///
  /// Paths are passed over: what counts is what lies there, which `TrainingRun` compares.
  public func differences(from earlier: RunConfiguration) -> [String] {
    let lengthMatters = optim.lrScheduler.dependsOnTotal
    return Self.settings.compactMap { setting in
      guard !setting.isPath else { return nil }
      guard setting.effect == .concept || (setting.effect == .length && lengthMatters) else { return nil }
      let (now, then) = (setting.write(self), setting.write(earlier))
      return now == then ? nil : "\(setting.name) is \(now.shown), was \(then.shown)"
    }
  }

  /// Whether the paths that the concept depends on are those of another configuration.
  func hasPaths(of other: RunConfiguration) -> Bool {
    Self.settings.allSatisfy {
      !$0.isPath || $0.effect != .concept || $0.write(self) == $0.write(other)
    }
  }

  /// One line for each of the keys in `told` that has no effect here, and for what is named and does something else
  /// than its name says.
  func notices(named: Set<String>, told: Set<String>) -> [String] {
    let lines = Self.settings.compactMap { setting -> String? in
      guard told.contains(setting.name), let reason = setting.reasonWithoutEffect(self) else { return nil }
      return "\(setting.name) has no effect here: \(reason)"
    }
    return lines + [warmupNotice(named: named), scalingNotice(named: named)].compactMap(\.self)
  }

  /// A warm-up that lasts as long as the run, or longer.
  private func warmupNotice(named: Set<String>) -> String? {
    let (warmup, steps) = (optim.lrWarmupSteps, optim.maxTrainSteps)
    let deciding: Set = ["optim.lr_warmup_steps", "optim.max_train_steps", "optim.lr_scheduler"]
    guard optim.lrScheduler != .constant, warmup >= steps, !named.isDisjoint(with: deciding) else {
      return nil
    }
    return
      "optim.lr_warmup_steps \(warmup) is not less than the run's \(steps) steps: the learning rate never gets to "
      + "what was asked for; give fewer"
  }

  /// That the authors' default multiplies the rate surprises whoever sets one.
  private func scalingNotice(named: Set<String>) -> String? {
    guard optim.scaleLr, optim.samplesPerStep > 1, named.contains("optim.learning_rate"),
      !named.contains("optim.scale_lr")
    else { return nil }
    func text(_ number: Double) -> String { String(format: "%g", number) }
    return "optim.learning_rate \(text(optim.learningRate)) is multiplied by batch × accumulation, "
      + "\(optim.trainBatchSize) × \(optim.gradientAccumulationSteps): the rate is "
      + "\(text(optim.learningRateSchedule().base)). `optim.scale_lr false` takes it as it is"
  }
}
