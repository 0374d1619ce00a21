import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite("A model in one file, told by its first bytes")
struct ModelFileStartTests {
  private static let place = "org/name/x.safetensors"

  /// Why the file is refused, and how many of its bytes are asked for at most.
  private func check(_ data: Data, size: Int? = nil) -> (refusal: String?, asked: Int) {
    var asked = 0
    let error = refusal {
      try ModelFileStart.check(Self.place, size: size ?? data.count) { count in
        asked = max(asked, count)
        return count <= data.count ? Array(data.prefix(count)) : nil
      }
    }
    return (error?.message, asked)
  }

  /// Whether that is in the words that the file itself is refused with.
  private func isAsOnDisk(_ data: Data, _ said: String?) throws -> Bool {
    let scratch = try Scratch()
    let url = scratch.file("x.safetensors")
    try data.write(to: url)
    let there = refusal { try ModelFolder(url.path) }?.message
    // Where nothing was fetched, it is not to be fetched again.
    return said
      == there.map {
        $0.replacing(url.path, with: Self.place).replacing("; fetch or save it again", with: "")
          + "; it was not downloaded"
      }
  }

  @Test(
    "is refused as on the disk when it is none, and only its header is asked for",
    arguments: ModelFileTests.foreign)
  func foreign(names: [String: [Int]], what: String) throws {
    let data = try Safetensors.encode(names.map { ($0, try .ones($1)) })
    let (said, asked) = check(data)
    #expect(said?.contains(what) == true && said?.contains("\n") == false, "\(said ?? "")")
    #expect(try isAsOnDisk(data, said), "\(said ?? "")")
    #expect(asked < data.count)
  }

  @Test("is let pass when it is one", arguments: ["sd1", "sd2", "sdxl"])
  func models(family: String) throws {
    let scratch = try Scratch()
    let url = scratch.file("x.safetensors")
    try ModelFileTests.outline(family, url)
    let data = try Data(contentsOf: url)
    #expect(check(data).refusal == nil)
    for more in [
      ["model.diffusion_model.input_blocks.0.0.weight": [32, 8, 3, 3]],
      ["model.diffusion_model.input_blocks.01.0.in_layers.0.bias": [8]],
    ] {
      try ModelFileTests.outline(family, url, more: more)
      let data = try Data(contentsOf: url)
      let said = check(data).refusal
      #expect(said != nil)
      #expect(try isAsOnDisk(data, said), "\(said ?? "")")
    }
  }

  /// A file of so many bytes that begins with a header.
  private static func file(_ header: String, length: UInt64? = nil) -> Data {
    withUnsafeBytes(of: (length ?? UInt64(header.utf8.count)).littleEndian) { Data($0) } + Data(header.utf8)
  }

  @Test("is refused as on the disk when its header is broken or lies")
  func broken() throws {
    let flux =
      #"{"double_blocks.0.img_attn.norm.key_norm.scale": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}"#
    for (data, words) in [
      (Self.file("{\"a\": "), "near byte"), (Self.file("{\"a\": \u{1}}"), "near byte"),
      (Self.file(flux, length: 1 << 40), "that would be a header of 1099511627776 bytes"),
      (Self.file(flux, length: .max), "that would be a header of 18446744073709551615 bytes"),
      (Self.file(flux, length: 90_000_000), "has only"),
      (Self.file(flux, length: 20), "near byte"),
      (Self.file(flux), "may be cut short"),
      (Self.file(flux) + Data(count: 9), "there are 9 bytes of data"),
      (Self.file(flux.replacing("F32", with: "F8_E4M3")) + Data(count: 8), "the element type “F8_E4M3”"),
      (
        Self.file(flux.replacing("[2]", with: "[9223372036854775807, 2]")) + Data(count: 8), "which overflows"
      ),
      (Self.file("{}"), "empty: there is no tensor in it"),
    ] {
      let (said, asked) = check(data)
      #expect(said?.contains(words) == true, "\(said ?? "nothing")")
      #expect(try isAsOnDisk(data, said), "\(said ?? "")")
      #expect(asked <= data.count)
    }
  }

  @Test("is let pass when that cannot be told: other formats, no start, a header too long to ask for")
  func untold() throws {
    let tensors = try ModelFileTests.foreign[0].0.map { ($0, try Tensor.ones($1)) }
    let lora = try Safetensors.encode(tensors)
    #expect(check(lora).refusal != nil)
    #expect(check(lora.prefix(8), size: lora.count).refusal == nil)
    #expect(check(lora.prefix(9), size: lora.count).refusal == nil)
    for text in ["", "{", "<!doctype html>", "PK\u{3}\u{4} a zip archive", "\u{80}\u{2} a pickle, perhaps"] {
      #expect(check(Data(text.utf8)).refusal == nil)
    }
    let long = try Safetensors.encode(
      tensors, metadata: ["about": String(repeating: "a", count: ModelFileStart.maximumBytes)])
    #expect(check(long).refusal == nil && check(long).asked == 9)
    // Before so many bytes are asked for, the size must be that large.
    let huge = Self.file("{", length: 99_000_000)
    #expect(check(huge, size: 1 << 32).refusal == nil && check(huge, size: 1 << 32).asked == 9)
  }

  @Test("5,000 damaged starts are refused or let pass, and never more is asked for")
  func mutations() throws {
    let scratch = try Scratch()
    let url = scratch.file("x.safetensors")
    try ModelFileTests.outline("sd1", url)
    var refused = 0
    for (original, count) in [
      (try Data(contentsOf: url), 5000),
      (Self.file(#"{"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}"#), 300),
    ] {
      for data in Mutations(of: original, count: count, seed: 71) {
        let (said, asked) = check(data, size: original.count)
        #expect(asked <= max(9, min(original.count, ModelFileStart.maximumBytes)))
        guard let said else { continue }
        #expect(said.hasSuffix("; it was not downloaded") && !said.contains("\n"))
        refused += 1
      }
    }
    #expect(refused > 1000 && refused < 5300)
  }
}
