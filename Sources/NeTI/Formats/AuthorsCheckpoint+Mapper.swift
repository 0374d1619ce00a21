public import Torch

extension AuthorsCheckpoint {
  /// The mapper of this checkpoint.
  public func mapper() throws -> NeTIMapper {
    let wanted = NeTIMapper.Settings(
      settings.model.representationSettings, hiddenSize: embedding.size(0), layerCount: layers,
      targetNorm: settings.model.targetNorm)
    return try NeTIMapper(
      wanted, tensors: tensors.filter { $0.key != "frequencies" }, frequencies: tensors["frequencies"])
  }

  /// A checkpoint that holds `mapper`; its settings of the model replace those in `settings`.
  ///
  /// `embedding` is the placeholder's row, [d]. Throws for a representation that the authors' code does
  /// not have.
  public init(
    _ mapper: NeTIMapper, settings: RunConfiguration, steps: Int?, embedding: Tensor
  ) throws {
    guard mapper.kind == .neti else {
      throw NeTIError(
        "the authors' format holds the representation neti only, not \(mapper.kind.rawValue)")
    }
    var settings = settings
    settings.model.usePositionalEncoding = mapper.settings.usesPositionalEncoding
    settings.model.numPeTimeAnchors = mapper.settings.timeAnchors
    settings.model.peSigmas.sigmaT = mapper.settings.sigmaTime
    settings.model.peSigmas.sigmaL = mapper.settings.sigmaLayer
    settings.model.outputBypass = mapper.settings.outputBypass
    settings.model.targetNorm = mapper.settings.targetNorm
    settings.model.normalizeMapperOutput = mapper.settings.targetNorm != nil
    settings.model.useNestedDropout = mapper.settings.usesNestedDropout
    settings.model.nestedDropoutProb = mapper.settings.nestedDropoutProbability
    let tensors = Dictionary(
      uniqueKeysWithValues: (mapper.parameters + mapper.buffers).map { ($0.name, $0.tensor) })
    self.init(
      settings: settings, steps: steps, embedding: embedding, tensors: tensors, layers: mapper.layerCount)
  }
}
