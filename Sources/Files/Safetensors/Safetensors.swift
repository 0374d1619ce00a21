public import Foundation
public import Torch

/// One tensor of a safetensors file.
public struct SafetensorsEntry: Sendable {
  public let name: String
  public let dtype: DType
  public let shape: [Int]
  /// Where its bytes lie in the file.
  public let range: Range<Int>
}

/// A safetensors file, memory-mapped and read-only: 8 bytes with the length of a JSON header, the
/// header, and the tensors' bytes (https://github.com/huggingface/safetensors, “Format”).
///
/// A file is taken from strangers: every length, number and offset is checked when it is opened.
public final class SafetensorsFile: Sendable {
  /// The longest header accepted, as in the reference implementation.
  public static let maximumHeaderBytes = 100_000_000
  /// The largest number of dimensions that libtorch's operations take.
  public static let maximumRank = 64

  public let url: URL
  /// The strings under `__metadata__`.
  public let metadata: [String: String]
  public let entries: [String: SafetensorsEntry]
  private let file: MappedFile

  /// Maps the file at `url` and reads its header; throws `FileError` that names the file when it
  /// is not a well-formed safetensors file.
  public init(_ url: URL) throws {
    let file = try MappedFile(url)
    do {
      let bytes = file.bytes
      if let foreign = ForeignContent.instead(ofSafetensors: bytes) { throw OtherFile(what: foreign) }
      guard bytes.count >= 8 else { throw FileError("it has \(bytes.count) bytes, a header needs 8") }
      let length = UInt64(littleEndian: bytes.loadUnaligned(as: UInt64.self))
      guard length <= UInt64(Self.maximumHeaderBytes) else {
        throw FileError(
          "it does not begin as one: that would be a header of \(length) bytes, and at most "
            + "\(Self.maximumHeaderBytes) are read")
      }
      let dataStart = 8 + Int(length)
      guard dataStart <= bytes.count else {
        throw FileError(
          "it declares a header of \(length) bytes but has only \(bytes.count) bytes in all; it may be cut short"
        )
      }
      let header = try SafetensorsHeader(Array(bytes[8..<dataStart]))
      self.entries = try Self.checkedEntries(header, data: dataStart..<bytes.count)
      self.metadata = header.metadata
    } catch let error as OtherFile {
      throw FileError("\(url.path) \(error.what)")
    } catch let error as UnsupportedType {
      throw FileError(
        "\(url.path): \(quoted(error.name)) has the element type \(quoted(error.dtype)), which is not supported; take "
          + "the file in fp16, bf16 or fp32")
    } catch let error as FileError {
      throw FileError(
        "\(url.path) is not a sound safetensors file: \(error.message); fetch or save it again")
    }
    self.url = url
    self.file = file
  }

  /// The tensor `name`, on the CPU, in the file's dtype. Where its bytes are aligned they are used in
  /// place, read-only, and the mapping lives as long as the tensor; else they are copied.
  public func tensor(_ name: String) throws -> Tensor {
    guard let entry = entries[name] else {
      throw FileError("\(url.path) has no tensor \(quoted(name))")
    }
    guard !entry.range.isEmpty, let base = file.bytes.baseAddress else {
      return try Tensor.empty(entry.shape, dtype: entry.dtype)
    }
    let start = base + entry.range.lowerBound
    if Int(bitPattern: start) % entry.dtype.size == 0 {
      return try Tensor(
        borrowing: UnsafeMutableRawPointer(mutating: start), shape: entry.shape, dtype: entry.dtype,
        owner: file)
    }
    return try withExtendedLifetime(file) {
      try Tensor(
        bytes: UnsafeRawBufferPointer(rebasing: file.bytes[entry.range]), shape: entry.shape,
        dtype: entry.dtype)
    }
  }

  /// Lets the system have the memory of a tensor that was copied and is not needed here again.
  package func forget(_ name: String) {
    if let entry = entries[name] { file.forget(entry.range) }
  }

  private struct UnsupportedType: Error { let name: String, dtype: String }
  private struct OtherFile: Error { let what: String }

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
    guard shape.count <= maximumRank else {
      throw FileError("\(quoted(name)) has \(shape.count) dimensions, more than \(maximumRank)")
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

/// Writing safetensors files.
public enum Safetensors {
  /// The file's bytes. Tensors are ordered by element type, widest first, then by name, as the
  /// reference implementation does, so equal contents give equal files; the data starts at a multiple
  /// of 8. Metadata is sorted by key. Throws when a name comes twice.
  public static func encode(_ tensors: [(String, Tensor)], metadata: [String: String] = [:]) throws
    -> Data
  {
    let ordered = tensors.sorted { a, b in
      let (x, y) = (a.1.dtype.safetensorsOrder, b.1.dtype.safetensorsOrder)
      return x != y ? x > y : a.0.utf8.lexicographicallyPrecedes(b.0.utf8)
    }
    var members: [String] = []
    if !metadata.isEmpty {
      let pairs = metadata.sorted { $0.key.utf8.lexicographicallyPrecedes($1.key.utf8) }
        .map { "\(jsonString($0.key)):\(jsonString($0.value))" }
      members.append("\"__metadata__\":{\(pairs.joined(separator: ","))}")
    }
    var data = Data()
    var names: Set<String> = ["__metadata__"]
    for (name, tensor) in ordered {
      guard names.insert(name).inserted else {
        throw FileError("cannot write safetensors: the name \(quoted(name)) is reserved or comes twice")
      }
      let start = data.count
      data.append(contentsOf: try tensor.rawBytes())
      let shape = tensor.shape.map(String.init).joined(separator: ",")
      members.append(
        "\(jsonString(name)):{\"dtype\":\"\(tensor.dtype.safetensorsName)\",\"shape\":[\(shape)],"
          + "\"data_offsets\":[\(start),\(data.count)]}")
    }
    var header = Array("{\(members.joined(separator: ","))}".utf8)
    header += Array(repeating: UInt8(ascii: " "), count: (8 - header.count % 8) % 8)
    guard header.count <= SafetensorsFile.maximumHeaderBytes else {
      throw FileError("cannot write safetensors: a header of \(header.count) bytes is too long")
    }
    var file = Data(capacity: 8 + header.count + data.count)
    withUnsafeBytes(of: UInt64(header.count).littleEndian) { file.append(contentsOf: $0) }
    file.append(contentsOf: header)
    file.append(data)
    return file
  }

  /// Writes `encode`'s bytes atomically.
  public static func write(_ tensors: [(String, Tensor)], metadata: [String: String] = [:], to url: URL)
    throws
  {
    try AtomicFile.write(encode(tensors, metadata: metadata), to: url)
  }

  /// A JSON string, escaped as the reference implementation does.
  private static func jsonString(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": result += "\\\""
      case "\\": result += "\\\\"
      case "\u{8}": result += "\\b"
      case "\u{C}": result += "\\f"
      case "\n": result += "\\n"
      case "\r": result += "\\r"
      case "\t": result += "\\t"
      case "\0"..<" ":
        let hex = String(scalar.value, radix: 16)
        result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
      default: result.unicodeScalars.append(scalar)
      }
    }
    return result + "\""
  }
}

extension DType {
  /// The format's names, in the order in which the reference implementation ranks them.
  private static let safetensorsNames: [(DType, String)] = [
    (.bool, "BOOL"), (.uint8, "U8"), (.int8, "I8"), (.int16, "I16"), (.float16, "F16"),
    (.bfloat16, "BF16"), (.int32, "I32"), (.float32, "F32"), (.float64, "F64"), (.int64, "I64"),
  ]

  init?(safetensors name: String) {
    guard let found = Self.safetensorsNames.first(where: { $0.1 == name }) else { return nil }
    self = found.0
  }

  var safetensorsOrder: Int { Self.safetensorsNames.firstIndex { $0.0 == self } ?? 0 }
  var safetensorsName: String { Self.safetensorsNames[safetensorsOrder].1 }
}
