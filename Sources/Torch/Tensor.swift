import CTorch

/// A libtorch tensor. The memory is given back when the last reference to this object goes.
///
/// Not `Sendable`: a tensor belongs to one thread at a time, as the switch of autograd does.
public final class Tensor {
  let handle: ct_tensor

  init(owning handle: ct_tensor) { self.handle = handle }

  /// Takes what a C function returned; throws its error when that is nothing.
  convenience init(_ handle: ct_tensor?) throws {
    guard let handle else { throw TorchError.last }
    self.init(owning: handle)
  }

  deinit { ct_free(handle) }

  // MARK: Looking

  /// The number of dimensions.
  public var rank: Int { Int(ct_rank(handle)) }
  /// The size of each dimension.
  public var shape: [Int] { (0..<ct_rank(handle)).map { Int(ct_size(handle, $0)) } }
  /// The distance in memory, in elements, along each dimension.
  public var strides: [Int] { (0..<ct_rank(handle)).map { Int(ct_stride(handle, $0)) } }
  /// The number of elements.
  public var count: Int { Int(ct_numel(handle)) }
  /// The type of the elements.
  public var dtype: DType { DType(rawValue: ct_dtype(handle)) ?? .uint8 }
  /// Whether the elements lie in row-major order without gaps.
  public var isContiguous: Bool { ct_is_contiguous(handle) }
  /// Where the elements are.
  public var device: Device {
    var index: Int32 = 0
    switch ct_device(handle, &index) {
    case Int32(CT_CUDA): return .cuda(Int(index))
    case Int32(CT_MPS): return .mps
    default: return .cpu
    }
  }

  /// The size of dimension `dim`; negative counts from the end.
  public func size(_ dim: Int) -> Int {
    let d = dim < 0 ? rank + dim : dim
    precondition(d >= 0 && d < rank, "dimension \(dim) of a tensor of rank \(rank)")
    return Int(ct_size(handle, Int32(d)))
  }

  // MARK: Making

  /// Memory that nothing was written to.
  public static func empty(_ shape: [Int], dtype: DType = .float32, device: Device = .cpu) throws
    -> Tensor
  {
    let s = shape.map(Int64.init)
    let d = device.code
    return try Tensor(ct_empty(s, Int32(s.count), dtype.rawValue, d.type, d.index))
  }

  /// `value` everywhere.
  public static func full(
    _ shape: [Int], _ value: Double, dtype: DType = .float32, device: Device = .cpu
  ) throws -> Tensor {
    let s = shape.map(Int64.init)
    let d = device.code
    return try Tensor(ct_full(s, Int32(s.count), value, dtype.rawValue, d.type, d.index))
  }

  /// 0 everywhere.
  public static func zeros(_ shape: [Int], dtype: DType = .float32, device: Device = .cpu) throws
    -> Tensor
  {
    try full(shape, 0, dtype: dtype, device: device)
  }

  /// 1 everywhere.
  public static func ones(_ shape: [Int], dtype: DType = .float32, device: Device = .cpu) throws
    -> Tensor
  {
    try full(shape, 1, dtype: dtype, device: device)
  }

  /// start, start + step, … below `end`.
  public static func range(
    _ start: Double = 0, to end: Double, by step: Double = 1, dtype: DType = .float32
  ) throws -> Tensor {
    try Tensor(ct_arange(start, end, step, dtype.rawValue))
  }

  /// Copies `values`; their number must be that of `shape` (a vector when there is none).
  public convenience init(_ values: [Float], _ shape: [Int]? = nil) throws {
    try self.init(copying: values, shape: shape ?? [values.count], dtype: .float32)
  }

  /// Copies `values` as float64.
  public convenience init(_ values: [Double], _ shape: [Int]? = nil) throws {
    try self.init(copying: values, shape: shape ?? [values.count], dtype: .float64)
  }

  /// Copies `values` as int64.
  public convenience init(_ values: [Int], _ shape: [Int]? = nil) throws {
    try self.init(
      copying: values.map(Int64.init), shape: shape ?? [values.count], dtype: .int64)
  }

  /// Copies `values` as uint8.
  public convenience init(_ values: [UInt8], _ shape: [Int]? = nil) throws {
    try self.init(copying: values, shape: shape ?? [values.count], dtype: .uint8)
  }

  private convenience init<T>(copying values: [T], shape: [Int], dtype: DType) throws {
    let s = shape.map(Int64.init)
    let made = values.withUnsafeBytes {
      ct_from_data($0.baseAddress, $0.count, s, Int32(s.count), dtype.rawValue)
    }
    try self.init(made)
  }

  /// Copies raw little-endian elements.
  public convenience init(bytes: UnsafeRawBufferPointer, shape: [Int], dtype: DType) throws {
    let s = shape.map(Int64.init)
    try self.init(
      ct_from_data(bytes.baseAddress, bytes.count, s, Int32(s.count), dtype.rawValue))
  }

  /// Uses memory that `owner` keeps alive, such as a mapped file; nothing is copied.
  ///
  /// The memory must hold the whole shape, be aligned for `dtype`, and must not be written through
  /// this tensor when it is mapped read-only.
  public convenience init(
    borrowing memory: UnsafeMutableRawPointer, shape: [Int], dtype: DType, owner: AnyObject
  ) throws {
    let s = shape.map(Int64.init)
    let context = Unmanaged.passRetained(owner)
    try self.init(
      ct_from_blob(
        memory, s, Int32(s.count), dtype.rawValue,
        { if let p = $0 { Unmanaged<AnyObject>.fromOpaque(p).release() } }, context.toOpaque()))
  }

  // MARK: Reading back

  /// The elements in row-major order, converted to Float.
  public func floats() throws -> [Float] {
    try read(dtype == .float32 ? self : to(.float32), as: Float.self)
  }

  /// The elements in row-major order, converted to Double.
  public func doubles() throws -> [Double] {
    try read(dtype == .float64 ? self : to(.float64), as: Double.self)
  }

  /// The elements in row-major order, cut to whole numbers.
  public func integers() throws -> [Int] {
    try read(dtype == .int64 ? self : to(.int64), as: Int64.self).map(Int.init)
  }

  /// The elements as uint8.
  public func bytes() throws -> [UInt8] {
    try read(dtype == .uint8 ? self : to(.uint8), as: UInt8.self)
  }

  /// The memory of the elements in row-major order, whatever their type.
  public func rawBytes() throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: count * dtype.size) { buffer, n in
      n = count * dtype.size
      try check(ct_copy_out(handle, buffer.baseAddress, n))
    }
  }

  /// The only element.
  public func item() throws -> Double {
    guard count == 1 else { throw TorchError("item: the tensor has shape \(shape), not one element") }
    return try doubles()[0]
  }

  private func read<T>(_ source: Tensor, as type: T.Type) throws -> [T] {
    try [T](unsafeUninitializedCapacity: count) { buffer, n in
      try check(
        ct_copy_out(source.handle, buffer.baseAddress, source.count * MemoryLayout<T>.stride))
      n = source.count
    }
  }
}

extension Tensor: CustomStringConvertible {
  /// Shape, type and device; not the elements.
  public var description: String { "Tensor\(shape) \(dtype) on \(device)" }
}
