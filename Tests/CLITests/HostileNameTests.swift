import Diffusion
import Files
import Foundation
import TestSupport
import Testing

@Suite("Names from files cannot redraw the terminal:", .serialized)
struct HostileNameTests {
  /// Clears the screen, by two-byte and one-byte introducers, and turns the direction of writing.
  private static let name = "a\u{1B}[2J\u{9B}2J\u{202E}\r\nneti: all is well"

  /// Nothing in what a command says may be a control character, but for the ends of lines.
  private func expectClean(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) {
    let bad = text.unicodeScalars.filter {
      $0 != "\n" && ($0.properties.generalCategory == .control || $0.properties.isBidiControl)
    }
    #expect(bad.isEmpty, "\(text.debugDescription)", sourceLocation: sourceLocation)
  }

  /// The concept with one more tensor, or other metadata.
  private func concept(
    _ place: Workplace, extra: String? = nil, change: (inout [String: String]) -> Void = { _ in }
  ) throws {
    try place.concept(change: change)
    guard let extra else { return }
    let file = try SafetensorsFile(place.path("concept.safetensors"))
    let tensors = try file.entries.keys.sorted().map { ($0, try file.tensor($0)) }
    try Safetensors.write(
      tensors + [(extra, try file.tensor("placeholder"))], metadata: file.metadata,
      to: place.path("concept.safetensors"))
  }

  @Test("a tensor in a concept, also a very long one")
  func tensors() throws {
    let place = try Workplace()
    try concept(place, extra: Self.name + String(repeating: "x", count: 400))
    for command in [
      ["inspect", "concept.safetensors"], Workplace.generate("a {}", ["--concept", "concept.safetensors"]),
    ] {
      try place.expectFailure(command, [#"“a\u001B[2J\u009B2J\u202E\u000D\u000Aneti: all"#, "…”"])
      expectClean(try place.run(command).error)
    }
    try concept(place, extra: Self.name + String(repeating: "x", count: 100_000))
    try place.expectFailure(["inspect", "concept.safetensors"], ["a name has more than 512 bytes"])
  }

  @Test("a tensor, a key or a value in a base model")
  func models() throws {
    let place = try Workplace()
    let header = try String(
      decoding: JSONEncoder().encode([Self.name: ["dtype": Self.name]]), as: UTF8.self)
    let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) }
    try place.model("unet/diffusion_pytorch_model.safetensors", length + Data(header.utf8))
    let command = Workplace.generate("a cat", ["--model", "model"])
    try place.expectFailure(command, [#"\u001B[2J"#], mayAdd: "out")
    expectClean(try place.run(command).error)
    let other = try Workplace()
    try other.model("unet/config.json", JSONEncoder().encode(["act_fn": Self.name]))
    try other.expectFailure(command, ["act_fn", #"\u001B[2j"#], mayAdd: "out")
    expectClean(try other.run(command).error)
  }

  @Test("words in a concept, shown by inspect as text and as JSON")
  func words() throws {
    let place = try Workplace()
    try concept(place) {
      $0["neti.about"] = $0["neti.about"]?.replacing("<toy>", with: #"\u001b[2J\u009b\u202e\n<toy>"#)
    }
    for more in [[], ["--json"]] {
      let result = try place.run(["inspect", "concept.safetensors"] + more)
      #expect(result.code == 0 && result.output.contains("u009B"), "\(result.error)")
      expectClean(result.output)
      if !more.isEmpty {
        let object = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
        let about = try #require(object?["about"] as? [String: Any])
        #expect(about["token"] as? String == "\u{1B}[2J\u{9B}\u{202E}\n<toy>")
      }
    }
  }

  @Test("an image, and a word of the command line")
  func files() throws {
    let place = try Workplace()
    try place.images()
    let name = Self.name.replacing("\r\n", with: "")
    try place.file("no image", "images/\(name).png")
    let result = try place.run(Workplace.train())
    #expect(result.code == 0 && result.error.contains(#"a\u001B[2J"#), "\(result.error)")
    expectClean(result.error)
    let usage = try place.run(["generate", "--prompt", "a cat", "--scheduler", name])
    #expect(usage.code == 64 && usage.error.contains(#"\u001B[2J"#), "\(usage.error)")
    expectClean(usage.error)
  }
}
