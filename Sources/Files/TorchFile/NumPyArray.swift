public import Torch

/// An array of NumPy's in a pickle: its numbers, without anything that could run.
public struct NumPyArray: Sendable, Hashable {
  public let dtype: DType
  public let shape: [Int]
  /// Whether the first index runs fastest (Fortran's order) instead of the last.
  public let isColumnMajor: Bool
  /// Little-endian, as many as the shape needs.
  let bytes: [UInt8]

  /// - Throws: `FileError` where the bytes are not as many as the shape needs.
  init(dtype: DType, shape: [Int], isColumnMajor: Bool, bytes: [UInt8]) throws {
    var count = dtype.size
    for n in shape {
      let (product, over) = count.multipliedReportingOverflow(by: n)
      guard n >= 0, !over else { throw FileError("its pickle has an array of shape \(shape), which is none") }
      count = product
    }
    guard count == bytes.count else {
      throw FileError(
        "its pickle has an array of shape \(shape) and type \(dtype) with \(bytes.count) bytes instead of \(count)"
      )
    }
    self.dtype = dtype
    self.shape = shape
    self.isColumnMajor = isColumnMajor
    self.bytes = bytes
  }

  /// The array as a tensor of its own memory, in row-major order.
  public func tensor() throws -> Tensor {
    let stored = isColumnMajor ? Array(shape.reversed()) : shape
    let tensor = try bytes.withUnsafeBytes { try Tensor(bytes: $0, shape: stored, dtype: dtype) }
    guard isColumnMajor, shape.count > 1 else { return tensor }
    guard shape.count == 2 else {
      throw FileError("its pickle has an array of shape \(shape) in Fortran's order, which is not read")
    }
    return try tensor.transposed(0, 1).contiguous()
  }

  /// The element types that are read, by NumPy's names, without the byte order.
  static let types: [String: DType] = [
    "f2": .float16, "f4": .float32, "f8": .float64, "i1": .int8, "i2": .int16, "i4": .int32, "i8": .int64,
    "u1": .uint8, "b1": .bool,
  ]
}
