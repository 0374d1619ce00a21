import Torch

/// What a safetensors file declares: everything but the tensors' numbers, read from the file's first bytes.
package struct SafetensorsDeclarations: Sendable {
  /// The strings under `__metadata__`.
  package let metadata: [String: String]
  package let entries: [String: SafetensorsEntry]

  /// - Parameters:
  ///   - title: what messages call the file.
  ///   - advice: what a message on a broken file ends with.
  ///   - size: bytes of the whole file.
  ///   - start: gives as many of its first bytes as it is asked for, never more than there are.
  /// - Throws: `FileError` that names the file when it is not a well-formed safetensors file; what `start` throws.
  package init(
    of title: String, advice: String = "; fetch or save it again", size: Int, start: (Int) throws -> [UInt8]
  ) throws {
    do {
      guard size >= 8 else { throw FileError("it has \(size) bytes, a header needs 8") }
      let length = try start(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
      guard length <= UInt64(SafetensorsFile.maximumHeaderBytes) else {
        throw FileError(
          "it does not begin as one: that would be a header of \(length) bytes, and at most "
            + "\(SafetensorsFile.maximumHeaderBytes) are read")
      }
      let dataStart = 8 + Int(length)
      guard dataStart <= size else {
        throw FileError(
          "it declares a header of \(length) bytes but has only \(size) bytes in all; it may be cut short")
      }
      let header = try SafetensorsHeader(Array(start(dataStart).dropFirst(8)))
      entries = try Self.checkedEntries(header, data: dataStart..<size)
      metadata = header.metadata
    } catch let error as UnsupportedType {
      throw FileError(
        "\(title): \(quoted(error.name)) has the element type \(quoted(error.dtype)), which is not supported; take "
          + "the file in fp16, bf16 or fp32")
    } catch let error as FileError {
      throw FileError("\(title) is not a sound safetensors file: \(error.message)\(advice)")
    }
  }

  /// What each tensor is, by its name.
  package var tensors: [String: TensorDeclaration] {
    entries.mapValues { TensorDeclaration(dtype: $0.dtype, shape: $0.shape) }
  }

  private struct UnsupportedType: Error { let name: String, dtype: String }

  /// Checks each declaration and that together they cover `data`, the file's data part, exactly.
  private static func checkedEntries(_ header: SafetensorsHeader, data: Range<Int>) throws
    -> [String: SafetensorsEntry]
  {
    var entries: [String: SafetensorsEntry] = [:]
    var end = 0
    // Equal begins are tensors without elements; they come before the one that fills the place.
    let ordered = header.tensors.sorted { ($0.value.begin, $0.value.end) < ($1.value.begin, $1.value.end) }
    for (name, tensor) in ordered {
      guard let dtype = DType(safetensors: tensor.dtype) else {
        throw UnsupportedType(name: name, dtype: tensor.dtype)
      }
      let size = try byteCount(name, tensor.shape, dtype)
      guard tensor.begin <= tensor.end, tensor.end <= data.count else {
        throw FileError(
          "\(quoted(name)) lies at \(tensor.begin)…\(tensor.end), outside the \(data.count) bytes of data; the file may be "
            + "cut short")
      }
      guard tensor.end - tensor.begin == size else {
        throw FileError(
          "\(quoted(name)) is \(tensor.dtype) of shape \(tensor.shape), \(size) bytes, but is given "
            + "\(tensor.end - tensor.begin)")
      }
      guard tensor.begin == end else {
        let what = tensor.begin < end ? "overlaps the tensor before it" : "leaves a gap before it"
        throw FileError("\(quoted(name)) at \(tensor.begin) \(what), which ends at \(end)")
      }
      end = tensor.end
      entries[name] = SafetensorsEntry(
        name: name, dtype: dtype, shape: tensor.shape,
        range: data.lowerBound + tensor.begin..<data.lowerBound + tensor.end)
    }
    guard end == data.count else {
      throw FileError("the tensors end at \(end), but there are \(data.count) bytes of data")
    }
    return entries
  }

  private static func byteCount(_ name: String, _ shape: [Int], _ dtype: DType) throws -> Int {
    guard shape.count <= SafetensorsFile.maximumRank else {
      throw FileError(
        "\(quoted(name)) has \(shape.count) dimensions, more than \(SafetensorsFile.maximumRank)")
    }
    var size = dtype.size
    var overflow = false
    // libtorch multiplies strides for tensors without elements too, so a zero excuses no overflow.
    for n in shape where n != 0 {
      let (product, over) = size.multipliedReportingOverflow(by: n)
      size = product
      overflow = overflow || over
    }
    guard !overflow else { throw FileError("\(quoted(name)) has the shape \(shape), which overflows") }
    return shape.contains(0) ? 0 : size
  }
}
