import CTorch

// Operators broadcast as libtorch does, and throw what it refuses.
extension Tensor {
  public static func + (a: Tensor, b: Tensor) throws -> Tensor { try Tensor(ct_add(a.handle, b.handle)) }
  public static func - (a: Tensor, b: Tensor) throws -> Tensor { try Tensor(ct_sub(a.handle, b.handle)) }
  public static func * (a: Tensor, b: Tensor) throws -> Tensor { try Tensor(ct_mul(a.handle, b.handle)) }
  public static func / (a: Tensor, b: Tensor) throws -> Tensor { try Tensor(ct_div(a.handle, b.handle)) }
  public static func + (a: Tensor, b: Double) throws -> Tensor { try Tensor(ct_add_scalar(a.handle, b)) }
  public static func - (a: Tensor, b: Double) throws -> Tensor { try Tensor(ct_add_scalar(a.handle, -b)) }
  public static func * (a: Tensor, b: Double) throws -> Tensor { try Tensor(ct_mul_scalar(a.handle, b)) }
  public static func / (a: Tensor, b: Double) throws -> Tensor { try Tensor(ct_div_scalar(a.handle, b)) }
  public static func + (a: Double, b: Tensor) throws -> Tensor { try b + a }
  public static func - (a: Double, b: Tensor) throws -> Tensor { try Tensor(ct_rsub_scalar(b.handle, a)) }
  public static func * (a: Double, b: Tensor) throws -> Tensor { try b * a }
  public static prefix func - (a: Tensor) throws -> Tensor { try a.unary(CT_NEG) }

  /// a += alpha · b, in place.
  public func add(_ b: Tensor, times alpha: Double = 1) throws {
    try check(ct_add_(handle, b.handle, alpha))
  }

  /// a *= b, in place.
  public func multiply(by b: Double) throws { try check(ct_mul_(handle, b)) }
  public func zero() throws { try check(ct_zero_(handle)) }

  public func power(_ p: Double) throws -> Tensor { try Tensor(ct_pow_scalar(handle, p)) }
  public func exp() throws -> Tensor { try unary(CT_EXP) }
  public func log() throws -> Tensor { try unary(CT_LOG) }
  public func sqrt() throws -> Tensor { try unary(CT_SQRT) }
  public func sin() throws -> Tensor { try unary(CT_SIN) }
  public func cos() throws -> Tensor { try unary(CT_COS) }
  public func abs() throws -> Tensor { try unary(CT_ABS) }
  public func square() throws -> Tensor { try unary(CT_SQUARE) }
  public func rounded() throws -> Tensor { try unary(CT_ROUND) }
  public func floor() throws -> Tensor { try unary(CT_FLOOR) }
  public func isFinite() throws -> Tensor { try unary(CT_ISFINITE) }
  public func clamped(_ low: Double, _ high: Double) throws -> Tensor {
    try Tensor(ct_clamp(handle, low, high))
  }

  /// Elementwise `self < other`, as bool.
  public func less(than other: Tensor) throws -> Tensor { try Tensor(ct_less(handle, other.handle)) }

  /// `a` where this bool tensor is true, else `b`.
  public func choose(_ a: Tensor, _ b: Tensor) throws -> Tensor {
    try Tensor(ct_where(handle, a.handle, b.handle))
  }

  public func sum(_ dims: [Int] = [], keep: Bool = false) throws -> Tensor {
    try reduce(CT_SUM, dims, keep)
  }
  public func mean(_ dims: [Int] = [], keep: Bool = false) throws -> Tensor {
    try reduce(CT_MEAN, dims, keep)
  }
  public func max(_ dims: [Int] = [], keep: Bool = false) throws -> Tensor {
    try reduce(CT_AMAX, dims, keep)
  }
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
