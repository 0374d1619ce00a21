package import Torch

/// A layer of CLIP's transformers, of text as of images: h + attention(LN(h)), then h + MLP(LN(h)).
package struct CLIPLayer {
  /// The sizes that all layers of a tower share, and what they compute between their matrices, as the tower's
  /// configuration has them.
  package struct Shape: Sendable, Equatable {
    package let hiddenSize: Int
    package let intermediateSize: Int
    package let heads: Int
    package let activation: CLIPTextConfiguration.Activation
    package let layerNormEpsilon: Double

    /// - Parameter standard: sizes for keys that are left out; nil where none may be.
    package init(
      _ json: ConfigurationReader, default standard: (hidden: Int, intermediate: Int, heads: Int)? = nil
    ) throws {
      hiddenSize = try json.integer("hidden_size", default: standard?.hidden, in: 1...16_384)
      intermediateSize = try json.integer(
        "intermediate_size", default: standard?.intermediate, in: 1...65_536)
      heads = try json.integer("num_attention_heads", default: standard?.heads, in: 1...256)
      guard hiddenSize.isMultiple(of: heads) else {
        throw DiffusionError("“hidden_size” \(hiddenSize) is no multiple of “num_attention_heads” \(heads)")
      }
      activation = try json.choice("hidden_act", json.value("hidden_act", default: "quick_gelu"))
      layerNormEpsilon = try json.number("layer_norm_eps", default: 1e-5, in: 0...1)
    }
  }

  private let norm1: CLIPNorm
  private let norm2: CLIPNorm
  private let query: Linear
  private let key: Linear
  private let value: Linear
  private let output: Linear
  private let up: Linear
  private let down: Linear
  private let shape: Shape

  /// Throws a `DiffusionError` when a tensor is missing or misshapen.
  package init(_ shape: Shape, _ weights: Weights) throws {
    let d = shape.hiddenSize
    let attention = weights / "self_attn"
    self.shape = shape
    norm1 = try CLIPNorm(shape, weights / "layer_norm1")
    norm2 = try CLIPNorm(shape, weights / "layer_norm2")
    query = try Linear(d, d, attention / "q_proj")
    key = try Linear(d, d, attention / "k_proj")
    value = try Linear(d, d, attention / "v_proj")
    output = try Linear(d, d, attention / "out_proj")
    up = try Linear(d, shape.intermediateSize, weights / "mlp" / "fc1")
    down = try Linear(shape.intermediateSize, d, weights / "mlp" / "fc2")
  }

  /// The next hidden states of h [N, S, d].
  ///
  /// - Parameters:
  ///   - mask: added to the scores; nil where every position sees all.
  ///   - before: keys and values of positions before h, [N, heads, P, d / heads].
  ///   - keep: gets the keys and values of h.
  package func callAsFunction(
    _ h: Tensor, mask: Tensor? = nil, before: (keys: Tensor, values: Tensor)? = nil,
    keep: (_ keys: Tensor, _ values: Tensor) -> Void = { _, _ in }
  ) throws -> Tensor {
    let x = try norm1(h)
    let k = try split(key(x))
    let v = try split(value(x))
    keep(k, v)
    let attended = try scaledDotProductAttention(
      split(query(x)), join(before?.keys, k), join(before?.values, v), mask: mask)
    let middle = try h + output(attended.transposed(1, 2).reshaped(h.shape))
    let raised = try up(norm2(middle))
    let activated = try shape.activation == .gelu ? raised.gelu() : raised.quickGELU()
    return try middle + down(activated)
  }

  /// [N, S, d] to [N, heads, S, d / heads].
  private func split(_ x: Tensor) throws -> Tensor {
    try x.reshaped([x.size(0), x.size(1), shape.heads, -1]).transposed(1, 2)
  }

  private func join(_ before: Tensor?, _ own: Tensor) throws -> Tensor {
    guard let before else { return own }
    let shape = [own.size(0)] + before.shape.dropFirst()
    return try .concatenated([before.expanded(shape), own], 2)
  }
}

/// A LayerNorm of CLIP's transformers.
package struct CLIPNorm {
  private let weight: Tensor
  private let bias: Tensor
  private let epsilon: Double

  /// Throws a `DiffusionError` when a tensor is missing or misshapen.
  package init(_ shape: CLIPLayer.Shape, _ weights: Weights) throws {
    weight = try weights.tensor("weight", [shape.hiddenSize])
    bias = try weights.tensor("bias", [shape.hiddenSize])
    epsilon = shape.layerNormEpsilon
  }

  /// Over the last dimension.
  package func callAsFunction(_ x: Tensor) throws -> Tensor { try x.layerNorm(weight, bias, eps: epsilon) }
}
