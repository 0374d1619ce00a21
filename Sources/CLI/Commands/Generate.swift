import ArgumentParser
import Diffusion
import Foundation
import Imaging
import NeTI

/// `neti generate`: pictures of a concept, or of the base model alone.
struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Draw a concept in new places and styles, or draw with the base model alone.",
    discussion: """
      In a prompt, {} stands for the concept:

        neti generate --concept toy-run/concept.safetensors --prompt 'a photo of {} on the moon' --seed 0-3

      Each picture is a PNG that carries its recipe; all together are laid out on sheet.png. The dial:
      a small --truncation follows the prompt more, a large one the concept.

        neti generate --concept toy.safetensors --prompt 'pixel art of {}' --truncation 4,16,64,128

      Without --concept the base model draws the prompt itself.
      """)

  @Option(
    name: .long,
    help: ArgumentHelp(
      "A concept's file. Several in one prompt: name=FILE, with {name} in the prompt.", valueName: "file"))
  var concept: [String] = []

  @Option(help: "What to draw; may be given several times.")
  var prompt: [String]

  @OptionGroup var model: ModelOptions
  @OptionGroup var drawing: DrawingOptions

  @Option(
    help: ArgumentHelp(
      "Hidden units of the concept to keep, 1 to 128; a list makes a column for each.", valueName: "list"))
  var truncation: NumberList?

  @Option(help: ArgumentHelp("Where the pictures go.", valueName: "folder"))
  var output: String = "outputs"

  @Flag(help: "Print the pictures' files and recipes as JSON.")
  var json = false

  func validate() throws {
    if let bad = prompt.first(where: { $0.count > 10_000 }) {
      throw ValidationError("--prompt: \(bad.count) characters; a prompt has at most 10000")
    }
    if let t = truncation?.values, let bad = t.first(where: { !(1...NeTIMapper.hiddenWidth).contains($0) }) {
      throw ValidationError("--truncation \(bad): it must be between 1 and \(NeTIMapper.hiddenWidth)")
    }
    if truncation != nil, concept.isEmpty {
      throw ValidationError("--truncation needs a --concept")
    }
  }

  func run() throws {
    let concepts = try concept.map(Self.readConcept)
    let folder = try model.folder()
    let base = try model.open(folder)
    let generator = try ConceptGenerator(base, concepts: concepts)
    var request = ConceptGenerator.Request(prompts: prompt)
    drawing.apply(to: &request, recipe: try Recipe.load(fromModelFolder: folder.url))
    request.truncations = truncation?.values ?? [nil]
    try generator.check(request)
    for line in try generator.warnings(request) { warn(line) }
    let pictures = try PictureOutput(URL(filePath: output, directoryHint: .isDirectory))

    let bar = ProgressBar(
      "drawing",
      total: request.prompts.count * request.truncations.count * request.seeds.count * request.steps)
    let drawn = try generator(request) { bar.update($0.stepsDone) }
    var recipe = drawing.recipe(request, model: base.folder.name)
    if !concepts.isEmpty {
      recipe["concept"] = concepts.map { $0.concept.about.token }.joined(separator: " ")
      recipe["concept file"] = concept.map { URL(filePath: $0).lastPathComponent }.joined(separator: " ")
    }
    let files = try drawn.map { try pictures.write($0, recipe: recipe) }
    let sheet =
      drawn.count > 1
      ? try pictures.writeSheet(drawn, title: concepts.map { $0.concept.about.token }.joined(separator: ", "))
      : nil
    try report(drawn, files, sheet, recipe)
  }

  private func report(
    _ drawn: [ConceptGenerator.Drawn], _ files: [URL], _ sheet: URL?, _ recipe: [String: String]
  ) throws {
    if json {
      struct Entry: Encodable { let file: String, prompt: String, seed: UInt64, truncation: Int? }
      struct Report: Encodable { let pictures: [Entry], sheet: String?, recipe: [String: String] }
      try printJSON(
        Report(
          pictures: zip(drawn, files).map {
            Entry(file: $1.relativePath, prompt: $0.prompt, seed: $0.seed, truncation: $0.truncation)
          },
          sheet: sheet?.relativePath, recipe: recipe))
    } else {
      for f in files { print(f.relativePath) }
      if let sheet { print(sheet.relativePath) }
    }
  }

  /// FILE or name=FILE.
  static func readConcept(_ argument: String) throws -> ConceptGenerator.Named {
    if !FileManager.default.fileExists(atPath: argument), let equals = argument.firstIndex(of: "=") {
      let name = String(argument[..<equals])
      guard !name.isEmpty, name.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" }) else {
        throw ValidationError("--concept \(argument): a concept's name is made of letters, digits, - and _")
      }
      return .init(
        name: name, try Concept.open(URL(filePath: String(argument[argument.index(after: equals)...]))))
    }
    return .init(try Concept.open(URL(filePath: argument)))
  }
}

/// How pictures are drawn, for every command that draws.
struct DrawingOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "One picture for each, such as 0,1,2 or 0-3. A seed gives the noise that PyTorch gives.",
      valueName: "list"))
  var seed = NumberList([0])

  @Option(help: "Denoising steps.")
  var steps: Int = 50

  @Option(
    help:
      "The scale of classifier-free guidance; what suits the model when left out (7.5 for Stable Diffusion).")
  var guidance: Double?

  @Option(help: "\(SchedulerKind.allCases.map(\.rawValue).joined(separator: ", ")).")
  var scheduler: SchedulerKind = .dpm

  @Option(help: ArgumentHelp("What guidance leads away from.", valueName: "text"))
  var negativePrompt: String = ""

  @Option(help: "In pixels; the model's own when left out.")
  var width: Int?

  @Option(help: "In pixels; the model's own when left out.")
  var height: Int?

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

  func apply(to request: inout ConceptGenerator.Request, recipe: Recipe?) {
    request.seeds = seed.values.map { UInt64($0) }
    request.steps = steps
    request.guidance = guidance ?? recipe?.guidance ?? 7.5
    request.scheduler = scheduler
    request.negativePrompt = negativePrompt
    request.width = width
    request.height = height
  }

  /// What a picture's text chunks say, without anything of this machine.
  func recipe(_ request: ConceptGenerator.Request, model: String) -> [String: String] {
    [
      "model": model, "scheduler": request.scheduler.rawValue, "steps": String(request.steps),
      "guidance": String(request.guidance), "negative prompt": request.negativePrompt,
      "software": "neti \(Neti.version)",
    ]
  }
}
