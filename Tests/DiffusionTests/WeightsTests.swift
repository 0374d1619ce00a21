import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite struct WeightsTests {
  @Test("Paths lead to tensors, which are converted to the wanted dtype and memory format")
  func paths() throws {
    let scratch = try Scratch()
    let kernel = try Tensor((0..<24).map(Float.init), [3, 2, 2, 2])
    let url = try scratch.file(
      "a.safetensors",
      [("blocks.0.conv.weight", kernel.to(.float16)), ("blocks.1.bias", Tensor([1.5, 2] as [Float]))])
    let weights = try Weights(files: [url], dtype: .float32, device: .cpu)
    let conv = try (weights / "blocks" / 0 / "conv").tensor("weight", [3, 2, 2, 2], format: .channelsLast)
    #expect(conv.dtype == .float32)
    #expect(conv.strides == [8, 1, 4, 2])
    #expect(try conv.floats() == kernel.floats())
    #expect((weights / "blocks").has("1.bias"))
    #expect(!weights.has("bias"))
    #expect(try (weights / "blocks.1").tensor("bias", [2], format: .channelsLast).floats() == [1.5, 2])
    try weights.finish()
  }

  @Test("A missing, a misshapen, a whole-number and an unused tensor are errors that name file and key")
  func strictness() throws {
    let scratch = try Scratch()
    let url = try scratch.file(
      "m.safetensors",
      [
        ("a.weight", Tensor.zeros([2, 3])), ("a.ids", Tensor([1, 2])), ("b", .zeros([1])), ("c", .zeros([1])),
      ])
    let weights = try Weights(files: [url], dtype: .float32, device: .cpu)
    func message(_ body: () throws -> Void) -> String {
      (#expect(throws: DiffusionError.self) { try body() })?.message ?? ""
    }
    let missing = message { _ = try (weights / "a").tensor("bias", [3]) }
    #expect(missing.contains("m.safetensors: there is no tensor “a.bias” (expected shape [3])"), "\(missing)")
    let misshapen = message { _ = try (weights / "a").tensor("weight", [3, 2]) }
    #expect(misshapen.contains("“a.weight” has shape [2, 3], expected [3, 2]"))
    let whole = message { _ = try (weights / "a").tensor("ids", [2]) }
    #expect(whole.contains("“a.ids”") && whole.contains("int64"))
    _ = try (weights / "a").tensor("weight", [2, 3])
    let unused = message { try weights.finish() }
    #expect(unused.contains("m.safetensors") && unused.contains("“a.ids”, “b”, “c”"))
  }

  @Test("Shards are one model; a tensor in two of them is an error")
  func shards() throws {
    let scratch = try Scratch()
    let one = try scratch.file("1.safetensors", [("x", Tensor.ones([2]))])
    let two = try scratch.file("2.safetensors", [("y", Tensor.zeros([2]))])
    let weights = try Weights(files: [one, two], dtype: .float32, device: .cpu)
    #expect(try weights.tensor("x", [2]).floats() == [1, 1])
    #expect(try weights.tensor("y", [2]).floats() == [0, 0])
    try weights.finish()
    let same = refusal { try Weights(files: [one, one], dtype: .float32, device: .cpu) }?.message
    #expect(same?.hasSuffix("1.safetensors: the tensor “x” occurs twice") == true, "\(same ?? "")")
    let other = refusal { try Weights(files: [one, two], dtype: .float32, device: .cpu) { _ in "z" } }?
      .message
    #expect(other?.hasSuffix("2.safetensors: the tensor “z” occurs twice") == true, "\(other ?? "")")
  }

  @Test("Older names are mapped to current ones, and dropped tensors do not count as unused")
  func renaming() throws {
    let scratch = try Scratch()
    let url = try scratch.file(
      "r.safetensors", [("old.weight", Tensor.ones([1])), ("position_ids", Tensor([0]))])
    let weights = try Weights(files: [url], dtype: .float32, device: .cpu) {
      $0 == "position_ids" ? nil : $0.replacingOccurrences(of: "old", with: "new")
    }
    #expect(try weights.tensor("new.weight", [1]).floats() == [1])
    try weights.finish()
    let error = #expect(throws: DiffusionError.self) { try weights.tensor("new.weight", [2]) }
    #expect(error?.message.contains("“old.weight”") == true)
  }

  @Test("Tensors outlive the weights they came from")
  func lifetime() throws {
    let scratch = try Scratch()
    let url = try scratch.file("l.safetensors", [("x", Tensor((0..<5000).map(Float.init)))])
    let tensor = try {
      try Weights(files: [url], dtype: .float32, device: .cpu).tensor("x", [5000])
    }()
    #expect(try tensor.sum().item() == 12_497_500)
  }

  #if os(Linux)
    @Test("A tensor whose dtype is right stays in the mapping: half a gigabyte of weights costs no memory")
    func mapped() throws {
      let scratch = try Scratch()
      let url = scratch.folder.appending(path: "large.safetensors")
      let count = 1 << 27
      var header = #"{"x":{"dtype":"F32","shape":[\#(count)],"data_offsets":[0,\#(4 * count)]}}"#
      while !header.utf8.count.isMultiple(of: 8) { header += " " }
      var data = Data()
      withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { data.append(contentsOf: $0) }
      data += Data(header.utf8)
      try data.write(to: url)
      // The rest is a hole, which takes no room on the disk.
      let file = try FileHandle(forWritingTo: url)
      try file.truncate(atOffset: UInt64(data.count + 4 * count))
      try file.close()

      func anonymous() throws -> Int {
        let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
        let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") })
        return Int(line.filter(\.isNumber)).map { $0 * 1024 } ?? 0
      }
      let before = try anonymous()
      let tensor = try Weights(files: [url], dtype: .float32, device: .cpu).tensor("x", [count])
      #expect(try tensor.sum().item() == 0)
      // Other tests run meanwhile and have their own memory.
      #expect(try anonymous() - before < 2 * count)
    }
  #endif

  @Test("A missing file is an error that names it")
  func missingFile() throws {
    let url = URL(filePath: "/nowhere/model.safetensors")
    let error = refusal { try Weights(files: [url], dtype: .float32, device: .cpu) }
    #expect(error?.message.contains("model.safetensors") == true)
  }
}

extension Scratch {
  fileprivate func file(_ name: String, _ tensors: [(String, Tensor)]) throws -> URL {
    let url = folder.appending(path: name)
    try Safetensors.write(tensors, to: url)
    return url
  }
}
