import Foundation
import Torch

/// Reads the pickles that `torch.save` writes, as data: it builds a `PickleValue` and executes nothing.
///
/// A pickle is a program for a small stack machine (Python's `pickletools` documents its operations).
/// Here the operations that call something know only the globals of `PickleGlobal.allowed`; any other
/// name is refused before anything is done with it. Values live in a flat table while the program runs,
/// because a container is filled after it was put aside; so values may contain one another in a circle,
/// or be nested deeply, which `PickleTree` refuses at the end.
package struct Unpickler {
  /// A checkpoint's pickle has a few kilobytes; its tensors lie elsewhere.
  package static let maximumBytes = 4_000_000
  /// Values, members of containers, memo entries and repeated references, all together.
  package static let maximumValues = 1_000_000
  /// How deeply values may be nested.
  package static let maximumDepth = 100

  private var reader: PickleReader
  private let classes: Set<String>
  var nodes: [PickleNode] = []
  private var stack: [Int] = []
  /// The heights of the stack at each open mark; nothing below the last may be taken.
  private var marks: [Int] = []
  private var memo: [Int: Int] = [:]
  /// What counts towards `maximumValues` so far.
  private var valueCount = 0
  /// Bytes that were made of texts so far.
  private var encodedCount = 0

  /// The value that the pickle in `bytes` describes.
  ///
  /// - Parameter classes: those that it may name, as “module name”; see `TorchFile`.
  package static func value(_ bytes: some Collection<UInt8>, classes: Set<String> = []) throws -> PickleValue
  {
    guard bytes.count <= maximumBytes else {
      throw FileError("its pickle has \(bytes.count) bytes, more than the limit of \(maximumBytes)")
    }
    var machine = Unpickler(reader: PickleReader(Array(bytes)), classes: classes)
    let root = try machine.run()
    var tree = PickleTree(machine.nodes)
    return try tree.value(root)
  }

  private init(reader: PickleReader, classes: Set<String>) {
    self.reader = reader
    self.classes = classes
  }

  private mutating func run() throws -> Int {
    while true {
      let code = try reader.byte()
      if code == UInt8(ascii: ".") { return try pop() }
      guard try constant(code) || container(code) || bookkeeping(code) || construction(code) else {
        throw FileError(
          "its pickle uses operation 0x\(String(code, radix: 16)), which torch.save does not write")
      }
    }
  }

  // MARK: Operations. Each returns false when `code` is not one of its own.

  private mutating func constant(_ code: UInt8) throws -> Bool {
    switch code {
    case UInt8(ascii: "N"): try push(.none)
    case 0x88: try push(.bool(true))
    case 0x89: try push(.bool(false))
    case UInt8(ascii: "J"): try push(.int(Int(Int32(truncatingIfNeeded: try reader.unsigned(4)))))
    case UInt8(ascii: "K"): try push(.int(try reader.unsigned(1)))
    case UInt8(ascii: "M"): try push(.int(try reader.unsigned(2)))
    case 0x8A: try push(.int(try reader.signed(try reader.unsigned(1))))
    case 0x8B: try push(.int(try reader.signed(try reader.unsigned(4))))
    case UInt8(ascii: "G"): try push(.float(try reader.double()))
    case UInt8(ascii: "X"): try push(.string(try reader.text(try reader.unsigned(4))))
    case 0x8C: try push(.string(try reader.text(try reader.unsigned(1))))
    case 0x8D: try push(.string(try reader.text(try reader.unsigned(8))))
    // Strings of Python 2.
    case UInt8(ascii: "T"): try push(.string(try reader.text(try reader.unsigned(4))))
    case UInt8(ascii: "U"): try push(.string(try reader.text(try reader.unsigned(1))))
    case UInt8(ascii: "B"): try push(.bytes(try reader.bytes(try reader.unsigned(4))))
    case UInt8(ascii: "C"): try push(.bytes(try reader.bytes(try reader.unsigned(1))))
    case 0x8E: try push(.bytes(try reader.bytes(try reader.unsigned(8))))
    default: return false
    }
    return true
  }

  private mutating func container(_ code: UInt8) throws -> Bool {
    switch code {
    case UInt8(ascii: ")"): try add(.tuple)
    case UInt8(ascii: "t"): try add(.tuple, try popMark())
    case 0x85: try add(.tuple, try pop(1))
    case 0x86: try add(.tuple, try pop(2))
    case 0x87: try add(.tuple, try pop(3))
    case UInt8(ascii: "]"): try add(.list)
    case UInt8(ascii: "l"): try add(.list, try popMark())
    case UInt8(ascii: "a"): try extend("list", try pop(1)) { if case .list = $0 { true } else { false } }
    case UInt8(ascii: "e"): try extend("list", try popMark()) { if case .list = $0 { true } else { false } }
    case UInt8(ascii: "}"): try add(.dictionary(ordered: false))
    case UInt8(ascii: "d"): try add(.dictionary(ordered: false), try pairs(try popMark()))
    case UInt8(ascii: "s"): try extend("dict", try pop(2), Self.isDictionary)
    case UInt8(ascii: "u"): try extend("dict", try pairs(try popMark()), Self.isDictionary)
    case 0x8F: try add(.set)
    case 0x90: try extend("set", try popMark()) { if case .set = $0 { true } else { false } }
    case 0x91: try add(.set, try popMark())
    default: return false
    }
    return true
  }

  private mutating func bookkeeping(_ code: UInt8) throws -> Bool {
    switch code {
    case 0x80:
      let version = try reader.unsigned(1)
      guard version <= 5 else {
        throw FileError("its pickle has the unknown protocol \(version); save the file with protocol 2 to 5")
      }
    case 0x95: _ = try reader.unsigned(8)  // a frame: only a hint for reading ahead
    case UInt8(ascii: "("): marks.append(stack.count)
    case UInt8(ascii: "0"):
      if marks.last == stack.count { marks.removeLast() } else { _ = try pop() }
    case UInt8(ascii: "1"): _ = try popMark()
    case UInt8(ascii: "2"): try refer(to: try top())
    case UInt8(ascii: "q"): try memorize(try reader.unsigned(1))
    case UInt8(ascii: "r"): try memorize(try reader.unsigned(4))
    case 0x94: try memorize(memo.count)
    case UInt8(ascii: "h"): try recall(try reader.unsigned(1))
    case UInt8(ascii: "j"): try recall(try reader.unsigned(4))
    default: return false
    }
    return true
  }

  private mutating func construction(_ code: UInt8) throws -> Bool {
    switch code {
    case UInt8(ascii: "c"): try global(try reader.line(), try reader.line())
    case 0x93:
      let name = try pop(2).map { id in
        guard case .leaf(.string(let text)) = nodes[id].kind else { throw unexpected("a global's name") }
        return text
      }
      try global(name[0], name[1])
    // An instance by name, in the oldest protocol: only its name is of interest, to refuse it.
    case UInt8(ascii: "i"): throw refusal(try reader.line(), try reader.line())
    case UInt8(ascii: "Q"): try persistent(try pop())
    case UInt8(ascii: "R"), 0x81:
      let (callable, arguments) = (try pop(2), code == 0x81)
      guard case .tuple = nodes[callable[1]].kind else { throw unexpected("a call's arguments") }
      try call(callable[0], nodes[callable[1]].children, making: arguments)
    case UInt8(ascii: "b"): try build(try pop())
    default: return false
    }
    return true
  }

  // MARK: The stack

  private mutating func add(_ kind: PickleNode.Kind, _ children: [Int] = []) throws {
    try count(1 + children.count)
    stack.append(nodes.count)
    nodes.append(PickleNode(kind: kind, children: children))
  }

  /// Few bytes can ask for much memory, so everything that takes some is counted.
  private mutating func count(_ more: Int) throws {
    valueCount += more
    guard valueCount <= Self.maximumValues else {
      throw FileError("its pickle has more than \(Self.maximumValues) values")
    }
  }

  private mutating func push(_ value: PickleValue) throws { try add(.leaf(value)) }

  private mutating func pop(_ n: Int) throws -> [Int] {
    guard stack.count - (marks.last ?? 0) >= n else { throw unexpected("its stack") }
    defer { stack.removeLast(n) }
    return Array(stack.suffix(n))
  }

  private mutating func pop() throws -> Int { try pop(1)[0] }

  private mutating func popMark() throws -> [Int] {
    guard let mark = marks.popLast() else { throw unexpected("its marks") }
    defer { stack.removeLast(stack.count - mark) }
    return Array(stack[mark...])
  }

  private func top() throws -> Int {
    guard stack.count > (marks.last ?? 0), let id = stack.last else { throw unexpected("its stack") }
    return id
  }

  private mutating func recall(_ index: Int) throws {
    guard let id = memo[index] else { throw unexpected("its memo") }
    try refer(to: id)
  }

  private mutating func refer(to id: Int) throws {
    try count(1)
    stack.append(id)
  }

  private mutating func memorize(_ index: Int) throws {
    try count(1)
    memo[index] = try top()
  }

  /// Appends to the container that is now on top of the stack.
  private mutating func extend(
    _ what: String, _ items: [Int], _ isContainer: (PickleNode.Kind) -> Bool
  ) throws {
    let id = try top()
    guard isContainer(nodes[id].kind) else { throw unexpected("a \(what)") }
    try count(items.count)
    nodes[id].children.append(contentsOf: items)
  }

  private static func isDictionary(_ kind: PickleNode.Kind) -> Bool {
    if case .dictionary = kind { true } else { false }
  }

  private func pairs(_ items: [Int]) throws -> [Int] {
    guard items.count.isMultiple(of: 2) else { throw unexpected("a dict's members") }
    return items
  }

  // MARK: What would be calls

  private mutating func global(_ module: String, _ name: String) throws {
    let whole = "\(module) \(name)"
    guard let global = PickleGlobal.allowed[whole] ?? (classes.contains(whole) ? .instance : nil) else {
      throw refusal(module, name)
    }
    try add(.global(whole, global))
  }

  private func refusal(_ module: String, _ name: String) -> FileError {
    let global = quoted("\(module).\(name)")
    return FileError(
      PickleGlobal.couldRunCode(module, name)
        ? "it wants to use \(global), which weights do not need, and which could run code. Nothing of it was run; if you "
          + "trust it, save its state_dict as safetensors"
        : "it has \(global) in it, which is not read; if you trust it, save its state_dict as safetensors")
  }

  private func unexpected(_ what: String) -> FileError {
    FileError("its pickle is damaged (\(what), near byte \(reader.position)); fetch or save the file again")
  }

  private mutating func call(_ callable: Int, _ arguments: [Int], making: Bool) throws {
    guard case .global(let name, let global) = nodes[callable].kind else { throw unexpected("a call") }
    switch (global, arguments.count, making) {
    case (.orderedDict, 0, _): try add(.dictionary(ordered: true))
    case (.instance, 0, true): try add(.object(name))
    case (.ignored, _, _): try add(.ignored)
    case (.encode, 2, false): try push(.bytes(try latin1(arguments)))
    case (.arrayType, 1...3, false): try add(.arrayType(try arrayType(arguments[0])))
    case (.rebuildArray, 3, false):
      guard case .global(_, .arrayClass) = nodes[arguments[0]].kind else {
        throw unexpected("an array's class")
      }
      try add(.array(nil))
    case (.set, 0...1, false):
      guard let items = arguments.first else { return try add(.set) }
      guard case .list = nodes[items].kind else { throw unexpected("a set's members") }
      try add(.set, nodes[items].children)
    case (.rebuildTensor, 6...7, false): try push(.tensor(try tensor(arguments)))
    case (.rebuildParameter, 2...4, false):
      guard case .leaf(.tensor(let data)) = nodes[arguments[0]].kind else {
        throw unexpected("a parameter")
      }
      try push(.tensor(data))
    default: throw unexpected("the arguments of \(name)")
    }
  }

  /// `(storage, offset, size, strides, …)`.
  private func tensor(_ arguments: [Int]) throws -> TorchTensor {
    guard case .storage(let storage) = nodes[arguments[0]].kind,
      case .leaf(.int(let offset)) = nodes[arguments[1]].kind
    else { throw unexpected("a tensor") }
    return TorchTensor(
      storage: storage, offset: offset, shape: try integers(arguments[2]),
      strides: try integers(arguments[3]))
  }

  /// `(text, "latin1")`.
  private mutating func latin1(_ arguments: [Int]) throws -> [UInt8] {
    guard case .leaf(.string(let text)) = nodes[arguments[0]].kind,
      case .leaf(.string(let encoding)) = nodes[arguments[1]].kind,
      ["latin1", "latin-1"].contains(encoding)
    else { throw unexpected("encoded bytes") }
    // One long text can be encoded again and again.
    encodedCount += text.utf8.count
    guard encodedCount <= Self.maximumBytes else {
      throw FileError("its pickle has more than \(Self.maximumBytes) bytes as text")
    }
    return try text.unicodeScalars.map {
      guard let byte = UInt8(exactly: $0.value) else { throw unexpected("encoded bytes") }
      return byte
    }
  }

  /// The element type of a name such as `f4`; nil for one that is not read.
  private func arrayType(_ id: Int) throws -> DType? {
    guard case .leaf(.string(let name)) = nodes[id].kind else { throw unexpected("a type of numbers") }
    return NumPyArray.types[name]
  }

  /// An element type with its state, `(3, byte order, …)`.
  private func arrayType(_ type: DType?, _ state: Int) throws -> DType? {
    let parts = nodes[state].children
    guard case .tuple = nodes[state].kind, parts.count >= 2,
      case .leaf(.string(let order)) = nodes[parts[1]].kind
    else { throw unexpected("a type of numbers") }
    return order == ">" ? nil : type
  }

  /// An array's state, `(1, shape, type, whether in Fortran's order, bytes)`.
  private func array(_ state: Int) throws -> NumPyArray {
    let parts = nodes[state].children
    guard case .tuple = nodes[state].kind, parts.count == 5,
      case .arrayType(let type) = nodes[parts[2]].kind,
      case .leaf(.bool(let isColumnMajor)) = nodes[parts[3]].kind
    else { throw unexpected("an array") }
    guard let type else {
      throw FileError(
        "its pickle has an array of a type that is not read: numbers in little-endian order are")
    }
    guard case .leaf(.bytes(let bytes)) = nodes[parts[4]].kind else {
      throw FileError("its pickle has an array of objects; only numbers are read")
    }
    return try NumPyArray(
      dtype: type, shape: try integers(parts[1]), isColumnMajor: isColumnMajor, bytes: bytes)
  }

  private func integers(_ id: Int) throws -> [Int] {
    guard case .tuple = nodes[id].kind, nodes[id].children.count <= SafetensorsFile.maximumRank else {
      throw unexpected("a tensor's shape")
    }
    return try nodes[id].children.map {
      guard case .leaf(.int(let n)) = nodes[$0].kind else { throw unexpected("a tensor's shape") }
      return n
    }
  }

  /// `("storage", type, key, location, count)`; the location, a device, plays no part here.
  private mutating func persistent(_ id: Int) throws {
    let parts = nodes[id].children
    guard case .tuple = nodes[id].kind, parts.count == 5,
      case .leaf(.string("storage")) = nodes[parts[0]].kind,
      case .global(_, .storage(let dtype)) = nodes[parts[1]].kind,
      case .leaf(.string(let key)) = nodes[parts[2]].kind,
      case .leaf(.int(let count)) = nodes[parts[4]].kind
    else { throw unexpected("a storage") }
    try add(.storage(TorchStorage(key: key, dtype: dtype, count: count)))
  }

  /// Gives an object its attributes. The state of an OrderedDict (its `_metadata`) is of no use here.
  private mutating func build(_ state: Int) throws {
    let id = try top()
    switch nodes[id].kind {
    case .ignored: return
    case .arrayType(let type): return nodes[id].kind = .arrayType(try arrayType(type, state))
    case .array(nil): return nodes[id].kind = .array(try array(state))
    default: break
    }
    guard Self.isDictionary(nodes[state].kind) else { throw unexpected("an object's state") }
    switch nodes[id].kind {
    case .object: nodes[id].children = [state]
    case .dictionary(ordered: true): break
    default: throw unexpected("an object")
    }
  }
}
