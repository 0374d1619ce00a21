import Diffusion
import Foundation
import Torch

/// What a run begins with: a checkpoint's concept, the concept that the configuration names, or a new one.
struct TrainingStart {
  private let configuration: RunConfiguration
  /// Nil for a new one.
  private let given: Concept?
  private let steps: Int

  /// Reads the concept that the configuration names, where there is no checkpoint.
  init(_ configuration: RunConfiguration, resuming checkpoint: Checkpoint?) throws {
    steps = checkpoint?.concept.about.steps ?? 0
    given =
      try checkpoint?.concept
      ?? configuration.model.mapperCheckpointPath.map { try Concept.open(URL(filePath: $0)) }
    // What the concept says of itself, not what would have been made.
    var own = configuration
    if let representation = given?.representation {
      own.model.representation = representation.kind
      own.model.numVectors = representation.vectorCount
    }
    self.configuration = own
  }

  /// The vectors of the concept of this run.
  var vectorCount: Int { given?.representation.vectorCount ?? configuration.model.numVectors }

  /// The concept of this run; a new one starts as the category's word.
  ///
  /// - Parameter notice: receives one line for each thing the user should know.
  func concept(
    _ model: StableDiffusion, _ category: CategoryToken, _ keys: RandomKeys, _ notice: (String) -> Void
  ) throws -> Concept {
    guard !model.isInpainting else {
      throw NeTIError(
        "\(model.folder.name) is an inpainting model, on which no concept can be learned; learn it on the model for "
          + "text to image that it was made from, and generate on this one")
    }
    let base = try model.baseIdentity
    for warning in try given?.warnings(on: model) ?? [] { notice(warning) }
    let about = Concept.About(
      token: configuration.data.placeholderToken, category: configuration.data.superCategoryToken, base: base,
      steps: steps, training: configuration.withoutPaths().resolvedYAML())
    if let given { return Concept(given.representation, about: about, placeholder: given.placeholder) }
    let rows = try zip(model.textEncoders.members, category.ids).map { encoder, id in
      try encoder.tokenEmbedding.selected(0, id).to(.float32, device: .cpu, copy: true)
    }
    let asked = configuration.model
    return Concept(
      try asked.representation.type.init(
        startingAs: asked.representationSettings, rows: rows, layerCount: base.layers.count, keys: keys),
      about: about,
      placeholder: try .concatenated(rows, 0))
  }
}
