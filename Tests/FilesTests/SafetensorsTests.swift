import Files
import Foundation
import TestSupport
import Testing
import Torch

private func bytes(header: String, length: UInt64? = nil, data: Int = 0) -> Data {
  var file = Data()
  withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) { file.append(contentsOf: $0) }
  file.append(Data(header.utf8))
  file.append(Data(repeating: 0, count: data))
  return file
}

/// One header member.
private func member(_ name: String, _ dtype: String, _ shape: String, _ begin: Any, _ end: Any) -> String {
  "\"\(name)\":{\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":[\(begin),\(end)]}"
}

/// Reads every tensor, so that a parser's mistake shows as a wrong memory access.
private func readAll(_ url: URL) throws {
  let file = try SafetensorsFile(url)
  for name in file.entries.keys { _ = try file.tensor(name).rawBytes() }
}

@Suite struct SafetensorsTests {
  let types = Fixtures.url("formats/types.safetensors")

  @Test func `Every element type of the reference implementation's file is read`() throws {
    let file = try SafetensorsFile(types)
    #expect(file.entries.count == 13)
    #expect(file.metadata == ["a “key”": "a\nvalue"])
    for type: DType in [.int64, .int32, .int16, .int8, .uint8] {
      let tensor = try file.tensor("\(type)")
      #expect(tensor.dtype == type)
      #expect(try tensor.integers() == [0, 1, 2, 100])
    }
    let exact = try file.tensor("float64")
    #expect(exact.dtype == .float64 && exact.shape == [2, 3])
    for (type, tolerance) in [(DType.float32, 1e-7), (.float16, 1e-3), (.bfloat16, 8e-3)] {
      let tensor = try file.tensor("\(type)")
      #expect(tensor.dtype == type)
      #expect(try relativeError(tensor, exact) < tolerance)
    }
    let flags = try file.tensor("bool")
    #expect(flags.dtype == .bool)
    #expect(try flags.integers() == [1, 0, 1])
    #expect(try file.tensor("scalar").shape == [])
    #expect(try file.tensor("scalar").item() == 2.5)
    #expect(try file.tensor("nothing").shape == [3, 0, 2])
    #expect(try file.tensor("“ü”\n\t\"\\\u{1}").item() == 7)
  }

  @Test func `What is written equals the reference implementation's file byte by byte`() throws {
    let file = try SafetensorsFile(types)
    let tensors = try file.entries.keys.sorted().reversed().map { ($0, try file.tensor($0)) }
    #expect(try Safetensors.encode(tensors, metadata: file.metadata) == Data(contentsOf: types))
    #expect(try Safetensors.encode([]) == Data(contentsOf: Fixtures.url("formats/empty.safetensors")))
  }

  @Test func `The order of tensors and metadata given does not change the file`() throws {
    let (a, b) = (try Tensor([1, 2] as [Float]), try Tensor([3] as [Int]))
    let metadata = ["x": "1", "y": "2", "z": "3"]
    let one = try Safetensors.encode([("a", a), ("b", b)], metadata: metadata)
    #expect(try one == Safetensors.encode([("b", b), ("a", a)], metadata: metadata))
    for (name, other) in [("a", "a"), ("b", "__metadata__")] {
      let twice = refusal { try Safetensors.encode([(name, a), (other, b)]) }?.message
      #expect(twice == "cannot write safetensors: the name “\(other)” is reserved or comes twice")
    }
  }

  @Test func `A non-contiguous tensor is written in row-major order`() throws {
    let scratch = try Scratch()
    let url = scratch.folder.appending(path: "t.safetensors")
    let tensor = try Tensor([1, 2, 3, 4, 5, 6] as [Float], [2, 3]).transposed(0, 1)
    try Safetensors.write([("t", tensor)], to: url)
    #expect(try SafetensorsFile(url).tensor("t").floats() == [1, 4, 2, 5, 3, 6])
    #expect(scratch.contents == ["t.safetensors"])
  }

  @Test func `A tensor outlives its file object, links are followed, odd alignment is copied`() throws {
    let scratch = try Scratch()
    var header = "{\(member("a", "F32", "[2]", 0, 8)),\(member("b", "F64", "[1]", 8, 16))}"
    while (8 + header.utf8.count) % 4 != 1 { header += " " }
    var data = bytes(header: header)
    for value: Float in [1.5, -2] { withUnsafeBytes(of: value) { data.append(contentsOf: $0) } }
    withUnsafeBytes(of: 0.125) { data.append(contentsOf: $0) }
    let url = try scratch.file(data, "x.safetensors")
    let link = scratch.folder.appending(path: "link.safetensors")
    try FileManager.default.createSymbolicLink(at: link, withDestinationURL: url)
    let tensors = try ["a", "b"].map { try SafetensorsFile(link).tensor($0) }
    #expect(try tensors[0].floats() == [1.5, -2])
    #expect(try tensors[1].doubles() == [0.125])
  }

  @Test(arguments: [
    ("no bytes", Data(), "needs 8"),
    ("seven bytes", Data(count: 7), "needs 8"),
    ("header longer than the file", bytes(header: "{}", length: 3), "has only 10 bytes"),
    ("header beyond the limit", bytes(header: "{}", length: 100_000_001), "at most 100000000 are read"),
    ("header length of all ones", bytes(header: "{}", length: .max), "does not begin as one"),
    ("empty header", bytes(header: ""), "begin with {"),
    ("leading space", bytes(header: " {}"), "begin with {"),
    ("not an object", bytes(header: "[]"), "begin with {"),
    ("cut short", bytes(header: "{\"a\":"), "expected"),
    ("deep nesting", bytes(header: "{\"a\":" + String(repeating: "[", count: 500_000)), "expected"),
    ("deep objects", bytes(header: String(repeating: "{\"a\":", count: 100_000)), "field “a”"),
    ("something after it", bytes(header: "{}{}"), "follows"),
    ("half a pair", bytes(header: #"{"\ud800a":{}}"#), "half a surrogate pair"),
    ("half a pair and a letter", bytes(header: #"{"\ud800\u0041":{}}"#), "half a surrogate pair"),
    ("the other half", bytes(header: #"{"\udc00":{}}"#), "half a surrogate pair"),
    ("bytes after it", bytes(header: "{}", data: 1), "end at 0"),
    (
      "overlap",
      bytes(header: "{\(member("a", "U8", "[4]", 0, 4)),\(member("b", "U8", "[4]", 2, 6))}", data: 6),
      "overlaps"
    ),
    (
      "twice the same place",
      bytes(header: "{\(member("a", "U8", "[4]", 0, 4)),\(member("b", "U8", "[4]", 0, 4))}", data: 4),
      "overlaps"
    ),
    (
      "gap", bytes(header: "{\(member("a", "U8", "[4]", 0, 4)),\(member("b", "U8", "[4]", 5, 9))}", data: 9),
      "gap"
    ),
    ("gap at the start", bytes(header: "{\(member("a", "U8", "[4]", 1, 5))}", data: 5), "gap"),
    ("data left over", bytes(header: "{\(member("a", "U8", "[4]", 0, 4))}", data: 5), "5 bytes of data"),
    ("out of range", bytes(header: "{\(member("a", "U8", "[4]", 0, 4))}", data: 3), "outside"),
    ("backwards", bytes(header: "{\(member("a", "U8", "[0]", 4, 0))}", data: 4), "outside"),
    ("wrong size", bytes(header: "{\(member("a", "F32", "[4]", 0, 4))}", data: 4), "16 bytes"),
    (
      "shape overflows", bytes(header: "{\(member("a", "U8", "[4294967296,4294967296]", 0, 0))}"), "overflows"
    ),
    ("bytes overflow", bytes(header: "{\(member("a", "F64", "[2305843009213693952]", 0, 0))}"), "overflows"),
    (
      "overflow hidden by a zero", bytes(header: "{\(member("a", "F64", "[0,9223372036854775807]", 0, 0))}"),
      "overflows"
    ),
    (
      "number beyond 64 bits",
      bytes(header: "{\(member("a", "U8", "[1]", 0, "18446744073709551617"))}", data: 1), "too large"
    ),
    ("negative size", bytes(header: "{\(member("a", "U8", "[-1]", 0, 1))}", data: 1), "whole number"),
    ("fraction", bytes(header: "{\(member("a", "U8", "[1.0]", 0, 1))}", data: 1), "expected"),
    ("leading zero", bytes(header: "{\(member("a", "U8", "[01]", 0, 1))}", data: 1), "whole number"),
    (
      "a hundred dimensions",
      bytes(
        header:
          "{\(member("a", "U8", "[" + Array(repeating: "1", count: 100).joined(separator: ",") + "]", 0, 1))}",
        data: 1), "dimensions"
    ),
    ("unknown dtype", bytes(header: "{\(member("a", "F7", "[4]", 0, 4))}", data: 4), "F7"),
    ("unsupported dtype", bytes(header: "{\(member("a", "F8_E4M3", "[4]", 0, 4))}", data: 4), "F8_E4M3"),
    (
      "name twice",
      bytes(header: "{\(member("a", "U8", "[4]", 0, 4)),\(member("a", "U8", "[4]", 4, 8))}", data: 8), "twice"
    ),
    ("field twice", bytes(header: "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}"), "twice"),
    ("field missing", bytes(header: "{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}"), "lacks"),
    (
      "three offsets",
      bytes(header: "{\"a\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,1,1]}}", data: 1), "lacks"
    ),
    ("metadata not strings", bytes(header: "{\"__metadata__\":{\"a\":1}}"), "expected \""),
    (
      "metadata key twice", bytes(header: #"{"__metadata__":{"a":"","a":""}}"#),
      "the metadata key “a” comes twice"
    ),
    ("no end of a string", bytes(header: #"{"a"#), "a string has no end (near byte 3 of the header)"),
    ("no end of an escape", bytes(header: "{\"a\\"), "a string has no end (near byte 4 of the header)"),
    ("unknown escape", bytes(header: #"{"\q":{}}"#), "an unknown escape in a string"),
    ("escape of two digits", bytes(header: #"{"\u00":{}}"#), "an escape lacks its four digits"),
    ("control character", bytes(header: "{\"a\tb\":{}}"), "a control character in a string"),
    ("metadata twice", bytes(header: "{\"__metadata__\":{},\"__metadata__\":{}}"), "twice"),
    ("half a surrogate pair", bytes(header: "{\"__metadata__\":{\"a\":\"\\ud800\"}}"), "surrogate"),
    (
      "not UTF-8",
      bytes(header: "{\"__metadata__\":{\"a\":\"", length: 26) + Data([0xFF]) + Data("\"}}".utf8), "not UTF-8"
    ),
  ])
  func `A malformed file is refused with its reason`(_ name: String, _ data: Data, _ reason: String) throws {
    let scratch = try Scratch()
    let url = try scratch.file(data, "x.safetensors")
    let error = #expect(throws: FileError.self, "\(name)") { try SafetensorsFile(url) }
    let message = error?.message ?? ""
    #expect(message.contains(url.path), "\(name): \(message)")
    #expect(message.contains(reason), "\(name): \(message)")
    #expect(
      message.hasSuffix(
        ["unknown dtype", "unsupported dtype"].contains(name) ? "fp32" : "; fetch or save it again")
        || data.count < 8)
    #expect(!message.contains("\n"))
  }

  @Test func `A missing file, a folder and a pipe are named`() throws {
    let scratch = try Scratch()
    let pipe = scratch.folder.appending(path: "pipe")
    #expect(mkfifo(pipe.path, 0o600) == 0)
    for url in [scratch.folder.appending(path: "missing"), scratch.folder, pipe] {
      let error = #expect(throws: FileError.self) { try SafetensorsFile(url) }
      #expect(error?.message.contains(url.path) == true)
    }
  }

  @Test func `A name that takes long to compare is refused, and a type that is not read is told`() throws {
    let scratch = try Scratch()
    let long = "a" + String(repeating: "\u{301}\u{323}", count: 20_000)
    let metadata = "{\"__metadata__\":{\"\(long)\":\"\"}}"
    for header in ["{\(member(long, "U8", "[0]", 0, 0))}", metadata] {
      let error = #expect(throws: FileError.self) {
        try SafetensorsFile(scratch.file(bytes(header: header), "long.safetensors"))
      }
      #expect(error?.message.contains("more than 512 bytes") == true)
    }
    let eight = try scratch.file(
      bytes(header: "{\(member("w", "F8_E4M3", "[2]", 0, 2))}", data: 2), "fp8.safetensors")
    let error = #expect(throws: FileError.self) { try SafetensorsFile(eight) }
    #expect(error?.message.contains("“F8_E4M3”, which is not supported; take the file in fp16") == true)
    #expect(error?.message.contains("not a sound") == false)
  }

  @Test func `A file that grows gives what it was when it was opened, and is refused when it is opened anew`()
    throws
  {
    let scratch = try Scratch()
    let url = try scratch.file(Data(contentsOf: types), "x.safetensors")
    let (file, sound) = (try SafetensorsFile(url), try SafetensorsFile(types))
    let handle = try FileHandle(forWritingTo: url)
    try handle.seekToEnd()
    try handle.write(contentsOf: Data(repeating: 7, count: 1 << 20))
    try handle.close()
    #expect(file.entries.count == 13)
    for name in sound.entries.keys {
      #expect(try file.tensor(name).rawBytes() == sound.tensor(name).rawBytes(), "\(name)")
    }
    let said = refusal { try SafetensorsFile(url) }?.message ?? ""
    #expect(said.contains(url.path) && said.contains("bytes of data") && !said.contains("\n"), "\(said)")
  }

  @Test func `A file that is opened again and again while it is written is refused until it is whole`() throws
  {
    let scratch = try Scratch()
    let url = try scratch.file(Data(), "x.safetensors")
    let values = (0..<50_000).map(Float.init)
    let whole = try Safetensors.encode([("a", Tensor(values)), ("b", Tensor(values.reversed()))])
    let handle = try FileHandle(forWritingTo: url)
    let writer = Thread {
      for start in stride(from: 0, to: whole.count, by: 1000) {
        try? handle.write(contentsOf: whole[start..<min(start + 1000, whole.count)])
        usleep(200)
      }
      try? handle.close()
    }
    writer.start()
    var refused = 0
    while true {
      // Before it is opened: what is finished by then must be read.
      let isWhole = writer.isFinished
      do {
        let file = try SafetensorsFile(url)
        #expect(try file.tensor("a").floats() == values && file.tensor("b").floats() == values.reversed())
        break
      } catch let error as FileError {
        #expect(!isWhole && error.message.contains(url.path) && !error.message.contains("\n"), "\(error)")
        guard !isWhole else { break }
        refused += 1
      }
    }
    #expect(refused > 0)
  }

  @Test func `Five thousand damaged files crash nothing`() throws {
    let scratch = try Scratch()
    var refused = 0
    for data in Mutations(of: try Data(contentsOf: types), count: 5000, seed: 1) {
      do { try readAll(scratch.file(data, "x.safetensors")) } catch is FileError { refused += 1 }
    }
    #expect(refused > 2500 && refused < 5000)
  }
}
