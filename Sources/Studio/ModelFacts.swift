import Diffusion
import Files
import Foundation
import NeTI

/// What is known of the base model without its thread.
struct ModelFacts: Sendable {
  let name: String
  /// Pixels of a side of what is learned from and generated.
  let side: Int
  let defaults: ModelDefaults?
  /// Tells the concepts that fit from others.
  let base: String
  let tokenizer: CLIPTokenizer
  /// What learning takes at its peak, in words: “0.4 GiB”.
  let memory: String?

  init(_ model: StableDiffusion) throws {
    name = model.folder.name
    side = model.resolution
    defaults = try ModelDefaults.load(model.folder)
    tokenizer = model.tokenizer
    let identity = try model.baseIdentity
    let what =
      identity.layers + [identity.tokenTableHash, String(model.clipSkip)] + model.loras.map(\.description)
    base = String(SHA256.hexadecimal(Array(what.joined(separator: "\n").utf8)).prefix(16))
    var c = RunConfiguration()
    if let batch = defaults?.trainBatchSize { c.optim.trainBatchSize = batch }
    memory = try? MemoryEstimate.text(
      MemoryEstimate(c, on: model, batch: c.optim.trainBatchSize, side: side, dtype: model.dtype).bytes)
  }

  /// Training steps that suit it.
  var usualSteps: Int { defaults?.maxTrainSteps ?? RunConfiguration().optim.maxTrainSteps }

  /// Refuses a caption in which the concept does not stand exactly once.
  func check(caption: String) throws {
    do {
      _ = try ConceptPrompter(tokenizer, [.init(token: "<concept>")])(caption, kind: "caption")
    } catch let e as NeTIError {
      throw StudioError(e.message)
    }
  }
}
