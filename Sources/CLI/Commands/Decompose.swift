public import ArgumentParser
import Diffusion
import Foundation
public import NeTI

/// `neti decompose`: what a concept has learned for each part of the denoising process.
struct Decompose: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Show what a concept has learned for each part of the denoising process.",
    discussion: """
        neti decompose --concept toy.safetensors --prompt 'a photo of a {}' --seed 0

      The strip runs from noise to image, timestep 999 to 0; its last column is the concept as it is.

      --view frozen      the concept at one timestep, for every step (default)
      --view cumulative  the concept down to a timestep, below it the word
      --view windows     the concept inside a window, the word outside

      The word is that of --category. The paper has no windows.

      --count divides the process evenly; --timesteps says where, larger first:

        neti decompose … --timesteps 900,500,100
        neti decompose … --view windows --timesteps 999-700,699-300,299-0
      """)

  @Option(help: ArgumentHelp("The concept's file.", valueName: "file"))
  var concept: String

  @Option(help: "What to generate, with {} in it; may be given several times.")
  var prompt: [String]

  @Option(help: ArgumentHelp("What a column shows.", valueName: "name"))
  var view: Decomposition.View = .frozen

  @Option(
    help: ArgumentHelp(
      "Columns, 1 to 100; 5 when neither this nor --timesteps is given.", valueName: "number"))
  var count: Int?

  @Option(
    help: ArgumentHelp(
      "Where the columns are, such as 900,500,100; windows are written 999-700,699-0.", valueName: "list"))
  var timesteps: String?

  @Option(
    help: ArgumentHelp(
      "The word outside of the concept's part; its own category when left out.", valueName: "word"))
  var category: String?

  @Option(help: ArgumentHelp("Hidden units of the concept to keep, 1 to 128.", valueName: "number"))
  var truncation: Int?

  @OptionGroup var model: ModelOptions
  @OptionGroup var generation: GenerationOptions
  @OptionGroup var results: ResultOptions

  func validate() throws {
    try GenerationOptions.check(prompts: prompt)
    try GenerationOptions.check(truncation: truncation, "--truncation")
    if let count, !(1...100).contains(count) {
      throw ValidationError("--count \(count): between 1 and 100 columns")
    }
    if count != nil, timesteps != nil {
      throw ValidationError("--count and --timesteps both say where the columns are; give one of them")
    }
    if let category, category.isEmpty || category.count > 100 || category.contains(where: "{}".contains) {
      throw ValidationError(
        "--category “\(category.prefix(100))”: write one word for what it is, such as toy")
    }
    do {
      try Decomposition.check(columns())
    } catch let e as NeTIError {
      throw ValidationError("--timesteps \(timesteps ?? ""): \(e.message)")
    }
  }

  func run() throws {
    let file = try place(concept)
    let concept = try Concept.open(file, base: model.identity)
    let folder = try model.folder()
    let base = try model.open(folder, usualClipSkip: concept.about.clipSkip ?? 1)
    var request = Decomposition.Request(prompts: prompt, columns: try columns())
    request.truncation = truncation
    request.category = category
    request.promptWeights = generation.promptWeights
    let (settings, told) = try generation.settings(for: base)
    request.settings = settings
    let decomposition = try Decomposition(base, concept)
    try results.generate(
      decomposition.prepare(request), on: base, told: told,
      metadata: decomposition.metadata(request, file: file.lastPathComponent),
      title: "\(concept.about.token) over the denoising process", subtitle: view.summary)
  }

  private func columns() throws -> [Variant] {
    guard let timesteps else { return Decomposition.columns(view, count: count ?? 5) }
    return try timesteps.split(separator: ",", omittingEmptySubsequences: false).map { part in
      let ends = part.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
      switch (view, ends.count) {
      case (.windows, 2):
        guard let high = ends[0], let low = ends[1] else { break }
        guard high >= low else {
          throw ValidationError(
            "--timesteps \(part): a window runs from noise to image; write \(low)-\(high)")
        }
        return .window(low...high)
      case (.frozen, 1): if let t = ends[0] { return .frozen(t) }
      case (.cumulative, 1): if let t = ends[0] { return .cumulative(t) }
      default: break
      }
      throw ValidationError(
        view == .windows
          ? "--timesteps “\(part)”: windows are written 999-700,699-0"
          : "--timesteps “\(part)”: write whole numbers, such as 900,500,100")
    }
  }
}

extension Decomposition.View: ExpressibleByArgument {}
