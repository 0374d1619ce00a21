import Files
import Foundation
import TestSupport
import Testing
import Torch

/// Operations of the pickle machine, as bytes.
private enum Code {
  static let start: [UInt8] = [0x80, 2]
  static let stop = Array(".".utf8)
  static let one: [UInt8] = [UInt8(ascii: "K"), 1]
  static func global(_ module: String, _ name: String) -> [UInt8] { Array("c\(module)\n\(name)\n".utf8) }
  static func put(_ n: UInt8) -> [UInt8] { [UInt8(ascii: "q"), n] }
  static func get(_ n: UInt8) -> [UInt8] { [UInt8(ascii: "h"), n] }
  static func text(_ text: String) -> [UInt8] { [0x8C, UInt8(text.utf8.count)] + Array(text.utf8) }
}

private func read(_ code: [UInt8]...) throws -> PickleValue { try Unpickler.value(Array(code.joined())) }

private func message(_ code: [UInt8]...) -> String {
  do {
    return "no error: \(try Unpickler.value(Array(code.joined())))"
  } catch {
    return (error as? FileError)?.message ?? "another error: \(error)"
  }
}

@Suite struct UnpicklerTests {
  @Test(arguments: [
    ("os", "system"), ("posix", "system"), ("builtins", "eval"), ("__builtin__", "exec"),
    ("subprocess", "Popen"), ("builtins", "getattr"), ("torch", "load"), ("torch._utils", "_rebuild_tensor"),
    ("copyreg", "_reconstructor"), ("collections", "OrderedDict.fromkeys"), ("collections OrderedDict", ""),
    ("models.positional_encoding", "os"),
  ])
  func `A pickle that names anything outside the list is refused by that name`(
    _ module: String, _ name: String
  ) {
    let call = Code.text("true") + [0x85] + Array("R.".utf8)
    let byLine = message(Code.start, Code.global(module, name), call)
    let byStack = message(Code.start, Code.text(module), Code.text(name), [0x93], call)
    let oldest = message(Array("(S'true'\ni\(module)\n\(name)\n.".utf8))
    // Which of them could run code, another test asks.
    for text in [byLine, byStack] {
      #expect(
        ["it wants to use ", "it has "].contains { text.hasPrefix($0 + "“\(module).\(name)”") }, "\(text)")
    }
    #expect(!oldest.contains("no error"))
  }

  @Test func `The name in the message is short and holds no control characters`() {
    let text = message(Code.start, Code.global("os\u{1B}[2J\r", String(repeating: "x", count: 5000)))
    #expect(text.contains(#"“os\u001B[2J\u000D.xxx"#), "\(text)")
    #expect(text.count < 300)
  }

  @Test(
    arguments: [
      ("an extension registry", [0x82, 1]), ("a persistent name", Array("Pname\n".utf8)),
      ("an instance of the oldest protocol", Array("(o".utf8)), ("a keyword construction", [0x92]),
      ("an out-of-band buffer", [0x97]), ("nothing known", [0xFF]), ("a number as text", Array("I1\n".utf8)),
    ] as [(String, [UInt8])])
  func `An operation that torch.save does not write is refused`(_ name: String, _ code: [UInt8]) {
    let text = message(Code.start, code, Code.stop)
    #expect(text.contains("operation 0x") || text.contains("wants to use"), "\(name): \(text)")
  }

  @Test func `Deep nesting is refused, whichever way it is made`() {
    let inward = Array(repeating: UInt8(ascii: "]"), count: 200_000)
    let closing = Array(repeating: UInt8(ascii: "a"), count: 199_999)
    #expect(message(Code.start, inward, closing, Code.stop).contains("levels deep"))
    let tuples = Array(repeating: 0x85 as UInt8, count: 200_000)
    #expect(message(Code.start, Code.one, tuples, Code.stop).contains("levels deep"))
    // Each level is first seen by itself: a list of ((1,),), then of one more around it, and so on.
    var levels: [UInt8] = Array("](".utf8) + Code.one
    for _ in 0..<1000 { levels += [UInt8(ascii: "2"), 0x85] }
    #expect(message(Code.start, levels, Array("e.".utf8)).contains("levels deep"))
  }

  @Test func `A value that contains itself is refused`() {
    #expect(
      message(Code.start, Array("]".utf8), Code.put(0), Code.get(0), Array("a.".utf8)).contains("itself"))
    let dictionary = Array("}".utf8) + Code.put(0) + Code.text("a") + Code.get(0) + Array("s.".utf8)
    #expect(message(Code.start, dictionary).contains("itself"))
    let tuple = Array("]".utf8) + Code.put(0) + Code.get(0) + [0x85] + Array("a.".utf8)
    #expect(message(Code.start, tuple).contains("itself"))
  }

  @Test func `Lists of the same list do not multiply`() throws {
    // 10 references to the level below, 90 levels: 10^90 values if each were made.
    var code = Code.one
    for _ in 0..<90 {
      code += Code.put(0) + Array("](".utf8)
      for _ in 0..<10 { code += Code.get(0) }
      code += Array("e".utf8)
    }
    guard case .list(let items) = try read(Code.start, code, Code.stop) else {
      Issue.record("not a list")
      return
    }
    #expect(items.count == 10)
  }

  @Test func `Sets made from one long list are bounded`() {
    var code = Array("](".utf8)
    for _ in 0..<100_000 { code += Code.one }
    code += Array("e".utf8) + Code.put(0) + Code.global("builtins", "set") + Code.put(1) + Array("(".utf8)
    for _ in 0..<100 { code += Code.get(1) + Code.get(0) + [0x85, UInt8(ascii: "R")] }
    #expect(message(Code.start, code, Array("t.".utf8)).contains("more than"))
  }

  /// The largest whole number.
  private static let huge: [UInt8] = [0x8A, 8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F]

  /// `_reconstruct(ndarray, (0,), b"b")` and its state of one float.
  private static func array(
    shape: [UInt8] = [1], sizes given: [UInt8]? = nil, type: String = "f4", order: String = "<",
    text: String = "\0\0\0\0",
    class name: (String, String) = ("numpy", "ndarray"), isColumnMajor: Bool = false
  ) -> [UInt8] {
    let made =
      Code.global("numpy.core.multiarray", "_reconstruct") + Code.global(name.0, name.1) + Code.one + [0x85]
      + Code.text("b") + [0x87] + Array("R".utf8)
    let dtype =
      Code.global("numpy", "dtype") + Code.text(type) + [0x85] + Array("R(".utf8) + Code.one
      + Code.text(order) + Array("tb".utf8)
    let bytes =
      Code.global("_codecs", "encode") + Code.text(text) + Code.text("latin1") + [0x86] + Array("R".utf8)
    let sizes =
      Array("(".utf8) + (given ?? shape.flatMap { [UInt8(ascii: "K"), $0] }) + Array("t".utf8)
    return made + Array("(".utf8) + Code.one + sizes + dtype + [isColumnMajor ? 0x88 : 0x89] + bytes
      + Array("tb".utf8)
  }

  @Test func `An array of NumPy's is its numbers, and nothing else is made by its name`() throws {
    guard case .array(let array) = try read(Code.start, Self.array(text: "\0\0\u{C0}\u{3F}"), Code.stop)
    else {
      Issue.record("not an array")
      return
    }
    #expect(try array.tensor().floats() == [1.5])
    guard
      case .array(let deep) = try read(
        Code.start, Self.array(shape: [1, 1, 1], isColumnMajor: true), Code.stop)
    else {
      Issue.record("not an array")
      return
    }
    #expect(
      refusal { try deep.tensor() }?.message
        == "its pickle has an array of shape [1, 1, 1] in Fortran's order, which is not read")
    for (code, why) in [
      (Self.array(shape: [2]), "an array of shape [2] and type float32 with 4 bytes instead of 8"),
      (Self.array(sizes: [0x8A, 1, 0xFF]), "an array of shape [-1], which is none"),
      (Self.array(sizes: Self.huge + Self.huge), "which is none"),
      (Self.array(shape: [255, 255, 255, 255]), "instead of"),
      (Self.array(type: "O8"), "not read"), (Self.array(order: ">"), "little-endian"),
      (Self.array(text: "\u{100}"), "encoded bytes"), (Self.array(class: ("numpy", "dtype")), "class"),
      (Self.array(class: ("os", "system")), "wants to use"),
      (Array(Self.array().prefix(while: { $0 != UInt8(ascii: "R") })) + Array("R".utf8), "without numbers"),
    ] {
      let text = message(Code.start, code, Code.stop)
      #expect(text.contains(why), "\(text)")
    }
  }

  @Test func `Bytes that are made of one text again and again are bounded`() {
    let text = Array("X".utf8) + [0, 0, 1, 0] + Array(repeating: UInt8(ascii: "x"), count: 65_536)
    var code = text + Code.put(0) + Code.global("_codecs", "encode") + Code.put(1) + Array("(".utf8)
    for _ in 0..<100 { code += Code.get(1) + Code.get(0) + Code.text("latin1") + [0x86] + Array("R".utf8) }
    #expect(message(Code.start, code, Array("t.".utf8)).contains("as text"))
  }

  @Test func `Memo entries, references and members of every container are bounded`() {
    func many(_ code: [UInt8], _ count: Int = 600_000) -> [UInt8] {
      Array(Array(repeating: code, count: count).joined())
    }
    let list = Array("]".utf8) + Code.put(0)
    for (name, code) in [
      ("memo entries", Code.one + many([0x94], 1_000_001)),
      ("references", Code.one + many(Array("2".utf8), 1_000_001)),
      ("members of a list", list + Array("(".utf8) + Code.one + many(Array("2".utf8)) + Array("e".utf8)),
      ("a list, one by one", list + many(Code.get(0) + Array("a".utf8))),
      ("members of a dict", Array("}(".utf8) + Code.one + many(Array("2".utf8), 600_001) + Array("u".utf8)),
      ("members of a set", [0x8F] + Array("(".utf8) + Code.one + many(Array("2".utf8)) + [0x90]),
      ("a tuple", Array("(".utf8) + Code.one + many(Array("2".utf8)) + Array("t".utf8)),
    ] {
      #expect(message(Code.start, code, Code.stop).contains("more than"), "\(name)")
    }
  }

  @Test func `Counts beyond the file, huge memo numbers and too many values are refused or harmless`() throws
  {
    for code: [UInt8] in [
      [UInt8(ascii: "X"), 0xFF, 0xFF, 0xFF, 0xFF], [0x8D] + Array(repeating: 0xFF, count: 8),
      [0x8D, 0, 0, 0, 0, 0, 0, 0, 0x40], [UInt8(ascii: "B"), 0xFF, 0xFF, 0xFF, 0x7F], [0x8A, 255],
      [0x8B, 0xFF, 0xFF, 0xFF, 0xFF], [0x8A, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1], [UInt8(ascii: "G"), 0],
    ] {
      let text = message(Code.start, code, Code.stop)
      #expect(text.contains("cut short") || text.contains("64 bits"), "\(text)")
    }
    let farMemo =
      Code.one + [
        UInt8(ascii: "r"), 0xFF, 0xFF, 0xFF, 0xFF, UInt8(ascii: "0"), UInt8(ascii: "j"), 0xFF, 0xFF, 0xFF,
        0xFF,
      ]
    guard case .int(1) = try read(Code.start, farMemo, Code.stop) else {
      Issue.record("not 1")
      return
    }
    #expect(message(Code.start, Code.get(7), Code.stop).contains("memo"))
    let many = Array(repeating: UInt8(ascii: "N"), count: Unpickler.maximumValues + 1)
    #expect(message(Code.start, many, Code.stop).contains("more than"))
    #expect(message(Array(repeating: 0, count: Unpickler.maximumBytes + 1)).contains("limit"))
  }

  /// Programs that cannot be, and what is said of each.
  private static let broken: [(program: String, says: String)] = [
    ("", "cut short"), (".", "its stack"), ("(.", "its stack"), ("0", "its stack"), ("1", "its marks"),
    ("2", "its stack"), ("t", "its marks"), ("a", "its stack"), ("s", "its stack"), ("u", "its marks"),
    ("e", "its marks"), ("b", "its stack"), ("R", "its stack"), ("Q", "its stack"), ("h\u{0}", "its memo"),
    ("(K\u{1}u.", "a dict's members"), ("}(K\u{1}u.", "a dict's members"), ("K\u{1}K\u{1}a.", "a list"),
    ("K\u{1}K\u{1}K\u{1}s.", "a dict"), ("K\u{1}(K\u{1}\u{90}.", "a set"), ("))R.", "a call"),
    ("ccollections\nOrderedDict\n.", "“collections OrderedDict” itself as a value"),
    ("ccollections\nOrderedDict\n)b.", "an object's state"), ("K\u{1}}b.", "an object"),
    ("ccollections\nOrderedDict\nK\u{1}R.", "a call's arguments"),
    ("ctorch\nFloatStorage\n)R.", "the arguments of torch FloatStorage"),
    ("ctorch._utils\n_rebuild_tensor_v2\n)R.", "the arguments of torch._utils _rebuild_tensor_v2"),
    ("ctorch._utils\n_rebuild_tensor_v2\n(K\u{1}K\u{1}K\u{1}K\u{1}K\u{1}K\u{1}tR.", "a tensor,"),
    ("ctorch._utils\n_rebuild_tensor_v2\n(\(storage)K\u{0}K\u{1}))K\u{1}tR.", "a tensor's shape"),
    ("ctorch._utils\n_rebuild_tensor_v2\n(\(storage)K\u{0}]\u{85}))K\u{1}tR.", "a tensor's shape"),
    ("ctorch._utils\n_rebuild_parameter\nK\u{1}K\u{1}\u{86}R.", "a parameter"),
    ("cbuiltins\nset\nK\u{1}\u{85}R.", "a set's members"), (")Q.", "a storage"), ("K\u{1}Q.", "a storage"),
    ("\(storage).", "a bare storage"), ("cos", "cut short"), ("cos\nsystem", "cut short"),
    ("(]K\u{1}a", "cut short"), ("](K\u{1}a.", "its stack"), ("K\u{1}K\u{1}\u{93}", "a global's name"),
    ("X\u{1}\u{0}\u{0}\u{0}\u{FF}.", "text that is not UTF-8"),
    ("c_codecs\nencode\n\u{8C}\u{1}a\u{8C}\u{1}b\u{86}R.", "encoded bytes"),
    ("cnumpy\ndtype\nK\u{1}\u{85}R.", "a type of numbers"),
    ("cnumpy\ndtype\n\u{8C}\u{2}f4\u{85}R)b.", "a type of numbers"),
    ("cnumpy\ndtype\n\u{8C}\u{2}f4\u{85}R.", "a type of numbers as a value"),
    ("\(array))b.", "an array"),
    ("\(array)(K\u{1})cnumpy\ndtype\n\u{8C}\u{2}f4\u{85}R\u{89}]tb.", "an array of objects"),
    ("cmodels\nBox\n.", "it has “models.Box” in it, which is not read"), ("\u{80}\u{6}K\u{1}.", "protocol 6"),
  ]
  private static let storage = "(\u{8C}\u{7}storagectorch\nFloatStorage\n\u{8C}\u{1}0\u{8C}\u{3}cpuK\u{1}tQ"
  private static let array = "cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n)\u{8C}\u{1}b\u{87}R"

  @Test func `Broken programs are refused, and what is broken is said`() {
    for (program, says) in Self.broken {
      let text = message(Code.start, program.unicodeScalars.map { UInt8($0.value) })
      #expect(text.contains(says) && !text.contains("error:"), "\(program.debugDescription): \(text)")
      #expect(text.contains("its pickle") || text.contains("it has “"), "\(text)")
      #expect(!text.contains("is damaged") || text.hasSuffix("; fetch or save the file again"), "\(text)")
    }
  }

  @Test func `That it could run code is said only of what could`() {
    func refusal(_ name: String) -> String {
      let parts = name.split(separator: " ").map { Array($0.utf8) }
      return message(Code.start, [0x63] + parts[0] + [0x0A] + parts[1] + [0x0A, 0x2E])
    }
    for name in [
      "os system", "posix popen", "nt system", "subprocess Popen", "builtins eval", "__builtin__ exec",
      "builtins getattr", "importlib.util find_spec", "runpy _run_code", "torch.hub load", "torch load",
      "numpy.testing._private.utils runstring", "operator attrgetter", "shutil rmtree", "models os.system",
    ] {
      let text = refusal(name)
      #expect(text.contains("it wants to use “\(name.replacing(" ", with: "."))”"), "\(text)")
      #expect(text.contains("could run code") && text.contains("Nothing of it was run"), "\(text)")
    }
    for name in [
      "argparse Namespace", "collections defaultdict", "torch LongTensor", "torch.nn.modules.linear Linear",
      "builtins dict", "__builtin__ object", "omegaconf.dictconfig DictConfig", "torch Size", "numpy int64",
      "datetime datetime", "pathlib PurePosixPath",
    ] {
      let text = refusal(name)
      #expect(!text.contains("run") && text.contains("save its state_dict as safetensors"), "\(text)")
      #expect(text.contains("it has “\(name.replacing(" ", with: "."))” in it"), "\(text)")
    }
  }

  @Test(arguments: 2...5)
  func `Values of every protocol are read as Python wrote them`(_ version: Int) throws {
    let root = try TorchFile(Fixtures.url("formats/values-\(version).pt")).root
    guard case .none? = root["none"], case .tuple(let flags)? = root["flags"],
      case .list(let numbers)? = root["numbers"], case .string(let text)? = root["text"],
      case .set(let set)? = root["set"], case .dictionary(let inner, false)? = root["nested"]?["a"],
      case .list(let shared)? = root["shared"], case .tensor(let a) = shared[0],
      case .tensor(let b) = shared[1]
    else {
      Issue.record("other kinds of values: \(root)")
      return
    }
    let integers = numbers.compactMap { if case .int(let n) = $0 { n } else { nil } }
    #expect(integers == [0, 255, 256, 65536, -1, 1 << 40, .min])
    guard case .float(0.5)? = numbers.last, case .bool(true) = flags[0], case .bool(false) = flags[1],
      case .int(3) = inner[0].key, case .list(let innermost) = inner[0].value,
      case .tuple(let empty) = innermost[0]
    else {
      Issue.record("other values: \(root)")
      return
    }
    #expect(text == "“ü”" && set.count == 2 && empty.isEmpty && a == b)
  }

  @Test func `Five thousand damaged pickles crash nothing`() throws {
    let file = Fixtures.authors("default/mapper-steps-5.pt")
    let archive = try ZipArchive(Array(try Data(contentsOf: file)))
    let pickle = Data(try archive.contents("mapper-steps-5/data.pkl"))
    var refused = 0
    for damaged in Mutations(of: pickle, count: 5000, seed: 2) {
      do {
        _ = try Unpickler.value(damaged, classes: ["models.positional_encoding NeTIPositionalEncoding"])
      } catch is FileError { refused += 1 }
    }
    #expect(refused > 2000 && refused < 5000)
  }
}
