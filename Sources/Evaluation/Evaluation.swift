public import Diffusion
import Files
public import Foundation
import Imaging
import NeTI
import Torch

/// The paper's measurement: images of concepts under many prompts, compared with images of the thing and with the
/// prompts, in CLIP's space.
///
/// What is done is kept, image by image (`EvaluationResults`): the same evaluation goes on where it was, and several
/// processes can share it.
public final class Evaluation {
  public let subjects: [EvaluationSubject]
  public let prompts: [String]
  public let seeds: [UInt64]
  /// Of the concepts that can be truncated; all is always measured.
  public let truncations: [Int]
  public let settings: EvaluationProtocol
  public let output: URL
  /// Lines that the user should read before waiting.
  public private(set) var warnings: [String] = []
  private let model: StableDiffusion
  private let generationSettings: GenerationSettings
  private let scorer: SimilarityScorer
  /// The folder of an evaluation by another CLIP, whose images are judged instead of generated.
  private let generated: URL?

  /// Checks everything; nothing large is computed yet.
  ///
  /// - Parameters:
  ///   - settings: of the images; its seeds are those of each prompt.
  ///   - precision: what the model computes in, for the results.
  ///   - output: the folder of results.
  ///   - generated: the folder of the same evaluation by another CLIP: its images are judged instead of generated.
  /// - Throws: one line that says which concept, prompt or file is not right.
  public init(
    _ model: StableDiffusion, _ clip: CLIP, subjects: [EvaluationSubject], prompts: EvaluationPrompts?,
    settings: GenerationSettings, precision: String, truncations: [Int], output: URL,
    generated: URL? = nil
  ) throws {
    try model.requireTextToImage()
    try EvaluationSubject.checkOneBase(subjects)
    try EvaluationFolder.require(output)
    self.model = model
    self.subjects = subjects
    self.prompts = try (prompts ?? clip.ownPrompts() ?? .paper).texts
    self.truncations = truncations
    self.output = output
    self.generated = generated
    seeds = settings.seeds
    generationSettings = settings
    self.settings = try EvaluationProtocol(model, clip, settings, precision: precision)
    scorer = SimilarityScorer(clip)
    if !truncations.isEmpty, subjects.allSatisfy({ $0.concept?.representation.truncationWidth == nil }) {
      warnings.append("`truncation` has no effect: none of these concepts has an order of units")
    }
    for subject in subjects {
      let generation = try generation(subject, self.prompts, seeds: seeds, self.truncations(of: subject))
      for line in generation.warnings + subject.references.warnings where !warnings.contains(line) {
        warnings.append(line)
      }
    }
    // Before any image is generated.
    for subject in subjects {
      _ = try contents(of: subject)
      _ = try earlier(subject)
    }
  }

  /// The truncations of a subject: all of it, and those asked for where its units have an order.
  func truncations(of subject: EvaluationSubject) -> [Int?] {
    guard let width = subject.concept?.representation.truncationWidth else { return [nil] }
    return [nil] + truncations.filter { $0 != width }
  }

  /// What images a subject needs, in the order in which they are generated.
  func keys(of subject: EvaluationSubject) -> [ImageScore.Key] {
    prompts.flatMap { prompt in
      truncations(of: subject).flatMap { k in seeds.map { .init(prompt: prompt, seed: $0, truncation: k) } }
    }
  }

  /// What was measured of a subject until now.
  func contents(of subject: EvaluationSubject) throws -> EvaluationResults.Contents {
    try EvaluationResults.read(folder(of: subject), header(subject)) ?? .init()
  }

  func folder(of subject: EvaluationSubject) -> URL { folder(of: subject, in: output) }

  private func folder(of subject: EvaluationSubject, in output: URL) -> URL {
    output.appending(
      path: "\(EvaluationFolder.conceptsName)/\(subject.folderName)", directoryHint: .isDirectory)
  }

  /// What the earlier evaluation measured of a subject, and where; nil without one.
  private func earlier(_ subject: EvaluationSubject) throws -> (
    folder: URL, contents: EvaluationResults.Contents
  )? {
    guard let generated else { return nil }
    let folder = folder(of: subject, in: generated)
    guard let contents = try EvaluationResults.read(folder, judgedByAnyCLIP: header(subject)) else {
      throw EvaluationError(
        "\(generated.path) holds no images of \(subject.title); `generated` is the folder of an evaluation of the "
          + "same concept files under the same method names")
    }
    guard keys(of: subject).contains(where: { contents.images[$0] != nil }) else {
      throw EvaluationError(
        "\(generated.path) holds no image of \(subject.title) under one of these prompts and seeds; give the "
          + "same as then")
    }
    return (folder, contents)
  }

  private func header(_ s: EvaluationSubject) -> EvaluationResults.Header {
    .init(
      settings: settings, token: s.token, category: s.category, method: s.method, steps: s.steps,
      concept: s.identity, trained: s.references.trainedIdentity, heldOut: s.references.heldOutIdentity)
  }

  /// Images that are still to be generated for a subject.
  public func imagesLeft(_ subject: EvaluationSubject) throws -> Int {
    let done = try contents(of: subject).images
    return keys(of: subject).count { done[$0] == nil }
  }

  // MARK: Work

  /// Generates and measures what is left of a subject.
  ///
  /// - Parameter progress: gets the images that were finished in this call, with fractions; throws to stop.
  /// - Throws: `RunFolderInUse` when another process works on it.
  public func run(_ subject: EvaluationSubject, progress: (Double) throws -> Void) throws {
    let results = try EvaluationResults(folder(of: subject), header(subject))
    var done = 0
    let earlier = try earlier(subject)
    for prompt in prompts {
      for k in truncations(of: subject) {
        func missing() -> [UInt64] {
          seeds.filter { results.contents.images[.init(prompt: prompt, seed: $0, truncation: k)] == nil }
        }
        for seed in missing() {
          let key = ImageScore.Key(prompt: prompt, seed: seed, truncation: k)
          guard let earlier, let file = earlier.contents.images[key]?.file else { continue }
          let url = earlier.folder.appending(path: file)
          guard FileManager.default.fileExists(atPath: url.path) else { continue }
          let image = try Image.load(url)
          let scores = try scorer.scores([image], of: prompt, category: subject.category, subject.references)
          try keep(image, scores[0], key, in: results)
          done += 1
          try progress(Double(done))
        }
        for batch in try batches(missing()) {
          let generation = try generation(subject, [prompt], seeds: batch, [k])
          let images = try generation {
            try progress(Double(done) + Double($0.stepsDone) / Double($0.stepsTotal) * Double(batch.count))
          }
          let scores = try scorer.scores(
            images.map(\.image), of: prompt, category: subject.category, subject.references)
          for (image, scores) in zip(images, scores) {
            try keep(image.image, scores, .init(prompt: prompt, seed: image.seed, truncation: k), in: results)
          }
          done += batch.count
        }
      }
    }
    if results.contents.heldOut == nil, !subject.references.heldOut.isEmpty {
      try results.add(heldOutScore(subject, earlier?.contents.heldOut))
    }
  }

  /// Seeds that are generated at once: as many as fit into a batch, and at least two, which share their conditioning.
  private func batches(_ seeds: [UInt64]) throws -> [[UInt64]] {
    guard !seeds.isEmpty else { return [] }
    var settings = generationSettings
    settings.seeds = seeds
    let count = max(2, try TextToImagePipeline(model, settings).batches.map(\.count).max() ?? 1)
    return stride(from: 0, to: seeds.count, by: count).map { Array(seeds[$0..<min($0 + count, seeds.count)]) }
  }

  /// A generation as `neti generate` makes it.
  private func generation(
    _ subject: EvaluationSubject, _ prompts: [String], seeds: [UInt64], _ truncations: [Int?]
  ) throws -> Generation {
    var request = ConceptGenerator.Request(
      prompts: subject.concept == nil
        ? prompts.map { EvaluationPrompts.prompt($0, with: subject.category) } : prompts)
    request.settings = generationSettings
    request.settings.seeds = seeds
    request.truncations = truncations
    let concepts = subject.concept.map { [ConceptGenerator.Named($0)] } ?? []
    return try ConceptGenerator(model, concepts: concepts).prepare(
      request, .init(embedding: "concept FILE", lora: "lora FILE:WEIGHT"))
  }

  /// Writes an image, then its line.
  private func keep(
    _ image: Image, _ scores: SimilarityScorer.Scores, _ key: ImageScore.Key, in results: EvaluationResults
  ) throws {
    let number = (prompts.firstIndex(of: key.prompt) ?? 0) + 1
    let hash = SHA256.hexadecimal(Array(key.prompt.utf8)).prefix(6)
    let file = "p\(number)-\(hash)\(key.truncation.map { "-t\($0)" } ?? "")-s\(key.seed).png"
    try AtomicFile.write(
      Data(
        image.png(text: [
          ("prompt", key.prompt), ("seed", "\(key.seed)"),
          ("truncation", key.truncation.map(String.init) ?? "all"),
        ])), to: results.folder.appending(path: file))
    try results.add(
      ImageScore(
        key: key, trained: scores.trained, heldOut: scores.heldOut, category: scores.category,
        omitted: scores.omitted, file: file))
  }

  /// Noises per timestep of the held-out loss.
  private static let noises = 2

  /// - Parameter earlier: by another CLIP; losses do not depend on it.
  private func heldOutScore(_ subject: EvaluationSubject, _ earlier: HeldOutScore?) throws -> HeldOutScore {
    let ceiling = try scorer.ceiling(subject.references)
    if let earlier { return HeldOutScore(loss: earlier.loss, wordLoss: earlier.wordLoss, ceiling: ceiling) }
    let losses = try subject.references.heldOut.map { file in
      let image = try Image.load(file)
      let loss = try HeldOutLoss(
        model, image: TrainingImages.prepare(image, side: model.resolution, crop: true), noises: Self.noises)
      let word = try loss(word: subject.category)
      return (own: try subject.concept.map { try loss($0) } ?? word, word: word)
    }
    let n = Double(losses.count)
    return HeldOutScore(
      loss: losses.map(\.own).reduce(0, +) / n, wordLoss: losses.map(\.word).reduce(0, +) / n,
      ceiling: ceiling)
  }
}
