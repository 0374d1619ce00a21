import Diffusion
import Files
import Foundation
public import Torch

/// What a concept is made of: something that gives an embedding for a timestep and a layer.
///
/// Everything above this seam (conditioning, training, files, generation) knows only this. A new
/// representation is one file, with a type that conforms, and a case of `RepresentationKind` that names it.
public protocol ConceptRepresentation: AnyObject {
  /// At its start.
  ///
  /// - Parameters:
  ///   - asked: what the run chose.
  ///   - rows: the category's token embedding in each text encoder, [d] each.
  ///   - layerCount: cross-attention layers of the base model.
  ///   - keys: where random weights come from.
  init(startingAs asked: RepresentationSettings, rows: [Tensor], layerCount: Int, keys: RandomKeys) throws

  /// As a concept's file holds it. Throws a `NeTIError` that names what is missing, misshapen or unknown.
  init(_ stored: StoredRepresentation) throws

  /// Whether the embedding of a `kind` of this type changes with the layer.
  static func dependsOnLayer(_ kind: RepresentationKind) -> Bool

  var kind: RepresentationKind { get }

  /// The size d of the embeddings: the hidden size of the text encoder, of two together.
  var hiddenSize: Int { get }
  /// The hidden size of each text encoder, where the representation is made for these; nil where it does not matter.
  var encoderSizes: [Int]? { get }
  /// Cross-attention layers of the base model.
  var layerCount: Int { get }
  /// The vectors n that stand for the concept, each in a position of its own, one after another.
  var vectorCount: Int { get }

  /// Whether the embedding changes with the timestep.
  var dependsOnTime: Bool { get }

  /// Hidden units that nested dropout orders; nil when it cannot be truncated.
  var truncationWidth: Int? { get }

  /// Trained tensors by name, in a fixed order, and those that are kept but not trained.
  var parameters: [(name: String, tensor: Tensor)] { get }
  var buffers: [(name: String, tensor: Tensor)] { get }

  /// The embeddings at (timesteps[i], layers[i]), both fp32 [N].
  ///
  /// `mask`, [N, truncationWidth], multiplies the last hidden layer; ignored where there is none.
  func embeddings(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> ConceptEmbedding

  /// What a concept's file holds of it beside the tensors, if anything.
  var storedSettings: (any Encodable)? { get }

  /// What there is to tell of it beside its kind and size, each by a short name.
  var facts: [(name: String, value: String)] { get }
  /// How much each hidden unit contributes, [truncationWidth] in the order of nested dropout; nil where
  /// there are no hidden units.
  func unitImportance() throws -> [Double]?
}

extension ConceptRepresentation {
  public var dependsOnLayer: Bool { Self.dependsOnLayer(kind) }
  public var encoderSizes: [Int]? { nil }
  public var storedSettings: (any Encodable)? { nil }
  public var facts: [(name: String, value: String)] { [] }
  public func unitImportance() throws -> [Double]? { nil }
}

/// A representation as a concept's file holds it.
public struct StoredRepresentation {
  public let kind: RepresentationKind
  /// Vectors that stand for the concept, 1 … 16.
  public let vectorCount: Int
  /// Everything trained and kept, by name, in fp32; the concept alone owns it.
  public let tensors: [String: Tensor]
  /// Cross-attention layers of the base model.
  public let layerCount: Int
  /// `storedSettings` as JSON, and the file and key that it stands in.
  let settings: (file: String, key: String, json: String?)

  /// What `storedSettings` was.
  public func settings<T: Decodable>(_ type: T.Type) throws -> T {
    guard let json = settings.json else {
      throw NeTIError("the entry \(settings.key) is missing from its metadata")
    }
    return try JSONFile.decode(
      type, from: Data(json.utf8), name: "\(settings.file), metadata \(settings.key)")
  }
}

/// What stands for the concept, in the n positions of its placeholder: at the text encoder's input, and as a residual
/// at its output.
public struct ConceptEmbedding {
  /// [N, n, d]
  public let base: Tensor
  /// [N, n, d], the direction of the textual bypass; nil without one.
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

  /// What a concept of this kind is made of.
  package var type: any ConceptRepresentation.Type {
    switch self {
    case .neti, .time, .space: NeTIMapper.self
    case .ti: TextualInversion.self
    case .xti: ExtendedTextualInversion.self
    }
  }

  /// Whether the embedding changes with the layer.
  public var dependsOnLayer: Bool { type.dependsOnLayer(self) }
}
