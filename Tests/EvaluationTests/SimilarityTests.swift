import Evaluation
import Files
import Foundation
import Imaging
import TestSupport
import Testing
import Torch

@Suite struct SimilarityTests {
  @Test("Image similarity is the mean over all pairs, text similarity the product with either text")
  func scores() throws {
    let clip = try CLIP(CLIPTests.miniCLIP.path)
    let spotty = Fixtures.examples.appending(path: "spotty")
    let ginger = Fixtures.examples.appending(path: "ginger")
    let references = try ReferenceImages(trained: spotty, heldOut: ginger)
    let generated = try ["jay/1.jpg", "spotty/2.jpg"].map {
      try Image.load(Fixtures.examples.appending(path: $0))
    }
    let found = try SimilarityScorer(clip).scores(
      generated, of: "a photo of a {} on a beach", category: "monster", references)

    let images = try clip.embed(generated)
    func pairs(_ others: [URL], _ row: Int) throws -> Double {
      let one = try images.selected(0, row).floats()
      let cosines = try others.map { other in
        zip(one, try clip.embed([Image.load(other)]).floats()).reduce(0) { $0 + Double($1.0 * $1.1) }
      }
      return cosines.reduce(0, +) / Double(cosines.count)
    }
    for row in 0..<2 {
      let scores = found[row]
      #expect(try abs(#require(scores.trained) - pairs(references.trained, row)) < 1e-5)
      #expect(try abs(#require(scores.heldOut) - pairs(references.heldOut, row)) < 1e-5)
      for (value, text) in [
        (scores.category, "a photo of a monster on a beach"), (scores.omitted, "a photo of a on a beach"),
      ] {
        let embedded = try clip.embed([text]).floats()
        let product = zip(try images.selected(0, row).floats(), embedded).reduce(0) {
          $0 + Double($1.0 * $1.1)
        }
        #expect(abs(value - product) < 1e-5)
      }
    }
    // An image of the thing is more like it than that of another thing.
    #expect(try #require(found[1].trained) > #require(found[0].trained) + 0.1)
    func rows(_ files: [URL]) throws -> Tensor { try clip.embed(files.map { try Image.load($0) }) }
    let pairwise = try rows(references.trained).matmul(rows(references.heldOut).transposed(0, 1))
    let (ceiling, mean) = (try SimilarityScorer(clip).ceiling(references), try pairwise.mean().item())
    #expect(abs((ceiling ?? 9) - mean) < 1e-5)
  }

  @Test("Masks beside images and files that cannot be read are not compared with; nothing else is an error")
  func readable() throws {
    let scratch = try Scratch()
    let folder = scratch.folder
    let ginger = Fixtures.examples.appending(path: "ginger/1.jpg")
    func copy(_ name: String) throws {
      try FileManager.default.copyItem(at: ginger, to: folder.appending(path: name))
    }
    try Data([0xFF, 0xD8, 0xFF, 0xE0, 0]).write(to: folder.appending(path: "torn.jpg"))
    let error = refusal { try ReferenceImages(trained: nil, heldOut: folder) }
    #expect(error?.message.contains("no image to compare with") == true, "\(String(describing: error))")
    for name in ["cat.jpg", "cat-masklabel.jpg", "dog_mask.jpg", "dog.jpg"] { try copy(name) }
    let found = try ReferenceImages(trained: nil, heldOut: folder)
    #expect(found.heldOut.map(\.lastPathComponent) == ["cat.jpg", "dog.jpg"])
    #expect(found.warnings.count == 1 && found.warnings[0].contains("torn.jpg"), "\(found.warnings)")
    // How others are compared is told: with white behind them, and without their colour profile.
    let profile =
      Data("ICC_PROFILE\0\u{1}\u{1}".utf8) + Data(count: 16) + Data("RGB ".utf8) + Data(count: 112)
    let part = Data([0xFF, 0xE2, 0, UInt8(profile.count + 2)]) + profile
    let jpeg = try Data(contentsOf: ginger)
    try (jpeg.prefix(2) + part + jpeg.dropFirst(2)).write(to: folder.appending(path: "cat.jpg"))
    try FileManager.default.copyItem(
      at: Fixtures.url("imaging/lossless-alpha.webp"), to: folder.appending(path: "glass.webp"))
    let lines = try ReferenceImages(trained: nil, heldOut: folder).warnings.joined(separator: "\n")
    #expect(lines.contains("glass.webp: transparent in part, and compared on white"), "\(lines)")
    #expect(lines.contains("cat.jpg: made for a colour profile without a name"), "\(lines)")
  }

  @Test("Where all are transparent everywhere, one line names the first of them")
  func invisible() throws {
    let scratch = try Scratch()
    for i in 1...5 { try PNGs.transparent(9, 7).write(to: scratch.file("\(i).png")) }
    let said = refusal { try ReferenceImages(trained: scratch.folder, heldOut: nil) }?.message ?? ""
    #expect(said.contains("holds no image to compare with"), "\(said)")
    #expect(said.contains("1.png, 2.png, 3.png and 2 more: transparent everywhere"), "\(said)")
  }

  @Test("Several concepts have folders of their names; one concept has the folder itself")
  func folders() throws {
    let examples = Fixtures.examples
    #expect(try ReferenceImages.folder(examples, of: "<ginger>", isOnly: false).lastPathComponent == "ginger")
    #expect(try ReferenceImages.folder(examples, of: "<other>", isOnly: true) == examples)
    let error = refusal { try ReferenceImages.folder(examples, of: "<other>", isOnly: false) }
    #expect(error?.message.contains("“other”") == true)
    // A name does not lead out of the folder.
    let scratch = try Scratch()
    let inner = scratch.folder.appending(path: "in")
    for folder in [scratch.folder, inner] {
      try FileManager.default.createDirectory(
        at: folder.appending(path: "ginger"), withIntermediateDirectories: true)
    }
    let found = try ReferenceImages.folder(inner, of: "<../ginger>", isOnly: false)
    #expect(found.standardizedFileURL.path == inner.appending(path: "ginger").standardizedFileURL.path)
  }

  @Test("Prompts of a file: each with {} once")
  func prompts() throws {
    let scratch = try Scratch()
    func read(_ text: String) throws -> [String] {
      try EvaluationPrompts(contentsOf: scratch.file(Data(text.utf8), "prompts.txt")).texts
    }
    #expect(try read("\u{FEFF}a {}\r\n\n  a photo of {}  \n") == ["a {}", "a photo of {}"])
    for (text, says) in [
      ("a {}\na photo\n", "line 2: “a photo” has no {}"), ("{} and {}", "line 1"), ("\n\n", "no prompt"),
      ("a {{}}", "has no {}"), ("a {{{}}} {}", "{} 2 times"),
      ("a {}\n\na {}\n", "line 3: “a {}” is line 1, too"),
      ("{}" + String(repeating: "x", count: 10_000), "has more than 10000 characters"),
      ((0...1000).map { "a {} \($0)\n" }.joined(), "line 1001: “a {} 1000” is one of more than 1000 prompts"),
    ] {
      let error = refusal { try read(text) }
      #expect(error?.message.contains(says) == true, "\(String(describing: error))")
    }
    #expect(try read("{{}} {}\n") == ["{{}} {}"])
    #expect(EvaluationPrompts.text("{{}} by {{{}}}", with: "cat") == "{} by {cat}")
    let utf16 = try scratch.file(Data([0xFF, 0xFE] + "a {}".utf8.flatMap { [$0, 0] }), "utf16.txt")
    #expect(try EvaluationPrompts(contentsOf: utf16).texts == ["a {}"])
    #expect(EvaluationPrompts.paper.texts.count == 15)
    for prompt in EvaluationPrompts.paper.texts { #expect(prompt.ranges(of: "{}").count == 1) }
    #expect(EvaluationPrompts.text("A photo of {} on a beach", with: "") == "A photo of on a beach")
  }
}
