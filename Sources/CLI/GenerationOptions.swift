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

  @OptionGroup var sampling: SamplingOptions

  @Option(
    help: ArgumentHelp("What the images should not show; a concept may stand in it.", valueName: "text"))
  var negativePrompt: String?

  @Flag(
    help:
      "Read (words:1.3), (words) and [words] in the prompts as weights, as AUTOMATIC1111's web UI does; they are words when left out."
  )
  var promptWeights = false

  @Option(help: ArgumentHelp("In pixels; the model's own when left out.", valueName: "pixels"))
  var width: Int?

  @Option(help: ArgumentHelp("In pixels; the model's own when left out.", valueName: "pixels"))
  var height: Int?

  @Option(
    help: ArgumentHelp(
      "For SDXL: how large the model is told the image was before it was scaled, in pixels; the image's own size when left out.",
      valueName: "1024x768"))
  var originalSize: SizeText?

  @Option(
    help: ArgumentHelp(
      "For SDXL: what the model is told was cut off at the left and at the top, in pixels; 0,0 when left out.",
      valueName: "0,0"))
  var crop: CropText?

  @Flag(
    inversion: .prefixedNo,
    help:
      "Decode in overlapping tiles: less memory for large images, with slight differences at the seams. Where memory is short, when left out."
  )
  var vaeTiling: Bool?

  func validate() throws {
    try Self.check(prompts: [negativePrompt ?? ""], "--negative-prompt")
    for (name, side) in [("width", width), ("height", height)] {
      if let side, !(1...StableDiffusion.maximumSide).contains(side) {
        throw ValidationError("--\(name) \(side): between 1 and \(StableDiffusion.maximumSide) pixels")
      }
    }
  }

  /// With a line to tell about the model's defaults, as `SamplingOptions` has it.
  func settings(for model: StableDiffusion) throws -> (settings: GenerationSettings, note: String?) {
    var (s, note) = try sampling.settings(for: model)
    s.seeds = seed.values.map { UInt64($0) }
    s.negativePrompt = negativePrompt
    s.width = width
    s.height = height
    (s.originalSize, s.crop) = (originalSize?.size, crop?.size)
    s.vaeTiling = vaeTiling
    return (s, note)
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
      "model": model.folder.name, "lora": model.loras.map(\.description).joined(separator: " "),
      "scheduler": s.scheduler.rawValue, "steps": String(s.steps),
      "guidance": String(s.guidance), "negative prompt": s.negativePrompt ?? "",
      "prompt weights": generation.promptWeights ? "AUTOMATIC1111" : "",
      "software": "neti \(Neti.version)",
    ]
    if let size = s.originalSize { all["original size"] = "\(size.width)x\(size.height)" }
    if let crop = s.crop { all["crop"] = "\(crop.width),\(crop.height)" }
    if model.clipSkip != 1 { all["clip skip"] = String(model.clipSkip) }
    return all
  }
}

/// Width and height in pixels, written 1024x768.
struct SizeText: ExpressibleByArgument {
  let size: PixelSize

  init?(argument: String) {
    let sides = argument.split(omittingEmptySubsequences: false) { "xX×".contains($0) }.map { Int($0) ?? 0 }
    guard sides.count == 2, sides.allSatisfy({ $0 > 0 }) else { return nil }
    size = PixelSize(width: sides[0], height: sides[1])
  }
}

/// Pixels from the left and from the top, written 16,0.
struct CropText: ExpressibleByArgument {
  let size: PixelSize

  init?(argument: String) {
    let parts = argument.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) ?? -1 }
    guard parts.count == 2, parts.allSatisfy({ $0 >= 0 }) else { return nil }
    size = PixelSize(width: parts[0], height: parts[1])
  }
}

/// Where images go and how that is told.
struct ResultOptions: ParsableArguments {
  @Option(help: ArgumentHelp("Where the images go; what is there stays.", valueName: "folder"))
  var output: String = "outputs"

  @Flag(help: "Print the images' files and metadata as JSON.")
  var json = false

  /// Generates what was prepared, with a progress bar; writes each image when it is there, and tells where they are.
  ///
  /// What ends it early, an error or a signal, leaves the images that were there.
  ///
  /// - Parameters:
  ///   - told: a line about the settings.
  ///   - metadata: what all of them have in common beside the settings.
  func generate(
    _ generation: Generation, on model: StableDiffusion, told: String?, metadata: [String: String],
    title: String, subtitle: String = ""
  ) throws {
    if let told { note(told) }
    for line in try generation.warnings + [MemoryEstimate.warning(generatingOn: model)].compactMap(\.self) {
      warn(line)
    }
    let output = try ImageOutput(place(output, isFolder: true))
    let metadata = GenerationOptions.metadata(generation, model: model).merging(metadata) { $1 }
    let (images, files) = try output.generate(generation, metadata: metadata)
    try output.report(images, in: files, metadata: metadata, title: title, subtitle: subtitle, json: json)
  }
}
