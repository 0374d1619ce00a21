import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

@Suite("Weights and negative prompts")
struct NegativePromptTests {
  private static let text = "a photo of a ({}:1.3) on a (beach:0.5)"

  private func request(_ prompt: String, _ negative: String, guidance: Double = 3) -> ConceptGenerator.Request
  {
    var request = ConceptGenerator.Request(prompts: [prompt])
    request.settings = ConceptFactory.settings
    request.negativePrompt = negative
    request.guidance = guidance
    return request
  }

  @Test("weights give the formulas' sequences, of a prompt without a concept and of one with it")
  func weights() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let golden = try SafetensorsFile(Fixtures.url("words/weights.safetensors"))
    let mapper = try SeveralConceptsTests.mapper(seed: 21, norm: 0.45)
    func table(_ text: String, _ concepts: [NeTIMapper]) throws -> ConditioningTable {
      let prompt = try ConceptPrompter(model.tokenizer, concepts.map { _ in .init(token: "<toy>") })(
        text, weighted: true)
      return try ConditioningTable(
        SpaceTimeConditioner(model.textEncoders, concepts: concepts, layerCount: 16), prompt,
        timesteps: [3, 611])
    }
    let plain = try table("a photo of a (red:1.4) mug, [blue] ((sky))", [])
    #expect(try relativeError(plain[0, layer: 5].keys, golden.tensor("plain")) < 1e-5)
    let own = try table(Self.text, [mapper])
    for i in 0..<2 {
      let row = i..<i + 1
      #expect(try relativeError(own[i, layer: 7].keys, golden.tensor("keys").sliced(0, row)) < 1e-5)
      #expect(try relativeError(own[i, layer: 7].values, golden.tensor("values").sliced(0, row)) < 1e-5)
    }
  }

  @Test("a concept in the negative prompt gives the image that the formulas give over diffusers")
  func golden() throws {
    let f = try ConceptFactory()
    let concept = Concept(
      try SeveralConceptsTests.mapper(seed: 21, norm: 0.45), about: try f.about(),
      placeholder: try .zeros([128]))
    var request = request("a red robot on the moon", "a photo of a ({}:1.2) in the snow", guidance: 5)
    request.promptWeights = true
    request.steps = 8
    request.seeds = [5]
    let image = try ConceptGenerator(f.model, concepts: [.init(concept)])(request)[0].image
    let golden = try SafetensorsFile(Fixtures.url("words/negative.safetensors")).tensor("picture")
    let differences = zip(image.pixels, try golden.bytes()).map { abs(Int($0) - Int($1)) }
    #expect(Double(differences.filter { $0 <= 2 }.count) / Double(differences.count) >= 0.995)
    #expect(Double(differences.reduce(0, +)) / Double(differences.count) < 0.5)
  }

  /// With u = c the guided output u + w (c − u) is c.
  @Test("a negative prompt without effect is told with its reason: no guidance, or a U-Net distilled with it")
  func unused() throws {
    func warnings(_ model: StableDiffusion, _ negative: String, guidance: Double) throws -> [String] {
      try ConceptGenerator(model, concepts: [])
        .prepare(request("a red robot", negative, guidance: guidance)).warnings
    }
    let plain = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    #expect(
      try warnings(plain, "snow", guidance: 1)
        == ["the negative prompt has no effect: `guidance` is 1.0, and must be more than 1"])
    #expect(try warnings(plain, "snow", guidance: 2).isEmpty && warnings(plain, "", guidance: 1).isEmpty)
    let scratch = try Scratch()
    let folder = try scratch.linkMiniSD("lcm")
    let file = folder.appending(path: "unet/config.json")
    var json = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: file)) as? [String: Any])
    json["time_cond_proj_dim"] = 256
    try FileManager.default.removeItem(at: file)
    try JSONSerialization.data(withJSONObject: json).write(to: file)
    let guided = try StableDiffusion(ModelFolder(folder.path))
    #expect(
      try warnings(guided, "snow", guidance: 8)
        == [
          "the negative prompt has no effect: lcm was distilled with guidance, and takes no negative prompt"
        ])
  }

  @Test(
    "the syntax of other programs is named, and no weights are advised for it",
    arguments: [
      ("a cat++ and dog--, red---", "“cat++”, “dog--”, “red---” in a prompt are of another program and are"),
      ("a (big cat)++ here", "“(big cat)++” in a prompt is of another program and is"),
      ("a __color__ cat", "“__color__” in a prompt is of another program and is"),
      (
        "a ADDCOMM b ADDROW c ADDCOL",
        "“ADDCOMM”, “ADDROW”, “ADDCOL” in a prompt are of another program and are"
      ), ("a ADDBASE b", "“ADDBASE” in a prompt is of another program and is"),
      ("a <hypernet:x:1>", "“<hypernet:x:1>” in a prompt is of another program and is"),
    ])
  func foreign(_ prompt: String, _ words: String) throws {
    let generator = try ConceptGenerator(
      StableDiffusion(ModelFolder(Fixtures.miniSD.path)), concepts: [])
    #expect(try generator.prepare(request(prompt, "")).warnings == [words + " read as words"])
  }

  @Test(
    "words of adapters and embeddings are named in any case, left out with weights, and each has its option")
  func networks() throws {
    let generator = try ConceptGenerator(
      StableDiffusion(ModelFolder(Fixtures.miniSD.path)), concepts: [])
    let lora = "a LoRA is given with `lora FILE:WEIGHT`"
    let embedding = "an embedding is given with `concept FILE`, and is {} in the prompt"
    for (words, advice) in [
      ("<LORA:x:1>", "; " + lora), ("<locon:x:1>", "; " + lora), ("<embed:toy>", "; " + embedding),
      ("<embedding:toy>", "; " + embedding), ("<hypernet:x:1>", ""),
    ] {
      var weighted = request("a cat \(words)", "")
      #expect(
        try generator.prepare(weighted).warnings
          == ["“\(words)” in a prompt is of another program and is read as words" + advice])
      weighted.promptWeights = true
      #expect(
        try generator.prepare(weighted).warnings
          == ["“\(words)” in a prompt is of another program and was left out" + advice])
    }
    for plain in ["state-of-the-art cat -- dog-, +1 snake_case c+ 5+", "a C++ book, ) ++ x", "++ a cat++s"] {
      #expect(try generator.prepare(request(plain, "")).warnings == [])
    }
    var both = request("a (cat), {red}", "(ugly), {bad}")
    #expect(
      try generator.prepare(both).warnings == [
        "“{red}” in a prompt names no concept and is read as words; braces that are words are written {{ and }}",
        "“(cat)” in a prompt looks like a weight and is read as words; `prompt-weights` reads weights as "
          + "AUTOMATIC1111 does",
        "“{bad}” in the negative prompt names no concept and is read as words; braces that are words are written "
          + "{{ and }}",
        "“(ugly)” in the negative prompt looks like a weight and is read as words; `prompt-weights` reads weights as "
          + "AUTOMATIC1111 does",
      ])
    both.promptWeights = true
    #expect(try generator.prepare(both).warnings.count == 2)
  }

  @Test("progress ends at its total with every scheduler", arguments: SchedulerKind.allCases)
  func progress(kind: SchedulerKind) throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    var request = ConceptGenerator.Request(prompts: ["a cat", "a dog"])
    request.settings = ConceptFactory.settings
    (request.scheduler, request.steps, request.seeds) = (kind, 2, [1, 2])
    let generation = try ConceptGenerator(model, concepts: []).prepare(request)
    var seen: [Int] = []
    _ = try generation {
      #expect($0.stepsTotal == generation.totalSteps && $0.stepsDone <= $0.stepsTotal)
      seen.append($0.stepsDone)
    }
    #expect(seen == seen.sorted() && seen.last == generation.totalSteps)
    #expect(generation.totalSteps == 4 * (kind == .pndm ? 3 : 2))
  }

  @Test("where prompt and negative prompt are the same, guidance has no effect", arguments: [nil, 8])
  func same(_ truncation: Int?) throws {
    let f = try ConceptFactory()
    let (text, other) = ("a (photo) of {} in the snow", "a (photo) of {} on a beach")
    func check<G: ImageGenerator>(_ generator: G, _ request: (String, Double) -> G.Request) throws {
      func images(_ negative: String, _ guidance: Double) throws -> [[UInt8]] {
        try generator(request(negative, guidance)).map(\.image.pixels)
      }
      let plain = try images("", 1)
      for (a, b) in zip(plain, try images(text, 6)) { #expect(distance(a, b) <= 2 * imageTolerance) }
      for (a, b) in zip(plain, try images(other, 6)) { #expect(distance(a, b) > 20) }
    }
    func settings(_ negative: String, _ guidance: Double) -> GenerationSettings {
      request(text, negative, guidance: guidance).settings
    }
    try check(ConceptGenerator(f.model, concepts: [.init(f.neti(seed: 1))])) {
      var r = ConceptGenerator.Request(prompts: [text])
      r.settings = settings($0, $1)
      (r.truncations, r.promptWeights) = ([truncation], true)
      return r
    }
    try check(StyleMixing(f.model, geometry: f.neti(seed: 1), appearance: f.neti(seed: 2))) {
      var r = StyleMixing.Request(prompts: [text], geometryLayers: [6, 7, 8])
      r.settings = settings($0, $1)
      (r.parents, r.geometryTruncation, r.promptWeights) = (true, truncation, true)
      return r
    }
    try check(Decomposition(f.model, f.neti(seed: 1))) {
      var r = Decomposition.Request(prompts: [text], columns: [.frozen(700), .cumulative(500)])
      r.settings = settings($0, $1)
      (r.truncation, r.promptWeights) = (truncation, true)
      return r
    }
  }

  @Test("the category's word of a decomposition has the concept's weight")
  func word() throws {
    let f = try ConceptFactory()
    let mug = try f.vectors(.ti, word: "mug")
    var r = Decomposition.Request(prompts: ["a ({}:2) in {{red}} snow"], columns: [.cumulative(500)])
    r.settings = ConceptFactory.settings
    r.promptWeights = true
    let images = try Decomposition(f.model, mug)(r).map(\.image.pixels)
    // A vector that is the word's own row: with or without it, the image is the word's.
    #expect(distance(images[0], images[1]) <= imageTolerance)
    r.promptWeights = false
    #expect(try distance(Decomposition(f.model, mug)(r)[0].image.pixels, images[0]) > 20)
  }

  @Test(
    "a vector in the negative prompt that is a word's row leads away from the word; the dial turns the rest")
  func embedding() throws {
    let f = try ConceptFactory()
    let concepts: [ConceptGenerator.Named] = [
      .init(name: "a", try f.neti(seed: 1)), .init(name: "b", try f.neti(seed: 2)),
      .init(name: "bad", try f.vectors(.ti, word: "mug")),
    ]
    var with = request("{a} by {b}", "a {bad} in the snow")
    with.truncations = [8]
    let image = try ConceptGenerator(f.model, concepts: concepts)(with)[0].image
    #expect((image.width, image.height) == (208, 128))
    var word = request("{a} by {b}", "a mug in the snow")
    word.truncations = [8]
    let same = try ConceptGenerator(f.model, concepts: Array(concepts.prefix(2)))(word)[0].image
    #expect(distance(image.pixels, same.pixels) <= imageTolerance)
  }

  @Test("where a concept must stand, with a negative prompt")
  func places() throws {
    let f = try ConceptFactory()
    let generator = try ConceptGenerator(f.model, concepts: [.init(f.neti(seed: 1))])
    func prepared(_ prompts: [String], _ negative: String) throws -> Generation {
      var r = request("", negative)
      r.prompts = prompts
      return try generator.prepare(r)
    }
    _ = try prepared(["a cat", "a mug"], "{}")
    _ = try prepared(["a {}"], "<x>")
    for (prompts, negative, line) in [
      (["a {}", "a cat"], "{}", "“a cat” has no {}"), (["a cat"], "a cat", "“a cat” has no {}"),
      (["a {}"], "{} {}", "negative prompt “{} {}” has {} 2 times"),
      (["a {}"], String(repeating: "ugly ", count: 40) + "{}", "the negative prompt"),
    ] {
      #expect { try prepared(prompts, negative) } throws: { "\($0)".contains(line) }
    }
  }

  @Test("a truncation is refused where a concept stands in the negative prompt only")
  func truncation() throws {
    let f = try ConceptFactory()
    let c = try f.neti(seed: 1)
    let settings = request("a cat", "{}").settings
    func expectRefusal(_ prepare: () throws -> Generation) {
      #expect { try prepare() } throws: { "\($0)".contains("in the prompt, where none stands") }
    }
    var r = request("a cat", "{}")
    r.truncations = [nil, 8]
    expectRefusal { try ConceptGenerator(f.model, concepts: [.init(c)]).prepare(r) }
    let mixing = try StyleMixing(f.model, geometry: c, appearance: c)
    var mix = StyleMixing.Request(prompts: ["a cat"], geometryLayers: [])
    mix.settings = settings
    _ = try mixing.prepare(mix)
    mix.appearanceTruncation = 8
    expectRefusal { try mixing.prepare(mix) }
    (mix.geometryTruncation, mix.appearanceTruncation) = (8, nil)
    expectRefusal { try mixing.prepare(mix) }
    var columns = Decomposition.Request(prompts: ["a cat"], columns: [.frozen(500)])
    columns.settings = settings
    columns.truncation = 8
    expectRefusal { try Decomposition(f.model, c).prepare(columns) }
  }

  @Test("what is read in another way than was perhaps meant gets one line for each kind and place")
  func warnings() throws {
    let f = try ConceptFactory()
    let generator = try ConceptGenerator(f.model, concepts: [.init(f.neti(seed: 1))])
    func lines(_ prompt: String, _ negative: String = "", guidance: Double = 3, weighted: Bool = false) throws
      -> [String]
    {
      var r = request(prompt, negative, guidance: guidance)
      r.promptWeights = weighted
      return try generator.prepare(r).warnings
    }
    #expect(try lines("a {}, {{red}}", "ugly, bad: 1.3").isEmpty)
    #expect(try lines(#"a ({}:1.3), \(x\)"#, "ugly", weighted: true).isEmpty)
    for (prompt, negative, words) in [
      (
        "a {} in {red|blue}", "{cozy}",
        ["“{red|blue}” in a prompt names no concept", "“{cozy}” in the negative prompt names", "{{"]
      ),
      ("a {} and <x>", "", ["“<x>”", "in braces"]),
      (
        "a ({}:1.3)", "(ugly)",
        ["“({}:1.3)” in a prompt looks", "“(ugly)” in the negative prompt looks", "`prompt-weights`"]
      ),
      ("a {} [blue]", "", ["“[blue]”", "looks like a weight and is", "`prompt-weights`"]),
      (#"{} \(x\)"#, "", [#"“\(”"#, "`prompt-weights`"]),
      (
        "a {}, <lora:soft:0.8>", "embedding:bad",
        [
          "“<lora:soft:0.8>” in a prompt", "“embedding:bad” in the negative prompt", "`concept FILE`",
          "`lora FILE:WEIGHT`",
        ]
      ),
      (
        "a {}", String(repeating: "ugly ", count: 40),
        ["the negative prompt is longer", "32 tokens", "cut off"]
      ),
      (
        "a {} AND a cat", "BREAK", ["“AND” in a prompt", "“BREAK” in the negative prompt", "another program"]
      ),
      ("a {} [a|b] [b|c] [c|d] [d|e]", "", ["“[a|b]”, “[b|c]”, “[c|d]” …", "another program"]),
    ] {
      let found = try lines(prompt, negative)
      let places = words.contains { $0.contains("in the negative prompt") } ? 2 : 1
      #expect(found.count == places && words.allSatisfy(found.joined().contains), "\(found)")
    }
    let left = try lines("a {}, <lora:soft:0.8> [cat:dog:0.5]", weighted: true)
    #expect(
      left.count == 2 && left[0].contains("“[cat:dog:0.5]”")
        && left[1].contains("was left out; a LoRA is given with `lora"), "\(left)")
    let void = try lines("a {}", "ugly", guidance: 1)
    #expect(void.count == 1 && void[0].contains("`guidance` is 1.0"), "\(void)")
  }
}
