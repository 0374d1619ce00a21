import CTorch

// Operators broadcast as libtorch does, and throw what it refuses.
extension Tensor {
  /// Elementwise a + b.
  public static func + (a: Tensor, b: Tensor) throws -> Tensor { try Tensor(ct_add(a.handle, b.handle)) }
  /// Elementwise a − b.
  public static func - (a: Tensor, b: Tensor) throws -> Tensor { try Tensor(ct_sub(a.handle, b.handle)) }
  /// Elementwise a · b.
  public static func * (a: Tensor, b: Tensor) throws -> Tensor { try Tensor(ct_mul(a.handle, b.handle)) }
  /// Elementwise a / b.
  public static func / (a: Tensor, b: Tensor) throws -> Tensor { try Tensor(ct_div(a.handle, b.handle)) }
  /// Adds a number to every element.
  public static func + (a: Tensor, b: Double) throws -> Tensor { try Tensor(ct_add_scalar(a.handle, b)) }
  /// Takes a number from every element.
  public static func - (a: Tensor, b: Double) throws -> Tensor { try Tensor(ct_add_scalar(a.handle, -b)) }
  /// Multiplies every element by a number.
  public static func * (a: Tensor, b: Double) throws -> Tensor { try Tensor(ct_mul_scalar(a.handle, b)) }
  /// Divides every element by a number.
  public static func / (a: Tensor, b: Double) throws -> Tensor { try Tensor(ct_div_scalar(a.handle, b)) }
  /// Adds every element to a number.
  public static func + (a: Double, b: Tensor) throws -> Tensor { try b + a }
  /// Takes every element from a number.
  public static func - (a: Double, b: Tensor) throws -> Tensor { try Tensor(ct_rsub_scalar(b.handle, a)) }
  /// Multiplies a number by every element.
  public static func * (a: Double, b: Tensor) throws -> Tensor { try b * a }
  /// Every element with the other sign.
  public static prefix func - (a: Tensor) throws -> Tensor { try a.unary(CT_NEG) }

  /// a += alpha · b, in place.
  public func add(_ b: Tensor, times alpha: Double = 1) throws {
    try check(ct_add_(handle, b.handle, alpha))
  }

  /// a *= b, in place.
  public func multiply(by b: Double) throws { try check(ct_mul_(handle, b)) }
  /// Sets every element to 0, in place.
  public func zero() throws { try check(ct_zero_(handle)) }

  /// xᵖ.
  public func power(_ p: Double) throws -> Tensor { try Tensor(ct_pow_scalar(handle, p)) }
  /// eˣ.
  public func exp() throws -> Tensor { try unary(CT_EXP) }
  /// The natural logarithm.
  public func log() throws -> Tensor { try unary(CT_LOG) }
  /// The square root.
  public func sqrt() throws -> Tensor { try unary(CT_SQRT) }
  /// The sine; x in radians.
  public func sin() throws -> Tensor { try unary(CT_SIN) }
  /// The cosine; x in radians.
  public func cos() throws -> Tensor { try unary(CT_COS) }
  /// |x|.
  public func abs() throws -> Tensor { try unary(CT_ABS) }
  /// x².
  public func square() throws -> Tensor { try unary(CT_SQUARE) }
  /// To the nearest whole number, halves to the even one.
  public func rounded() throws -> Tensor { try unary(CT_ROUND) }
  /// To the whole number below.
  public func floor() throws -> Tensor { try unary(CT_FLOOR) }
  /// Where neither infinite nor NaN, as bool.
  public func isFinite() throws -> Tensor { try unary(CT_ISFINITE) }
  /// Brought into `low`…`high`.
  public func clamped(_ low: Double, _ high: Double) throws -> Tensor {
    try Tensor(ct_clamp(handle, low, high))
  }

  /// Elementwise `self < other`, as bool.
  public func less(than other: Tensor) throws -> Tensor { try Tensor(ct_less(handle, other.handle)) }

  /// `a` where this bool tensor is true, else `b`.
  public func choose(_ a: Tensor, _ b: Tensor) throws -> Tensor {
    try Tensor(ct_where(handle, a.handle, b.handle))
  }

  /// The sum over `dims`; of everything when there are none. `keep` leaves them with size 1.
  public func sum(_ dims: [Int] = [], keep: Bool = false) throws -> Tensor {
    try reduce(CT_SUM, dims, keep)
  }
  /// The mean over `dims`; of everything when there are none.
  public func mean(_ dims: [Int] = [], keep: Bool = false) throws -> Tensor {
    try reduce(CT_MEAN, dims, keep)
  }
  /// The largest element over `dims`; of everything when there are none.
  public func max(_ dims: [Int] = [], keep: Bool = false) throws -> Tensor {
    try reduce(CT_AMAX, dims, keep)
  }
  /// The smallest element over `dims`; of everything when there are none.
  public func min(_ dims: [Int] = [], keep: Bool = false) throws -> Tensor {
    try reduce(CT_AMIN, dims, keep)
  }
  /// The L2 norm over `dims`; of everything when there are none.
  public func norm(_ dims: [Int] = [], keep: Bool = false) throws -> Tensor {
    try reduce(CT_NORM, dims, keep)
  }

  /// The order that sorts along `dim`, as int64.
  public func argsort(_ dim: Int = -1, descending: Bool = false) throws -> Tensor {
    try Tensor(ct_argsort(handle, Int64(dim), descending))
  }

  func unary(_ operation: some BinaryInteger) throws -> Tensor {
    try Tensor(ct_unary(Int32(operation), handle))
  }

  private func reduce(_ operation: some BinaryInteger, _ dims: [Int], _ keep: Bool) throws
    -> Tensor
  {
    let d = dims.map(Int64.init)
    return try Tensor(ct_reduce(Int32(operation), handle, d, Int32(d.count), keep))
  }
}
