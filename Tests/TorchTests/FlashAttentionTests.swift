import Foundation
import TestSupport
import Testing
import Torch

/// Attention in blocks against the formula written out in fp64. On processors without our kernel libtorch's
/// has to hold the same.
@Suite struct FlashAttentionTests {
  private func formula(_ q: Tensor, _ k: Tensor, _ v: Tensor, scale: Double) throws -> Tensor {
    try (q.matmul(k.transposed(2, 3)) * scale).softmax(-1).matmul(v)
  }

  /// The result and its gradients with respect to q, k and v.
  private func run(_ inputs: [Tensor], seed: Tensor, _ body: (Tensor, Tensor, Tensor) throws -> Tensor) throws
    -> [Tensor]
  {
    let leaves = try inputs.map { try $0.detached().requireGradient() }
    let y = try body(leaves[0], leaves[1], leaves[2])
    return [y] + (try gradients(of: [y], seeds: [seed.to(y.dtype)], for: leaves))
  }

  /// Images, heads, queries, keys, channels: whole blocks, several of them, and what is left over.
  static let sizes = [
    [1, 2, 64, 64, 32], [2, 3, 100, 131, 24], [1, 1, 1, 16, 2], [2, 1, 63, 77, 40], [1, 2, 640, 1100, 8],
    [1, 1, 65, 513, 160], [3, 4, 16, 33, 6], [1, 1, 130, 300, 512],
  ]

  @Test(
    "Result and gradients are the formula's, to 1e-5 in fp32 and to 1.5e-2 in bf16", arguments: sizes,
    [DType.float32, .bfloat16])
  func equality(size: [Int], dtype: DType) throws {
    let (n, heads, length, keys, channels) = (size[0], size[1], size[2], size[3], size[4])
    let random = try RandomSource(seed: 5)
    // As the layers give them: heads next to each other in memory.
    let inputs = try [length, keys, keys].map {
      try (random.normal([n, $0, heads, channels]) * 1.5).to(dtype).transposed(1, 2)
    }
    let seed = try random.normal([n, heads, length, channels]).to(dtype)
    for scale in [1 / Double(channels).squareRoot(), 0.01] {
      let found = try run(inputs, seed: seed) { try scaledDotProductAttention($0, $1, $2, scale: scale) }
      let expected = try run(inputs.map { try $0.to(.float64) }, seed: seed) {
        try formula($0, $1, $2, scale: scale)
      }
      for (a, b) in zip(found, expected) {
        #expect(a.dtype == dtype && a.shape == b.shape)
        #expect(try relativeError(a, b) < (dtype == .float32 ? 1e-5 : 1.5e-2))
      }
      // Without gradients, and again: the same to the bit.
      for _ in 0..<2 {
        let again = try withoutGradients {
          try scaledDotProductAttention(inputs[0], inputs[1], inputs[2], scale: scale)
        }
        #expect(try relativeError(again, found[0]) == 0)
      }
    }
  }

  @Test(
    "Our own kernel is taken where the processor has its instructions, and only there",
    .enabled(if: FileManager.default.fileExists(atPath: "/proc/cpuinfo")))
  func choice() throws {
    let text = try String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)
    let line = text.split(separator: "\n").first { $0.hasPrefix("flags") } ?? ""
    let flags = Set(line.split(separator: " "))
    let needed: Set<Substring> = ["avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_bf16"]
    for dtype in [DType.float32, .bfloat16] {
      let x = try Tensor.zeros([1, 2, 64, 8]).to(dtype)
      #expect((attentionKernel(x, x, x) == .own) == needed.isSubset(of: flags))
    }
    let doubles = try Tensor.zeros([1, 2, 64, 8]).to(.float64)
    #expect(attentionKernel(doubles, doubles, doubles) == .plain)
  }

  /// The kernel for `length` queries and `keys` keys, which take no memory.
  private func kernel(
    _ dtype: DType, heads: Int = 2, length: Int = 8, keys: Int, mask: [Int]? = nil, causal: Bool = false
  ) throws -> AttentionKernel? {
    let x = try Tensor.zeros([1, 1, 1, 8]).to(dtype)
    let (q, k) = (try x.expanded([1, heads, length, 8]), try x.expanded([1, heads, keys, 8]))
    let added = try mask.map { try Tensor.zeros([1]).to(dtype).expanded($0) }
    return attentionKernel(q, k, k, mask: added, causal: causal)
  }

  @Test("Where our own does not suit, plain products are taken for few scores in other types than fp32")
  func table() throws {
    for dtype in [DType.float32, .bfloat16, .float64] {
      let few: AttentionKernel = dtype == .float32 ? .fused : .plain
      // Too few keys for our own.
      #expect(try kernel(dtype, keys: 15) == few)
      // The text encoder's mask, and those that differ between heads or images.
      #expect(try kernel(dtype, length: 72, keys: 77, mask: [1, 72, 77]) == few)
      #expect(try kernel(dtype, length: 72, keys: 77, mask: [72, 77]) == few)
      #expect(try kernel(dtype, length: 72, keys: 2000, mask: [1, 72, 2000]) == few)
      #expect(try kernel(dtype, length: 72, keys: 77, mask: [2, 72, 77]) == .fused)
      #expect(try kernel(dtype, length: 72, keys: 77, mask: [1, 1, 72, 77]) == .fused)
      #expect(try kernel(dtype, keys: 8, causal: true) == .fused)
    }
    // fp64, which our own never takes: 1024 keys, or scores of more than 512 MiB.
    #expect(try kernel(.float64, keys: 1023) == .plain)
    #expect(try kernel(.float64, keys: 1024) == .fused)
    #expect(try kernel(.float64, heads: 512, length: 256, keys: 512) == .plain)
    #expect(try kernel(.float64, heads: 512, length: 257, keys: 512) == .fused)
  }

  @Test(
    "With the text encoder's mask the formula and its gradients, to 1e-5 in fp32 and to 1.5e-2 in bf16",
    arguments: [DType.float32, .bfloat16])
  func masked(dtype: DType) throws {
    let random = try RandomSource(seed: 9)
    let inputs = try [72, 77, 77].map { try random.normal([3, $0, 2, 16]).to(dtype).transposed(1, 2) }
    let seed = try random.normal([3, 2, 72, 16]).to(dtype)
    let values = (0..<72 * 77).map { $0 % 77 > $0 / 77 + 5 ? -Float.infinity : 0 }
    let mask = try Tensor(values, [1, 72, 77])
    let found = try run(inputs, seed: seed) {
      try scaledDotProductAttention($0, $1, $2, mask: mask.to(dtype), scale: 0.3)
    }
    let expected = try run(inputs.map { try $0.to(.float64) }, seed: seed) {
      try (($0.matmul($1.transposed(2, 3)) * 0.3) + mask.to(.float64)).softmax(-1).matmul($2)
    }
    for (a, b) in zip(found, expected) {
      #expect(a.dtype == dtype && a.shape == b.shape)
      #expect(try relativeError(a, b) < (dtype == .float32 ? 1e-5 : 1.5e-2))
    }
  }

  @Test("Scores of a million neither overflow nor vanish")
  func largeScores() throws {
    let random = try RandomSource(seed: 6)
    let inputs = try (0..<3).map { _ in try random.normal([1, 1, 80, 16]) }
    let q = try inputs[0] * 1e6
    let found = try scaledDotProductAttention(q, inputs[1], inputs[2])
    let expected = try formula(q.to(.float64), inputs[1].to(.float64), inputs[2].to(.float64), scale: 0.25)
    #expect(try relativeError(found, expected) < 1e-5)
  }

  @Test("What is not a number stays visible", arguments: [DType.float32, .bfloat16], [0, 1, 2])
  func notANumber(dtype: DType, place: Int) throws {
    let random = try RandomSource(seed: 7)
    var inputs = try (0..<3).map { _ in try random.normal([1, 1, 80, 16]).to(dtype) }
    var values = [Float](repeating: 0, count: 80 * 16)
    values[20 * 16 + 3] = .nan
    inputs[place] = try inputs[place] + Tensor(values, [1, 1, 80, 16]).to(dtype)
    let y = try scaledDotProductAttention(inputs[0], inputs[1], inputs[2]).to(.float32)
    #expect(try y.sum().item().isNaN)
  }

  @Test("One sequence for several images, without copies of it")
  func expanded() throws {
    let random = try RandomSource(seed: 8)
    let q = try random.normal([3, 2, 20, 8])
    let k = try random.normal([1, 2, 40, 8])
    let v = try random.normal([1, 2, 40, 8])
    let found = try run([q, k, v], seed: q) {
      try scaledDotProductAttention($0, $1.expanded([3, 2, 40, 8]), $2.expanded([3, 2, 40, 8]))
    }
    let expected = try run([q, k, v].map { try $0.to(.float64) }, seed: q) {
      try formula($0, $1, $2, scale: 1 / 8.0.squareRoot())
    }
    for (a, b) in zip(found, expected) { #expect(try relativeError(a, b) < 1e-5) }
  }
}
