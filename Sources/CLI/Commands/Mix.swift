import ArgumentParser
import Diffusion
import Foundation
import NeTI

/// `neti mix`: the shape of one concept with the look of another.
struct Mix: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Generate the geometry of one concept with the appearance of another.",
    discussion: """
      In the prompt, {} stands for the mixture:

        neti mix --geometry cat.safetensors --appearance mug.safetensors \\
                 --prompt 'a photo of a {}'

      The appearance concept takes over at the timestep --from (denoising runs from 999 down to 0), in \
      the layers that the geometry does not keep. The smaller --from, the more the image is the \
      geometry concept. A list makes a sheet with a column per start; --parents adds each concept alone:

        neti mix … --from 999,900,800,600 --parents --seed 0-3

      --layers says what the geometry keeps: a group (coarse, fine, down, middle, up, all, none), \
      resolutions of the latents (8,4,2 on mini-sd; 16,8 on Stable Diffusion) or layers \
      (IN07,IN08,MID, or their diffusers paths). An unknown name lists what the model has.

      The concepts may be of different representations, but must be for the same base model.
      """)

  @Option(help: ArgumentHelp("The concept that gives the shape.", valueName: "file"))
  var geometry: String

  @Option(help: ArgumentHelp("The concept that gives colours and patterns.", valueName: "file"))
  var appearance: String

  @Option(help: "What to generate, with {} in it; may be given several times.")
  var prompt: [String]

  @Option(
    help: ArgumentHelp(
      "Timesteps that the mixing starts at, 999 to 0, or never; a list makes a column for each.",
      valueName: "list"))
  var from = MixingStarts(values: [999])

  @Option(help: ArgumentHelp("Layers that the geometry keeps.", valueName: "list"))
  var layers: String = LayerNames.Preset.coarse.rawValue

  @Flag(help: "Show each concept alone as well, as the first and last column.")
  var parents = false

  @Option(
    help: ArgumentHelp("Hidden units of the geometry concept to keep, 1 to 128.", valueName: "number"))
  var truncationGeometry: Int?

  @Option(
    help: ArgumentHelp("Hidden units of the appearance concept to keep, 1 to 128.", valueName: "number"))
  var truncationAppearance: Int?

  @OptionGroup var photo: PhotoOptions
  @OptionGroup var model: ModelOptions
  @OptionGroup var generation: GenerationOptions
  @OptionGroup var results: ResultOptions

  func validate() throws {
    try GenerationOptions.check(prompts: prompt)
    try photo.check(generation)
    try GenerationOptions.check(truncation: truncationGeometry, "--truncation-geometry")
    try GenerationOptions.check(truncation: truncationAppearance, "--truncation-appearance")
  }

  func run() throws {
    let (g, a) = (try place(geometry), try place(appearance))
    let (geometry, appearance) =
      (try Concept.open(g, base: model.identity), try Concept.open(a, base: model.identity))
    let photo = try photo.read()
    let folder = try model.folder()
    let base = try model.open(folder, usualClipSkip: Generate.clipSkip([geometry, appearance]))
    let kept = try LayerNames(base.unetConfiguration).indices(
      layers.split(separator: ",", omittingEmptySubsequences: false).map {
        $0.trimmingCharacters(in: .whitespaces)
      })
    var request = StyleMixing.Request(prompts: prompt, geometryLayers: kept)
    request.starts = from.values
    request.parents = parents
    request.geometryTruncation = truncationGeometry
    request.appearanceTruncation = truncationAppearance
    request.promptWeights = generation.promptWeights
    let (settings, told) = try generation.settings(for: base)
    request.settings = settings
    request.photo = photo
    let mixing = try StyleMixing(base, geometry: geometry, appearance: appearance)
    try results.generate(
      mixing.prepare(request), on: base, told: told,
      metadata: self.photo.metadata(photo).merging(
        mixing.metadata(request, files: (g.lastPathComponent, a.lastPathComponent))
      ) { $1 },
      title: "geometry of \(geometry.about.token), appearance of \(appearance.about.token)",
      subtitle: "the geometry keeps the layers \(layers)")
  }
}

/// Timesteps that a mixing starts at: 800,600,400; `never` is −1.
struct MixingStarts: ExpressibleByArgument {
  let values: [Int]

  init(values: [Int]) { self.values = values }

  init?(argument: String) {
    var values: [Int] = []
    for part in argument.split(separator: ",", omittingEmptySubsequences: false) {
      guard let v = part == "never" ? -1 : Int(part), part == "never" || (0...999).contains(v),
        !values.contains(v)
      else { return nil }
      values.append(v)
    }
    self.values = values
  }

  var defaultValueDescription: String { values.map(String.init).joined(separator: ",") }
}
