package import Torch

/// softmax(q kᵀ / √(C/heads)) v for each head.
///
/// - Parameters:
///   - q: [B, L, C]; k and v: [B, S, C]. `heads` divides C.
///   - upcast: compute in fp32 whatever the dtype, as `upcast_attention` asks.
/// - Returns: [B, L, C]
package func attention(_ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int, upcast: Bool = false) throws
  -> Tensor
{
  if upcast, q.dtype != .float32 {
    return try attention(q.to(.float32), k.to(.float32), v.to(.float32), heads: heads).to(q.dtype)
  }
  let (batch, length, channels) = (q.size(0), q.size(1), q.size(2))
  let size = channels / heads
  func split(_ x: Tensor) throws -> Tensor {
    try x.reshaped([batch, x.size(1), heads, size]).transposed(1, 2)
  }
  let mixed = try scaledDotProductAttention(split(q), split(k), split(v))
  return try mixed.transposed(1, 2).reshaped([batch, length, channels])
}

/// Multi-head attention with its projections; keys and values may come from different sequences.
struct AttentionLayer {
  private let query: Linear
  private let key: Linear
  private let value: Linear
  private let output: Linear
  private let heads: Int
  private let upcast: Bool

  /// - Parameters:
  ///   - contextChannels: the size of what keys and values are made from; nil in self-attention.
  ///   - bias: whether queries, keys and values have one (VAE).
  ///   - pointwise: old files keep the matrices as 1×1 convolutions.
  init(
    _ channels: Int, contextChannels: Int? = nil, heads: Int, bias: Bool = false, pointwise: Bool = false,
    upcast: Bool = false, _ weights: Weights
  ) throws {
    let context = contextChannels ?? channels
    query = try Linear(channels, channels, bias: bias, pointwise: pointwise, weights / "to_q")
    key = try Linear(context, channels, bias: bias, pointwise: pointwise, weights / "to_k")
    value = try Linear(context, channels, bias: bias, pointwise: pointwise, weights / "to_v")
    output = try Linear(channels, channels, pointwise: pointwise, weights / "to_out" / 0)
    self.heads = heads
    self.upcast = upcast
  }

  /// Self-attention over x [B, L, C].
  func callAsFunction(_ x: Tensor) throws -> Tensor { try self(x, keys: x, values: x) }

  /// x [B, L, C]; keys from the one sequence and values from the other, both [B, S, contextChannels].
  func callAsFunction(_ x: Tensor, keys: Tensor, values: Tensor) throws -> Tensor {
    try output(attention(query(x), key(keys), value(values), heads: heads, upcast: upcast))
  }
}
