import Foundation
import Imaging
import TestSupport
import Testing

@Suite("Several concepts in one prompt, on the command line:", .serialized)
struct SeveralConceptsTests {
  private static func named(_ names: String...) -> [String] {
    names.flatMap { ["--concept", "\($0)=concept.safetensors"] }
  }

  @Test("side by side, in an image that says so, or free; the help teaches it")
  func draws() throws {
    let place = try Workplace()
    try place.concept()
    let prompt = "a photo of {toy} next to {mug}"
    for (more, width, layout) in [
      ([], 208, "side-by-side"), (["--layout", "free"], 128, "free"),
      (["--layout", "side-by-side", "--width", "128"], 128, "side-by-side"),
    ] {
      let result = try place.run(
        Workplace.generate(prompt, Self.named("toy", "mug") + ["--json"] + more))
      #expect(result.code == 0, "\(result.error)")
      let report = try #require(
        JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
      #expect((report["metadata"] as? [String: String])?["layout"] == layout)
      let images = try #require(report["images"] as? [[String: Any]])
      let file = try #require(images.first?["file"] as? String)
      let image = try Image.load(place.path(file))
      #expect((image.width, image.height) == (width, 128))
    }
    let help = try place.run(["generate", "--help"])
    #expect(help.output.contains("--concept mug=FILE --prompt '{toy} by {mug}'"))
    #expect(help.output.contains("--layout"))
  }

  @Test("a placeholder without a concept, a concept without a placeholder, and one name twice")
  func placeholders() throws {
    let place = try Workplace()
    try place.concept()
    for (prompts, names, words) in [
      (["{} and {toy}"], ["toy"], ["“{} and {toy}”", "no concept of that name", "there is {toy}"]),
      (["{toy}"], ["toy", "mug"], ["“{toy}”", "no {mug}", "exactly once"]),
      (["{toy} and {mug}", "a {mug}"], ["toy", "mug"], ["“a {mug}”", "no {toy}"]),
      (["{toy}, {mug} and {toy}"], ["toy", "mug"], ["{toy} 2 times"]),
      (["{toy} and {mug}"], ["toy", "toy"], ["two concepts are called “toy”", "name=FILE"]),
      (["{toy} and {mug}"], ["toy", "a mug"], ["a mug=concept", "letters, digits"]),
    ] {
      let arguments =
        prompts.dropFirst().flatMap { ["--prompt", $0] } + names.flatMap { Self.named($0) }
      try place.expectFailure(Workplace.generate(prompts[0], arguments), words, code: 64)
    }
  }

  @Test("concepts for different base models")
  func otherBase() throws {
    let place = try Workplace()
    try place.concept()
    let authors = Fixtures.repository.appending(path: "Tests/Fixtures/authors/default/mapper-steps-5.pt")
    try place.expectFailure(
      Workplace.generate("{toy} and {mug}", Self.named("toy") + ["--concept", "mug=\(authors.path)"]),
      ["different base models", "hidden size 128", "hidden size 768", "must share one"], code: 64)
  }

  @Test("a layout without several concepts, one that is unknown, and an image too narrow for it")
  func layouts() throws {
    let place = try Workplace()
    try place.concept()
    let both = Self.named("toy", "mug")
    for (prompt, arguments, words) in [
      ("a cat", ["--layout", "free"], ["--layout free", "several concepts"]),
      (
        "{toy}", Self.named("toy") + ["--layout", "side-by-side"],
        ["--layout side-by-side", "several concepts"]
      ),
      ("{toy} {mug}", both + ["--layout", "stacked"], ["stacked", "side-by-side", "free"]),
      (
        "{toy} {mug}", both + ["--width", "20"],
        ["20 pixels", "2 concepts side by side", "--width of 48 or more"]
      ),
      (
        "{a} {b} {c} {d} {e}", Self.named("a", "b", "c", "d", "e") + ["--width", "48"],
        ["48 pixels", "5 concepts side by side", "112 or more"]
      ),
    ] {
      try place.expectFailure(Workplace.generate(prompt, arguments), words, code: 64)
    }
  }
}
