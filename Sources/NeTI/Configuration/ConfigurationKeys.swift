/// One key of the configuration: its name in files and flags, its type, and what it means for a run.
struct ConfigurationKey: Sendable {
  /// “section.key”.
  let name: String
  let expectation: String
  let isList: Bool
  let isText: Bool
  /// Whether another value gives another concept.
  let changesResult: Bool
  /// Sets the value; false when it is not of the key's type.
  let read: @Sendable (inout RunConfiguration, ConfigurationValue) -> Bool
  let write: @Sendable (RunConfiguration) -> ConfigurationValue

  init<T: ConfigurationConvertible>(
    _ name: String, _ path: any WritableKeyPath<RunConfiguration, T> & Sendable, changesResult: Bool = true
  ) {
    self.name = name
    expectation = T.expectation
    isList = T.isList
    isText = T.isText
    self.changesResult = changesResult
    read = { configuration, value in
      guard let typed = T(value) else { return false }
      configuration[keyPath: path] = typed
      return true
    }
    write = { $0[keyPath: path].configurationValue }
  }

  var section: String { String(name.prefix { $0 != "." }) }
  /// The name inside the section.
  var tail: String { String(name.dropFirst(section.count + 1)) }
}

extension RunConfiguration {
  static let sections = ["log", "data", "model", "eval", "optim"]

  /// Every key, in the order of the authors' file.
  static let keys: [ConfigurationKey] = [
    ConfigurationKey("log.exp_name", \.log.expName, changesResult: false),
    ConfigurationKey("log.exp_dir", \.log.expDir, changesResult: false),
    ConfigurationKey("log.save_steps", \.log.saveSteps, changesResult: false),
    ConfigurationKey("log.logging_dir", \.log.loggingDir, changesResult: false),
    ConfigurationKey("log.report_to", \.log.reportTo, changesResult: false),
    ConfigurationKey("log.checkpoints_total_limit", \.log.checkpointsTotalLimit, changesResult: false),

    ConfigurationKey("data.train_data_dir", \.data.trainDataDir),
    ConfigurationKey("data.placeholder_token", \.data.placeholderToken),
    ConfigurationKey("data.super_category_token", \.data.superCategoryToken),
    ConfigurationKey("data.dataloader_num_workers", \.data.dataloaderNumWorkers, changesResult: false),
    ConfigurationKey("data.learnable_property", \.data.learnableProperty),
    ConfigurationKey("data.repeats", \.data.repeats),
    ConfigurationKey("data.resolution", \.data.resolution),
    ConfigurationKey("data.center_crop", \.data.centerCrop),
    ConfigurationKey("data.use_captions", \.data.useCaptions),
    ConfigurationKey("data.masks_dir", \.data.masksDir),

    ConfigurationKey("model.pretrained_model_name_or_path", \.model.pretrainedModelNameOrPath),
    ConfigurationKey("model.use_nested_dropout", \.model.useNestedDropout),
    ConfigurationKey("model.nested_dropout_prob", \.model.nestedDropoutProb),
    ConfigurationKey("model.normalize_mapper_output", \.model.normalizeMapperOutput),
    ConfigurationKey("model.target_norm", \.model.targetNorm, changesResult: false),
    ConfigurationKey("model.use_positional_encoding", \.model.usePositionalEncoding),
    ConfigurationKey("model.pe_sigmas.sigma_t", \.model.peSigmas.sigmaT),
    ConfigurationKey("model.pe_sigmas.sigma_l", \.model.peSigmas.sigmaL),
    ConfigurationKey("model.num_pe_time_anchors", \.model.numPeTimeAnchors),
    ConfigurationKey("model.output_bypass", \.model.outputBypass),
    ConfigurationKey("model.revision", \.model.revision, changesResult: false),
    ConfigurationKey("model.mapper_checkpoint_path", \.model.mapperCheckpointPath),
    ConfigurationKey("model.representation", \.model.representation),

    ConfigurationKey("eval.validation_prompts", \.eval.validationPrompts, changesResult: false),
    ConfigurationKey("eval.num_validation_images", \.eval.numValidationImages, changesResult: false),
    ConfigurationKey("eval.validation_seeds", \.eval.validationSeeds, changesResult: false),
    ConfigurationKey("eval.validation_steps", \.eval.validationSteps, changesResult: false),
    ConfigurationKey("eval.num_denoising_steps", \.eval.numDenoisingSteps, changesResult: false),
    ConfigurationKey("eval.guidance_scale", \.eval.guidanceScale, changesResult: false),

    ConfigurationKey("optim.max_train_steps", \.optim.maxTrainSteps, changesResult: false),
    ConfigurationKey("optim.learning_rate", \.optim.learningRate),
    ConfigurationKey("optim.scale_lr", \.optim.scaleLr),
    ConfigurationKey("optim.train_batch_size", \.optim.trainBatchSize),
    ConfigurationKey("optim.gradient_checkpointing", \.optim.gradientCheckpointing, changesResult: false),
    ConfigurationKey("optim.gradient_accumulation_steps", \.optim.gradientAccumulationSteps),
    ConfigurationKey("optim.seed", \.optim.seed),
    ConfigurationKey("optim.lr_scheduler", \.optim.lrScheduler),
    ConfigurationKey("optim.lr_warmup_steps", \.optim.lrWarmupSteps),
    ConfigurationKey("optim.adam_beta1", \.optim.adamBeta1),
    ConfigurationKey("optim.adam_beta2", \.optim.adamBeta2),
    ConfigurationKey("optim.adam_weight_decay", \.optim.adamWeightDecay),
    ConfigurationKey("optim.adam_epsilon", \.optim.adamEpsilon),
    ConfigurationKey("optim.mixed_precision", \.optim.mixedPrecision),
    ConfigurationKey("optim.allow_tf32", \.optim.allowTf32, changesResult: false),
  ]

  static let keysByName = Dictionary(uniqueKeysWithValues: keys.map { ($0.name, $0) })

  /// The known name nearest to an unknown one, when it is near: the last part counts first, so that a
  /// key in the wrong section is found.
  static func suggestion(for unknown: String) -> String? {
    nearest(to: unknown, among: keys.map(\.name) + sections + ["model.pe_sigmas"])
  }

  /// What decides the run, without where its files lie: equal for the processes that share it.
  var identity: String {
    let configuration = withoutPaths()
    return Self.keys.filter { $0.changesResult || $0.name == "optim.max_train_steps" }
      .map { "\($0.name) \($0.write(configuration))" }.joined(separator: "\n")
  }

  /// Keys that differ and would give another concept, with both values (“optim.seed is 0, was 1”).
  public func differences(from earlier: RunConfiguration) -> [String] {
    let stepsMatter = optim.lrScheduler.dependsOnTotal
    return Self.keys.compactMap { key in
      guard key.changesResult || (key.name == "optim.max_train_steps" && stepsMatter) else { return nil }
      let (now, then) = (key.write(self), key.write(earlier))
      return now == then ? nil : "\(key.name) is \(now.shown), was \(then.shown)"
    }
  }
}

/// The nearest of the candidates by edits, when few enough are needed; a candidate's last dotted part
/// may stand for the whole.
func nearest(to unknown: String, among candidates: [String]) -> String? {
  let longestName = 80
  guard unknown.utf8.count <= longestName else { return nil }
  func tail(_ name: String) -> Substring {
    name[(name.lastIndex(of: ".").map(name.index(after:)) ?? name.startIndex)...]
  }
  let scored = candidates.map { candidate in
    let whole = editDistance(unknown, candidate)
    let part = editDistance(String(tail(unknown)), String(tail(candidate)))
    return (candidate, part, whole)
  }
  guard let best = scored.min(by: { ($0.1, $0.2) < ($1.1, $1.2) }) else { return nil }
  return best.1 <= max(2, tail(unknown).count / 3) ? best.0 : nil
}

/// Insertions, deletions and substitutions between two words (Levenshtein).
func editDistance(_ a: String, _ b: String) -> Int {
  let b = Array(b.lowercased().utf8)
  var row = Array(0...b.count)
  for (i, x) in a.lowercased().utf8.enumerated() {
    var diagonal = row[0]
    row[0] = i + 1
    for (j, y) in b.enumerated() {
      let above = row[j + 1]
      row[j + 1] = min(above + 1, row[j] + 1, diagonal + (x == y ? 0 : 1))
      diagonal = above
    }
  }
  return row[b.count]
}
