import ArgumentParser
import Diffusion
import Foundation
import NeTI

/// How pictures are drawn, for every command that draws.
struct DrawingOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "One picture for each, such as 0,1,2 or 0-3. A seed gives the noise that PyTorch gives.",
      valueName: "list"))
  var seed = NumberList([0])

  @Option(help: ArgumentHelp("Denoising steps of each picture.", valueName: "number"))
  var steps: Int = 50

  @Option(
    help: ArgumentHelp(
      "How strongly the prompt leads (the scale of classifier-free guidance); what suits the model when left out, 7.5 for Stable Diffusion.",
      valueName: "number"))
  var guidance: Double?

  @Option(help: ArgumentHelp("How a denoising step is computed.", valueName: "name"))
  var scheduler: SchedulerKind = .dpm

  @Option(help: ArgumentHelp("What the pictures should not show.", valueName: "text"))
  var negativePrompt: String = ""

  @Option(help: ArgumentHelp("In pixels; the model's own when left out.", valueName: "pixels"))
  var width: Int?

  @Option(help: ArgumentHelp("In pixels; the model's own when left out.", valueName: "pixels"))
  var height: Int?

  @Flag(
    inversion: .prefixedNo,
    help:
      "Decode in overlapping tiles: less memory for large pictures, with slight differences at the seams. Where memory is short, when left out."
  )
  var vaeTiling: Bool?

  func validate() throws {
    guard (1...1000).contains(steps) else { throw ValidationError("--steps \(steps): between 1 and 1000") }
    if let guidance, !(guidance.isFinite && guidance >= 0 && guidance <= 1000) {
      throw ValidationError("--guidance \(guidance): a number between 0 and 1000")
    }
    for (name, side) in [("width", width), ("height", height)] {
      if let side, !(1...StableDiffusion.maximumSide).contains(side) {
        throw ValidationError("--\(name) \(side): between 1 and \(StableDiffusion.maximumSide) pixels")
      }
    }
  }

  /// `defaults` are the model's, which decide where no flag does.
  func settings(defaults: ModelDefaults?) -> DrawingSettings {
    var s = DrawingSettings()
    s.seeds = seed.values.map { UInt64($0) }
    s.steps = steps
    s.guidance = guidance ?? defaults?.guidance ?? 7.5
    s.scheduler = scheduler
    s.negativePrompt = negativePrompt
    s.width = width
    s.height = height
    s.vaeTiling = vaeTiling
    return s
  }

  /// Refuses prompts that no model has room for.
  static func check(prompts: [String]) throws {
    if let bad = prompts.first(where: { $0.count > 10_000 }) {
      throw ValidationError("--prompt: \(bad.count) characters; a prompt has at most 10000")
    }
  }

  static func check(truncation k: Int?, _ option: String) throws {
    if let k, !(1...NeTIMapper.hiddenWidth).contains(k) {
      throw ValidationError("\(option) \(k): it must be between 1 and \(NeTIMapper.hiddenWidth)")
    }
  }

  /// What a picture's text chunks say, without anything of this machine.
  static func recipe(_ s: DrawingSettings, model: String) -> [String: String] {
    [
      "model": model, "scheduler": s.scheduler.rawValue, "steps": String(s.steps),
      "guidance": String(s.guidance), "negative prompt": s.negativePrompt,
      "software": "neti \(Neti.version)",
    ]
  }
}

/// Where pictures go and how that is told.
struct ResultOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Where the pictures go; what is there stays.", valueName: "folder"))
  var output: String = "outputs"

  @Flag(help: "Print the pictures' files and recipes as JSON.")
  var json = false

  /// Makes the folder.
  func folder() throws -> PictureOutput {
    try PictureOutput(URL(filePath: output, directoryHint: .isDirectory))
  }
}
