import Diffusion
import TestSupport
import Testing
import Torch

@Suite struct AttentionTests {
  /// softmax(q kᵀ / √size) v written out, head by head, in fp64.
  private func reference(_ q: Tensor, _ k: Tensor, _ v: Tensor, heads: Int) throws -> Tensor {
    let size = q.size(2) / heads
    let parts = try (0..<heads).map { h in
      let part = { (t: Tensor) in try t.to(.float64).sliced(2, h * size..<(h + 1) * size) }
      let scores = try part(q).matmul(part(k).transposed(1, 2)) / Double(size).squareRoot()
      return try scores.softmax(-1).matmul(part(v))
    }
    return try .concatenated(parts, 2)
  }

  @Test(
    "Short and long sequences, for which kernels differ, give the written-out formula to 1e-5",
    arguments: [(3, 7), (1030, 5), (5, 1023), (5, 1024), (1030, 1030)])
  func formula(length: Int, keys: Int) throws {
    // fp32 never takes plain products, fp64 does below 1024 keys.
    for dtype in [DType.float32, .float64] {
      let random = try RandomSource(seed: 3)
      let q = try random.normal([2, length, 12], dtype: dtype)
      let k = try random.normal([2, keys, 12], dtype: dtype)
      let v = try random.normal([2, keys, 12], dtype: dtype)
      for heads in [1, 3] {
        let expected = try reference(q, k, v, heads: heads)
        #expect(try relativeError(attention(q, k, v, heads: heads), expected) < 1e-5)
      }
    }
  }

  @Test(
    "Gradients pass through both kernels", arguments: [7, 1024], [DType.float32, .float64])
  func gradient(keys: Int, dtype: DType) throws {
    let random = try RandomSource(seed: 4)
    let inputs = try [9, keys, keys].map { try random.normal([2, $0, 8], dtype: dtype).requireGradient() }
    let seed = try random.normal([2, 9, 8], dtype: dtype)
    let found = try gradients(
      of: [attention(inputs[0], inputs[1], inputs[2], heads: 2)], seeds: [seed], for: inputs)
    let expected = try gradients(
      of: [reference(inputs[0], inputs[1], inputs[2], heads: 2)], seeds: [seed.to(.float64)], for: inputs)
    for (a, b) in zip(found, expected) { #expect(try relativeError(a, b) < 1e-4) }
  }

  @Test(
    "Upcasting gives the bits of attention in fp32, rounded to the dtype of the input; without it they are others",
    arguments: [6, 300, 1100])
  func upcast(length: Int) throws {
    let random = try RandomSource(seed: 5)
    let x = try (0..<3).map { _ in try random.normal([1, length, 16]).to(.bfloat16) }
    let found = try attention(x[0], x[1], x[2], heads: 2, upcast: true)
    #expect(found.dtype == .bfloat16)
    let wide = try x.map { try $0.to(.float32) }
    let expected = try attention(wide[0], wide[1], wide[2], heads: 2).to(.bfloat16)
    #expect(try found.rawBytes() == expected.rawBytes())
    let plain = try attention(x[0], x[1], x[2], heads: 2)
    #expect(try plain.dtype == .bfloat16 && plain.rawBytes() != expected.rawBytes())
  }
}
