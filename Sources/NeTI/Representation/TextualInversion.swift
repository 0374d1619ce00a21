public import Torch

/// Textual inversion (`ti`): one learned vector v ∈ R^d, or several one after another, the same at every timestep and
/// in every layer.
///
/// Gal et al., *An Image is Worth One Word* (https://arxiv.org/abs/2208.01618).
public final class TextualInversion: LearnedVectors {
  public let layerCount: Int
  /// [n, d]
  public let vectors: Tensor

  /// - Parameter vectors: [n, d], n in `RepresentationSettings.vectorCounts`.
  public init(vectors: Tensor, layerCount: Int) throws {
    self.vectors = try Self.checked(vectors, "[1 to 16, hidden size]") {
      $0.count == 2 && RepresentationSettings.vectorCounts.contains($0[0])
    }
    self.layerCount = layerCount
  }

  public convenience init(
    startingAs asked: RepresentationSettings, rows: [Tensor], layerCount: Int, keys: RandomKeys
  ) throws {
    // As diffusers', kohya's and A1111's code: all vectors start as the word's. They part because they stand in
    // different places.
    let row = try Tensor.concatenated(rows, 0).reshaped([1, -1])
    try self.init(vectors: row.repeatInterleaved(asked.vectorCount, 0), layerCount: layerCount)
  }

  public convenience init(_ stored: StoredRepresentation) throws {
    try self.init(vectors: Self.vectors(in: stored), layerCount: stored.layerCount)
  }

  public static func dependsOnLayer(_ kind: RepresentationKind) -> Bool { false }
  public var kind: RepresentationKind { .ti }
  public var vectorCount: Int { vectors.size(0) }

  public func embeddings(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> ConceptEmbedding {
    let rows = try Tensor.zeros([layers.count], dtype: .int64, device: layers.device)
    let base = try vectors.reshaped([1, -1]).indexSelected(0, rows)
    return ConceptEmbedding(base: try base.reshaped([layers.count, vectorCount, hiddenSize]), bypass: nil)
  }
}
