import Diffusion
import Foundation
import Torch

// A concept from and to the files of the authors' code.
extension Concept {
  /// The authors' checkpoint as a concept, for the layers of Stable Diffusion 1.x, which are all that
  /// their code knows. Their file does not say which weights it was trained on, so the base has no hash.
  public init(authors file: AuthorsCheckpoint) throws {
    let s = file.settings
    let layers = LayerNames.pathsOfShortNames
    guard file.layers == layers.count else {
      throw NeTIError(
        "the checkpoint is for \(file.layers) cross-attention layers; Stable Diffusion 1.x has \(layers.count)"
      )
    }
    let model = s.model.pretrainedModelNameOrPath ?? RunConfiguration.authorsModel
    let isPath = model.hasPrefix("/") || model.hasPrefix(".")
    self.init(
      try file.mapper(),
      about: About(
        token: file.token, category: s.data.superCategoryToken,
        base: BaseIdentity(
          name: isPath ? URL(filePath: model).lastPathComponent : model,
          hiddenSize: file.embedding.count, layers: layers, tokenTableHash: ""),
        steps: file.steps ?? s.optim.maxTrainSteps, training: ""),
      placeholder: file.embedding)
  }

  /// This concept as the authors' code keeps it. Throws when their format cannot hold it.
  public func authorsCheckpoint() throws -> AuthorsCheckpoint {
    guard let mapper = representation as? NeTIMapper, mapper.kind == .neti else {
      throw NeTIError(
        "the authors' format holds a neti concept only, and this is \(representation.kind.rawValue); "
          + "`format diffusers` keeps its vectors")
    }
    guard mapper.vectorCount == 1 else {
      throw NeTIError(
        "the authors' format holds a concept of one vector, and \(about.token) has \(mapper.vectorCount)")
    }
    var s = RunConfiguration.authors
    s.data.placeholderToken = about.token
    s.data.superCategoryToken = about.category
    s.model.pretrainedModelNameOrPath = about.base.name
    s.optim.maxTrainSteps = max(about.steps, 1)
    if let run = try? RunConfiguration(resolvedYAML: about.training, name: "training") {
      s.data.learnableProperty = run.data.learnableProperty
      s.data.repeats = run.data.repeats
      s.data.resolution = run.data.resolution
      s.data.centerCrop = run.data.centerCrop
      // Theirs saves the rate that it trained with.
      s.optim.learningRate = run.optim.learningRateSchedule().base
      s.optim.scaleLr = run.optim.scaleLr
      s.optim.trainBatchSize = run.optim.trainBatchSize
      s.optim.gradientAccumulationSteps = run.optim.gradientAccumulationSteps
      s.optim.seed = run.optim.seed
    }
    return try AuthorsCheckpoint(mapper, settings: s, steps: about.steps, embedding: placeholder)
  }
}
