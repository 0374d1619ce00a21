import TestSupport
import Testing
import Torch

/// Layers with frozen weights against the same layers put together from operations that keep everything.
@Suite struct FrozenLayerTests {
  /// Result and gradient of Σ y · seed with respect to x.
  private func run(_ x: Tensor, _ body: (Tensor) throws -> Tensor) throws -> [Tensor] {
    let leaf = try x.detached().requireGradient()
    let y = try body(leaf)
    let seed = try RandomSource(seed: 9).normal(y.shape).to(y.dtype)
    return [y, try gradients(of: [(y * seed).sum()], for: [leaf])[0]]
  }

  private func expectSame(
    _ x: Tensor, _ tolerance: Double, _ frozen: (Tensor) throws -> Tensor,
    _ plain: (Tensor) throws -> Tensor
  ) throws {
    for (a, b) in zip(try run(x, frozen), try run(x, plain)) {
      #expect(try relativeError(a, b) < tolerance)
    }
    #expect(try relativeError(withoutGradients { try frozen(x) }, plain(x)) < tolerance)
  }

  @Test("A convolution over patches in bf16 is as exact as one that keeps its input")
  func convolutionInHalfPrecision() throws {
    let random = try RandomSource(seed: 5)
    let x = try random.normal([1, 384, 8, 8]).contiguous(.channelsLast)
    let weight = try random.normal([320, 384, 3, 3]).contiguous(.channelsLast)
    let (half, kept) = (try weight.to(.bfloat16), try weight.to(.bfloat16).requireGradient())
    let exact = try run(x.to(.bfloat16).to(.float32)) {
      try $0.conv2d(half.to(.float32), padding: 1)
    }
    let patches = try run(x.to(.bfloat16)) { try $0.conv2d(half, padding: 1) }
    let plain = try run(x.to(.bfloat16)) { try $0.conv2d(kept, padding: 1) }
    for (e, (a, b)) in zip(exact, zip(patches, plain)) {
      let (own, theirs) = (try relativeError(a.to(.float32), e), try relativeError(b.to(.float32), e))
      #expect(own < max(2 * theirs, 4e-3))
    }
  }

  /// Channels in and out, height, width, kernel, stride, padding. The first ones are for Winograd's
  /// algorithm: many tiles, many filters, sizes that are no multiple of a tile.
  @Test(
    "A frozen convolution gives result and gradient of one that keeps its input, to 2e-5",
    arguments: [
      [16, 32, 32, 32, 3, 1, 1], [96, 160, 12, 12, 3, 1, 1], [32, 16, 13, 22, 3, 1, 1],
      [16, 16, 5, 30, 3, 1, 1], [16, 16, 4, 4, 3, 1, 1], [4, 16, 16, 16, 3, 1, 1], [16, 32, 9, 9, 3, 2, 1],
      [16, 32, 8, 8, 1, 1, 0],
      // Few positions and many filters: one matrix product over the patches.
      [384, 320, 8, 7, 3, 1, 1], [384, 320, 11, 9, 3, 2, 1], [384, 320, 9, 8, 3, 2, 0],
      [1024, 1024, 8, 8, 1, 1, 0], [256, 192, 5, 6, 5, 1, 2],
    ])
  func convolution(size: [Int]) throws {
    let random = try RandomSource(seed: 1)
    for format in [MemoryFormat.contiguous, .channelsLast] {
      let x = try random.normal([2, size[0], size[2], size[3]]).contiguous(format)
      let weight = try random.normal([size[1], size[0], size[4], size[4]]).contiguous(format)
      let bias = try random.normal([size[1]])
      // One that requires a gradient goes to libtorch.
      let kept = try weight.detached().requireGradient()
      for b in [bias, nil] {
        try expectSame(
          x, 2e-5, { try $0.conv2d(weight, b, stride: size[5], padding: size[6]) },
          { try $0.conv2d(kept, b, stride: size[5], padding: size[6]) })
      }
    }
  }

  @Test(
    "A frozen matrix gives result and gradient of one that keeps its input, to 1e-5", arguments: [3, 200])
  func matrix(rows: Int) throws {
    let random = try RandomSource(seed: 3)
    let x = try random.normal([2, rows, 48])
    let weight = try random.normal([40, 48])
    let kept = try weight.detached().requireGradient()
    for bias in [try random.normal([40]), nil] {
      try expectSame(x, 1e-5, { try $0.linear(weight, bias) }, { try $0.linear(kept, bias) })
      // Rows that do not lie one after another.
      try expectSame(
        x, 1e-5, { try $0.transposed(0, 1).linear(weight, bias) },
        { try $0.transposed(0, 1).linear(kept, bias) })
    }
  }

  @Test("Frozen layers refuse what does not fit together")
  func refusals() throws {
    let rows = try Tensor.zeros([100, 16])
    #expect(throws: TorchError.self) { try rows.linear(.zeros([8, 15])) }
    #expect(throws: TorchError.self) { try rows.linear(.zeros([8, 16]), .zeros([9])) }
    #expect(throws: TorchError.self) { try rows.linear(.zeros([8, 16]), .zeros([8], dtype: .bfloat16)) }
    let x = try Tensor.zeros([1, 16, 16, 16])
    let weight = try Tensor.zeros([32, 16, 3, 3])
    #expect(throws: TorchError.self) { try x.conv2d(.zeros([32, 32, 3, 3]), padding: 1) }
    #expect(throws: TorchError.self) { try x.conv2d(weight, .zeros([16]), padding: 1) }
    #expect(throws: TorchError.self) { try x.conv2d(weight, .zeros([32, 1]), padding: 1) }
    #expect(throws: TorchError.self) { try x.conv2d(weight, .zeros([32], dtype: .bfloat16), padding: 1) }
  }

  @Test("GroupNorm with SiLU and quick GELU give result and gradient of their parts, to 1e-5")
  func activations() throws {
    let random = try RandomSource(seed: 2)
    let (weight, bias) = (try random.normal([32]), try random.normal([32]))
    for format in [MemoryFormat.contiguous, .channelsLast] {
      let x = try random.normal([2, 32, 6, 5]).contiguous(format)
      try expectSame(
        x, 1e-5, { try $0.groupNorm(8, weight, bias, eps: 1e-5, silu: true) },
        { try $0.groupNorm(8, weight, bias, eps: 1e-5).silu() })
    }
    let rows = try random.normal([3, 5, 24])
    try expectSame(rows, 1e-5, { try $0.quickGELU() }) { try $0 * ($0 * 1.702).sigmoid() }
  }

  /// 1500 rows are more than a block, and no multiple of one.
  @Test(
    "GEGLU between two matrices gives result and gradient of its parts, to 1e-5",
    arguments: [[3, 5], [2, 750], [7]])
  func geglu(rows: [Int]) throws {
    let random = try RandomSource(seed: 4)
    let x = try random.normal(rows + [16])
    let (up, down) = (try random.normal([48, 16]), try random.normal([20, 24]))
    let (upBias, downBias) = (try random.normal([48]), try random.normal([20]))
    for (b, c) in [(upBias, downBias), (nil, nil)] {
      try expectSame(x, 1e-5, { try $0.geglu(up: (up, b), down: (down, c)) }) {
        let h = try $0.linear(up, b)
        return try (h.sliced(-1, 0..<24) * h.sliced(-1, 24..<48).gelu()).linear(down, c)
      }
    }
    let none = try Tensor.zeros([0, 16]).geglu(up: (up, upBias), down: (down, downBias))
    #expect(none.shape == [0, 20])
    #expect(throws: TorchError.self) { try x.geglu(up: (down, nil), down: (up, nil)) }
    #expect(throws: TorchError.self) {
      try x.geglu(up: (up.detached().requireGradient(), nil), down: (down, nil))
    }
  }
}
