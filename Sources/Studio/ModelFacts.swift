import Diffusion
import Files
import Foundation
import NeTI
import Torch

/// What is known of the base model without its thread.
struct ModelFacts: Sendable {
  let name: String
  /// Pixels of a side of what is learned from and generated.
  let side: Int
  let defaults: ModelDefaults?
  /// Tells the concepts that fit from others.
  let base: String
  /// Tells what learning takes on this model, as it was opened, from others.
  let circumstances: String
  /// What learning takes at its peak, in words: “0.4 GiB”.
  let memory: String?
  /// Settings of a run that the studio leaves alone, by their names.
  let trainingDefaults: [String: String]
  /// What an embedding of another program is for.
  let identity: BaseIdentity
  /// Bytes of each part in memory.
  let parts: [Part]

  struct Part: Encodable, Sendable { let name: String, bytes: Int }

  init(_ model: StableDiffusion) throws {
    name = model.folder.name
    side = model.resolution
    defaults = try ModelDefaults.load(model.folder)
    identity = try model.baseIdentity
    parts = try Self.parts(model.folder, bytesEach: model.dtype.size)
    let what =
      identity.layers + [identity.tokenTableHash, String(model.clipSkip)] + model.loras.map(\.description)
    base = String(SHA256.hexadecimal(Array(what.joined(separator: "\n").utf8)).prefix(16))
    var c = RunConfiguration()
    if let batch = defaults?.trainBatchSize { c.optim.trainBatchSize = batch }
    if let passes = defaults?.gradientAccumulationSteps { c.optim.gradientAccumulationSteps = passes }
    circumstances =
      "\(base), \(side) pixels, \(c.optim.trainBatchSize) × \(c.optim.gradientAccumulationSteps), \(model.device), "
      + "\(model.dtype), \(Runtime.threads) threads"
    trainingDefaults = [
      "batch": String(c.optim.trainBatchSize), "accumulation": String(c.optim.gradientAccumulationSteps),
      "representation": c.model.representation.rawValue,
    ]
    memory = try? MemoryEstimate.text(
      MemoryEstimate(c, on: model, batch: c.optim.trainBatchSize, side: side, dtype: model.dtype).bytes)
  }

  /// What the networks of a model take in memory.
  static func parts(_ folder: ModelFolder, bytesEach: Int) throws -> [Part] {
    try folder.networks.map {
      Part(name: $0.title, bytes: try folder.parameterCount($0) * bytesEach)
    }
  }

  /// Training steps that suit it.
  var usualSteps: Int { defaults?.maxTrainSteps ?? RunConfiguration().optim.maxTrainSteps }
}
