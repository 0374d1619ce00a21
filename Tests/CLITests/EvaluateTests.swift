import Diffusion
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

@Suite("neti evaluate")
struct EvaluateTests {
  /// Concepts of mini-sd as training starts from them: <ginger> and <spotty>, by neti and ti.
  private func concepts(_ place: Workplace) throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    var settings = NeTIMapper.Settings(hiddenSize: 128, layerCount: 16)
    settings.targetNorm = 0.4
    for (name, category, row) in [("ginger", "cat", 300), ("spotty", "monster", 310)] {
      let vector = try model.textEncoders.members[0].tokenEmbedding.selected(0, row).to(.float32)
      for representation in [
        try NeTIMapper(settings, keys: RandomKeys(seed: 1)) as any ConceptRepresentation,
        try TextualInversion(vectors: vector.reshaped([1, -1]), layerCount: 16),
      ] {
        try Concept(
          representation,
          about: .init(
            token: "<\(name)>", category: category, base: model.baseIdentity, steps: 10, training: ""),
          placeholder: .zeros([128])
        ).write(to: place.path("\(name)-\(representation.kind.rawValue).safetensors"))
      }
    }
    try place.file("a photo of a {}\na {} on a beach\n", "prompts.txt")
  }

  private static let four = ["ginger-neti", "ginger-ti", "spotty-neti", "spotty-ti"].flatMap {
    ["--concept", "\($0).safetensors"]
  }
  private static func evaluate(_ more: [String] = []) -> [String] {
    ["evaluate", "--prompts", "prompts.txt", "--steps", "1", "--threads", "1", "--output", "out"] + more
  }
  private static let examples = ["--references", Fixtures.examples.path, "--images", Fixtures.examples.path]

  private func lines(_ place: Workplace, _ output: String = "out") throws -> [String] {
    let folder = place.path("\(output)/concepts")
    return try FileManager.default.subpathsOfDirectory(atPath: folder.path).filter {
      $0.hasSuffix("results.jsonl")
    }
    .sorted().flatMap { name in
      try String(contentsOf: folder.appending(path: name), encoding: .utf8).split(separator: "\n").map(
        String.init)
    }
  }

  @Test("a model's defaults give what no option does, in one line")
  func defaults() throws {
    let place = try Workplace()
    try concepts(place)
    try place.miniSD("model")
    try place.file(#"{"num_denoising_steps": 1, "scheduler": "euler"}"#, "model/model_defaults.json")
    let clip = Fixtures.miniSD.deletingLastPathComponent().appending(path: "mini-clip").path
    let result = try place.run(
      ["evaluate", "--concept", "ginger-ti.safetensors", "--prompts", "prompts.txt", "--seeds", "1"]
        + ["--model", "model", "--clip", clip, "--threads", "1", "--output", "out"] + Self.examples)
    #expect(result.code == 0, "\(result.error)")
    #expect(result.error.contains("the model's defaults give --steps 1, --scheduler euler\n"))
    let header = try #require(try lines(place).first)
    #expect(header.contains(#""steps":1,"#) && header.contains(#""scheduler":"euler""#), "\(header)")
  }

  @Test(
    "two concepts by two methods and the baseline give a report, tables and figures, the same again at once")
  func report() throws {
    let place = try Workplace()
    try concepts(place)
    let arguments = Self.evaluate(
      Self.four + Self.examples + ["--seeds", "2", "--truncation", "8,64", "--baseline", "--json"])
    let result = try place.run(arguments)
    #expect(result.code == 0, "\(result.error)")
    struct Figure: Decodable { let mean: Double, low: Double?, high: Double? }
    struct Method: Decodable { let method: String, similarity: [String: Figure] }
    struct Report: Decodable { let methods: [Method], images_done: Int, images_wanted: Int }
    let report = try JSONDecoder().decode(Report.self, from: Data(result.output.utf8))
    #expect(report.methods.map(\.method) == ["word", "neti", "ti"])
    // Two concepts: the word 4 images, neti 12 and ti 4.
    #expect(report.images_done == 40 && report.images_wanted == 40)
    for m in report.methods {
      for metric in ["image_trained", "image_held_out", "text_category", "text_omitted"] {
        let f = try #require(m.similarity[metric])
        #expect(abs(f.mean) < 1 && f.low ?? 2 <= f.mean && f.high ?? -2 >= f.mean)
      }
    }
    let page = try String(contentsOf: place.path("out/report.html"), encoding: .utf8)
    for words in [
      "different papers do not compare", "data:image/png;base64,", "<svg", "Truncation", "&lt;ginger&gt;",
    ] {
      #expect(page.contains(words), "\(words)")
    }
    #expect(!page.contains("<script") && !page.contains("http:") && !page.contains(place.folder.path))
    let csv = try String(contentsOf: place.path("out/images.csv"), encoding: .utf8)
    #expect(csv.split(whereSeparator: \.isNewline).count == 41)

    let first = try lines(place)
    let again = try place.run(arguments)
    #expect(again.code == 0 && again.output == result.output)
    #expect(try lines(place) == first)
    #expect(try String(contentsOf: place.path("out/report.html"), encoding: .utf8) == page)
  }

  @Test("killed and started again, it has each image once, with the figures of a run that was not killed")
  func killed() throws {
    let place = try Workplace()
    try concepts(place)
    let arguments = Self.evaluate(Self.four + Self.examples + ["--seeds", "9"])
    let tool = try CommandLineTool.start(arguments, in: place.folder)
    place.wait(tool) { (try? lines(place).count) ?? 0 > 12 }
    tool.send(SIGKILL)
    #expect(tool.wait().killed)
    let result = try place.run(arguments)
    #expect(result.code == 0, "\(result.error)")
    let found = try lines(place)
    // Four heads, four held-out scores, and 2 prompts × 9 seeds of each.
    #expect(found.count == 4 + 4 + 4 * 18)
    #expect(Set(found).count == found.count)
    let other = try Workplace()
    try concepts(other)
    #expect(try other.run(arguments).output == result.output)
  }

  @Test("another CLIP judges the images that there are: none is generated again, and losses are taken over")
  func anotherCLIP() throws {
    let place = try Workplace()
    try concepts(place)
    let one = ["--concept", "ginger-neti.safetensors", "--truncation", "8"] + Self.examples
    #expect(try place.run(Self.evaluate(one + ["--seeds", "1"])).code == 0)
    let first = try lines(place)
    let folder = place.path("out/concepts")
    let name = try #require(try FileManager.default.contentsOfDirectory(atPath: folder.path).first)
    // An image that neti did not generate shows that it is taken.
    let files = try FileManager.default.contentsOfDirectory(atPath: folder.appending(path: name).path)
    let changed = try #require(files.filter { $0.hasPrefix("p1-") && !$0.contains("-t8") }.first)
    let other = try Image(width: 128, height: 128, pixels: .init(repeating: 90, count: 128 * 128 * 3))
    try Data(other.png()).write(to: folder.appending(path: "\(name)/\(changed)"))

    let clip = place.path("clip")
    try FileManager.default.copyItem(
      at: Fixtures.miniSD.deletingLastPathComponent().appending(path: "mini-clip"), to: clip)
    let weights = clip.appending(path: "model.safetensors")
    var bytes = try Data(contentsOf: weights)
    for i in (bytes.count - 1000)..<bytes.count { bytes[i] ^= 1 }
    try bytes.write(to: weights)

    let again = ["--clip", "clip", "--generated", "out", "--output", "again"]
    // Two seeds, one of which is there.
    let result = try place.run(Self.evaluate(one + ["--seeds", "2"] + again))
    #expect(result.code == 0, "\(result.error)")
    let second = try lines(place, "again")
    #expect(first.count == 6 && second.count == 10)
    #expect(first.last != second.last && second.last?.contains("heldOut") == true)
    func losses(_ line: String?) -> [Substring] {
      (line ?? "").matches(of: /"(?:loss|wordLoss)":[0-9.e-]+/).map(\.output)
    }
    #expect(losses(first.last).count == 2 && losses(first.last) == losses(second.last))
    let taken = try Image.load(place.path("again/concepts/\(name)/\(changed)"))
    #expect(taken.pixels == other.pixels)
    // What was deleted is generated.
    try FileManager.default.removeItem(at: folder.appending(path: "\(name)/\(changed)"))
    let third = try place.run(Self.evaluate(one + ["--seeds", "1"] + again + ["--output", "fourth"]))
    #expect(third.code == 0, "\(third.error)")
    #expect(try Image.load(place.path("fourth/concepts/\(name)/\(changed)")).pixels != other.pixels)

    try place.file("a painting of a {}\n", "others.txt")
    try place.expectFailure(
      Self.evaluate(one + ["--prompts", "others.txt"] + again + ["--output", "third"]),
      ["out holds no image of <ginger> by neti, 10 steps under one of these prompts", "give the same"])
    try place.expectFailure(
      Self.evaluate(one + ["--seeds", "1", "--guidance", "5"] + again + ["--output", "third"]),
      ["guidance 5.0 instead of 3.0"])
    try place.expectFailure(
      Self.evaluate(["--concept", "ginger-ti.safetensors"] + Self.examples + again + ["--output", "third"]),
      ["out holds no images of <ginger> by ti", "--generated is"])
    #expect(!FileManager.default.fileExists(atPath: place.path("third").path))
  }

  @Test("several processes share the concepts, by themselves or by --shard")
  func shared() throws {
    let place = try Workplace()
    try concepts(place)
    let arguments = Self.evaluate(Self.four + Self.examples + ["--seeds", "2"])
    let tools = try (0..<3).map { _ in try CommandLineTool.start(arguments, in: place.folder) }
    for tool in tools {
      let result = tool.wait()
      #expect(result.code == 0, "\(result.error)")
    }
    let found = try lines(place)
    #expect(found.count == 4 + 4 + 4 * 4 && Set(found).count == found.count)

    for part in ["1/2", "2/2"] {
      let result = try place.run(arguments + ["--shard", part, "--output", "parts"])
      #expect(result.code == 0, "\(result.error)")
      #expect(result.output.contains("not finished") == (part == "1/2"), "\(result.output)")
    }
    let more = try place.run(arguments + ["--shard", "9/9", "--output", "more"])
    #expect(more.code == 0 && more.error.contains("part 9/9 has no concept"), "\(more.error)")
    #expect(!FileManager.default.fileExists(atPath: place.path("more").path))
  }

  @Test("what another process works on is not counted as done")
  func busy() throws {
    let place = try Workplace()
    try concepts(place)
    let arguments = Self.evaluate(
      ["--concept", "ginger-ti.safetensors", "--concept", "spotty-ti.safetensors", "--seeds", "20"]
        + Self.examples)
    let other = try CommandLineTool.start(arguments, in: place.folder)
    place.wait(other) { (try? lines(place).count) ?? 0 > 1 }
    other.send(SIGSTOP)
    let result = try place.run(arguments)
    other.send(SIGKILL)
    #expect(other.wait().killed)
    #expect(result.code == 0 && result.error.contains("another process works on <ginger>"), "\(result.error)")
    let left = try #require(result.error.firstMatch(of: /(\d+) images left/)).output.1
    #expect(!result.error.contains("evaluating \(left)/\(left)"), "\(result.error)")
  }

  @Test("the table keeps a method's name whole, whatever its letters are")
  func names() throws {
    let place = try Workplace()
    try concepts(place)
    let name = "👩‍👩‍👧 é 𝒩𝒯"
    let result = try place.run(
      Self.evaluate(["--concept", "\(name)=ginger-ti.safetensors", "--seeds", "1"] + Self.examples))
    #expect(result.code == 0 && result.output.contains("\n\(name)  "), "\(result.error)\(result.output)")
  }

  @Test("bad input is one line that says what, and nothing is written")
  func bad() throws {
    let place = try Workplace()
    try concepts(place)
    let one = ["--concept", "ginger-neti.safetensors"]
    try place.file("a photo of a {}\na photo\n", "bad.txt")
    try place.expectFailure(
      ["evaluate", "--prompts", "bad.txt", "--output", "out"] + one + Self.examples,
      ["bad.txt, line 2", "no {}"])
    try place.file("a photo of a {}\n\na photo of a {}\n", "twice.txt")
    try place.expectFailure(
      ["evaluate", "--prompts", "twice.txt", "--output", "out"] + one + Self.examples,
      ["twice.txt, line 3: “a photo of a {}” is line 1, too"])
    var nameless = try Concept(contentsOf: place.path("ginger-ti.safetensors"))
    nameless.about.category = ""
    try nameless.write(to: place.path("nameless.safetensors"))
    try place.expectFailure(
      Self.evaluate(["--concept", "nameless.safetensors"] + Self.examples),
      ["nameless.safetensors does not say the category of <ginger>", "make it anew with", "--category WORD"])
    try place.expectFailure(Self.evaluate(one), ["ginger-neti.safetensors", "--images", "--references"])
    try place.expectFailure(
      Self.evaluate(one + ["--concept", "spotty-ti.safetensors", "--references", place.folder.path]),
      ["no folder “ginger”"])
    try place.expectFailure(
      Self.evaluate(one + one + Self.examples), ["given twice"], code: 64)
    try place.expectFailure(
      Self.evaluate(["--concept", "word=ginger-neti.safetensors"] + Self.examples),
      ["“word=ginger-neti.safetensors”: a method's name has 1 to 60 characters, and is not “word”"], code: 64)
    try place.expectFailure(
      Self.evaluate(one + Self.examples + ["--clip", "prompts.txt"]),
      ["prompts.txt is a file; a folder of a model's files is needed"])
    try place.expectFailure(
      Self.evaluate(one + Self.examples + ["--clip", place.folder.path]), ["no CLIP", "config.json"])
    let model = try place.run(Self.evaluate(one + Self.examples + ["--model", Fixtures.miniSD.path]))
    #expect(model.code == 64 && model.error.contains("--model needs a --clip"), "\(model.error)")
    let images = try place.images(1)
    for n in 0..<1000 {
      try FileManager.default.linkItem(
        at: images.appending(path: "1.jpg"), to: images.appending(path: "more-\(n).jpg"))
    }
    let several = "images holds more than 1000 images; a few are compared with"
    try place.expectFailure(Self.evaluate(one + ["--images", "images"]), [several])
    try place.expectFailure(
      Workplace.train(), ["images holds 1001 images, more than 1000; 3 to 6 are usual"])

    var other = try Concept(contentsOf: place.path("spotty-ti.safetensors"))
    other.about.base.name = "another"
    other.about.base.tokenTableHash = String(repeating: "0", count: 64)
    try other.write(to: place.path("other.safetensors"))
    try place.expectFailure(
      Self.evaluate(one + ["--concept", "other.safetensors"] + Self.examples),
      ["two bases", "mini-sd", "another"])

    try place.file("mine", "out/report.html")
    try place.file("mine", "out/concepts/ginger/.lock")
    try place.expectFailure(
      Self.evaluate(one + Self.examples),
      ["out holds no evaluation, and “concepts”, “report.html” would be replaced", "another --output"])
    try FileManager.default.removeItem(at: place.path("out"))
    try place.file("mine", "out/concepts/ginger/concept.safetensors")
    try place.expectFailure(Self.evaluate(one + Self.examples), ["holds no evaluation", "another --output"])
    try FileManager.default.removeItem(at: place.path("out"))
    try place.file("mine", "out")
    try place.expectFailure(
      Self.evaluate(one + Self.examples), ["out is a file; name a folder with --output"])
    try FileManager.default.removeItem(at: place.path("out"))
    try place.file("mine", "out/log.txt")
    // As a process that was killed at once leaves it.
    try place.file("", "out/concepts/ginger/.lock")

    #expect(try place.run(Self.evaluate(one + Self.examples + ["--seeds", "1"])).code == 0)
    try place.expectFailure(
      Self.evaluate(one + Self.examples + ["--seeds", "1", "--guidance", "5"]),
      ["guidance 5.0 instead of 3.0"])
  }
}
