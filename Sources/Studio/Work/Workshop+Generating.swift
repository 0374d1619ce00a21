import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import Torch

/// Images that are asked for.
final class GenerateJob: @unchecked Sendable {
  let id: ID
  let order: Order
  private let lock = NSLock()
  private var imagesDone: Int
  private var canBeReplaced: Bool
  private var shown = Shown()
  private var stop = false
  // The thread that computes has these to itself.
  /// What is still to be generated, the next first; nil before it was looked at.
  fileprivate var parts: [Workshop.Part]?
  fileprivate var warnings: [String] = []
  /// Steps of the parts that are done, and how their images looked last.
  fileprivate var stepsDone = 0
  fileprivate var finished: [String] = []
  /// The last that was kept.
  fileprivate var latest: Gallery.Entry?

  /// What pages see of it.
  struct Shown: Encodable, Sendable {
    var step = 0
    var total = 0
    /// How each image looks so far, as addresses that hold the image themselves.
    var previews: [String] = []
  }

  init(_ unfinished: Waiting.Unfinished, isReplaceable: Bool) {
    (id, order) = (unfinished.id, unfinished.order)
    imagesDone = max(0, unfinished.done)
    canBeReplaced = isReplaceable
  }

  /// What is left of it when the studio ends now.
  var unfinished: Waiting.Unfinished { lock.withLock { .init(id: id, order: order, done: imagesDone) } }
  fileprivate func finish(_ images: Int) { lock.withLock { imagesDone += images } }

  /// Whether a newer one of its kind takes its place, as one that a dial asked for.
  var isReplaceable: Bool { lock.withLock { canBeReplaced } }
  /// It was asked for by itself, too.
  func insist() { lock.withLock { canBeReplaced = false } }

  var view: Shown { lock.withLock { shown } }
  var isStopping: Bool { lock.withLock { stop } }

  func show(_ body: (inout Shown) -> Void) { lock.withLock { body(&shown) } }
  func requestStop() { lock.withLock { stop = true } }
}

extension Workshop {
  private struct Stopped: Error {}
  /// A stop of what is learned is not to wait for the image at hand: it is made anew.
  private struct GivesWay: Error {}

  /// Generates the next part of an order and keeps its images; what fails is told to the pages.
  ///
  /// - Parameter learning: what is being learned meanwhile; a part is then one image.
  func generate(_ job: GenerateJob, beside learning: LearnJob? = nil) {
    changes.mark(.work)
    var isDone = true
    var problem: String?
    do {
      try generatePart(of: job, beside: learning)
      isDone = job.parts?.isEmpty ?? true
    } catch is Stopped {
    } catch is GivesWay {
      isDone = false
    } catch { problem = "\(error)" }
    update {
      $0.isDrawing = false
      // A stop may have come within the last moment.
      guard isDone || job.isStopping else { return }
      $0.generating = nil
      $0.problem = problem
      $0.warnings = job.warnings
    }
  }

  /// Something to generate at once, and what its images say beside what all images say.
  struct Part {
    var generation: Generation
    var metadata: [String: String] = [:]
    /// Where an image is in a table; nil for those that are in none.
    var place: ((GeneratedImage) -> (row: String, column: String))?

    /// As `Generation.parts` has it.
    func cut(singly: Bool) throws -> [Part] {
      try generation.parts(singly: singly).map {
        var part = self
        part.generation = $0
        return part
      }
    }
  }

  private func generatePart(of job: GenerateJob, beside learning: LearnJob?) throws {
    if job.isStopping { return }
    if job.parts == nil { try begin(job, singly: learning != nil) }
    guard var part = job.parts?.first else { return }
    // It may have begun before the learning did.
    if learning != nil, part.generation.settings.seeds.count > 1 {
      let single = try part.cut(singly: true)
      job.parts?.replaceSubrange(0..<1, with: single)
      part = single[0]
    }
    var latest: [String] = []
    let images = try part.generation(
      progress: { progress in
        if job.isStopping { throw Stopped() }
        if learning?.isStopping == true { throw GivesWay() }
        job.show { $0.step = job.stepsDone + progress.stepsDone }
      },
      watching: { denoising in
        latest = glimpses(denoising)
        job.show { $0.previews = job.finished + latest }
        changes.mark(.work)
      })
    try keep(images, of: part, job)
    job.finish(images.count)
    job.stepsDone += part.generation.totalSteps
    job.finished = (job.finished + latest).suffix(GenerateRequest.mostSeeds)
    job.parts?.removeFirst()
  }

  /// All is checked before anything is computed.
  private func begin(_ job: GenerateJob, singly: Bool) throws {
    let parts = try parts(of: job.order)
    job.warnings = parts.flatMap(\.generation.warnings).reduce(into: []) {
      if !$0.contains($1) { $0.append($1) }
    }
    let missing = try rest(parts.flatMap { try $0.cut(singly: singly) }, after: job.unfinished.done)
    job.show { $0.total = missing.reduce(0) { $0 + $1.generation.totalSteps } }
    job.parts = missing
  }

  /// What is left when so many images are done. Amid those that are denoised together they were made one by one.
  private func rest(_ parts: [Part], after done: Int) throws -> [Part] {
    var left = done
    return try parts.flatMap { part -> [Part] in
      let gone = min(left, part.generation.imageCount)
      left -= gone
      guard gone > 0 else { return [part] }
      return gone == part.generation.imageCount ? [] : Array(try part.cut(singly: true).dropFirst(gone))
    }
  }

  /// Of an order that is stopped, what is finished is kept. The first seed stands first, however many come at once;
  /// tables are in the order in which they were made.
  private func keep(_ images: [GeneratedImage], of part: Part, _ job: GenerateJob) throws {
    let common = settings.metadata(part.generation, model).merging(part.metadata) { $1 }
    for image in images {
      var own = common.merging(image.variant.names.metadata) { $1 }
      own["prompt"] = image.prompt
      own["seed"] = String(image.seed)
      if let place = part.place?(image) {
        own["sheet"] = job.id.description
        (own["row"], own["column"]) = (place.row, place.column)
      }
      job.latest = try gallery.add(
        image.image, settings: own, behind: part.place == nil ? job.latest : nil)
    }
  }

  /// Small images of unfinished latents.
  private func glimpses(_ denoising: Denoising) -> [String] {
    // Tried once; images come without it.
    if preview == nil { preview = .some(try? fittedPreview()) }
    guard case .some(.some(let preview)) = preview else { return [] }
    let images = try? preview(denoising.latents).map { small in
      let image = try Image(width: small.width, height: small.height, pixels: small.rgb)
      return "data:image/png;base64," + Data(try image.png()).base64EncodedString()
    }
    return images ?? []
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
