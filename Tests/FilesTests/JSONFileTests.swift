import Files
import Foundation
import TestSupport
import Testing

@Suite struct JSONFileTests {
  private struct Example: Codable, Equatable {
    struct Inner: Codable, Equatable { var sizes: [Int] }
    var name: String
    var inner: Inner
  }

  private func decode(_ json: String) throws -> Example {
    try JSONFile.decode(Example.self, from: Data(json.utf8), name: "unet/config.json")
  }

  @Test("numbers that only Python writes are read, and with them no key ends the process")
  func pythonNumbers() throws {
    struct Numbers: Decodable { let a: Double, b: Float, c: Double, text: String }
    let read = try JSONFile.decode(
      Numbers.self, from: Data(#"{"a": -Infinity, "b":NaN,"c": Infinity, "text": "\" NaN Infinity"}"#.utf8),
      name: "x")
    #expect(read.a == -.infinity && read.b.isNaN && read.c == .infinity && read.text == "\" NaN Infinity")
    // Foundation's reader of JSON5 ends the process here.
    let bad = Data(#"{"a": NaN, "#.utf8) + Data([0xFF, 0xC0, 0x22]) + Data(#"": 1}"#.utf8)
    #expect(throws: FileError.self) { try JSONFile.decode(Numbers.self, from: bad, name: "x") }
    for word in ["NaNs", "-NaN", "Infinit", "N"] {
      #expect(throws: FileError.self) {
        try JSONFile.decode(Numbers.self, from: Data("{\"a\": \(word)}".utf8), name: "x")
      }
    }
  }

  @Test("A good file is decoded, whatever else it holds")
  func good() throws {
    let value = try decode(#"{"name": "[[{", "other": null, "inner": {"sizes": [1, 2]}}"#)
    #expect(value == Example(name: "[[{", inner: .init(sizes: [1, 2])))
  }

  @Test(
    "What is wrong is said with the file and the key",
    arguments: [
      (#"{"name": "a", "inner": {"sizes": [1, "2"]}}"#, "“inner.sizes.1”"),
      (#"{"name": "a", "inner": {"sizes": [1, 2.5]}}"#, "a number does not fit"),
      (#"{"name": "a", "inner": {"sizes": [1e400]}}"#, "unet/config.json"),
      (#"{"name": "a", "inner": {}}"#, "“inner.sizes”"),
      (#"{"name": null, "inner": {"sizes": []}}"#, "“name”"),
      (#"[]"#, "the whole file"), (#"{"name": "a", "#, "not valid JSON"), ("", "not valid JSON"),
      (String(repeating: "[", count: 100_000), "inside one another"),
      // What Python writes beside JSON brings nothing else with it.
      (#"{"name": Infinity, 'a"': [[]]}"#, "not valid JSON"), ("// Infinity\n{}", "not valid JSON"),
      // Keys are compared by their normal form, which takes long for these.
      (
        "{\"a" + String(repeating: "\u{301}\u{323}", count: 20_000) + "\": 1}",
        "a key has more than 4096 bytes"
      ),
      (String(repeating: #"{"a":"#, count: 65), "inside one another"),
    ])
  func wrong(json: String, part: String) {
    let error = #expect(throws: FileError.self) { try decode(json) }
    #expect(error?.message.hasPrefix("unet/config.json: ") == true)
    #expect(error?.message.contains(part) == true, "\(error?.message ?? "")")
    #expect(error?.message.contains("\n") == false)
  }

  @Test("A missing file, a folder and a device are refused")
  func notFiles() {
    for path in ["/nowhere/at/all.json", "/tmp", "/dev/zero"] {
      #expect(throws: FileError.self) { try JSONFile.decode(Example.self, from: URL(filePath: path)) }
    }
  }

  @Test("Five thousand mutations of a configuration are decoded or refused, and nothing else")
  func mutations() {
    let good = #"{"name": "abc", "inner": {"sizes": [1, 22, 333]}, "x": [true, null, -1.5e3, "é"]}"#
    for bytes in Mutations(of: Data(good.utf8), count: 5000, seed: 7) {
      do {
        _ = try JSONFile.decode(Example.self, from: bytes, name: "x")
      } catch {
        #expect(error is FileError)
      }
    }
  }
}
