public import ArgumentParser
import Diffusion
import Files
import Foundation
public import NeTI

/// `neti train`: learns a concept from images.
struct Train: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Learn a concept from 3–6 images of it.",
    discussion: """
        neti train --images my-toy --token '<toy>' --category toy --output toy-run

      The folder toy-run then holds the concept (concept.safetensors), checkpoints, TensorBoard files and \
      a log. Ctrl-C saves the last completed step; --resume goes on from there, to exactly the concept \
      that an uninterrupted run gives:

        neti train --output toy-run --resume

      A text file beside an image (1.jpg, 1.txt) is its caption: a sentence with {} where the concept \
      stands, in the place of the built-in sentences. With a mask (1-masklabel.png beside it, or of the same \
      name in --masks), the loss counts where that is bright. See docs/training-data.md.

      A configuration in the structure of the NeTI authors' train.yaml is read with --config_path; any of \
      its keys can be set on the command line, such as --optim.max_train_steps 500. The config.yaml of an earlier \
      run is one, too: its paths count from its folder.

      Many concepts are a file with one JSON object a line, in the words of these flags. The same command \
      goes on until all are learned, and --shard shares them among machines; see docs/many-machines.md:

        {"images": "my-toy", "token": "<toy>", "category": "toy", "output": "toy"}

        neti train --manifest concepts.jsonl --output concepts --shard 1/4
      """)

  @Option(help: ArgumentHelp("The images: JPEG, PNG or WebP.", valueName: "folder"))
  var images: String?

  @Option(
    help: ArgumentHelp(
      "Masks, named and sized as the images: the loss counts where they are white.", valueName: "folder"))
  var masks: String?

  @Option(
    help: ArgumentHelp(
      "What the concept is called: a word that the model does not know, such as <toy>.", valueName: "token")
  )
  var token: String?

  @Option(help: ArgumentHelp("What kind of thing it is, in one word: toy, cat, mug.", valueName: "word"))
  var category: String?

  @OptionGroup var model: ModelOptions

  @Flag(
    help:
      "Learn each image at the size that is nearest to its proportions, with as many pixels as the model's square, instead of its middle square."
  )
  var buckets = false

  @Option(help: ArgumentHelp("Training steps; what suits the model when left out.", valueName: "number"))
  var steps: Int?

  @Option(
    help: ArgumentHelp(
      "Decides every random number: the same seed gives the same concept. 0 when left out.",
      valueName: "number"
    ))
  var seed: Int?

  @Option(
    help: ArgumentHelp(
      "The folder of the run, empty or new; in outputs, named after the token, when left out. With --manifest, the folder of all runs.",
      valueName: "folder"))
  var output: String?

  @Flag(help: "Go on with the run in --output.")
  var resume = false

  @Option(help: ArgumentHelp("Concepts to learn, one JSON object a line.", valueName: "file"))
  var manifest: String?

  @Option(
    help: ArgumentHelp(
      "Which part of the manifest is this process's: 2/8, or auto in a Slurm array, or auto/8 in a Kubernetes job of 8.",
      valueName: "i/n"))
  var shard: String?

  @Option(
    help: ArgumentHelp(
      "What the concept is made of: neti, a network of timestep and layer; time or space, of one of them; ti, a single learned vector (textual inversion); xti, a vector for each layer. neti when left out.",
      valueName: "name"))
  var representation: RepresentationKind?

  @Option(
    help: ArgumentHelp(
      "How many vectors stand for the concept, 1 to 16; each takes a place of a word in prompts. 1 when left out.",
      valueName: "number"))
  var vectors: Int?

  @Option(
    help: ArgumentHelp(
      "What is learned, object or style: it decides the sentences that the concept is learned in.",
      valueName: "name"))
  var property: String?

  @Option(
    help: ArgumentHelp(
      "Generate images every so many steps while learning, always with the same seeds.", valueName: "steps"))
  var validateEvery: Int?

  @Option(
    help: ArgumentHelp(
      "What is generated while learning, with {} for the concept; may be given several times. Without --validate-every, every 100 steps, or at the end of a shorter run.",
      valueName: "prompt"
    ))
  var validationPrompt: [String] = []

  @Option(
    help: ArgumentHelp(
      "How long one process waits for another, where several share the run; 1800 unless given. See docs/many-machines.md.",
      valueName: "seconds"))
  var peerTimeout: Double?

  @Option(
    name: .customLong("config_path"),
    help: ArgumentHelp("A YAML configuration in the structure of the NeTI authors'.", valueName: "file"))
  var configPath: String?

  @Argument(
    parsing: .allUnrecognized,
    help: ArgumentHelp("Settings by their dotted names.", valueName: "--section.key value"))
  var settings: [String] = []

  func validate() throws {
    if masks?.isEmpty == true { throw ValidationError("--masks is empty: name a folder, or leave it out") }
    if let steps, steps < 1 { throw ValidationError("--steps \(steps): at least 1") }
    if let seed, seed < 0 { throw ValidationError("--seed \(seed): a whole number from 0 on") }
    if let vectors, !RepresentationSettings.vectorCounts.contains(vectors) {
      throw ValidationError("--vectors \(vectors): from 1 to 16 vectors can stand for a concept")
    }
    if let validateEvery, validateEvery < 1 {
      throw ValidationError("--validate-every \(validateEvery): at least 1")
    }
    if let bad = settings.first, !bad.hasPrefix("--") || !bad.contains(".") {
      let meant = RunConfiguration.option(forFlag: bad).map { "did you mean --\($0)?" }
      throw ValidationError(
        "unexpected argument \(bad); \(meant ?? "settings look like --optim.max_train_steps 500")")
    }
    if let peerTimeout, !(1...1e6).contains(peerTimeout) {
      throw ValidationError("--peer-timeout \(peerTimeout): from 1 to 1000000 seconds")
    }
    if manifest != nil { return try validateManifest() }
    if let shard { throw ValidationError("--shard \(shard): a part of what? --manifest names the list") }
    if resume, output == nil, configPath == nil {
      throw ValidationError("--resume needs the run's folder: --output")
    }
    if configPath == nil, !resume {
      for (name, value, example) in [
        ("images", images, "my-toy"), ("token", token, "'<toy>'"), ("category", category, "toy"),
      ] where value == nil {
        throw ValidationError("--\(name) is missing; for example --\(name) \(example)")
      }
    }
  }

  /// What is a concept's own stands in the manifest.
  private func validateManifest() throws {
    _ = try part()
    let own: [(name: String, isGiven: Bool)] = [
      ("images", images != nil), ("masks", masks != nil), ("token", token != nil),
      ("category", category != nil),
    ]
    if let flag = own.first(where: \.isGiven) {
      throw ValidationError("--\(flag.name) stands in the manifest, for each concept")
    }
    if resume { throw ValidationError("--resume: a manifest always goes on with what is there") }
    if let key = settings.first(where: { $0.hasPrefix("--log.exp_") }) {
      throw ValidationError("\(key): with --manifest, --output is the folder of all runs")
    }
  }

  /// The part of the manifest that is this process's.
  private func part() throws -> Shard {
    try shard.map { try Shard($0, environment: ProcessInfo.processInfo.environment) } ?? Shard()
  }

  func run() throws {
    let keys = try RunConfiguration.overrides(fromArguments: settings).map(\.key)
    if !LaunchedProcesses.isSilent,
      let key = keys.indices.first(where: { keys[..<$0].contains(keys[$0]) }).map({ keys[$0] })
    {
      warn("--\(key) is given several times; the last one counts")
    }
    if let manifest { return try learn(manifest) }
    let launched = try LaunchedProcesses(ProcessInfo.processInfo.environment)
    do { try learn(launched) } catch let e as any CommandFailure where launched.map({ $0.rank > 0 }) ?? false
    {
      throw NeTIError("process \(launched?.rank ?? 0): \(e)")
    }
  }

  /// Learns one concept, alone or with the other processes that were launched.
  private func learn(_ launched: LaunchedProcesses?) throws {
    let loaded = try configuration(processes: launched?.count ?? 1)
    let c = loaded.configuration
    var model = model
    // The usual launchers start one process for each GPU of a machine.
    if let launched, model.device == "cuda" { model.device = "cuda:\(launched.localRank)" }
    let processes = try launched?.join(peerTimeout ?? 1800) ?? SingleProcess()
    if launched == nil, peerTimeout != nil {
      warn("--peer-timeout has no effect: no other process shares this run")
    }
    if processes.isFirst {
      for line in loaded.notices { note(line) }
      if resume, !RunFolder.holdsRun(c.runFolder) {
        note("there is no run in \(c.runFolder.shownPath) yet; it begins at step 1")
      }
      if let line = TrainingSession.notice(c, model) { note(line) }
      if !loaded.fromModelDefaults.isEmpty {
        note("the model's defaults give \(loaded.fromModelDefaults.joined(separator: ", "))")
      }
    }
    guard
      try TrainingSession.run(
        c, model: model, resume: resume, quiet: false, processes: processes, given: given(loaded)) != nil
    else { return }
    let concept = c.runFolder.appending(path: "concept.safetensors").shownPath
    let neti = Installation.command
    let words = Self.modelWords(c, on: model.device).map { " " + $0.shellQuoted }.joined()
    note(
      """

      done: \(concept). Now try

        \(neti) generate\(words) --concept \(concept.shellQuoted) --prompt 'a photo of a {} on a beach' --seed 0-3
        \(neti) inspect \(concept.shellQuoted)
      """)
  }

  /// What was asked of a run's files and images, as it was written, but for what is told to have no effect anyway.
  private func given(_ loaded: LoadedConfiguration) -> [String] {
    let flags = ["eval.validation_prompts": "validation-prompt", "eval.validation_steps": "validate-every"]
    return loaded.named.sorted().filter { name in
      (name.hasPrefix("eval.") || name.hasPrefix("log.")) && !name.hasPrefix("log.exp_")
        && !loaded.notices.contains { $0.hasPrefix(name + " ") }
    }.map { "--" + (isDotted($0) ? $0 : flags[$0] ?? $0) }
  }

  /// What opens the model of a run, as words of a command line; the concept says the rest itself.
  private static func modelWords(_ c: RunConfiguration, on device: String) -> [String] {
    var words: [String] = []
    if let name = c.model.pretrainedModelNameOrPath { words += ["--model", name] }
    if let type = c.model.predictionType { words += ["--prediction-type", type.rawValue] }
    for lora in c.model.loras { words += ["--lora", lora] }
    if device != "cpu" { words += ["--device", device] }
    return words
  }

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
  private func configuration(processes: Int) throws -> LoadedConfiguration {
    do { return try settled(processes: processes) } catch let e as NeTIError { throw try named(e) }
  }

  /// An error of a setting's value, called by the flag or dotted name that gave it.
  private func named(_ e: NeTIError) throws -> NeTIError {
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

  private func isDotted(_ name: String) -> Bool {
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
  private func drawAtTheEnd(_ loaded: inout LoadedConfiguration) {
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
  private func literal(_ flags: [(key: String, value: String)]) -> Set<String> {
    Set(flags.map(\.key).filter { !isDotted($0) })
  }

  /// What the flags say, as dotted names.
  ///
  /// - Throws: where a dotted name is given beside a flag that gives it another value.
  private func flags() throws -> [(key: String, value: String)] {
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
  private func defaults(_ flags: [(key: String, value: String)]) -> [(key: String, value: String)] {
    guard configPath == nil else { return [] }
    var defaults = [("data.center_crop", "true")]
    if validateEvery == nil, !flags.contains(where: { $0.key.hasPrefix("eval.validation") }) {
      defaults.append(("eval.validation_prompts", "[]"))
    }
    return defaults
  }

  private func modelDefaults(_ c: RunConfiguration) throws -> ModelDefaults? {
    try ModelDefaults.load(model.folder(of: c))
  }

  /// Learns this process's part of a manifest.
  private func learn(_ path: String) throws {
    let file = try place(path)
    let manifest = try ConceptManifest(contentsOf: file)
    let stem = file.deletingPathExtension().lastPathComponent
    let folder = try place(output ?? "outputs/\(stem)", isFolder: true).standardizedFileURL
    var flags = try flags()
    flags.removeAll { $0.key.hasPrefix("log.exp_") }
    let defaults = defaults(flags)
    try ManifestSession.run(manifest, shard: part(), model: model) { entry in
      do {
        var loaded = try manifest.configuration(
          of: entry, output: folder, yaml: configPath.map { try place($0) }, defaults: defaults,
          overrides: flags, literal: literal(flags), modelDefaults: modelDefaults)
        drawAtTheEnd(&loaded)
        return loaded
      } catch let e as NeTIError { throw try named(e) }
    }
  }
}

extension RepresentationKind: ExpressibleByArgument {}
