public import Torch

/// Extended textual inversion (`xti`): one learned vector v_l ∈ R^d for each cross-attention layer, or
/// several one after another, the same at every timestep.
///
/// Voynov et al., *P+: Extended Textual Conditioning* (https://arxiv.org/abs/2303.09522).
public final class ExtendedTextualInversion: LearnedVectors {
  public let layerCount: Int
  /// [L, d], or [L, n, d] for n > 1.
  public let vectors: Tensor

  /// - Parameter vectors: [L, d] or [L, n, d], n in `RepresentationSettings.vectorCounts`.
  public init(vectors: Tensor, layerCount: Int) throws {
    let single = vectors.rank == 3 && vectors.size(1) == 1
    self.vectors = try Self.checked(
      single ? vectors.squeezed(1) : vectors,
      "[\(layerCount), hidden size] or [\(layerCount), 2 to 16, hidden size]"
    ) {
      (2...3).contains($0.count) && $0[0] == layerCount
        && ($0.count == 2 || RepresentationSettings.vectorCounts.contains($0[1]))
    }
    self.layerCount = layerCount
  }

  public convenience init(
    startingAs asked: RepresentationSettings, rows: [Tensor], layerCount: Int, keys: RandomKeys
  ) throws {
    let row = try Tensor.concatenated(rows, 0).reshaped([1, -1])
    let all = try row.repeatInterleaved(layerCount * asked.vectorCount, 0)
    try self.init(vectors: all.reshaped([layerCount, asked.vectorCount, -1]), layerCount: layerCount)
  }

  public convenience init(_ stored: StoredRepresentation) throws {
    try self.init(vectors: Self.vectors(in: stored), layerCount: stored.layerCount)
  }

  public static func dependsOnLayer(_ kind: RepresentationKind) -> Bool { true }
  public var kind: RepresentationKind { .xti }
  public var vectorCount: Int { vectors.rank == 3 ? vectors.size(1) : 1 }

  public func embeddings(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> ConceptEmbedding {
    let base = try vectors.reshaped([layerCount, -1]).indexSelected(0, layers.to(.int64))
    return ConceptEmbedding(base: try base.reshaped([layers.count, vectorCount, hiddenSize]), bypass: nil)
  }
}
