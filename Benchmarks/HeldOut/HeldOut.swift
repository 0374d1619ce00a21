import ArgumentParser
import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import Torch

/// Does it learn? For every example concept: train on its five images, and compare the denoising loss on three
/// others, in places that it was not learned in, under the category's word, a single learned vector (ti) and neti.
/// Their captions name those places.
///
/// Every finished training is one line of a JSON-lines file; a run that was interrupted goes on where it
/// was. `--report` turns the lines of the model into the table.
@main
struct HeldOut: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "held-out", abstract: "Held-out denoising losses of every example concept on mini-sd.")

  @Option(help: "The base model's folder.") var model = "Models/mini-sd"
  @Option(help: "Concepts, separated by commas; all examples when left out.") var concepts: String?
  @Option(help: "Training seeds.") var seeds = 3
  @Option(
    help:
      "Steps after which the losses are measured, such as 50,100; the model's when left out, for ti also five times them."
  ) var at: String?
  @Option(help: "neti, ti, xti, time or space, separated by commas.") var representations = "neti,ti"
  @Option(help: "Learning rate (already scaled); the model's when left out.") var learningRate: Double?
  @Option(help: "Results, one JSON object a line.") var results = "Benchmarks/results/held-out.jsonl"
  @Option(help: "Where the concepts are kept; nowhere when left out.") var keep: String?
  @Option(help: "Precision of the base model in training, fp32 or bf16. Losses are measured in fp32.")
  var precision = "fp32"
  @Flag(help: "Print the table of the results instead of training.") var report = false

  struct Line: Codable {
    var concept: String, kind: String, seed: Int, steps: Int, learningRate: Double, loss: Double,
      seconds: Double
    /// The mean loss on the images that it learned from.
    var training: Double?
    /// Of the base model in training; fp32 when left out.
    var precision: String?
    /// A hash of the base model's weights; the first mini-sd when left out.
    var model: String?
  }
  struct Example: Decodable { let category: String }

  func run() throws {
    let folder = try ModelFolder(model)
    let hash = try folder.contentFingerprint()
    var lines = try read().filter { $0.model == hash }
    if report {
      guard !lines.isEmpty else { throw ValidationError("\(results) has no results of \(model)") }
      return print(Self.table(lines))
    }
    Runtime.tuneAllocator()
    let names = try concepts?.split(separator: ",").map(String.init) ?? Self.examples()
    let defaults = try ModelDefaults.load(fromModelFolder: folder.url)
    for name in names {
      let category = try JSONFile.decode(Example.self, from: URL(filePath: "Examples/\(name).json")).category
      let base = try StableDiffusion(folder)
      let examples = try TrainingImages(
        folder: URL(filePath: "Examples/\(name)"), side: base.resolution, crop: true
      ).examples
      let others = try TrainingImages(
        folder: URL(filePath: "Examples/held-out/\(name)"), side: base.resolution, crop: true,
        captionsFor: "<\(name)>"
      ).examples
      let heldOut = try others.map {
        try HeldOutLoss(base, image: $0.image, prompt: $0.caption ?? HeldOutLoss.defaultPrompt, noises: 2)
      }
      let seen = try examples.map { try HeldOutLoss(base, image: $0.image, noises: 1) }
      func mean(_ losses: [HeldOutLoss], _ loss: (HeldOutLoss) throws -> Double) rethrows -> Double {
        try losses.map(loss).reduce(0, +) / Double(losses.count)
      }
      func record(_ line: Line) throws {
        var line = line
        line.model = hash
        lines.append(line)
        try append(line)
        say(
          "\(line.concept) \(line.kind) seed \(line.seed) rate \(line.learningRate): \(String(format: "%.5f", line.loss)) after \(line.steps) steps, \(Int(line.seconds)) s"
        )
      }
      if !lines.contains(where: { $0.concept == name && $0.kind == "word" }) {
        try record(
          Line(
            concept: name, kind: "word", seed: 0, steps: 0, learningRate: 0,
            loss: mean(heldOut) { try $0(word: category) }, seconds: 0,
            training: mean(seen) { try $0(word: category) }))
      }
      let trained = precision == "bf16" ? try StableDiffusion(folder, dtype: .bfloat16) : base
      for seed in 0..<seeds {
        for representation in representations.split(separator: ",").map(String.init) {
          var c = try RunConfiguration.load(
            overrides: [
              ("data.train_data_dir", name), ("data.placeholder_token", "<\(name)>"),
              ("data.super_category_token", category),
              ("log.exp_name", name), ("optim.seed", String(seed)),
              ("model.representation", representation),
              ("eval.validation_prompts", "[]"),
            ], modelDefaults: { _ in defaults }
          ).configuration
          if let learningRate { (c.optim.learningRate, c.optim.scaleLr) = (learningRate, false) }
          let rate = c.optim.learningRateSchedule().base
          let ownSteps = c.optim.maxTrainSteps
          let marks =
            try at?.split(separator: ",").map {
              guard let steps = Int($0), steps > 0 else {
                throw ValidationError("--at: \($0) is not a number of steps")
              }
              return steps
            } ?? (representation == "ti" ? [ownSteps, 5 * ownSteps] : [ownSteps])
          let missing = marks.filter { steps in
            !lines.contains {
              $0.concept == name && $0.kind == representation && $0.seed == seed && $0.steps == steps
                && $0.learningRate == rate && $0.precision ?? "fp32" == precision
            }
          }
          guard let last = missing.max() else { continue }
          c.optim.maxTrainSteps = last
          c.log.saveSteps = 1_000_000
          let start = ContinuousClock.now
          let trainer = try Trainer(model: trained, examples: examples, configuration: c)
          let concept = try trainer.run(save: { _, _ in URL(filePath: "/dev/null") }) { event in
            guard case .step(let s) = event, missing.contains(s.step) else { return }
            let time = (ContinuousClock.now - start).components
            let concept = trainer.concept
            try record(
              Line(
                concept: name, kind: representation, seed: seed, steps: s.step, learningRate: rate,
                loss: mean(heldOut) { try $0(concept) },
                seconds: Double(time.seconds) + Double(time.attoseconds) * 1e-18,
                training: mean(seen) { try $0(concept) },
                precision: precision == "fp32" ? nil : precision))
          }
          if let keep {
            try FileManager.default.createDirectory(atPath: keep, withIntermediateDirectories: true)
            try concept.write(
              to: URL(filePath: "\(keep)/\(name)-\(representation)-\(seed).safetensors"))
          }
        }
      }
    }
    print(Self.table(lines))
  }

  /// A line at once, also into a file.
  private func say(_ line: String) { FileHandle.standardOutput.write(Data((line + "\n").utf8)) }

  static func examples() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: "Examples").filter { $0.hasSuffix(".json") }.map {
      String($0.dropLast(5))
    }.sorted()
  }

  private func read() throws -> [Line] {
    guard let text = try? String(contentsOfFile: results, encoding: .utf8) else { return [] }
    return try text.split(separator: "\n").map { try JSONDecoder().decode(Line.self, from: Data($0.utf8)) }
  }

  private func append(_ line: Line) throws {
    let encoder = JSONEncoder()
    encoder.outputFormatting = .sortedKeys
    if !FileManager.default.fileExists(atPath: results) { try Data().write(to: URL(filePath: results)) }
    // One write at the end of the file: two processes may share it.
    let file = open(results, O_WRONLY | O_APPEND)
    guard file >= 0 else { throw ValidationError("\(results) cannot be written") }
    try FileHandle(fileDescriptor: file, closeOnDealloc: true).write(
      contentsOf: encoder.encode(line) + Data("\n".utf8))
  }

  /// Per concept and kind of training: mean and standard deviation over the seeds of the change against the word.
  static func table(_ lines: [Line]) -> String {
    struct Kind: Hashable {
      var name: String, steps: Int, precision: String
      init(_ line: Line) { (name, steps, precision) = (line.kind, line.steps, line.precision ?? "fp32") }
    }
    let order = ["ti", "xti", "time", "space", "neti"]
    let kinds = Set(lines.filter { $0.kind != "word" }.map(Kind.init)).sorted {
      (order.firstIndex(of: $0.name) ?? 0, $0.steps, $0.precision)
        < (order.firstIndex(of: $1.name) ?? 0, $1.steps, $1.precision)
    }
    func change(_ part: String, _ loss: (Line) -> Double?) -> [String] {
      var rows = [
        "| \(part) | category word | "
          + kinds.map { "\($0.name), \($0.steps) steps, \($0.precision)" }.joined(separator: " | ") + " |",
        "|---|---|" + kinds.map { _ in "---|" }.joined(),
      ]
      var all: [Kind: [Double]] = [:]
      for name in Set(lines.map(\.concept)).sorted() {
        let own = lines.filter { $0.concept == name }
        guard let word = own.first(where: { $0.kind == "word" }).flatMap(loss) else { continue }
        var cells = [name, String(format: "%.4f", word)]
        for k in kinds {
          let values = own.filter { Kind($0) == k }.compactMap(loss)
          guard !values.isEmpty else {
            cells.append("–")
            continue
          }
          let mean = values.reduce(0, +) / Double(values.count)
          let spread =
            values.map { ($0 - mean) * ($0 - mean) }.reduce(0, +) / Double(max(values.count - 1, 1))
          all[k, default: []].append(mean / word - 1)
          cells.append(
            String(format: "%.4f (%+.1f %%", mean, (mean / word - 1) * 100)
              + (values.count > 1 ? String(format: ", ± %.1f)", spread.squareRoot() / word * 100) : ")"))
        }
        rows.append("| " + cells.joined(separator: " | ") + " |")
      }
      let means = kinds.map { k in
        all[k].map { String(format: "%+.1f %%", $0.reduce(0, +) / Double($0.count) * 100) } ?? "–"
      }
      return rows + ["| **mean change** | | " + means.joined(separator: " | ") + " |"]
    }
    return (change("held-out images", { $0.loss }) + [""] + change("images learned from", { $0.training }))
      .joined(separator: "\n")
  }
}
