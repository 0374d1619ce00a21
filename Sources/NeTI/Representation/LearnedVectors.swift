import Files
import Diffusion
public import Torch

/// Textual inversion (one learned vector) and extended textual inversion (one per layer).
///
/// Gal et al., *An Image is Worth One Word* (https://arxiv.org/abs/2208.01618); Voynov et al., *P+*
/// (https://arxiv.org/abs/2303.09522). Both start at the category's word, without norm, bypass or
/// dropout.
public final class LearnedVectors: ConceptRepresentation {
  public let kind: RepresentationKind
  public let layerCount: Int
  /// [1, d] for `ti`, [L, d] for `xti`.
  public let vectors: Tensor

  /// Every vector starts as `row` [d].
  public convenience init(_ kind: RepresentationKind, startingAt row: Tensor, layerCount: Int) throws {
    let n = kind == .xti ? layerCount : 1
    try self.init(kind, vectors: row.reshaped([1, -1]).repeatInterleaved(n, 0), layerCount: layerCount)
  }

  public convenience init(
    startingAs asked: RepresentationSettings, row: Tensor, layerCount: Int, keys: DrawKeys
  ) throws {
    try self.init(asked.kind, startingAt: row, layerCount: layerCount)
  }

  public convenience init(_ stored: StoredRepresentation) throws {
    guard let vectors = stored.tensors["vectors"], stored.tensors.count == 1 else {
      throw NeTIError(
        "a \(stored.kind.rawValue) concept holds one tensor called vectors, and this one \(stored.tensors.count): "
          + stored.tensors.keys.sorted().prefix(3).map(quoted).joined(separator: ", "))
    }
    try self.init(stored.kind, vectors: vectors, layerCount: stored.layerCount)
  }

  public init(_ kind: RepresentationKind, vectors: Tensor, layerCount: Int) throws {
    let n = kind == .xti ? layerCount : 1
    guard kind == .ti || kind == .xti else {
      throw NeTIError("representation \(kind.rawValue) is not made of learned vectors")
    }
    guard vectors.rank == 2, vectors.size(0) == n else {
      throw NeTIError("the tensor vectors has shape \(vectors.shape); expected [\(n), hidden size]")
    }
    self.kind = kind
    self.layerCount = layerCount
    self.vectors = try vectors.to(.float32, copy: true)
  }

  public static func dependsOnLayer(_ kind: RepresentationKind) -> Bool { kind == .xti }

  public var hiddenSize: Int { vectors.size(1) }
  public var dependsOnTime: Bool { false }
  public var truncationWidth: Int? { nil }
  public var parameters: [(name: String, tensor: Tensor)] { [("vectors", vectors)] }
  public var buffers: [(name: String, tensor: Tensor)] { [] }

  public func embeddings(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> ConceptEmbedding {
    let rows =
      try kind == .xti ? layers.to(.int64) : .zeros([layers.count], dtype: .int64, device: layers.device)
    return ConceptEmbedding(base: try vectors.indexSelected(0, rows), bypass: nil)
  }
}
