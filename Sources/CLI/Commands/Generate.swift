import ArgumentParser
import Diffusion
import Foundation
import NeTI

/// `neti generate`: pictures of a concept, or of the base model alone.
struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Draw a concept in new places and styles, or draw with the base model alone.",
    discussion: """
      In a prompt, {} stands for the concept:

        neti generate --concept toy.safetensors --prompt 'a {} on a beach' --seed 0-3

      Each picture is a PNG that carries its recipe; all together are laid out on sheet.png. The dial: \
      a small --truncation follows the prompt more, a large one the concept.

        neti generate --concept toy.safetensors --prompt 'a {}' --truncation 4,16,64

      Several concepts in one prompt have names. They stand side by side in the order of the prompt, each \
      drawn from a prompt of its own: what stands before the first and after the last belongs to all, what \
      joins them is left out. The picture becomes wider with each concept, unless --width says otherwise:

        neti generate --concept toy=FILE --concept mug=FILE --prompt '{toy} by {mug}'

      --layout free gives the model the whole prompt at once, and small models then draw one of them.

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

  @Option(
    help:
      "How several concepts share a picture: \(ConceptLayout.allCases.map(\.rawValue).joined(separator: ", or ")); the first when left out."
  )
  var layout: ConceptLayout?

  @OptionGroup var results: ResultOptions

  func validate() throws {
    try DrawingOptions.check(prompts: prompt)
    for k in truncation?.values ?? [] { try DrawingOptions.check(truncation: k, "--truncation") }
    if truncation != nil, concept.isEmpty {
      throw ValidationError("--truncation needs a --concept")
    }
    if let layout, concept.count < 2 {
      throw ValidationError(
        "--layout \(layout.rawValue) needs several concepts: --concept toy=FILE --concept mug=FILE")
    }
  }

  func run() throws {
    let concepts = try concept.map(Self.readConcept)
    let folder = try model.folder()
    let base = try model.open(folder)
    let generator = try ConceptGenerator(base, concepts: concepts)
    var request = ConceptGenerator.Request(prompts: prompt)
    request.drawing = drawing.settings(defaults: try ModelDefaults.load(fromModelFolder: folder.url))
    request.truncations = truncation?.values ?? [nil]
    request.layout = layout ?? request.layout
    try generator.check(request)
    for line in try generator.warnings(request) { warn(line) }
    let pictures = try results.folder()

    let bar = ProgressBar(
      "drawing",
      total: request.prompts.count * request.truncations.count * request.seeds.count * request.steps)
    let drawn = try generator(request) { bar.update($0.stepsDone) }
    var recipe = DrawingOptions.recipe(request.drawing, model: base.folder.name)
    if !concepts.isEmpty {
      recipe["concept"] = concepts.map { $0.concept.about.token }.joined(separator: " ")
      recipe["concept file"] = concept.map { URL(filePath: $0).lastPathComponent }.joined(separator: " ")
    }
    if concepts.count > 1 { recipe["layout"] = request.layout.rawValue }
    try pictures.report(
      drawn, recipe: recipe, title: concepts.map { $0.concept.about.token }.joined(separator: ", "),
      json: results.json)
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
