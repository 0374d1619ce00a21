import CTorch

/// libtorch's CPU generator (mt19937): a seed gives the numbers that PyTorch gives.
///
/// Numbers are drawn on the CPU, whatever device they are moved to afterwards. libtorch keeps the
/// low 32 bits of a seed.
public final class RandomSource {
  private let generator: ct_generator

  /// Starts the sequence of `seed`.
  public init(seed: UInt64) throws {
    guard let g = ct_generator_new(seed) else { throw TorchError.last }
    generator = g
  }

  deinit { ct_generator_free(generator) }

  /// A standard normal sample.
  public func normal(_ shape: [Int], dtype: DType = .float32) throws -> Tensor {
    let s = shape.map(Int64.init)
    return try Tensor(ct_randn(generator, s, Int32(s.count), dtype.rawValue))
  }

  /// Uniform in [0, 1).
  public func uniform(_ shape: [Int], dtype: DType = .float32) throws -> Tensor {
    let s = shape.map(Int64.init)
    return try Tensor(ct_rand(generator, s, Int32(s.count), dtype.rawValue))
  }

  /// Whole numbers in `range`, as int64.
  public func integers(in range: Range<Int>, _ shape: [Int]) throws -> Tensor {
    let s = shape.map(Int64.init)
    return try Tensor(
      ct_randint(generator, Int64(range.lowerBound), Int64(range.upperBound), s, Int32(s.count)))
  }

  /// A permutation of 0..<n, as int64.
  public func permutation(_ n: Int) throws -> Tensor {
    try Tensor(ct_randperm(generator, Int64(n)))
  }
}
