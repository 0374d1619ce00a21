import Foundation
import Diffusion
import Torch

// A concept from and to the files of the authors' code.
extension Concept {
  /// The authors' checkpoint as a concept. Their file does not say which weights it was trained on, so
  /// the base has no hash.
  public init(authors file: AuthorsCheckpoint) throws {
    let s = file.settings
    let count = s.usesPositionalEncoding ? file.layers : LayerNames.pathsOfShortNames.count
    guard count == LayerNames.pathsOfShortNames.count, file.layers == count else {
      throw NeTIError(
        "the checkpoint is for \(file.layers) cross-attention layers; Stable Diffusion 1.x has \(LayerNames.pathsOfShortNames.count)"
      )
    }
    let isPath = s.pretrainedModel.hasPrefix("/") || s.pretrainedModel.hasPrefix(".")
    self.init(
      try file.mapper(),
      about: About(
        token: s.placeholderToken, category: s.superCategoryToken,
        base: BaseIdentity(
          name: isPath ? URL(filePath: s.pretrainedModel).lastPathComponent : s.pretrainedModel,
          hiddenSize: file.embedding.count, layers: LayerNames.pathsOfShortNames, tokenTableHash: ""),
        steps: file.steps ?? s.maxTrainSteps, training: ""),
      placeholder: file.embedding)
  }

  /// This concept as the authors' code keeps it. Throws when their format cannot hold it.
  public func authorsCheckpoint() throws -> AuthorsCheckpoint {
    guard let mapper = representation as? NeTIMapper, mapper.kind == .neti else {
      throw NeTIError(
        "the authors' format holds a neti concept only, and this is \(representation.kind.rawValue)")
    }
    var s = AuthorsSettings(placeholderToken: about.token)
    s.superCategoryToken = about.category
    s.pretrainedModel = about.base.name
    s.maxTrainSteps = about.steps
    if let yaml = try? RunConfiguration(resolvedYAML: about.training, name: "training") {
      let o = yaml.optim
      s.learningRate = o.learningRateSchedule().base
      s.scalesLearningRate = o.scaleLr
      s.trainBatchSize = o.trainBatchSize
      s.gradientAccumulationSteps = o.gradientAccumulationSteps
      s.seed = o.seed
      s.repeats = yaml.data.repeats
      s.learnableProperty = yaml.data.learnableProperty.rawValue
      s.centerCrop = yaml.data.centerCrop
      s.resolution = yaml.data.resolution ?? s.resolution
    }
    return try AuthorsCheckpoint(mapper, settings: s, steps: about.steps, embedding: placeholder)
  }
}
