public import Torch

/// Textual inversion (`ti`): one learned vector v ∈ R^d, the same at every timestep and in every layer.
///
/// Gal et al., *An Image is Worth One Word* (https://arxiv.org/abs/2208.01618).
public final class TextualInversion: LearnedVectors {
  public let layerCount: Int
  /// [1, d]
  public let vectors: Tensor

  /// - Parameter vectors: [1, d].
  public init(vectors: Tensor, layerCount: Int) throws {
    self.vectors = try Self.checked(vectors, rows: 1)
    self.layerCount = layerCount
  }

  public convenience init(
    startingAs asked: RepresentationSettings, rows: [Tensor], layerCount: Int, keys: RandomKeys
  ) throws {
    try self.init(vectors: .concatenated(rows, 0).reshaped([1, -1]), layerCount: layerCount)
  }

  public convenience init(_ stored: StoredRepresentation) throws {
    try self.init(vectors: Self.vectors(in: stored), layerCount: stored.layerCount)
  }

  public static func dependsOnLayer(_ kind: RepresentationKind) -> Bool { false }
  public var kind: RepresentationKind { .ti }

  public func embeddings(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> ConceptEmbedding {
    let rows = try Tensor.zeros([layers.count], dtype: .int64, device: layers.device)
    return ConceptEmbedding(base: try vectors.indexSelected(0, rows), bypass: nil)
  }
}
