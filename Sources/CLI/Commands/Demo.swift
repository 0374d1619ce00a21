import ArgumentParser
import Diffusion
import Files
import Foundation
import Imaging
import NeTI

/// `neti demo`: everything at once on mini-sd.
struct Demo: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Learn an example concept on mini-sd and generate a sheet of images, in a few minutes.",
    discussion: "Each demo has a folder of its own; nothing is overwritten.")

  @Option(help: ArgumentHelp("Which example: a folder of images in Examples.", valueName: "name"))
  var example: String = "ginger"

  @Option(help: ArgumentHelp("Where the run goes; outputs/demo-NAME when left out.", valueName: "folder"))
  var output: String?

  @Option(help: ArgumentHelp("Training steps; what suits mini-sd when left out.", valueName: "number"))
  var steps: Int?

  @Option(help: ArgumentHelp("Processor threads; all cores when left out.", valueName: "number"))
  var threads: Int?

  /// What the demo generates.
  static let prompts = [
    "a photo of a {} in the snow", "a photo of a {} on the moon", "a watercolor painting of a {}",
    "a pencil drawing of a {}", "an app icon of a {}",
  ]
  static let seeds: [UInt64] = [0, 1, 2, 3]

  func validate() throws {
    if let steps, steps < 1 { throw ValidationError("--steps \(steps): at least 1") }
  }

  func run() throws {
    let clock = ContinuousClock.now
    let names = try Installation.examples()
    guard names.contains(example) else {
      throw NeTIError(
        wrongUsage: "--example \(quoted(example)): there are \(names.joined(separator: ", "))")
    }
    let examples = try Installation.resource("Examples/\(example)")
    let about = try JSONFile.decode(
      ExampleDescription.self, from: Installation.resource("Examples/\(example).json"))
    let folder = try freeFolder()
    let modelFolder = try ModelFolder(Installation.miniSD().path)
    let defaults = try ModelDefaults.load(modelFolder)
    let loaded = try RunConfiguration.load(
      overrides: [
        ("data.train_data_dir", examples.path), ("data.placeholder_token", "<\(example)>"),
        ("data.super_category_token", about.category), ("data.center_crop", "true"),
        ("log.exp_dir", folder.deletingLastPathComponent().path), ("log.exp_name", folder.lastPathComponent),
        ("optim.max_train_steps", String(steps ?? defaults?.maxTrainSteps ?? 250)),
        ("eval.validation_prompts", "[]"),
      ],
      literal: ["data.train_data_dir", "log.exp_dir", "log.exp_name"],
      modelDefaults: { _ in defaults })
    let c = loaded.configuration
    var options = try ModelOptions.parse([])
    options.threads = threads
    note(
      "neti learns “\(c.data.placeholderToken)”, a \(about.category), from \(folderCount(examples)) images of it, then generates it in new places."
    )
    guard let concept = try TrainingSession.run(c, model: options, resume: false, quiet: true) else {
      return
    }

    let learned = folder.appending(path: "concept.safetensors")
    let signals = Signals { code in
      note("\nstopped; the concept is learned: \(learned.shownPath)")
      _exit(code)
    }
    defer { withExtendedLifetime(signals) {} }
    let model = try options.open(modelFolder)
    var request = ConceptGenerator.Request(prompts: Self.prompts)
    request.seeds = Self.seeds
    request.steps = defaults?.denoisingSteps ?? 25
    request.guidance = defaults?.guidance ?? 7.5
    let generation = try ConceptGenerator(model, concepts: [.init(concept)]).prepare(request)
    let output = try ImageOutput(folder.appending(path: "images", directoryHint: .isDirectory))
    let metadata = GenerationOptions.metadata(generation, model: model)
      .merging(["concept": concept.about.token]) { $1 }
    let (generated, _) = try output.generate(
      generation, metadata: metadata, concept: learned)
    let training = try TrainingImages(
      folder: examples, side: c.data.resolution ?? model.resolution, crop: true)
    let sheet = try ImageOutput(folder).write(
      ImageOutput.sheet(
        generated, title: "\(c.data.placeholderToken), a \(about.category), on \(model.folder.name)",
        training: training.images),
      stem: "sheet")
    let path = folder.relativePath
    let neti = Installation.command
    tell(
      """

      \(ProgressBar.clock((ContinuousClock.now - clock).seconds)) minutes. Look at

        \(sheet.relativePath)   the training images, then prompts × seeds
        \(path)/concept.safetensors   the concept

      and try

        \(neti) generate --concept \(path)/concept.safetensors --prompt 'a watercolor painting of a {}' --seed 0-3
        \(neti) generate --concept \(path)/concept.safetensors --prompt 'a photo of a {} on the moon' --truncation 4,16,64,128
        \(neti) inspect \(path)/concept.safetensors
        \(neti) train --images YOUR-IMAGES --token '<toy>' --category toy
      """)
  }

  private struct ExampleDescription: Decodable { let category: String }

  /// A folder that no earlier demo used.
  private func freeFolder() throws -> URL {
    if let output { return try place(output, isFolder: true) }
    let base = "outputs/demo-\(example)"
    var path = base
    var n = 2
    while FileManager.default.fileExists(atPath: path) {
      path = "\(base)-\(n)"
      n += 1
    }
    return URL(filePath: path, directoryHint: .isDirectory)
  }

  private func folderCount(_ folder: URL) -> Int { (try? ImageFolder.list(folder).images.count) ?? 0 }
}
