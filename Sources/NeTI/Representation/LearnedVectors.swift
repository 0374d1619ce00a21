import Files
public import Torch

/// What textual inversion and extended textual inversion share: learned vectors that start at the category's
/// word, without norm, bypass or dropout.
public protocol LearnedVectors: ConceptRepresentation {
  /// The last dimension is d.
  var vectors: Tensor { get }
}

extension LearnedVectors {
  public var hiddenSize: Int { vectors.size(vectors.rank - 1) }
  public var dependsOnTime: Bool { false }
  public var truncationWidth: Int? { nil }
  public var parameters: [(name: String, tensor: Tensor)] { [("vectors", vectors)] }
  public var buffers: [(name: String, tensor: Tensor)] { [] }

  /// A copy in fp32 of `vectors`, of which `isSound` must hold.
  static func checked(_ vectors: Tensor, _ expected: String, _ isSound: ([Int]) -> Bool) throws -> Tensor {
    guard isSound(vectors.shape) else {
      throw NeTIError("the tensor vectors has shape \(vectors.shape); expected \(expected)")
    }
    return try vectors.to(.float32, copy: true)
  }

  /// The only tensor of a concept's file.
  static func vectors(in stored: StoredRepresentation) throws -> Tensor {
    guard let vectors = stored.tensors["vectors"], stored.tensors.count == 1 else {
      throw NeTIError(
        "a \(stored.kind.rawValue) concept holds one tensor called vectors, and this one \(stored.tensors.count): "
          + stored.tensors.keys.sorted().prefix(3).map(quoted).joined(separator: ", "))
    }
    return vectors
  }
}
