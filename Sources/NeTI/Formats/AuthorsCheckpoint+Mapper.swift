public import Torch

extension AuthorsCheckpoint {
  /// The mapper of this checkpoint.
  public func mapper() throws -> NeTIMapper {
    var wanted = NeTIMapper.Settings(hiddenSize: embedding.size(0), layerCount: layers)
    wanted.usesPositionalEncoding = settings.usesPositionalEncoding
    wanted.timeAnchors = settings.timeAnchors
    wanted.sigmaTime = settings.sigmaT
    wanted.sigmaLayer = settings.sigmaL
    wanted.outputBypass = settings.outputBypass
    wanted.targetNorm = settings.targetNorm
    wanted.usesNestedDropout = settings.usesNestedDropout
    wanted.nestedDropoutProbability = settings.nestedDropoutProbability
    return try NeTIMapper(
      wanted, tensors: tensors.filter { $0.key != "frequencies" }, frequencies: tensors["frequencies"])
  }

  /// A checkpoint that holds `mapper`; its settings of the model replace those in `settings`.
  ///
  /// `embedding` is the placeholder's row, [d]. Throws for a representation that the authors' code does
  /// not have.
  public init(
    _ mapper: NeTIMapper, settings: AuthorsSettings, steps: Int?, embedding: Tensor
  ) throws {
    guard mapper.kind == .neti else {
      throw NeTIError(
        "the authors' format holds the representation neti only, not \(mapper.kind.rawValue)")
    }
    var settings = settings
    settings.usesPositionalEncoding = mapper.settings.usesPositionalEncoding
    settings.timeAnchors = mapper.settings.timeAnchors
    settings.sigmaT = mapper.settings.sigmaTime
    settings.sigmaL = mapper.settings.sigmaLayer
    settings.outputBypass = mapper.settings.outputBypass
    settings.targetNorm = mapper.settings.targetNorm
    settings.normalizesMapperOutput = mapper.settings.targetNorm != nil
    settings.usesNestedDropout = mapper.settings.usesNestedDropout
    settings.nestedDropoutProbability = mapper.settings.nestedDropoutProbability
    let tensors = Dictionary(
      uniqueKeysWithValues: (mapper.parameters + mapper.buffers).map { ($0.name, $0.tensor) })
    self.init(
      settings: settings, steps: steps, embedding: embedding, tensors: tensors, layers: mapper.layerCount)
  }
}
