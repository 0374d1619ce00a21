import Files
import Foundation
import Imaging
import TestSupport
import Testing
import Torch

@Suite("With LoRAs, on the command line:", .serialized)
struct LoRACommandTests {
  private func workplace() throws -> Workplace {
    let place = try Workplace()
    for name in ["kohya", "peft"] {
      try place.file(Data(contentsOf: Fixtures.url("lora/\(name).safetensors")), "\(name).safetensors")
    }
    return place
  }

  @Test("an image is another, and says with what; a weight of 0 changes nothing")
  func generates() throws {
    let place = try workplace()
    var images: [Image] = []
    for (i, lora) in [[], ["--lora", "kohya.safetensors:0"], ["--lora", "kohya.safetensors:0.3"]].enumerated()
    {
      let result = try place.run(Workplace.generate("a mug", lora + ["--output", "out\(i)"]))
      #expect(result.code == 0, "\(result.error)")
      images.append(try Image.load(place.path("out\(i)/a-mug-s0.png")))
    }
    #expect(images[0] == images[1] && images[0] != images[2])
    let bytes = try [UInt8](Data(contentsOf: place.path("out2/a-mug-s0.png")))
    #expect(try PNGText.read(bytes).contains { $0 == ("lora", "kohya.safetensors:0.3") })
  }

  @Test("a concept is trained with one, goes on with the same only, and asks for it")
  func trains() throws {
    let place = try workplace()
    try place.images()
    let trained = try place.run(Workplace.train(["--lora", "kohya.safetensors:0.3"]))
    #expect(trained.code == 0, "\(trained.error)")
    let told = try place.run(["inspect", "run/concept.safetensors"])
    #expect(told.output.contains("with LoRAs      kohya.safetensors:0.3"))
    let concept = ["--concept", "run/concept.safetensors"]
    let without = try place.run(Workplace.generate("a {}", concept))
    #expect(without.error.contains("was trained with “kohya.safetensors:0.3”"), "\(without.error)")
    let with = try place.run(Workplace.generate("a {}", concept + ["--lora", "kohya.safetensors:0.3"]))
    #expect(with.code == 0 && !with.error.contains("was trained with"), "\(with.error)")
    let goOn = ["train", "--output", "run", "--resume", "--steps", "2", "--threads", "1"]
    try place.expectFailure(goOn + ["--lora", "peft.safetensors"], ["the LoRAs are not those"])
    let resumed = try place.run(goOn)
    #expect(resumed.code == 0, "\(resumed.error)")
  }

  @Test("mix and decompose take one, and say with what")
  func otherCommands() throws {
    let place = try workplace()
    try place.concept()
    let common = ["--prompt", "a {}", "--steps", "2", "--threads", "1", "--lora", "peft.safetensors:-0.5"]
    let two = ["--geometry", "concept.safetensors", "--appearance", "concept.safetensors"]
    for (arguments, sheet) in [
      (["mix"] + two, "mix"),
      (["decompose", "--concept", "concept.safetensors", "--count", "2"], "decompose"),
    ] {
      let result = try place.run(arguments + common + ["--output", sheet, "--json"])
      #expect(result.code == 0, "\(result.error)")
      let report = try #require(
        JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
      let images = try #require(report["images"] as? [[String: Any]])
      let bytes = try Data(contentsOf: place.path(try #require(images.first?["file"] as? String)))
      #expect(try PNGText.read([UInt8](bytes)).contains { $0 == ("lora", "peft.safetensors:-0.5") })
    }
  }

  @Test("evaluate goes on with the same ones only: names, weights and what is in the files")
  func evaluates() throws {
    let place = try workplace()
    try place.concept()
    try place.file("a photo of a {}\n", "prompts.txt")
    func evaluate(_ loras: String...) -> [String] {
      ["evaluate", "--concept", "concept.safetensors", "--prompts", "prompts.txt", "--steps", "1"]
        + [
          "--seeds", "1", "--images", Fixtures.examples.appending(path: "spotty").path, "--threads", "1",
          "--output", "out",
        ]
        + loras.flatMap { ["--lora", $0] }
    }
    let first = try place.run(evaluate("kohya.safetensors:0.3"))
    #expect(first.code == 0, "\(first.error)")
    let page = try String(contentsOf: place.path("out/report.html"), encoding: .utf8)
    #expect(page.contains("LoRAs: kohya.safetensors:0.3"))
    let again = try place.run(evaluate("kohya.safetensors:0.3"))
    #expect(again.code == 0 && again.output == first.output, "\(again.error)")
    for (others, words) in [
      (evaluate(), "LoRAs none instead of kohya.safetensors:0.3"),
      (evaluate("kohya.safetensors:0.4"), "LoRAs kohya.safetensors:0.4"),
      (evaluate("kohya.safetensors:0.3", "peft.safetensors"), "peft.safetensors:1.0"),
    ] {
      try place.expectFailure(others, [words, "choose another --output"])
    }
    try place.file(Data(contentsOf: Fixtures.url("lora/peft.safetensors")), "kohya.safetensors")
    try place.expectFailure(evaluate("kohya.safetensors:0.3"), ["another evaluation", "LoRAs"])
  }

  @Test("one that is absent, has no number for a weight, or is of another kind is one line")
  func wrong() throws {
    let place = try workplace()
    try place.file("no tensors", "no.safetensors")
    let file = try SafetensorsFile(Fixtures.url("lora/kohya.safetensors"))
    for (name, old, new, width) in [
      ("sdxl", "lora_te_", "lora_te2_", 128), ("larger", "lora_te_", "lora_te_", 768),
    ] {
      let tensors = try file.entries.keys.sorted().map { key in
        let tensor = try file.tensor(key)
        let isWide = key.contains("lora_down") && tensor.shape.last == 128
        let wide = isWide ? try Tensor.zeros([tensor.size(0), width]) : tensor
        return (key.replacing(old, with: new), wide)
      }
      try Safetensors.write(tensors, to: place.path("\(name).safetensors"))
    }
    for (lora, words, code) in [
      ("absent.safetensors", ["absent.safetensors"], 1),
      ("$NETI_NOT_SET/a.safetensors:0.5", ["the variable NETI_NOT_SET is not set"], 1),
      ("no.safetensors:1", ["no.safetensors", "safetensors file"], 1),
      ("kohya.safetensors:much", ["kohya.safetensors:much", "--lora", "FILE:WEIGHT with a number"], 64),
      ("kohya.safetensors:nan", ["kohya.safetensors:nan", "a number"], 64),
      ("kohya.safetensors:1000", ["kohya.safetensors:1000", "between -100 and 100"], 64),
      ("sdxl.safetensors", ["sdxl.safetensors", "is for SDXL"], 1),
      ("larger.safetensors:0.5", ["larger.safetensors is for another family of models"], 1),
    ] as [(String, [String], Int32)] {
      try place.expectFailure(Workplace.generate("a mug", ["--lora", lora]), words, code: code)
    }
    try place.images()
    try place.expectFailure(
      Workplace.train(["--lora", "$NETI_NOT_SET/a.safetensors"]), ["the variable NETI_NOT_SET is not set"])
  }
}
