import CTorch

// Stateless layers, named as `torch.nn.functional` names them.
extension Tensor {
  /// x · sigmoid(x).
  public func silu() throws -> Tensor { try unary(CT_SILU) }
  /// 1 / (1 + e⁻ˣ).
  public func sigmoid() throws -> Tensor { try unary(CT_SIGMOID) }
  /// The hyperbolic tangent.
  public func tanh() throws -> Tensor { try unary(CT_TANH) }
  /// max(x, 0).
  public func relu() throws -> Tensor { try unary(CT_RELU) }
  /// x · tanh(log(1 + eˣ)).
  public func mish() throws -> Tensor { try unary(CT_MISH) }
  /// x · Φ(x), by the error function.
  public func gelu() throws -> Tensor { try unary(CT_GELU) }
  /// x · Φ(x), by the approximation with tanh.
  public func geluTanh() throws -> Tensor { try unary(CT_GELU_TANH) }
  /// x · sigmoid(1.702 x), CLIP's activation.
  public func quickGELU() throws -> Tensor { try unary(CT_QUICK_GELU) }
  /// x where it is positive, else `slope` · x.
  public func leakyReLU(_ slope: Double = 0.01) throws -> Tensor {
    try Tensor(ct_leaky_relu(handle, slope))
  }
  /// eˣ over its sum along `dim`.
  public func softmax(_ dim: Int) throws -> Tensor { try Tensor(ct_softmax(handle, Int64(dim))) }

  /// The matrix product of the last two dimensions; the ones before broadcast.
  public func matmul(_ other: Tensor) throws -> Tensor {
    try Tensor(ct_matmul(handle, other.handle))
  }

  /// x Wᵀ + b; `weight` is [out, in].
  public func linear(_ weight: Tensor, _ bias: Tensor? = nil) throws -> Tensor {
    try Tensor(ct_linear(handle, weight.handle, bias?.handle))
  }

  /// x [N, C, H, W], weight [out, C, k, k].
  ///
  /// Where neither weight nor bias requires a gradient, x is not kept for the backward pass, and 3×3
  /// filters in fp32 on the CPU run by Winograd's algorithm: equal but for rounding (1e-5), in half
  /// the time.
  public func conv2d(_ weight: Tensor, _ bias: Tensor? = nil, stride: Int = 1, padding: Int = 0)
    throws -> Tensor
  {
    try Tensor(
      ct_conv2d(handle, weight.handle, bias?.handle, Int64(stride), Int64(padding)))
  }

  /// Normalises groups of channels of x [N, C, …] to mean 0 and variance 1, then scales and shifts each channel.
  ///
  /// - Parameters:
  ///   - groups: how many groups; divides C.
  ///   - weight: scales each channel, [C].
  ///   - bias: shifts each channel, [C].
  ///   - eps: added to the variance.
  ///   - silu: `silu` of the result; frozen weights given, only x is kept for the backward pass.
  public func groupNorm(
    _ groups: Int, _ weight: Tensor?, _ bias: Tensor?, eps: Double, silu: Bool = false
  ) throws -> Tensor {
    try Tensor(ct_group_norm(handle, Int64(groups), weight?.handle, bias?.handle, eps, silu))
  }

  /// GEGLU between two matrices, W₂ (a · gelu(g)) + b₂ with [a; g] the halves of W₁ x + b₁: Shazeer, *GLU Variants
  /// Improve Transformer*.
  ///
  /// - Parameters:
  ///   - up: W₁ [2 D, C] and b₁ [2 D], both frozen; x is [.., C].
  ///   - down: W₂ [E, D] and b₂ [E], both frozen.
  public func geglu(
    up: (weight: Tensor, bias: Tensor?), down: (weight: Tensor, bias: Tensor?)
  ) throws -> Tensor {
    try Tensor(
      ct_geglu(
        handle, up.weight.handle, up.bias?.handle, down.weight.handle, down.bias?.handle))
  }

  /// Over the last dimensions, as many as `weight` has.
  public func layerNorm(_ weight: Tensor, _ bias: Tensor? = nil, eps: Double = 1e-5) throws
    -> Tensor
  {
    try Tensor(ct_layer_norm(handle, weight.handle, bias?.handle, eps))
  }

  /// Rows of this table [n, d] at int64 `indices`.
  public func embedding(_ indices: Tensor) throws -> Tensor {
    try Tensor(ct_embedding(handle, indices.handle))
  }

  /// x [N, C, H, W] at another size, by repeating the nearest element.
  public func upsampledNearest(height: Int, width: Int) throws -> Tensor {
    try Tensor(ct_upsample_nearest(handle, Int64(height), Int64(width)))
  }
}

/// The mean of (a − b)².
public func meanSquaredError(_ a: Tensor, _ b: Tensor) throws -> Tensor {
  try Tensor(ct_mse_loss(a.handle, b.handle))
}

/// softmax(q kᵀ · scale + mask) v, by the kernel that is the fastest for these.
///
/// - Parameters:
///   - q: [N, heads, L, D]; other ranks are taken, too.
///   - k: [N, heads, S, D].
///   - v: [N, heads, S, E].
///   - mask: added to the scores, so of a shape that broadcasts to [N, heads, L, S].
///   - causal: each query sees the keys up to its own position; without a mask only.
///   - scale: a positive factor; 1 / √D when left out.
/// - Returns: [N, heads, L, E]
public func scaledDotProductAttention(
  _ q: Tensor, _ k: Tensor, _ v: Tensor, mask: Tensor? = nil, causal: Bool = false,
  scale: Double? = nil
) throws -> Tensor {
  try Tensor(ct_attention(q.handle, k.handle, v.handle, mask?.handle, causal, scale ?? 0))
}

/// How attention is computed.
package enum AttentionKernel: Int32 {
  /// Our own, in blocks: fp32 and bf16 on processors with AVX-512 and its bf16 instructions.
  case own
  /// libtorch's, which never holds all scores.
  case fused
  /// Matrix products with a softmax between them.
  case plain
}

/// The kernel that `scaledDotProductAttention` takes for these; tests ask.
package func attentionKernel(
  _ q: Tensor, _ k: Tensor, _ v: Tensor, mask: Tensor? = nil, causal: Bool = false
) -> AttentionKernel? {
  AttentionKernel(rawValue: ct_attention_kernel(q.handle, k.handle, v.handle, mask?.handle, causal))
}
