import Files
public import Torch

/// `text_encoder/config.json` of a CLIP text transformer, or of a whole CLIP, which has it under `text_config`.
public struct CLIPTextConfiguration: Decodable, Sendable, Equatable {
  /// Layers that the file has.
  public let layers: Int
  /// The longest sequence, 77 in Stable Diffusion.
  public let maxPositions: Int
  public let vocabularySize: Int
  let shape: CLIPLayer.Shape
  /// The size of the pooled output, where a model uses it.
  public let projectionSize: Int
  /// What of the encoder a model uses; its files do not say it.
  public internal(set) var output = Output()

  /// What of a text encoder's states a model uses.
  public struct Output: Sendable, Equatable {
    /// Layers behind the one whose states are used.
    var skippedLayers = 0
    /// Whether these states go through the final LayerNorm.
    var isNormed = true
    /// Whether the last state of the end token is used, too, normed and projected.
    var isPooled = false
  }

  /// Layers up to the one whose states are used.
  public var stateLayers: Int { layers - output.skippedLayers }

  /// d, the size of a token's embedding and of every hidden state.
  public var hiddenSize: Int { shape.hiddenSize }
  /// The size inside each layer's two-layer perceptron.
  public var intermediateSize: Int { shape.intermediateSize }
  /// Attention heads; each has `hiddenSize / heads` channels.
  public var heads: Int { shape.heads }
  public var activation: Activation { shape.activation }
  public var layerNormEpsilon: Double { shape.layerNormEpsilon }

  /// `hidden_act`.
  public enum Activation: String, Sendable, CaseIterable {
    /// x · sigmoid(1.702 x): OpenAI's CLIP, Stable Diffusion 1.
    case quickGELU = "quick_gelu"
    /// The exact one: OpenCLIP, Stable Diffusion 2.
    case gelu
  }

  /// Refuses sizes that no model has before any arithmetic is done with them.
  public init(from decoder: any Decoder) throws {
    let whole = try ConfigurationReader(decoder)
    let json = try whole.nested("text_config") ?? whole
    shape = try CLIPLayer.Shape(json)
    layers = try json.integer("num_hidden_layers", in: 1...256)
    // The attention is quadratic in the positions.
    maxPositions = try json.integer("max_position_embeddings", in: 1...4096)
    vocabularySize = try json.integer("vocab_size", in: 1...(1 << 21))
    projectionSize = try json.integer("projection_dim", default: 512, in: 1...16_384)
  }
}

/// The keys and values of tokens that come before everything that changes.
///
/// The mask is causal, so what stands before a placeholder does not depend on it: these positions
/// run through the encoder once, and every variant of the rest attends to them.
public struct CLIPPrefix {
  /// P, the number of positions.
  public let length: Int
  /// The hidden states, as `hiddenStates` gives them, [B, P, d].
  public let states: Tensor
  /// Per layer, [B, heads, P, d / heads].
  let keys: [Tensor]
  let values: [Tensor]

  /// The prefix of row `index[n]` for each n; `index` is int64 [N].
  public func rows(_ index: Tensor) throws -> CLIPPrefix {
    CLIPPrefix(
      length: length, states: try states.indexSelected(0, index),
      keys: try keys.map { try $0.indexSelected(0, index) },
      values: try values.map { try $0.indexSelected(0, index) })
  }
}

/// The text transformer of CLIP (Radford et al. 2021), as `transformers.CLIPTextModel` computes it.
///
/// Pre-LayerNorm layers, a causal mask and no padding mask. The weights are frozen; results are
/// differentiable with respect to the input embeddings.
public final class CLIPTextEncoder {
  public let configuration: CLIPTextConfiguration
  /// The token table [V, d], in the file's dtype: few rows are ever looked at, and 150 MB need not become
  /// this process's own.
  public let tokenEmbedding: Tensor
  /// What the encoder computes in.
  private let dtype: DType
  private let positionEmbedding: Tensor
  private let layers: [CLIPLayer]
  /// Nil where nothing uses it.
  private let lastNorm: CLIPNorm?
  private let projection: Linear?

  /// - Parameter weights: named without the prefix `text_model.` (see `currentName`).
  /// - Throws: `DiffusionError` when a tensor is missing, misshapen or left over.
  public init(_ configuration: CLIPTextConfiguration, weights: Weights) throws {
    let c = configuration
    self.configuration = c
    let embeddings = weights / "embeddings"
    tokenEmbedding = try embeddings.tensor(
      "token_embedding.weight", [c.vocabularySize, c.hiddenSize], asStored: true)
    dtype = weights.dtype
    positionEmbedding = try embeddings.tensor(
      "position_embedding.weight", [c.maxPositions, c.hiddenSize])
    let output = c.output
    let used = output.isPooled ? c.layers : c.stateLayers
    layers = try (0..<used).map { try CLIPLayer(c.shape, weights / "encoder" / "layers" / $0) }
    let norm = weights / "final_layer_norm"
    lastNorm = try output.isNormed || output.isPooled ? CLIPNorm(c.shape, norm) : nil
    projection =
      try output.isPooled
      ? Linear(c.hiddenSize, c.projectionSize, bias: false, weights / "text_projection") : nil
    // The file may have more layers than the configuration says, or than are used.
    (weights / "encoder" / "layers").leaveOutItems(from: used)
    if lastNorm == nil { norm.leaveOut() }
    try weights.finish()
  }

  /// The name of a tensor without the prefix that most files have; nil for what files hold and the
  /// hidden states do not depend on.
  public static func currentName(_ name: String) -> String? {
    let short = projectedName(name)
    return short == projectionName ? nil : short
  }

  /// The same, with the projection of the pooled output.
  static func projectedName(_ name: String) -> String? {
    let prefix = "text_model."
    let short = name.hasPrefix(prefix) ? String(name.dropFirst(prefix.count)) : name
    return unused.contains(short) || short.hasPrefix("vision_model.") ? nil : short
  }

  static let projectionName = "text_projection.weight"
  /// A constant that old files hold, and what a whole CLIP has beside its text transformer.
  private static let unused: Set<String> = [
    "embeddings.position_ids", "visual_projection.weight", "logit_scale",
  ]

  /// Rows of the token table, without positions: int64 [N, S] to [N, S, d].
  public func embed(_ ids: Tensor) throws -> Tensor {
    try tokenEmbedding.embedding(ids.to(device: tokenEmbedding.device)).to(dtype)
  }

  /// The hidden states of the layer that is used, *before* the final LayerNorm, [N, S', d].
  ///
  /// - Parameters:
  ///   - inputEmbeddings: token embeddings [N, S', d], from position `prefix.length` on; their
  ///     position embeddings are added here.
  ///   - prefix: the positions before them, of N rows, or of one row that all share.
  /// - Throws: `DiffusionError` when the sequence is longer than the model's.
  public func hiddenStates(_ inputEmbeddings: Tensor, prefix: CLIPPrefix? = nil) throws -> Tensor {
    try run(inputEmbeddings, prefix: prefix) { _, _ in }
  }

  /// Runs constant tokens once: embeddings [B, P, d] of positions 0..<P, P ≥ 1.
  public func prefix(_ inputEmbeddings: Tensor) throws -> CLIPPrefix {
    var keys: [Tensor] = []
    var values: [Tensor] = []
    let states = try run(inputEmbeddings, prefix: nil) {
      keys.append($0)
      values.append($1)
    }
    return CLIPPrefix(length: states.size(1), states: states, keys: keys, values: values)
  }

  /// What the cross-attention gets of hidden states [N, S, d]: these behind the final LayerNorm, or as they are
  /// where the model takes them from an earlier layer (SDXL).
  public func output(_ h: Tensor) throws -> Tensor {
    configuration.output.isNormed ? try lastNorm?(h) ?? h : h
  }

  /// What the cross-attention gets of int64 ids [N, S], [N, S, d].
  public func encode(_ ids: Tensor) throws -> Tensor {
    try output(hiddenStates(embed(ids)))
  }

  /// The pooled output: the last layer's state at each sequence's end token, normed and projected, [N, p].
  ///
  /// - Parameters:
  ///   - inputEmbeddings: token embeddings [N, S, d].
  ///   - ends: where the first end token of each sequence stands.
  /// - Throws: `DiffusionError` where the model does not use it.
  public func pooled(_ inputEmbeddings: Tensor, ends: [Int]) throws -> Tensor {
    guard let lastNorm, let projection else {
      throw DiffusionError("text encoder: this model uses no pooled output")
    }
    let h = try run(inputEmbeddings, prefix: nil, through: layers.count) { _, _ in }
    let (rows, length) = (h.size(0), h.size(1))
    guard ends.count == rows, ends.allSatisfy((0..<length).contains) else {
      throw DiffusionError("text encoder: end tokens at \(ends) in states \(h.shape)")
    }
    let at = try Tensor(ends.enumerated().map { $0 * length + $1 }).to(device: h.device)
    let states = try h.reshaped([rows * length, -1]).indexSelected(0, at)
    return try projection(lastNorm(states))
  }

  private func run(
    _ inputEmbeddings: Tensor, prefix: CLIPPrefix?, through count: Int? = nil,
    keep: (_ keys: Tensor, _ values: Tensor) -> Void
  ) throws -> Tensor {
    let start = prefix?.length ?? 0
    let d = configuration.hiddenSize
    guard inputEmbeddings.rank == 3, inputEmbeddings.size(2) == d, inputEmbeddings.size(1) >= 1 else {
      throw DiffusionError(
        "text encoder: input embeddings of shape \(inputEmbeddings.shape), expected [N, S, \(d)]")
    }
    let end = start + inputEmbeddings.size(1)
    guard end <= configuration.maxPositions else {
      throw DiffusionError(
        "text encoder: \(end) positions; the model has \(configuration.maxPositions)")
    }
    if let prefix, ![1, inputEmbeddings.size(0)].contains(prefix.states.size(0)) {
      throw DiffusionError(
        "text encoder: a prefix of \(prefix.states.size(0)) rows for \(inputEmbeddings.size(0)) sequences")
    }
    var h = try inputEmbeddings + positionEmbedding.sliced(0, start..<end)
    let mask = try Self.causalMask(start..<end, like: h)
    for (i, layer) in layers.prefix(count ?? configuration.stateLayers).enumerated() {
      let before = prefix.map { (keys: $0.keys[i], values: $0.values[i]) }
      h = try layer(h, mask: mask, before: before, keep: keep)
    }
    return h
  }

  /// [1, S', end]: 0 where a key is not after its query, −∞ where it is.
  private static func causalMask(_ queries: Range<Int>, like h: Tensor) throws -> Tensor {
    let n = queries.upperBound
    let rows = try Tensor.range(Double(queries.lowerBound), to: Double(n)).unsqueezed(1)
    let columns = try Tensor.range(to: Double(n)).unsqueezed(0)
    let shape = [queries.count, n]
    let mask = try rows.less(than: columns).choose(.full(shape, -.infinity), .zeros(shape))
    return try mask.unsqueezed(0).to(h.dtype, device: h.device)
  }
}
