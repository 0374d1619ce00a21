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
  /// What images of other sizes it makes.
  let sides: ImageSides
  let defaults: ModelDefaults?
  /// Tells the concepts that fit from others.
  let base: String
  /// What is learned with where nobody says otherwise.
  let learning: LearningDefaults
  /// Tells how the model was opened, and the machine.
  private let machine: String
  /// What learning takes at its peak, in words: “0.4 GiB”.
  let memory: String?
  /// What an embedding of another program is for.
  let identity: BaseIdentity
  /// Bytes of each part in memory.
  let parts: [Part]

  struct Part: Encodable, Sendable { let name: String, bytes: Int }

  init(_ model: StableDiffusion, _ settings: StudioSettings) throws {
    name = model.folder.name
    side = model.resolution
    sides = ImageSides(of: model)
    defaults = try ModelDefaults.load(model.folder)
    identity = try model.baseIdentity
    parts = try Self.parts(model.folder, bytesEach: model.dtype.size)
    let what =
      identity.layers + [identity.tokenTableHash, String(model.clipSkip)] + model.loras.map(\.description)
    base = String(SHA256.hexadecimal(Array(what.joined(separator: "\n").utf8)).prefix(16))
    var c = RunConfiguration()
    if let batch = defaults?.trainBatchSize { c.optim.trainBatchSize = batch }
    if let passes = defaults?.gradientAccumulationSteps { c.optim.gradientAccumulationSteps = passes }
    machine = "\(model.device), \(model.dtype), \(Runtime.threads) threads"
    let usualSteps = defaults?.maxTrainSteps ?? c.optim.maxTrainSteps
    learning = LearningDefaults(
      c,
      of: { kind in
        let request = LearnRequest(
          title: "it", kind: "thing", quality: .good, steps: nil, seed: nil, isStyle: nil,
          representation: kind)
        return try settings.configuration(
          request.words(name: "it", folder: "/", usualSteps: usualSteps, modelWords: settings.modelWords))
      })
    memory = try? MemoryEstimate.text(
      MemoryEstimate(c, on: model, batch: c.optim.trainBatchSize, side: side, dtype: model.dtype).bytes)
  }

  /// What the networks of a model take in memory.
  static func parts(_ folder: ModelFolder, bytesEach: Int) throws -> [Part] {
    try folder.networks.map {
      Part(name: $0.title, bytes: try folder.parameterCount($0) * bytesEach)
    }
  }

  /// Tells what learning takes on this model, as it was opened, from others.
  func circumstances(_ c: RunConfiguration) -> String {
    circumstances(
      c.optim.trainBatchSize, c.optim.gradientAccumulationSteps, c.model.representation, c.model.numVectors)
  }

  /// The same of a run that nobody has changed.
  var circumstances: String {
    circumstances(learning.batch, learning.accumulation, learning.representation, learning.vectors)
  }

  private func circumstances(_ batch: Int, _ passes: Int, _ kind: RepresentationKind, _ vectors: Int)
    -> String
  {
    let usual = RunConfiguration().model
    let isUsual = (kind, vectors) == (usual.representation, usual.numVectors)
    return
      "\(base), \(side) pixels, \(batch) × \(passes)\(isUsual ? "" : ", \(vectors) × \(kind.rawValue)"), \(machine)"
  }

  /// Training steps that suit it.
  var usualSteps: Int { defaults?.maxTrainSteps ?? RunConfiguration().optim.maxTrainSteps }
}

/// What a model is learned with where nobody says otherwise.
struct LearningDefaults: Encodable, Sendable {
  let batch: Int
  let accumulation: Int
  let representation: RepresentationKind
  let representations: [String]
  let vectors: Int
  /// By the representation.
  let rates: [String: Rate]

  struct Rate: Encodable, Sendable {
    /// Of an update.
    let value: Double
    /// Whether a larger batch makes it larger.
    let growsWithBatch: Bool
  }

  /// - Parameters:
  ///   - c: a run on the model.
  ///   - configuration: of a run with a representation; what it refuses has no rate here.
  init(_ c: RunConfiguration, of configuration: (RepresentationKind) throws -> RunConfiguration) {
    (batch, accumulation) = (c.optim.trainBatchSize, c.optim.gradientAccumulationSteps)
    (representation, vectors) = (c.model.representation, c.model.numVectors)
    representations = RepresentationKind.allCases.map(\.rawValue)
    rates = RepresentationKind.allCases.reduce(into: [:]) { rates, kind in
      guard let optim = try? configuration(kind).optim else { return }
      rates[kind.rawValue] = Rate(value: optim.learningRateSchedule().base, growsWithBatch: optim.scaleLr)
    }
  }
}
