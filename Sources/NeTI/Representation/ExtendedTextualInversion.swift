public import Torch

/// Extended textual inversion (`xti`): one learned vector v_l ∈ R^d for each cross-attention layer, the same
/// at every timestep.
///
/// Voynov et al., *P+: Extended Textual Conditioning* (https://arxiv.org/abs/2303.09522).
public final class ExtendedTextualInversion: LearnedVectors {
  public let layerCount: Int
  /// [L, d]
  public let vectors: Tensor

  /// - Parameter vectors: [L, d].
  public init(vectors: Tensor, layerCount: Int) throws {
    self.vectors = try Self.checked(vectors, rows: layerCount)
    self.layerCount = layerCount
  }

  public convenience init(
    startingAs asked: RepresentationSettings, rows: [Tensor], layerCount: Int, keys: RandomKeys
  ) throws {
    let row = try Tensor.concatenated(rows, 0).reshaped([1, -1])
    try self.init(vectors: row.repeatInterleaved(layerCount, 0), layerCount: layerCount)
  }

  public convenience init(_ stored: StoredRepresentation) throws {
    try self.init(vectors: Self.vectors(in: stored), layerCount: stored.layerCount)
  }

  public static func dependsOnLayer(_ kind: RepresentationKind) -> Bool { true }
  public var kind: RepresentationKind { .xti }

  public func embeddings(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> ConceptEmbedding {
    ConceptEmbedding(base: try vectors.indexSelected(0, layers.to(.int64)), bypass: nil)
  }
}
