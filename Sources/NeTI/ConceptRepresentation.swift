public import Torch

/// What a concept is made of: something that gives an embedding for a timestep and a layer.
///
/// Everything above this seam (conditioning, training, files, generation) knows only this; a new
/// representation is one file and one case of `RepresentationKind`.
public protocol ConceptRepresentation: AnyObject {
  var kind: RepresentationKind { get }

  /// The size d of the embeddings: the hidden size of the text encoder.
  var hiddenSize: Int { get }
  /// Cross-attention layers of the base model.
  var layerCount: Int { get }

  /// Whether the embedding changes with the timestep, and with the layer.
  var dependsOnTime: Bool { get }
  var dependsOnLayer: Bool { get }

  /// Hidden units that nested dropout orders; nil when there is no dial.
  var truncationWidth: Int? { get }

  /// Trained tensors by name, in a fixed order, and those that are kept but not trained.
  var parameters: [(name: String, tensor: Tensor)] { get }
  var buffers: [(name: String, tensor: Tensor)] { get }

  /// The embeddings at (timesteps[i], layers[i]), both fp32 [N].
  ///
  /// `mask`, [N, truncationWidth], multiplies the last hidden layer; ignored where there is none.
  func embeddings(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> ConceptEmbedding
}

/// What stands for the concept: at the text encoder's input, and as a residual at its output.
public struct ConceptEmbedding {
  /// [N, d]
  public let base: Tensor
  /// [N, d], the direction of the textual bypass; nil without one.
  public let bypass: Tensor?

  public init(base: Tensor, bypass: Tensor?) {
    self.base = base
    self.bypass = bypass
  }
}

/// The representations that there are.
public enum RepresentationKind: String, Codable, Sendable, CaseIterable {
  /// A mapper of time and layer: NeTI.
  case neti
  /// One learned vector: textual inversion (https://arxiv.org/abs/2208.01618).
  case ti
  /// One learned vector per layer: extended textual inversion, P+ (https://arxiv.org/abs/2303.09522).
  case xti
  /// The mapper of time alone, and of the layer alone: the paper's ablations.
  case time
  case space

  public var usesMapper: Bool { self == .neti || self == .time || self == .space }
}
