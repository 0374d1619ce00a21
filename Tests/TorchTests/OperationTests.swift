import Foundation
import TestSupport
import Testing
import Torch

/// Results against values worked out by hand or by Foundation.
@Suite struct OperationTests {
  let a: [Float] = [-2, -0.5, 0, 0.5, 1, 3]

  @Test("Operators broadcast and give the hand-made values")
  func operators() throws {
    let x = try Tensor([1, 2, 3, 4] as [Float], [2, 2])
    let row = try Tensor([10, 20] as [Float])
    #expect(try (x + row).floats() == [11, 22, 13, 24])
    #expect(try (x - row).floats() == [-9, -18, -7, -16])
    #expect(try (x * row).floats() == [10, 40, 30, 80])
    #expect(try (row / x).floats() == [10, 10, 10 / 3, 5])
    #expect(try (x + 1).floats() == [2, 3, 4, 5])
    #expect(try (x - 1).floats() == [0, 1, 2, 3])
    #expect(try (x * 2).floats() == [2, 4, 6, 8])
    #expect(try (x / 2).floats() == [0.5, 1, 1.5, 2])
    #expect(try (1 + x).floats() == [2, 3, 4, 5])
    #expect(try (1 - x).floats() == [0, -1, -2, -3])
    #expect(try (2 * x).floats() == [2, 4, 6, 8])
    #expect(try (-x).floats() == [-1, -2, -3, -4])
    try x.add(row, times: 0.5)
    #expect(try x.floats() == [6, 12, 8, 14])
  }

  private func near(_ found: Tensor, _ expected: (Double) -> Double, _ tolerance: Double = 1e-6) throws {
    let wanted = try Tensor(a.map { Float(expected(Double($0))) })
    #expect(try relativeError(found, wanted) < tolerance)
  }

  @Test("Elementwise functions equal Foundation's to 1e-6")
  func elementwise() throws {
    let x = try Tensor(a)
    try near(x.exp()) { exp($0) }
    try near(x.sin()) { sin($0) }
    try near(x.cos()) { cos($0) }
    try near(x.abs()) { abs($0) }
    try near(x.square()) { $0 * $0 }
    try near(x.power(3)) { $0 * $0 * $0 }
    try near(x.rounded()) { $0.rounded(.toNearestOrEven) }
    try near(x.floor()) { $0.rounded(.down) }
    try near(x.clamped(-1, 0.75)) { min(max($0, -1), 0.75) }
    try near(x.exp().log()) { $0 }
    try near(x.square().sqrt()) { abs($0) }
    try near(x.tanh()) { tanh($0) }
    try near(x.relu()) { max($0, 0) }
    try near(x.leakyReLU(0.1)) { $0 < 0 ? 0.1 * $0 : $0 }
    try near(x.sigmoid()) { 1 / (1 + exp(-$0)) }
    try near(x.silu()) { $0 / (1 + exp(-$0)) }
    try near(x.quickGELU()) { $0 / (1 + exp(-1.702 * $0)) }
    try near(x.gelu()) { $0 * 0.5 * (1 + erf($0 / 2.0.squareRoot())) }
    try near(x.geluTanh()) {
      $0 * 0.5 * (1 + tanh((2 / Double.pi).squareRoot() * ($0 + 0.044715 * $0 * $0 * $0)))
    }
    try near(x.mish()) { $0 * tanh(log1p(exp($0))) }
    let odd = try Tensor([1, .nan, .infinity] as [Float]).isFinite()
    #expect(odd.dtype == .bool)
    #expect(try odd.integers() == [1, 0, 0])
    let zero = try Tensor.zeros([6])
    #expect(try x.less(than: zero).choose(zero, x).floats() == a.map { max($0, 0) })
  }

  @Test("Reductions go over what they are told, or over everything")
  func reductions() throws {
    let x = try Tensor([1, 2, 3, 4, 5, 6] as [Float], [2, 3])
    #expect(try x.sum().item() == 21)
    #expect(try x.sum([0]).floats() == [5, 7, 9])
    #expect(try x.mean([1], keep: true).shape == [2, 1])
    #expect(try x.mean([-1]).floats() == [2, 5])
    #expect(try x.max([1]).floats() == [3, 6])
    #expect(try x.min().item() == 1)
    #expect(try Tensor([3, 4] as [Float]).norm().item() == 5)
    #expect(try x.norm([1]).floats().map { Int($0 * $0 + 0.5) } == [14, 77])
    #expect(try Tensor([3, 1, 2] as [Float]).argsort(descending: true).integers() == [0, 2, 1])
    #expect(abs(try meanSquaredError(x, Tensor.zeros([2, 3])).item() - 91.0 / 6) < 1e-5)
    let p = try x.softmax(1).floats()
    #expect(abs(p[0] + p[1] + p[2] - 1) < 1e-6)
    #expect(abs(p[1] / p[0] - Float(exp(1.0))) < 1e-5)
  }

  @Test("Matrix products and layers give the hand-made values")
  func layers() throws {
    let x = try Tensor([1, 2, 3, 4] as [Float], [2, 2])
    let w = try Tensor([1, 0, 1, 1] as [Float], [2, 2])
    #expect(try x.matmul(w).floats() == [3, 2, 7, 4])
    #expect(try x.linear(w, Tensor([10, 20] as [Float])).floats() == [11, 23, 13, 27])
    #expect(try x.embedding(Tensor([1, 0, 1])).floats() == [3, 4, 1, 2, 3, 4])
    let image = try Tensor.range(to: 9).reshaped([1, 1, 3, 3])
    let sum = try image.conv2d(Tensor.ones([1, 1, 3, 3]), Tensor([100] as [Float]), padding: 1)
    #expect(try sum.floats() == [108, 115, 112, 121, 136, 127, 120, 133, 124])
    #expect(try image.conv2d(Tensor.ones([1, 1, 1, 1]), stride: 2).floats() == [0, 2, 6, 8])
    #expect(
      try image.sliced(2, 0..<1).sliced(3, 0..<2).upsampledNearest(height: 2, width: 4).floats()
        == [0, 0, 1, 1, 0, 0, 1, 1])
    let n = try x.layerNorm(Tensor([1, 2] as [Float]), Tensor([0, 1] as [Float]), eps: 0)
    #expect(try relativeError(n, Tensor([-1, 3, -1, 3] as [Float], [2, 2])) < 1e-6)
    let g = try Tensor([1, 3, 10, 30] as [Float], [1, 2, 2]).groupNorm(2, nil, nil, eps: 0)
    #expect(try relativeError(g, Tensor([-1, 1, -1, 1] as [Float], [1, 2, 2])) < 1e-6)
  }

  @Test("The fused attention equals softmax(q kᵀ / √d) v to 1e-5, with a causal mask too")
  func attention() throws {
    let random = try RandomSource(seed: 5)
    let (q, k, v) = try (
      random.normal([2, 3, 6, 4]), random.normal([2, 3, 6, 4]), random.normal([2, 3, 6, 4])
    )
    let scores = try q.matmul(k.transposed(2, 3)) / 2
    let mask = try Tensor((0..<36).map { $0 % 6 > $0 / 6 ? -.infinity : 0 } as [Float], [6, 6])
    #expect(try relativeError(scaledDotProductAttention(q, k, v), scores.softmax(-1).matmul(v)) < 1e-5)
    let expected = try (scores + mask).softmax(-1).matmul(v)
    #expect(try relativeError(scaledDotProductAttention(q, k, v, causal: true), expected) < 1e-5)
    #expect(try relativeError(scaledDotProductAttention(q, k, v, mask: mask), expected) < 1e-5)
    let half = try scaledDotProductAttention(q, k, v, scale: 0.5)
    #expect(try relativeError(half, scores.softmax(-1).matmul(v)) < 1e-5)
  }
}

/// What is refused is refused with an error, never with a crash.
@Suite struct RefusalTests {
  private func message(_ body: () throws -> Tensor) -> String? {
    do {
      _ = try body()
      return nil
    } catch {
      return (error as? TorchError)?.message
    }
  }

  @Test("An error names the operation and the shapes it was given")
  func names() throws {
    let a = try Tensor.zeros([2, 3])
    let b = try Tensor.zeros([4, 5], dtype: .float64)
    let m = try #require(message { try a.matmul(b) })
    #expect(m.hasPrefix("matmul([2, 3] Float, [4, 5] Double): "))
    #expect(try #require(message { try a + b }).hasPrefix("add([2, 3] Float, [4, 5] Double): "))
    #expect(
      try #require(message { try a.linear(b) }).hasPrefix("linear([2, 3] Float, [4, 5] Double, none): "))
    #expect(try #require(message { try a.reshaped([7]) }).hasPrefix("reshape([2, 3] Float): "))
    #expect(try #require(message { try a.sum([5]) }).hasPrefix("sum([2, 3] Float): "))
    let halves = try Tensor([true, false].map { $0 ? 1 : 0 }).to(.bool)
    #expect(try #require(message { try -halves }).hasPrefix("neg([2] Bool): "))
    #expect(!m.contains("Exception raised from"))
  }

  @Test("Every operation refuses shapes, indices and types that do not fit")
  func everyOperation() throws {
    let a = try Tensor.zeros([2, 3])
    let f = try Tensor.zeros([2, 4, 6, 6])
    let i = try Tensor([0, 9])
    let empty = try Tensor.zeros([0])
    let refused: [(String, () throws -> Tensor)] = [
      ("empty of negative size", { try .empty([-1]) }),
      ("a size that overflows", { try .zeros([1 << 62, 1 << 62]) }),
      ("a value that overflows", { try .full([1], 1e300) }),
      ("range of no step", { try .range(0, to: 1, by: 0) }),
      ("range without end", { try .range(0, to: .infinity) }),
      ("values of another count", { try Tensor([1, 2, 3] as [Float], [2]) }),
      ("values for a negative shape", { try Tensor([1, 2] as [Float], [-2]) }),
      ("reshape", { try a.reshaped([-1, -1]) }),
      ("permute", { try a.permuted([0, 0]) }),
      ("permute too few", { try a.permuted([0]) }),
      ("transpose", { try a.transposed(0, 2) }),
      ("unsqueeze", { try a.unsqueezed(5) }),
      ("squeeze", { try a.squeezed(5) }),
      ("expand", { try a.expanded([2, 5]) }),
      ("slice dimension", { try a.sliced(2, 0..<1) }),
      ("slice past the end", { try a.sliced(1, 1..<4) }),
      ("slice before the start", { try a.sliced(1, -1..<2) }),
      ("slice step", { try a.sliced(1, 0..<2, by: 0) }),
      ("select", { try a.selected(1, 3) }),
      ("index_select", { try a.indexSelected(0, i) }),
      ("index_select negative", { try a.indexSelected(0, Tensor([-1])) }),
      ("index_select by floats", { try a.indexSelected(0, empty) }),
      ("index_copy", { try a.indexCopied(0, i, a) }),
      ("gather", { try a.gathered(1, i.reshaped([2, 1])) }),
      ("scatter", { try a.scattered(1, i.reshaped([2, 1]), a) }),
      ("embedding", { try a.embedding(i) }),
      ("embedding negative", { try a.embedding(Tensor([-1])) }),
      ("embedding by floats", { try a.embedding(a) }),
      ("repeat_interleave", { try a.repeatInterleaved(-1, 0) }),
      ("flip", { try a.flipped(2) }),
      ("pad odd", { try a.padded([1]) }),
      ("pad negative", { try a.padded([-4, 0]) }),
      ("cat of nothing", { try .concatenated([], 0) }),
      ("cat", { try .concatenated([a, f], 0) }),
      ("stack", { try .stacked([a, f], 0) }),
      ("channels last", { try a.contiguous(.channelsLast) }),
      ("sub", { try a - f }),
      ("where", { try a.choose(a, f) }),
      ("softmax", { try a.softmax(2) }),
      ("max of nothing", { try empty.max() }),
      ("argsort", { try a.argsort(3) }),
      ("mse_loss", { try meanSquaredError(a, f) }),
      ("conv2d channels", { try f.conv2d(Tensor.zeros([8, 5, 3, 3])) }),
      ("conv2d stride", { try f.conv2d(Tensor.zeros([8, 4, 3, 3]), stride: 0) }),
      ("conv2d padding", { try f.conv2d(Tensor.zeros([8, 4, 3, 3]), padding: -1) }),
      ("conv2d too small", { try f.conv2d(Tensor.zeros([8, 4, 9, 9])) }),
      ("conv2d bias", { try f.conv2d(Tensor.zeros([8, 4, 3, 3]), Tensor.zeros([7])) }),
      ("group_norm", { try f.groupNorm(3, nil, nil, eps: 1e-5) }),
      ("group_norm of no groups", { try f.groupNorm(0, nil, nil, eps: 1e-5) }),
      ("group_norm weight", { try f.groupNorm(2, Tensor.zeros([5]), nil, eps: 1e-5) }),
      ("layer_norm", { try a.layerNorm(Tensor.zeros([4])) }),
      ("layer_norm bias", { try a.layerNorm(Tensor.zeros([3]), Tensor.zeros([4])) }),
      ("upsample", { try f.upsampledNearest(height: 0, width: 4) }),
      ("upsample rank", { try a.upsampledNearest(height: 4, width: 4) }),
      ("attention sizes", { try scaledDotProductAttention(f, f, Tensor.zeros([2, 4, 5, 6])) }),
      ("attention heads", { try scaledDotProductAttention(f, Tensor.zeros([2, 4, 6, 5]), f) }),
      ("attention batch", { try scaledDotProductAttention(f, Tensor.zeros([3, 4, 6, 6]), f) }),
      ("attention values' batch", { try scaledDotProductAttention(f, f, Tensor.zeros([1, 4, 6, 6])) }),
      ("attention rank", { try scaledDotProductAttention(empty, empty, empty) }),
      ("attention mask", { try scaledDotProductAttention(f, f, f, mask: Tensor.zeros([5, 5])) }),
      ("a missing device", { try a.to(device: .cuda(120)) }),
      ("randint", { try RandomSource(seed: 1).integers(in: 3..<3, [2]) }),
      ("randn", { try RandomSource(seed: 1).normal([-2]) }),
      ("randn of whole numbers", { try RandomSource(seed: 1).normal([2], dtype: .int64) }),
      ("randperm", { try RandomSource(seed: 1).permutation(-1) }),
    ]
    for (name, body) in refused {
      let m = message(body)
      #expect(m != nil, "\(name) was not refused")
      #expect(m?.isEmpty == false, "\(name) has no words")
    }
    #expect(throws: TorchError.self) { try a.item() }
    #expect(throws: TorchError.self) { try a.copy(from: f) }
    #expect(throws: TorchError.self) { try a.add(f) }
  }
}
