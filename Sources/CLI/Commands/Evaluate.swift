import ArgumentParser
import Diffusion
import Evaluation
import Foundation
import NeTI

/// `neti evaluate`: the paper's measurement, by CLIP.
struct Evaluate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure how much generated images look like a concept, and like their prompts.",
    discussion: """
      Generates images of concepts under a list of prompts and compares them, in the space of a CLIP, with images of \
      the thing and with the prompts. The folder then holds report.html, with plots and images, and CSV files:

        neti evaluate --concept cat-neti/concept.safetensors \\
                      --concept cat-ti/concept.safetensors --output scores

      Methods are told by the concepts' representations; NAME=FILE gives another name. Concepts of one token are \
      compared with the same images: those that the run was trained on, and, better, held-out ones:

        neti evaluate --concept neti=a.safetensors \\
                      --concept 'no bypass=b.safetensors' --baseline \\
                      --references other-photos --truncation 8,32 --output scores

      Of several concepts, the images are in folders of their names: --references FOLDER has FOLDER/cat for <cat>.

      Stopped, even by a crash, the same command goes on. The same command can run in several processes at \
      once, each working on another concept; --shard divides them beforehand.

      mini-sd is judged by mini-clip, under 15 prompts that both know. For other models, --clip names a CLIP in the \
      layout of transformers, such as openai/clip-vit-large-patch14; with it the prompts are the paper's 15.

      Another CLIP's verdict on the same images, in another folder; only what is missing is generated:

        neti evaluate … --clip other-clip --generated scores --output scores-2
      """)

  @Option(
    help: ArgumentHelp(
      "A concept's file, or method=FILE; several for several concepts, methods or checkpoints.",
      valueName: "file"))
  var concept: [String]

  @Option(
    help: ArgumentHelp("Images that were trained on; those of the run, when left out.", valueName: "folder"))
  var images: String?

  @Option(help: ArgumentHelp("Images of the thing that were not trained on.", valueName: "folder"))
  var references: String?

  @Option(
    help: ArgumentHelp("A text file with a prompt on each line, {} for the concept.", valueName: "file"))
  var prompts: String?

  @Option(help: ArgumentHelp("Images of each prompt, of the seeds 0, 1, …", valueName: "number"))
  var seeds: Int = 4

  @Option(
    help: ArgumentHelp(
      "Hidden units to keep, 1 to 128; a list makes a curve. All of them are always measured.",
      valueName: "list"))
  var truncation: NumberList?

  @Flag(help: "Also measure the category's word by itself: what the base can do without a concept.")
  var baseline = false

  @Option(
    help: ArgumentHelp(
      "A CLIP's folder, or its name on the Hugging Face Hub; mini-clip for mini-sd.",
      valueName: "folder or name"))
  var clip: String?

  @Option(
    help: ArgumentHelp(
      "The same evaluation by another --clip: its images are judged instead of generated.",
      valueName: "folder"))
  var generated: String?

  @OptionGroup var model: ModelOptions

  @OptionGroup var sampling: SamplingOptions

  @Option(
    help: ArgumentHelp(
      "Work on one part of the concepts: 2/8 is the second of eight; auto as for train.", valueName: "part"))
  var shard: String?

  @Option(help: ArgumentHelp("Where results, images and report go.", valueName: "folder"))
  var output: String

  @Flag(help: "Print the figures as JSON.")
  var json = false

  func validate() throws {
    guard (1...NumberList.largestCount).contains(seeds) else {
      throw ValidationError("--seeds \(seeds): between 1 and \(NumberList.largestCount)")
    }
    for k in truncation?.values ?? [] { try GenerationOptions.check(truncation: k, "--truncation") }
    if clip == nil, try !model.isMiniSD() {
      throw ValidationError(
        "--model needs a --clip: mini-clip knows mini-sd's words only; name one in the layout of transformers, such as openai/clip-vit-large-patch14"
      )
    }
    if let shard { _ = try Shard(shard, environment: ProcessInfo.processInfo.environment) }
  }

  func run() throws {
    let part = try shard.map { try Shard($0, environment: ProcessInfo.processInfo.environment) } ?? Shard()
    let evaluation = try open()
    for line in evaluation.warnings { warn(line) }
    guard try EvaluationSession(evaluation, part).run() else { return }
    let report = try EvaluationReport(evaluation)
    let page = try report.write()
    if json { return try tellJSON(EvaluationFigures(report.summary, evaluation, report: page.relativePath)) }
    try tell(EvaluationFigures(report.summary, evaluation, report: page.relativePath).table())
  }

  /// Everything is read and checked; no image is generated yet.
  private func open() throws -> Evaluation {
    let subjects = try EvaluationSubjects(
      files: concept, images: images, references: references, model: model
    ).subjects
    let words = baseline ? Self.words(subjects) : []
    let folder = try model.folder()
    if let clip { try ModelFetching.offer(clip, download: model.download) }
    let base = try model.open(folder, usualClipSkip: Generate.clipSkip(subjects.compactMap(\.concept)))
    var (settings, told) = try sampling.settings(for: base)
    if let told { note(told) }
    settings.seeds = (0..<seeds).map { UInt64($0) }
    return try Evaluation(
      base, CLIP(clip ?? Installation.resource("Models/mini-clip").path, device: base.device),
      subjects: words + subjects,
      prompts: prompts.map { try EvaluationPrompts(contentsOf: place($0)) },
      settings: settings, precision: model.precision.rawValue,
      truncations: Array(Set(truncation?.values ?? [])).sorted(),
      output: place(output, isFolder: true),
      generated: generated.map { try place($0, isFolder: true) })
  }

  /// The category's word of each token, once.
  private static func words(_ subjects: [EvaluationSubject]) -> [EvaluationSubject] {
    var seen: Set<String> = []
    return subjects.filter { seen.insert($0.token).inserted }.map(EvaluationSubject.init(wordOf:))
  }
}
