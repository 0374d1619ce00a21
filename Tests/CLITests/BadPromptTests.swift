import Foundation
import Imaging
import TestSupport
import Testing

@Suite("Words that do not fit get one clear line:", .serialized)
struct BadPromptTests {
  private static let withConcept = ["--concept", "concept.safetensors"]

  @Test("a prompt without {} or with two when a concept is given, and {} without a concept")
  func placeholders() throws {
    let place = try Workplace()
    try place.concept()
    try place.expectFailure(
      Workplace.generate("a photo of a cat", Self.withConcept),
      ["“a photo of a cat”", "no {}", "exactly once"], code: 64)
    try place.expectFailure(
      Workplace.generate("{} on {}", Self.withConcept), ["{} 2 times", "exactly once"], code: 64)
    try place.expectFailure(
      Workplace.generate("a {toy}", Self.withConcept),
      ["has {toy}, but no concept", "there is {}", "{{toy}}"],
      code: 64)
    try place.expectFailure(
      Workplace.generate("a {cat}", ["--concept", "mug=concept.safetensors"]),
      ["has {cat}, but no concept of that name; there is {mug}"], code: 64)
    try place.expectFailure(
      Workplace.generate("a {}"), ["no concept was given", "--concept FILE", "{{}}"], code: 64)
    try place.expectFailure(
      Workplace.generate("a {}", ["--truncation", "8"]), ["--truncation needs a --concept"], code: 64)
    try place.expectFailure(
      Workplace.generate("a {}", Self.withConcept + Self.withConcept), ["two concepts", "name=FILE"], code: 64
    )
  }

  @Test("the negative prompt gets the checks of prompts")
  func negative() throws {
    let place = try Workplace()
    try place.concept()
    func negative(_ text: String) -> [String] { Self.withConcept + ["--negative-prompt", text] }
    for (text, words) in [
      ("{} {}", ["the negative prompt “{} {}” has {} 2 times"]),
      (String(repeating: "x", count: 10_001), ["--negative-prompt: 10001 characters"]),
    ] {
      try place.expectFailure(Workplace.generate("a {}", negative(text)), words, code: 64)
    }
    try place.expectFailure(
      Workplace.generate("a cat", ["--negative-prompt", "{}"]), ["negative prompt “{}”", "--concept FILE"],
      code: 64)
    try place.expectFailure(
      Workplace.generate("a {}", negative(String(repeating: "ugly ", count: 40) + "{}")),
      ["the negative prompt", "too long", "32 tokens"], code: 64)
    let long = try place.run(Workplace.generate("a {}", negative(String(repeating: "ugly ", count: 40))))
    #expect(long.code == 0 && long.error.contains("warning: the negative prompt is longer"), "\(long.error)")
  }

  @Test("an embedding of another program is a concept of the model at hand, for every command that generates")
  func embedding() throws {
    let place = try Workplace()
    try place.concept("ti")
    let made = try place.run(
      ["convert", "concept.safetensors", "bad.safetensors", "--format", "a1111"])
    #expect(made.code == 0, "\(made.error)")
    func image(_ file: String) throws -> Image {
      let r = try place.run(
        Workplace.generate("a {}", ["--concept", file, "--negative-prompt", "{}, blurry", "--json"]))
      #expect(r.code == 0 && !r.error.contains("warning"), "\(r.error)")
      let report = try #require(try JSONSerialization.jsonObject(with: Data(r.output.utf8)) as? [String: Any])
      let first = try #require((report["images"] as? [[String: Any]])?.first?["file"] as? String)
      return try Image.load(place.path(first))
    }
    #expect(try image("bad.safetensors").pixels == image("concept.safetensors").pixels)
    let few = ["--prompt", "a {}", "--steps", "1", "--threads", "1", "--output", "out"]
    for command in [
      ["mix", "--geometry", "bad.safetensors", "--appearance", "concept.safetensors"] + few,
      ["decompose", "--concept", "bad.safetensors", "--count", "1"] + few,
    ] {
      let r = try place.run(command)
      #expect(r.code == 0, "\(command): \(r.error)")
    }
    // Its size tells that it is for another model.
    let other = Fixtures.repository.appending(
      path: "Tests/Fixtures/authors/default/learned_embeds-steps-5.bin")
    try place.expectFailure(
      Workplace.generate("a {}", ["--concept", other.path]),
      ["learned_embeds-steps-5.bin is an embedding of 768 numbers", "hidden size 128", "--model"])
    // Commands without a model say how a concept is made of it.
    try place.expectFailure(
      ["inspect", "bad.safetensors"],
      ["bad.safetensors is an embedding of another program", "/bad.safetensors concept.safetensors"])
  }

  @Test("a concept in the negative prompt only, for every command that generates")
  func negativeConcept() throws {
    let place = try Workplace()
    try place.concept()
    let file = "concept.safetensors"
    let more = ["--prompt", "a cat", "--negative-prompt", "<toy>", "--threads", "1", "--output", "out"]
    for command in [
      ["generate", "--concept", file], ["mix", "--geometry", file, "--appearance", file],
      ["decompose", "--concept", file, "--count", "1"],
    ] {
      let result = try place.run(command + more + ["--steps", "1"])
      #expect(result.code == 0 && !result.error.contains("warning"), "\(result.error)")
    }
  }

  @Test("braces, weights and other programs' syntax get one warning each, which names the option")
  func warnings() throws {
    let place = try Workplace()
    try place.concept()
    for (prompt, more, words) in [
      ("a {red|blue} mug", [], ["“{red|blue}”", "names no concept"]),
      ("({}:1.3) on a beach", Self.withConcept, ["“({}:1.3)”", "--prompt-weights reads weights"]),
      (
        "a mug", ["--negative-prompt", "(ugly:1.4)"],
        ["“(ugly:1.4)” in the negative prompt looks like a weight", "--prompt-weights"]
      ),
      ("a {red} mug", ["--negative-prompt", "ugly"], ["“{red}” in a prompt names no concept"]),
      ("a mug", ["--negative-prompt", "{bad}"], ["“{bad}” in the negative prompt names no concept"]),
      ("embedding:toy", [], ["“embedding:toy”", "--concept FILE"]),
      ("a mug", ["--negative-prompt", "ugly", "--guidance", "1"], ["no effect: --guidance is 1.0"]),
    ] {
      let result = try place.run(Workplace.generate(prompt, more))
      let lines = result.error.split(separator: "\n").filter { $0.hasPrefix("warning: ") }
      #expect(result.code == 0 && lines.count == 1, "\(result.error)")
      #expect(words.allSatisfy { lines.first?.contains($0) == true }, "\(result.error)")
    }
  }

  @Test("no warning names an option that its command lacks")
  func remedies() throws {
    let place = try Workplace()
    try place.images()
    try place.concept()
    let file = "concept.safetensors"
    let prompt = "a {} (big:1.2), embedding:bad"
    try place.file(prompt, "images/1.txt")
    try place.file(prompt, "prompts.txt")
    let more = ["--prompt", prompt, "--steps", "1", "--threads", "1", "--output", "out"]
    let validation =
      ["--validate-every", "1", "--validation-prompt", prompt]
      + ["--eval.num_validation_images", "1", "--eval.num_denoising_steps", "1"]
    let (weighing, embedding) = ("--prompt-weights", "--concept FILE")
    for (arguments, named) in [
      (["generate", "--concept", file] + more, [weighing, embedding]),
      (["mix", "--geometry", file, "--appearance", file] + more, [weighing]),
      (["decompose", "--concept", file, "--count", "1"] + more, [weighing, embedding]),
      (
        ["evaluate", "--concept", file, "--prompts", "prompts.txt", "--images", "images", "--seeds", "1"]
          + ["--steps", "1", "--threads", "1", "--output", "scores"], [embedding]
      ),
      (Workplace.train(validation), ["--eval.prompt_weights true"]),
    ] {
      let result = try place.run(arguments)
      let lines = result.error.split(separator: "\n").filter { $0.contains("is read as words") }
      #expect(result.code == 0 && lines.count >= 2, "\(result.error)")
      for option in [weighing, embedding, "--eval.prompt_weights true"] {
        #expect(lines.contains { $0.contains(option) } == named.contains(option), "\(lines)")
      }
    }
  }

  @Test("weights change the image, which says that they were read")
  func weights() throws {
    let place = try Workplace()
    func generated(_ more: [String]) throws -> (text: String, file: URL) {
      let result = try place.run(Workplace.generate("a (red:1.8) mug", ["--json"] + more))
      let report = try #require(
        JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any])
      let images = try #require(report["images"] as? [[String: Any]])
      let metadata = try #require(report["metadata"] as? [String: String])
      return (metadata["prompt weights"] ?? "", place.path(try #require(images[0]["file"] as? String)))
    }
    let (plain, weighted) = try (generated([]), generated(["--prompt-weights"]))
    #expect(plain.text.isEmpty && weighted.text == "AUTOMATIC1111")
    #expect(try Data(contentsOf: weighted.file).range(of: Data("prompt weights".utf8)) != nil)
    let pixels = try [plain, weighted].map { try Image.load($0.file).pixels }
    #expect(pixels[0] != pixels[1])
  }

  @Test("letters with marks keep their letter in a file's name, and a seed that is given twice is drawn once")
  func fileNames() throws {
    let place = try Workplace()
    let result = try place.run(Workplace.generate("Ein Käfer, süß é", ["--seed", "0,0"]))
    #expect(result.code == 0, "\(result.error)")
    #expect(
      try FileManager.default.contentsOfDirectory(atPath: place.path("out").path)
        == ["ein-kafer-suss-e-s0.png"])
  }

  @Test("the concept's own token may stand for {}")
  func ownToken() throws {
    let place = try Workplace()
    try place.concept()
    #expect(try place.run(Workplace.generate("a <toy> on a beach", Self.withConcept)).code == 0)
  }

  @Test("a prompt that is too long is cut off with a warning; not so the concept")
  func tooLong() throws {
    let place = try Workplace()
    try place.concept()
    let words = String(repeating: "a red robot on the moon, ", count: 12)
    for (prompt, more) in [(words, []), ("a {}, " + words, Self.withConcept)] {
      let result = try place.run(Workplace.generate(prompt, more))
      #expect(result.code == 0, "\(result.error)")
      #expect(result.error.contains("warning: ") && result.error.contains("cut off"), "\(result.error)")
      #expect(result.error.contains("32 tokens"))
    }
    try place.expectFailure(
      Workplace.generate(words + "with {}", Self.withConcept),
      ["too long", "32 tokens", "nearer to the start"], code: 64)
    try place.expectFailure(
      Workplace.generate(String(repeating: "x", count: 20_000)), ["20000 characters"], code: 64)
  }

  @Test("prompts that are empty or strange are drawn all the same")
  func strange() throws {
    let place = try Workplace()
    for prompt in ["", "🦊 ∑ \u{202E}abc\u{0301}", "../../etc"] {
      let result = try place.run(Workplace.generate(prompt))
      #expect(result.code == 0, "\(result.error)")
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("out").path).count == 3)
  }

  @Test("a placeholder that is already a word of the vocabulary")
  func knownWord() throws {
    let place = try Workplace()
    try place.images()
    try place.expectFailure(Workplace.train(token: "cat"), ["“cat”", "already a word", "<cat>"])
    try place.expectFailure(
      Workplace.train(token: ""), ["--token is not set: choose a word for the concept"], code: 64)
    for word in ["a {} b", "two words", "{}"] {
      try place.expectFailure(
        Workplace.train(token: word), ["--token “\(word)” must be one word, without spaces and {}"], code: 64)
    }
    try place.expectFailure(
      Workplace.train(category: ""), ["--category is empty: name the concept's category"], code: 64)
    try place.expectFailure(
      Workplace.train(token: "<x>", ["--data.placeholder_token", ""]),
      ["--token and --data.placeholder_token '' are both given"], code: 64)
  }

  @Test("a category of several tokens is used, and how is said")
  func category() throws {
    let place = try Workplace()
    try place.images()
    let result = try place.run(Workplace.train(category: "red robot"))
    #expect(result.code == 0, "\(result.error)")
    #expect(result.error.contains("“red robot” is 2 tokens") && result.error.contains("“robot”"))
    try place.expectFailure(
      Workplace.train(category: " ", output: "other"), ["--category is empty"], code: 64)
  }

  @Test("numbers that are none or out of range are wrong usage")
  func numbers() throws {
    let place = try Workplace()
    try place.concept()
    try place.images()
    for (arguments, words) in [
      (Workplace.generate("a cat", ["--steps", "0"]), ["--steps 0", "between 1 and 1000"]),
      (Workplace.generate("a cat", ["--steps", "1.5"]), ["1.5", "--steps"]),
      (Workplace.generate("a cat", ["--seed", "x"]), ["x", "--seed"]),
      (Workplace.generate("a cat", ["--seed=-1"]), ["-1", "--seed"]),
      (Workplace.generate("a cat", ["--seed", "99999999999999999999"]), ["--seed"]),
      (Workplace.generate("a cat", ["--guidance", "nan"]), ["--guidance"]),
      (Workplace.generate("a cat", ["--width", "0"]), ["--width 0"]),
      (Workplace.generate("a cat", ["--threads", "0"]), ["--threads 0"]),
      (Workplace.generate("a cat", ["--scheduler", "magic"]), ["magic", "ddim"]),
      (Workplace.generate("a cat", ["--device", "tpu"]), ["--device tpu", "cuda"]),
      (Workplace.generate("a {}", Self.withConcept + ["--truncation", "0"]), ["--truncation 0", "128"]),
      (Workplace.generate("a {}", Self.withConcept + ["--truncation", "129"]), ["--truncation 129", "128"]),
      (Workplace.train(steps: 0), ["--steps 0", "at least 1"]),
      (Workplace.train(["--seed=-1"]), ["--seed -1"]), (["paint"], ["there is no command “paint”"]),
    ] {
      try place.expectFailure(arguments, words, code: 64)
    }
    try place.expectFailure(
      Workplace.generate("a cat", ["--width", "63"]), ["--width 63: it must be a multiple of 8"], code: 64)
  }

  @Test("a device that is not there", .enabled(if: !BadPromptTests.hasCUDA))
  func device() throws {
    let place = try Workplace()
    try place.images()
    for arguments in [
      Workplace.generate("a cat", ["--device", "cuda"]), Workplace.train(["--device", "cuda"]),
    ] {
      try place.expectFailure(arguments, ["--device cuda", "not available", "cpu"], code: 64)
    }
  }

  static let hasCUDA =
    (try? CommandLineTool.run(["--version"], in: Fixtures.repository))?.output
    .contains("cuda") == true
}
