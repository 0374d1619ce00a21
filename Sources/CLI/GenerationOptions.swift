import ArgumentParser
import Diffusion
import Foundation
import NeTI

/// How images are generated, for every command that generates.
struct GenerationOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "One image for each, such as 0,1,2 or 0-3. A seed gives the noise that PyTorch gives.",
      valueName: "list"))
  var seed = NumberList([0])

  @Option(
    help: ArgumentHelp(
      "Denoising steps of each image; what suits the model when left out, 50 for Stable Diffusion.",
      valueName: "number"))
  var steps: Int?

  @Option(
    help: ArgumentHelp(
      "How strongly the prompt leads (the scale of classifier-free guidance); what suits the model when left out, 7.5 for Stable Diffusion.",
      valueName: "number"))
  var guidance: Double?

  @Option(
    help: ArgumentHelp(
      "How a denoising step is computed; what suits the model when left out, dpm++ for Stable Diffusion. lcm and tcd are for models that were distilled for them.",
      valueName: "name"))
  var scheduler: SchedulerKind?

  @Option(
    help: ArgumentHelp("What the images should not show; a concept may stand in it.", valueName: "text"))
  var negativePrompt: String = ""

  @Flag(
    help:
      "Read (words:1.3), (words) and [words] in the prompts as weights, as AUTOMATIC1111's web UI does; they are words when left out."
  )
  var promptWeights = false

  @Option(help: ArgumentHelp("In pixels; the model's own when left out.", valueName: "pixels"))
  var width: Int?

  @Option(help: ArgumentHelp("In pixels; the model's own when left out.", valueName: "pixels"))
  var height: Int?

  @Flag(
    inversion: .prefixedNo,
    help:
      "Decode in overlapping tiles: less memory for large images, with slight differences at the seams. Where memory is short, when left out."
  )
  var vaeTiling: Bool?

  func validate() throws {
    if let steps, !(1...1000).contains(steps) {
      throw ValidationError("--steps \(steps): between 1 and 1000")
    }
    try Self.check(prompts: [negativePrompt], "--negative-prompt")
    if let guidance, !(guidance.isFinite && guidance >= 0 && guidance <= 1000) {
      throw ValidationError("--guidance \(guidance): a number between 0 and 1000")
    }
    for (name, side) in [("width", width), ("height", height)] {
      if let side, !(1...StableDiffusion.maximumSide).contains(side) {
        throw ValidationError("--\(name) \(side): between 1 and \(StableDiffusion.maximumSide) pixels")
      }
    }
  }

  /// Flags go before the model's defaults, which are told in one line: the `note`.
  func settings(for model: StableDiffusion) throws -> (settings: GenerationSettings, note: String?) {
    let defaults = try ModelDefaults.load(model.folder)
    var given: [String] = []
    func choose<T>(_ flag: T?, _ name: String, _ own: T?, _ text: (T) -> String) -> T? {
      if flag == nil, let own { given.append("--\(name) \(text(own))") }
      return flag ?? own
    }
    var s = GenerationSettings()
    s.seeds = seed.values.map { UInt64($0) }
    s.steps = choose(steps, "steps", defaults?.denoisingSteps) { "\($0)" } ?? s.steps
    s.guidance = choose(guidance, "guidance", defaults?.guidance) { String(format: "%g", $0) } ?? s.guidance
    s.scheduler = choose(scheduler, "scheduler", defaults?.scheduler, \.rawValue) ?? s.scheduler
    s.negativePrompt = negativePrompt
    s.width = width
    s.height = height
    s.vaeTiling = vaeTiling
    if !given.isEmpty { return (s, "the model's defaults give " + given.joined(separator: ", ")) }
    guard steps == nil, guidance == nil, Self.isLikeTurbo(model.schedulerConfiguration) else {
      return (s, nil)
    }
    return (
      s,
      "\(model.folder.name) begins at the last timestep, as turbo models do; if it is one, add --steps 4 --guidance 1"
    )
  }

  /// SD Turbo and the like have only this to be told by; v-prediction and rescaled βs ask for it as well.
  private static func isLikeTurbo(_ c: SchedulerConfiguration) -> Bool {
    c.timestepSpacing == .trailing && c.predictionType == .epsilon && !c.rescaleBetasZeroSNR
  }

  /// Refuses prompts that no model has room for.
  static func check(prompts: [String], _ option: String = "--prompt") throws {
    if let bad = prompts.first(where: { $0.count > 10_000 }) {
      throw ValidationError("\(option): \(bad.count) characters; a prompt has at most 10000")
    }
  }

  static func check(truncation k: Int?, _ option: String) throws {
    if let k, !(1...NeTIMapper.hiddenWidth).contains(k) {
      throw ValidationError("\(option) \(k): it must be between 1 and \(NeTIMapper.hiddenWidth)")
    }
  }

  /// An image's metadata, without anything of this machine.
  static func metadata(_ generation: Generation, model: StableDiffusion) -> [String: String] {
    let s = generation.settings
    var all = [
      "model": model.folder.name, "scheduler": s.scheduler.rawValue, "steps": String(s.steps),
      "guidance": String(s.guidance), "negative prompt": s.negativePrompt,
      "prompt weights": generation.promptWeights ? "AUTOMATIC1111" : "",
      "software": "neti \(Neti.version)",
    ]
    if model.clipSkip != 1 { all["clip skip"] = String(model.clipSkip) }
    return all
  }
}

/// Where images go and how that is told.
struct ResultOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Where the images go; what is there stays.", valueName: "folder"))
  var output: String = "outputs"

  @Flag(help: "Print the images' files and metadata as JSON.")
  var json = false

  /// Generates what was prepared, with a progress bar; writes the images and tells where they are.
  ///
  /// - Parameters:
  ///   - told: a line about the settings.
  ///   - metadata: what all of them have in common beside the settings.
  func generate(
    _ generation: Generation, on model: StableDiffusion, told: String?, metadata: [String: String],
    title: String, subtitle: String = ""
  ) throws {
    if let told { note(told) }
    for line in generation.warnings { warn(line) }
    let output = try ImageOutput(place(output, isFolder: true))
    let bar = ProgressBar("generating", total: generation.totalSteps)
    let images = try generation { bar.update($0.stepsDone) }
    try output.report(
      images,
      metadata: GenerationOptions.metadata(generation, model: model)
        .merging(metadata) { $1 },
      title: title, subtitle: subtitle, json: json)
  }
}
