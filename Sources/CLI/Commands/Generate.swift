import ArgumentParser
import Diffusion
import Foundation
import NeTI

/// `neti generate`: images of a concept, or of the base model alone.
struct Generate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Generate images of a concept in new places and styles, or of the base model alone.",
    discussion: """
      In a prompt, {} stands for the concept:

        neti generate --concept toy.safetensors --prompt 'a {} on a beach' --seed 0-3

      Each image is a PNG that carries its metadata; all together are laid out on sheet.png. The dial: \
      a small --truncation follows the prompt more, a large one the concept.

        neti generate --concept toy.safetensors --prompt 'a {}' --truncation 4,16,64

      Several concepts in one prompt have names. They stand side by side in the order of the prompt, each \
      generated from a prompt of its own: what stands before the first and after the last belongs to all, what \
      joins them is left out. The image becomes wider with each concept, unless --width says otherwise:

        neti generate --concept toy=FILE --concept mug=FILE --prompt '{toy} by {mug}'

      --regions 2,1 gives the first twice as much room as the second. --layout free gives the model the whole prompt \
      at once, and small models then show one of them.

      Without --concept the base model follows the prompt by itself. {{ and }} are plain braces.

      Into a photo: the larger --strength, the more of it is generated anew. What is white on a --mask is \
      generated anew, the rest stays:

        neti generate --concept FILE --prompt 'a {}' --image a.jpg --strength 0.6
        neti generate --concept FILE --prompt 'a {}' --image a.jpg --mask mask.png
      """)

  @Option(
    name: .long,
    help: ArgumentHelp(
      "A concept's file. Several in one prompt: name=FILE, with {name} in the prompt.", valueName: "file"))
  var concept: [String] = []

  @Option(help: "What to generate; may be given several times.")
  var prompt: [String]

  @OptionGroup var photo: PhotoOptions
  @OptionGroup var model: ModelOptions
  @OptionGroup var generation: GenerationOptions

  @Option(
    help: ArgumentHelp(
      "Hidden units of the concept to keep, 1 to 128; a list makes a column for each.", valueName: "list"))
  var truncation: NumberList?

  @Option(
    help:
      "How several concepts share an image: \(ConceptLayout.allCases.map(\.rawValue).joined(separator: ", or ")); the first when left out."
  )
  var layout: ConceptLayout?

  @Option(
    help: ArgumentHelp(
      "How wide each concept's part is beside the others', from left to right; all alike when left out.",
      valueName: "2,1"))
  var regions: RegionList?

  @OptionGroup var results: ResultOptions

  func validate() throws {
    try GenerationOptions.check(prompts: prompt)
    try photo.check(generation)
    for k in truncation?.values ?? [] { try GenerationOptions.check(truncation: k, "--truncation") }
    if truncation != nil, concept.isEmpty {
      throw ValidationError("--truncation needs a --concept")
    }
    if regions != nil, concept.count < 2 || layout == .free {
      throw ValidationError(
        "--regions needs several concepts side by side: --concept toy=FILE --concept mug=FILE, without --layout free"
      )
    }
    if let layout, concept.count < 2 {
      throw ValidationError(
        "--layout \(layout.rawValue) needs several concepts: --concept toy=FILE --concept mug=FILE")
    }
  }

  func run() throws {
    let concepts = try concept.map { try Self.readConcept($0, for: model) }
    let photo = try photo.read()
    let folder = try model.folder()
    let base = try model.open(folder, usualClipSkip: Self.clipSkip(concepts.map(\.concept)))
    let generator = try ConceptGenerator(base, concepts: concepts)
    var seen: Set<String> = []
    var request = ConceptGenerator.Request(prompts: prompt.filter { seen.insert($0).inserted })
    if request.prompts.count < prompt.count { note("a prompt that is given twice is generated once") }
    request.promptWeights = generation.promptWeights
    let (settings, told) = try generation.settings(for: base)
    request.settings = settings
    request.truncations = truncation?.values ?? [nil]
    request.layout = layout ?? request.layout
    request.regions = regions?.values
    request.photo = photo

    var metadata = self.photo.metadata(photo)
    if !concepts.isEmpty {
      metadata["concept"] = concepts.map { $0.concept.about.token }.joined(separator: " ")
      metadata["concept file"] = concept.map { URL(filePath: $0).lastPathComponent }.joined(separator: " ")
    }
    if concepts.count > 1 {
      metadata["layout"] = request.layout.rawValue
      metadata["regions"] = regions?.defaultValueDescription ?? ""
    }
    try results.generate(
      generator.prepare(request), on: base, told: told, metadata: metadata,
      title: concepts.map { $0.concept.about.token }.joined(separator: ", "))
  }

  /// What all the concepts were trained with, as far as they say it; 1 where they differ.
  static func clipSkip(_ concepts: [Concept]) -> Int {
    let all = Set(concepts.compactMap(\.about.clipSkip))
    return all.count == 1 ? all.first ?? 1 : 1
  }

  /// FILE or name=FILE; an embedding of another program is taken as one for this model.
  private static func readConcept(_ argument: String, for model: ModelOptions) throws
    -> ConceptGenerator.Named
  {
    func open(_ path: String) throws -> Concept { try Concept.open(place(path), base: model.identity) }
    if !FileManager.default.fileExists(atPath: try place(argument).path),
      let equals = argument.firstIndex(of: "=")
    {
      let name = String(argument[..<equals])
      guard !name.isEmpty, name.allSatisfy({ $0.isLetter || $0.isNumber || $0 == "-" || $0 == "_" }) else {
        throw ValidationError("--concept \(argument): a concept's name is made of letters, digits, - and _")
      }
      return .init(name: name, try open(String(argument[argument.index(after: equals)...])))
    }
    return .init(try open(argument))
  }
}

/// Numbers above 0, written 2,1.
struct RegionList: ExpressibleByArgument {
  let values: [Double]

  init?(argument: String) {
    let values = argument.split(separator: ",", omittingEmptySubsequences: false).map { Double($0) ?? 0 }
    guard values.count <= 16, values.allSatisfy({ $0.isFinite && $0 > 0 }) else { return nil }
    self.values = values
  }

  var defaultValueDescription: String { values.map { String(format: "%g", $0) }.joined(separator: ",") }
}
