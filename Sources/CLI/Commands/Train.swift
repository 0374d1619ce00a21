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
