import Foundation

/// Writes a `PickleValue` as a pickle of protocol 2, the one that `torch.save` writes. Nothing is put
/// aside for a second use, which a pickle may do but need not.
struct Pickler {
  private var bytes: [UInt8] = [0x80, 2]

  /// The pickle of `value`; throws where protocol 2 has no form for it (bytes).
  static func encode(_ value: PickleValue) throws -> [UInt8] {
    var pickler = Pickler()
    try pickler.write(value)
    pickler.operation(".")
    return pickler.bytes
  }

  private mutating func write(_ value: PickleValue) throws {
    switch value {
    case .none: operation("N")
    case .bool(let flag): bytes.append(flag ? 0x88 : 0x89)
    case .int(let number): integer(number)
    case .float(let number):
      operation("G")
      withUnsafeBytes(of: number.bitPattern.bigEndian) { bytes.append(contentsOf: $0) }
    case .string(let text): try string(text)
    case .bytes, .array:
      throw FileError("cannot write \(value.kind) into a pickle of protocol 2")
    case .tuple(let items): try tuple(items)
    case .list(let items): try list(items)
    case .set(let items):
      global("__builtin__ set")
      try list(items)
      bytes.append(0x85)
      operation("R")
    case .dictionary(let entries, let ordered):
      if ordered { emptyOrderedDict() } else { operation("}") }
      try members(entries)
    case .object(let name, let attributes):
      global(name)
      operation(")")
      bytes.append(0x81)
      operation("}")
      try members(attributes)
      operation("b")
    case .tensor(let value): try tensor(value)
    }
  }

  private mutating func operation(_ code: Unicode.Scalar) { bytes.append(UInt8(ascii: code)) }

  private mutating func global(_ name: String) {
    operation("c")
    bytes.append(contentsOf: name.replacing(" ", with: "\n").utf8)
    operation("\n")
  }

  private mutating func emptyOrderedDict() {
    global("collections OrderedDict")
    operation(")")
    operation("R")
  }

  private mutating func integer(_ number: Int) {
    if let small = Int32(exactly: number) {
      operation("J")
      withUnsafeBytes(of: small.littleEndian) { bytes.append(contentsOf: $0) }
    } else {
      bytes.append(contentsOf: [0x8A, 8])
      withUnsafeBytes(of: Int64(number).littleEndian) { bytes.append(contentsOf: $0) }
    }
  }

  private mutating func string(_ text: String) throws {
    guard let count = UInt32(exactly: text.utf8.count) else { throw FileError("a text is too long") }
    operation("X")
    withUnsafeBytes(of: count.littleEndian) { bytes.append(contentsOf: $0) }
    bytes.append(contentsOf: text.utf8)
  }

  private mutating func tuple(_ items: [PickleValue]) throws {
    operation("(")
    for item in items { try write(item) }
    operation("t")
  }

  private mutating func list(_ items: [PickleValue]) throws {
    operation("]")
    operation("(")
    for item in items { try write(item) }
    operation("e")
  }

  private mutating func members(_ entries: [PickleEntry]) throws {
    operation("(")
    for entry in entries {
      try write(entry.key)
      try write(entry.value)
    }
    operation("u")
  }

  /// `_rebuild_tensor_v2(storage, offset, size, strides, requires_grad, hooks)`.
  private mutating func tensor(_ tensor: TorchTensor) throws {
    global("torch._utils _rebuild_tensor_v2")
    operation("(")
    operation("(")
    try string("storage")
    global(PickleGlobal.storageName(tensor.storage.dtype))
    try string(tensor.storage.key)
    try string("cpu")
    integer(tensor.storage.count)
    operation("t")
    operation("Q")
    integer(tensor.offset)
    try tuple(tensor.shape.map { .int($0) })
    try tuple(tensor.strides.map { .int($0) })
    try write(.bool(false))
    emptyOrderedDict()
    operation("t")
    operation("R")
  }
}
