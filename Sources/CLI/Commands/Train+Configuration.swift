import ArgumentParser
import Diffusion
import Files
import Foundation
import NeTI

/// How the settings of a run come about: flags, dotted names, a YAML file, an earlier run, the model's defaults.
extension Train {
  /// The settings that a command line asks for which begins with `train`.
  static func configuration(ofWords words: [String]) throws -> RunConfiguration {
    do {
      guard let command = try Neti.parseAsRoot(words) as? Train else {
        throw NeTIError(
          "\(quoted(words.joined(separator: " "))) is no command line of `train`; what was kept of it is damaged, so "
            + "begin a new one")
      }
      return try command.configuration(processes: 1).configuration
    } catch let e as any CommandFailure { throw e } catch {
      throw NeTIError(Neti.message(for: error))
    }
  }

  /// Texts as a list that the configuration reads.
  private static func list(_ texts: [String]) throws -> String {
    String(decoding: try JSONEncoder().encode(texts), as: UTF8.self)
  }

  /// Flags before the YAML file, before the model's defaults, before the authors'; of a run that
  /// goes on, flags before what it began with.
  ///
  /// The batch that flags, file and model give is that of one of the `processes`; the run's is of all.
  func configuration(processes: Int) throws -> LoadedConfiguration {
    do { return try settled(processes: processes) } catch let e as NeTIError { throw try named(e) }
  }

  /// An error of a setting's value, called by the flag or dotted name that gave it.
  func named(_ e: NeTIError) throws -> NeTIError {
    // What stands in a file is not the flag's fault.
    if manifest == nil, e.message.contains(#/^[^`“]+(, line \d+|config\.yaml): /#) { return e }
    // Its place may stand before: its name where it is not of its type, a line of the manifest.
    let message = String(e.message.replacing(#/^(`[^`]+`|[^`“]+, line \d+): /#, with: ""))
    guard let setting = RunConfiguration.settings.first(where: { message.hasPrefix($0.name + " ") }) else {
      return e.message.hasPrefix("`") && message.hasPrefix("unknown key")
        ? NeTIError(wrongUsage: e.message) : e
    }
    let isFlag = try setting.short != nil && isGiven(setting.name)
    guard isFlag || isDotted(setting.name) else { return e }
    let name = isFlag ? setting.short ?? setting.name : setting.name
    return NeTIError(wrongUsage: "`\(name)`" + message.dropFirst(setting.name.count))
  }

  func isDotted(_ name: String) -> Bool {
    settings.contains { $0 == "--" + name || $0.hasPrefix("--\(name)=") }
  }

  /// Whether a flag, and no dotted name, gives a setting.
  private func isGiven(_ name: String) throws -> Bool {
    try !isDotted(name) && flags().contains { $0.key == name }
  }

  private func settled(processes: Int) throws -> LoadedConfiguration {
    func ofAll(_ loaded: LoadedConfiguration) throws -> LoadedConfiguration {
      var loaded = loaded
      loaded.configuration.optim.trainBatchSize *= processes
      drawAtTheEnd(&loaded)
      try loaded.configuration.validate()
      return loaded
    }
    if resume, configPath == nil, let output {
      if let earlier = try Self.earlierRun(in: output) {
        var loaded = try resumed(earlier)
        drawAtTheEnd(&loaded)
        return loaded.named.contains("optim.train_batch_size") ? try ofAll(loaded) : loaded
      }
      guard images != nil, token != nil, category != nil else {
        let folder = try place(output, isFolder: true)
        guard !RunFolder.hasLostItsConfiguration(folder) else {
          throw NeTIError(
            "\(folder.shownPath) has checkpoints, and config.yaml is gone: put that back, or begin a new run in another "
              + "--output")
        }
        throw NeTIError(
          "there is no run in \(output) to go on with; begin one with --images, --token and --category, without --resume"
        )
      }
    }
    return try ofAll(load(flags()))
  }

  /// A prompt that was given without a word of when is drawn at the end of a run that is shorter than the usual distance.
  func drawAtTheEnd(_ loaded: inout LoadedConfiguration) {
    guard loaded.named.contains("eval.validation_prompts"), !loaded.named.contains("eval.validation_steps")
    else { return }
    let end = loaded.configuration.optim.maxTrainSteps
    loaded.configuration.eval.validationSteps = min(loaded.configuration.eval.validationSteps, end)
  }

  /// The settings of the run in a folder; nil where there is none.
  private static func earlierRun(in output: String) throws -> RunConfiguration? {
    let folder = try place(output, isFolder: true)
    guard RunFolder.holdsRun(folder) else { return nil }
    let run = try RunFolder.configuration(of: folder)
    do { try run.validate() } catch let e as NeTIError {
      throw NeTIError("\(folder.shownPath): config.yaml: \(e.message)")
    }
    return run
  }

  private func resumed(_ earlier: RunConfiguration) throws -> LoadedConfiguration {
    var earlier = earlier
    // A run that began without validation images has no prompts for them.
    if validateEvery != nil, earlier.eval.validationPrompts.isEmpty {
      earlier.eval.validationPrompts = RunConfiguration().eval.validationPrompts
    }
    let flags = try flags()
    var loaded = try earlier.resumed(overrides: flags, literal: literal(flags))
    // What was drawn at the end of a short run is drawn at the usual distance, or the end, of a longer one.
    let (steps, end) = (earlier.eval.validationSteps, loaded.configuration.optim.maxTrainSteps)
    if steps == earlier.optim.maxTrainSteps, !loaded.named.contains("eval.validation_steps") {
      loaded.configuration.eval.validationSteps = min(
        max(steps, RunConfiguration().eval.validationSteps), end)
    }
    return loaded
  }

  /// What flags name, and no dotted names: their texts are no YAML.
  func literal(_ flags: [(key: String, value: String)]) -> Set<String> {
    Set(flags.map(\.key).filter { !isDotted($0) })
  }

  /// What the flags say, as dotted names.
  ///
  /// - Throws: where a dotted name is given beside a flag that gives it another value.
  func flags() throws -> [(key: String, value: String)] {
    let dotted = try RunConfiguration.overrides(fromArguments: settings)
    var overrides = dotted
    func check(_ key: String, _ value: String, by flag: String) throws {
      if let other = dotted.first(where: { $0.key == key && $0.value != value }) {
        throw ValidationError(
          "--\(flag) and --\(key) \(other.value.shellQuoted) are both given; leave one of them out")
      }
    }
    func set(_ key: String, _ value: String?, by flag: String) throws {
      guard let value else { return }
      try check(key, value, by: flag)
      overrides.append((key, value))
    }
    try set("data.train_data_dir", images, by: "images")
    try set("data.masks_dir", masks, by: "masks")
    try set("data.placeholder_token", token, by: "token")
    try set("data.super_category_token", category, by: "category")
    try set("data.learnable_property", property, by: "property")
    try set("data.buckets", buckets ? "true" : nil, by: "buckets")
    try set("model.pretrained_model_name_or_path", model.model, by: "model")
    try set("model.prediction_type", model.predictionType?.rawValue, by: "prediction-type")
    let loras = model.lora.isEmpty ? nil : try Self.list(model.lora.map(\.description))
    try set("model.loras", loras, by: "lora")
    try set("model.representation", representation?.rawValue, by: "representation")
    try set("model.num_vectors", vectors.map(String.init), by: "vectors")
    try set("model.clip_skip", model.clipSkip.map(String.init), by: "clip-skip")
    try set("optim.max_train_steps", steps.map(String.init), by: "steps")
    try set("optim.seed", seed.map(String.init), by: "seed")
    try set("eval.validation_steps", validateEvery.map(String.init), by: "validate-every")
    if let precision = model.givenPrecision {
      let flag = "precision \(precision.rawValue)"
      try check("optim.mixed_precision", precision == .bf16 ? "bf16" : "no", by: flag)
      try check("optim.allow_tf32", precision == .tf32 ? "true" : "false", by: flag)
      // Both, as a file or an earlier run may say something else.
      overrides.append(("optim.mixed_precision", precision == .bf16 ? "bf16" : "no"))
      overrides.append(("optim.allow_tf32", precision == .tf32 ? "true" : "false"))
    }
    let prompts = validationPrompt.isEmpty ? nil : try Self.list(validationPrompt)
    try set("eval.validation_prompts", prompts, by: "validation-prompt")
    if let output {
      let url = try place(output, isFolder: true).standardizedFileURL
      try set("log.exp_dir", url.deletingLastPathComponent().path, by: "output")
      try set("log.exp_name", url.lastPathComponent, by: "output")
    }
    return overrides
  }

  private func load(_ flags: [(key: String, value: String)]) throws -> LoadedConfiguration {
    var defaults = defaults(flags)
    if configPath == nil, output == nil, let token {
      let name = String(token.filter { $0.isLetter || $0.isNumber })
      defaults += [("log.exp_dir", "outputs"), ("log.exp_name", name.isEmpty ? "concept" : name)]
    }
    return try RunConfiguration.load(
      yaml: configPath.map { try place($0) }, defaults: defaults, overrides: flags,
      literal: literal(flags), modelDefaults: modelDefaults)
  }

  /// What the plain flags mean, unless a dotted name says otherwise.
  func defaults(_ flags: [(key: String, value: String)]) -> [(key: String, value: String)] {
    guard configPath == nil else { return [] }
    var defaults = [("data.center_crop", "true")]
    if validateEvery == nil, !flags.contains(where: { $0.key.hasPrefix("eval.validation") }) {
      defaults.append(("eval.validation_prompts", "[]"))
    }
    return defaults
  }

  func modelDefaults(_ c: RunConfiguration) throws -> ModelDefaults? {
    try ModelDefaults.load(model.folder(of: c))
  }
}
