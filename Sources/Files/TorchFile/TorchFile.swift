public import Foundation
public import Torch

/// A file that `torch.save` wrote (PyTorch 1.6 and later), memory-mapped: a zip archive with a pickle `data.pkl` and
/// the tensors' memory under `data/`; or a pickle alone, with arrays of NumPy's. It is read as data; nothing in it is
/// executed.
public struct TorchFile: Sendable {
  public let url: URL
  /// What was saved.
  public let root: PickleValue
  private let file: MappedFile
  /// Nil for a pickle alone.
  private let archive: ZipArchive?
  private let folder: String

  /// Reads the archive and its pickle.
  ///
  /// - Parameters:
  ///   - url: the file.
  ///   - classes: those whose instances may be in it, as “module name”; they become `PickleValue.object` with
  ///     their attributes, and nothing of theirs is run.
  /// - Throws: `FileError` that names the file and what is wrong with it.
  public init(_ url: URL, classes: Set<String> = []) throws {
    let file = try MappedFile(url)
    self.url = url
    self.file = file
    (archive, folder, root) = try Self.named(url) { try Self.read(file, classes) }
  }

  /// Whether a file looks like one of PyTorch's (zip archive or bare pickle) rather than safetensors,
  /// by its first bytes.
  package static func isOne(_ url: URL) throws -> Bool {
    let file = try MappedFile(url)
    let head = withExtendedLifetime(file) { Array(file.bytes.prefix(9)) }
    let isSafetensors = head.count == 9 && head.last == UInt8(ascii: "{")
    return !isSafetensors && (head.starts(with: [0x50, 0x4B]) || head.first == 0x80)
  }

  private static func read(_ file: MappedFile, _ classes: Set<String>) throws -> (
    ZipArchive?, String, PickleValue
  ) {
    let head = withExtendedLifetime(file) { Array(file.bytes.prefix(signatureBytes)) }
    guard !isOld(head) else {
      throw FileError("it is in PyTorch's format of before 1.6; load and save it once with a newer PyTorch")
    }
    if head.first == 0x80 {
      return try withExtendedLifetime(file) { (nil, "", try Unpickler.value(file.bytes, classes: classes)) }
    }
    guard head.starts(with: [0x50, 0x4B]) else {
      let foreign = withExtendedLifetime(file) { ForeignContent.found(in: file.bytes) }
      throw FileError(foreign.map { "it \($0)" } ?? "it is not a file that torch.save wrote")
    }
    let archive = try ZipArchive(file)
    let pickles = archive.names.filter { $0.split(separator: "/").dropFirst() == ["data.pkl"] }
    guard pickles.count == 1, let pickle = pickles.first else {
      throw FileError(
        "it is a zip archive with \(pickles.count) pickles (data.pkl) instead of one"
          + (pickles.isEmpty ? "; if a model is packed in it, unpack it" : ""))
    }
    let folder = String(pickle.dropLast("/data.pkl".count))
    if archive.contains(folder + "/byteorder"),
      try !archive.contents(folder + "/byteorder").elementsEqual("little".utf8)
    {
      throw FileError("its numbers are not in little-endian byte order, which is not supported")
    }
    return (archive, folder, try Unpickler.value(archive.contents(pickle), classes: classes))
  }

  /// Bytes from a file's start that tell its format.
  private static let signatureBytes = 32
  /// How the format of before 1.6 begins: a pickle of this number.
  private static let magic: [UInt8] = [0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]

  /// Whether a file begins so; protocols from 4 on frame the number.
  private static func isOld(_ head: [UInt8]) -> Bool {
    let frame = head.dropFirst(2).first == 0x95 ? 9 : 0
    return head.first == 0x80 && head.dropFirst(2 + frame).starts(with: magic)
  }

  /// Reads a tensor that `root` mentions: its elements in row-major order, in the file's dtype.
  public func tensor(_ tensor: TorchTensor) throws -> Tensor { try self.tensor(tensor, inPlace: false) }

  /// The same; `inPlace` uses the mapping itself, read-only, where the elements lie in order.
  package func tensor(_ tensor: TorchTensor, inPlace: Bool) throws -> Tensor {
    try Self.named(url) {
      guard let archive else {
        throw FileError("it is a pickle alone, without the memory of its tensors")
      }
      let size = tensor.storage.dtype.size
      let place = try archive.checkedRange(entry(tensor))
      let (needed, over) = tensor.storage.count.multipliedReportingOverflow(by: size)
      guard !over, needed == place.count else {
        throw Self.wrongSize(tensor)
      }
      let count = try tensor.checkedCount()
      guard count > 0 else { return try Tensor.empty(tensor.shape, dtype: tensor.storage.dtype) }
      return try withExtendedLifetime(file) {
        let memory = UnsafeRawBufferPointer(rebasing: file.bytes[place].dropFirst(tensor.offset * size))
        return try self.tensor(tensor, memory, count: count, inPlace: inPlace)
      }
    }
  }

  private func tensor(_ tensor: TorchTensor, _ memory: UnsafeRawBufferPointer, count: Int, inPlace: Bool)
    throws
    -> Tensor
  {
    let dtype = tensor.storage.dtype
    guard tensor.isContiguous else {
      return try tensor.gathered(memory, count: count).withUnsafeBytes {
        try Tensor(bytes: $0, shape: tensor.shape, dtype: dtype)
      }
    }
    if inPlace, let base = memory.baseAddress, Int(bitPattern: base).isMultiple(of: dtype.size) {
      return try Tensor(
        borrowing: UnsafeMutableRawPointer(mutating: base), shape: tensor.shape, dtype: dtype, owner: file)
    }
    return try Tensor(
      bytes: UnsafeRawBufferPointer(rebasing: memory[..<(count * dtype.size)]), shape: tensor.shape,
      dtype: dtype)
  }

  /// Checks that a tensor lies in its storage, and that in its entry, before their numbers are looked at.
  func check(_ tensor: TorchTensor) throws {
    try Self.named(url) {
      let (needed, over) = tensor.storage.count.multipliedReportingOverflow(by: tensor.storage.dtype.size)
      guard !over, needed == archive?.range(entry(tensor))?.count else {
        throw Self.wrongSize(tensor)
      }
      _ = try tensor.checkedCount()
    }
  }

  /// Lets the system have the memory of a tensor that was copied and is not needed here again.
  package func forget(_ tensor: TorchTensor) {
    if let place = archive?.range(entry(tensor)) { file.forget(place) }
  }

  private static func wrongSize(_ tensor: TorchTensor) -> FileError {
    FileError(
      "the memory \(quoted(tensor.storage.key)) of its tensors has a wrong size; fetch or save the file again"
    )
  }

  private func entry(_ tensor: TorchTensor) -> String { "\(folder)/data/\(tensor.storage.key)" }

  /// Puts the file's name before an error's message.
  private static func named<R>(_ url: URL, _ body: () throws -> R) throws -> R {
    do { return try body() } catch let error as FileError {
      throw FileError("cannot read \(url.path): \(error.message)")
    }
  }
}

extension TorchTensor {
  var isContiguous: Bool {
    var expected = 1
    for (n, stride) in zip(shape, strides).reversed() where n != 1 {
      if stride != expected { return false }
      expected &*= n
    }
    return true
  }

  /// How many elements the tensor has, after a check that all lie in its storage.
  fileprivate func checkedCount() throws -> Int {
    let wrong = FileError(
      "a tensor of shape \(shape.prefix(8)) does not fit into its memory; fetch or save the file again")
    guard shape.count == strides.count, shape.count <= SafetensorsFile.maximumRank, storage.count >= 0,
      (0...storage.count).contains(offset), shape.allSatisfy({ $0 >= 0 }),
      strides.allSatisfy({ $0 >= 0 })
    else { throw wrong }
    var count = 1
    var last = offset
    for (n, stride) in zip(shape, strides) where n > 0 {
      let (product, over) = count.multipliedReportingOverflow(by: n)
      let (step, over2) = (n - 1).multipliedReportingOverflow(by: stride)
      let (sum, over3) = last.addingReportingOverflow(step)
      guard !over, !over2, !over3 else { throw wrong }
      (count, last) = (product, sum)
    }
    if shape.contains(0) { return 0 }
    // More elements than the storage has would be an expanded view, whose size has no bound.
    guard last < storage.count, count <= storage.count else { throw wrong }
    return count
  }

  /// The elements in row-major order; `checkedCount` must have passed.
  fileprivate func gathered(_ memory: UnsafeRawBufferPointer, count: Int) -> [UInt8] {
    let size = storage.dtype.size
    var result: [UInt8] = []
    result.reserveCapacity(count * size)
    var index = Array(repeating: 0, count: shape.count)
    var place = 0
    for _ in 0..<count {
      result.append(contentsOf: memory[(place * size)..<(place * size + size)])
      for d in shape.indices.reversed() {
        index[d] += 1
        // A stride along one element may be anything: it may wrap, and is taken back at once.
        place &+= strides[d]
        if index[d] < shape[d] { break }
        place &-= strides[d] &* shape[d]
        index[d] = 0
      }
    }
    return result
  }
}
