import Foundation
import Imaging
import TestSupport
import Testing

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

  @Test("one that is absent, has no number for a weight, or is of another kind is one line")
  func wrong() throws {
    let place = try workplace()
    try place.file("no tensors", "no.safetensors")
    for (lora, words, code) in [
      ("absent.safetensors", ["absent.safetensors"], 1),
      ("$NETI_NOT_SET/a.safetensors:0.5", ["the variable NETI_NOT_SET is not set"], 1),
      ("no.safetensors:1", ["no.safetensors", "safetensors file"], 1),
      ("kohya.safetensors:much", ["kohya.safetensors:much", "--lora"], 64),
    ] as [(String, [String], Int32)] {
      try place.expectFailure(Workplace.generate("a mug", ["--lora", lora]), words, code: code)
    }
    try place.images()
    try place.expectFailure(
      Workplace.train(["--lora", "$NETI_NOT_SET/a.safetensors"]), ["the variable NETI_NOT_SET is not set"])
  }
}
