import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import Torch

/// Images that are asked for.
final class GenerateJob: @unchecked Sendable {
  let id = ID()
  let request: GenerateRequest
  private let lock = NSLock()
  private var shown = Shown()
  private var stop = false

  /// What pages see of it.
  struct Shown: Encodable, Sendable {
    var step = 0
    var total = 0
    /// How each image looks so far, as addresses that hold the image themselves.
    var previews: [String] = []
  }

  init(_ request: GenerateRequest) { self.request = request }

  var view: Shown { lock.withLock { shown } }
  var isStopping: Bool { lock.withLock { stop } }

  func show(_ body: (inout Shown) -> Void) { lock.withLock { body(&shown) } }
  func requestStop() { lock.withLock { stop = true } }
}

extension Workshop {
  private struct Stopped: Error {}

  /// Generates and keeps the images; what fails is told to the pages.
  func generate(_ job: GenerateJob) {
    changes.mark(.work)
    var problem: String?
    var warnings: [String] = []
    do { try run(job) { warnings = $0 } } catch is Stopped {} catch { problem = "\(error)" }
    update {
      $0.generating = nil
      $0.problem = problem
      $0.warnings = warnings
    }
  }

  private func run(_ job: GenerateJob, warn: ([String]) -> Void) throws {
    let concepts = try concepts(of: job.request)
    let only = concepts.count == 1 ? concepts[0].name : nil
    var request = job.request.request(only: only, usual: facts.defaults)
    if !concepts.isEmpty { request.truncations = [job.request.truncation] }
    let generator = try ConceptGenerator(
      model, concepts: concepts.map { .init(name: only == nil ? $0.name : "", $0.concept) })
    let generation = try generator.prepare(request)
    warn(generation.warnings)
    let images = try generation(
      progress: { progress in
        if job.isStopping { throw Stopped() }
        job.show { ($0.step, $0.total) = (progress.stepsDone, progress.stepsTotal) }
        changes.mark(.work)
      },
      watching: { denoising in
        let glimpses = try glimpses(denoising)
        job.show { $0.previews = glimpses }
      })
    var metadata = settings.metadata(generation, model)
    metadata["concept"] = concepts.map { $0.concept.about.token }.joined(separator: " ")
    metadata["names"] = concepts.map(\.name).joined(separator: " ")
    for image in images.reversed() {
      var own = metadata.merging(image.variant.names.metadata) { $1 }
      own["prompt"] = image.prompt
      own["seed"] = String(image.seed)
      try gallery.add(image.image, settings: own)
    }
  }

  /// The concepts whose names stand in the request's texts.
  private func concepts(of request: GenerateRequest) throws -> [(name: String, concept: Concept)] {
    let names = request.names
    return try library.all.filter { concept, progress in
      concept.plan.map { names.contains($0.name) && $0.base == facts.base } ?? false
        && progress.state == .learned
    }.map { concept, _ in
      (concept.plan?.name ?? "", try Concept(contentsOf: library.file(of: concept.id)))
    }
  }

  /// Small images of unfinished latents.
  private func glimpses(_ denoising: Denoising) throws -> [String] {
    if preview == nil { preview = try fittedPreview() }
    guard let preview else { return [] }
    return try preview(denoising.latents).map { small in
      let image = try Image(width: small.width, height: small.height, pixels: small.rgb)
      return "data:image/png;base64," + Data(try image.png()).base64EncodedString()
    }
  }

  /// Fitted to the pictures that come with neti.
  private func fittedPreview() throws -> LatentPreview? {
    let side = model.resolution
    let images = settings.examples.prefix(side > 256 ? 2 : 8).compactMap { example in
      try? ImageFolder.list(example.folder).images.first.map(Image.load)
    }
    guard !images.isEmpty else { return nil }
    let numbers = try images.flatMap { try TrainingImages.prepare($0, side: side, crop: true).floats() }
    return try LatentPreview(model, images: Tensor(numbers, [images.count, 3, side, side]))
  }
}
