import Diffusion
import Files
import Foundation
import NeTI
import TestSupport
import Testing
import Torch

@Suite("Space-time conditioning")
struct SpaceTimeConditionerTests {
  static let tolerance = 1e-3

  /// The mapper, samples and expectations of the fixture (Tests/Fixtures/sections/neti.py).
  struct Golden {
    let file: SafetensorsFile
    let mapper: NeTIMapper
    let prompts: [ConceptPrompt]
    let timesteps: [Int]
    let keep: [Int?]

    init() throws {
      file = try SafetensorsFile(Fixtures.url("neti/gradients.safetensors"))
      var s = NeTIMapper.Settings(hiddenSize: 128, layerCount: 16)
      s.timeAnchors = 2
      s.targetNorm = Double(try file.tensor("norm").floats()[0])
      var tensors: [String: Tensor] = [:]
      for name in file.entries.keys where name.hasPrefix("parameter.") {
        tensors[String(name.dropFirst("parameter.".count))] = try file.tensor(name)
      }
      let frequencies = tensors.removeValue(forKey: "frequencies")
      mapper = try NeTIMapper(s, tensors: tensors, frequencies: frequencies)
      let ids = try file.tensor("ids")
      let positions = try file.tensor("position").integers()
      prompts = try positions.enumerated().map { i, p in
        ConceptPrompt(text: "", ids: try ids.selected(0, i).integers(), positions: [p], cutOff: "")
      }
      timesteps = try file.tensor("timesteps").integers()
      keep = try file.tensor("keep").integers().map { $0 == 128 ? nil : $0 }
    }

    func contexts(_ model: StableDiffusion) throws -> [CrossAttentionContext] {
      try SpaceTimeConditioner(try model.textEncoders, concepts: [mapper], layerCount: 16)(
        prompts, samples: timesteps.enumerated().map { .init(prompt: $0, timestep: Double($1)) }, keep: [keep]
      )
    }
  }

  @Test("gives the formulas' sequences: placeholders anywhere, truncated per layer and sample")
  func sequences() throws {
    let g = try Golden()
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let contexts = try g.contexts(model)
    #expect(contexts.count == 16)
    for l in [0, 7] {
      #expect(try relativeError(contexts[l].keys.sliced(0, 0..<2), g.file.tensor("keys.\(l)")) < 1e-5)
      #expect(try relativeError(contexts[l].values.sliced(0, 0..<2), g.file.tensor("values.\(l)")) < 1e-5)
    }
  }

  @Test("gives the formulas' loss and the gradient of every parameter")
  func gradients() throws {
    let g = try Golden()
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    for p in g.mapper.parameters { try p.tensor.requireGradient() }
    let schedule = try NoiseSchedule(model.schedulerConfiguration)
    let noise = try g.file.tensor("noise")
    let noisy = try schedule.addNoise(g.file.tensor("clean"), noise, timesteps: g.timesteps)
    let prediction = try model.unet(
      noisy, timesteps: Tensor(g.timesteps.map { Float($0) }), context: g.contexts(model))
    #expect(try relativeError(prediction.detached(), g.file.tensor("prediction")) < 1e-4)
    let loss = try meanSquaredError(prediction, noise)
    #expect(try relativeError(loss.detached(), g.file.tensor("loss")) < 1e-5)
    try loss.backward()
    for p in g.mapper.parameters {
      let gradient = try #require(p.tensor.gradient)
      let error = try relativeError(gradient, g.file.tensor("gradient.\(p.name)"))
      #expect(error < Self.tolerance, "\(p.name): \(error)")
    }
  }

  @Test("without a dependence on the layer makes one pair for all layers, equal to a word's own")
  func learnedVector() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let encoders = try model.textEncoders
    let id = try #require(model.tokenizer.encode("cat").first)
    let row = try encoders.members[0].tokenEmbedding.selected(0, id).to(.float32)
    let ti = try learnedVectors(.ti, startingAt: row, layerCount: 16)
    let prompt = try ConceptPrompter(model.tokenizer, [.init(token: "<x>")])("a photo of {} on a beach")
    let contexts = try SpaceTimeConditioner(encoders, concepts: [ti], layerCount: 16)(
      [prompt], samples: [.init(prompt: 0, timestep: 500)])
    #expect(contexts.count == 1)
    let plain = try ConceptPrompter(model.tokenizer, [])("a photo of cat on a beach")
    let word = try encoders.members[0].encode(Tensor(plain.ids, [1, plain.ids.count]))
    #expect(try relativeError(contexts[0].keys, word) < 1e-5)
    // xti with equal vectors is ti.
    let xti = try learnedVectors(.xti, startingAt: row, layerCount: 16)
    let per = try SpaceTimeConditioner(encoders, concepts: [xti], layerCount: 16)(
      [prompt], samples: [.init(prompt: 0, timestep: 500)])
    #expect(per.count == 16)
    for c in per { #expect(try relativeError(c.keys, word) < 1e-5) }
  }

  @Test("computed for all timesteps in batches equals one timestep at a time")
  func table() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    var s = NeTIMapper.Settings(hiddenSize: 128, layerCount: 16)
    s.targetNorm = 0.4
    let mapper = try NeTIMapper(s, keys: RandomKeys(seed: 1))
    let conditioner = try SpaceTimeConditioner(try model.textEncoders, concepts: [mapper], layerCount: 16)
    let prompt = try ConceptPrompter(model.tokenizer, [.init(token: "<x>")])("a photo of {} in the snow")
    let times = (0..<20).map { 990.0 - 50 * Double($0) }
    let table = try ConditioningTable(conditioner, prompt, timesteps: times, truncations: [32])
    for i in [0, 7, 19] {
      let one = try conditioner(
        [prompt], samples: [.init(prompt: 0, timestep: times[i])], keep: [[Int?](repeating: 32, count: 16)])
      for l in [0, 9, 15] {
        #expect(try relativeError(table[i][l].keys, one[l].keys) < 1e-5)
        #expect(try relativeError(table[i][l].values, one[l].values) < 1e-5)
      }
    }
  }

  @Test("computed for several truncations together equals each alone")
  func truncations() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let encoders = try model.textEncoders
    let prompt = try ConceptPrompter(model.tokenizer, [.init(token: "<x>")])("a photo of {} in the snow")
    let times = (0..<5).map { 990.0 - 200 * Double($0) }
    var s = NeTIMapper.Settings(hiddenSize: 128, layerCount: 16)
    s.targetNorm = 0.4
    for (kind, steps) in [(RepresentationKind.neti, 5), (.time, 5), (.space, 1)] {
      s.kind = kind
      let mapper = try NeTIMapper(s, keys: RandomKeys(seed: 1))
      let conditioner = try SpaceTimeConditioner(encoders, concepts: [mapper], layerCount: 16)
      let settings: [[Int?]] = [[8], [nil], [64]]
      let tables = try ConditioningTable.tables(
        conditioner, prompt, timesteps: times, truncations: settings)
      #expect(tables.count == settings.count)
      for (table, keep) in zip(tables, settings) {
        let alone = try ConditioningTable(conditioner, prompt, timesteps: times, truncations: keep)
        for i in 0..<steps {
          for l in [0, 9] {
            #expect(try relativeError(table[i, layer: l].keys, alone[i, layer: l].keys) < 1e-5)
            #expect(try relativeError(table[i, layer: l].values, alone[i, layer: l].values) < 1e-5)
          }
        }
      }
      #expect(try relativeError(tables[0][0, layer: 0].values, tables[1][0, layer: 0].values) > 1e-3)
    }
  }

  @Test("gives several concepts their own mapper and bypass, whatever the order they are named in")
  func severalConcepts() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let encoders = try model.textEncoders
    var s = NeTIMapper.Settings(hiddenSize: 128, layerCount: 16)
    s.targetNorm = 0.4
    let toy = try NeTIMapper(s, keys: RandomKeys(seed: 1))
    let mug = try NeTIMapper(s, keys: RandomKeys(seed: 2))
    let text = "a photo of {toy} next to {mug}"
    func contexts(_ order: [(String, NeTIMapper)], _ text: String) throws -> (
      ConceptPrompt, [CrossAttentionContext]
    ) {
      let prompt = try ConceptPrompter(model.tokenizer, order.map { .init(name: $0.0, token: "<\($0.0)>") })(
        text)
      let conditioner = try SpaceTimeConditioner(encoders, concepts: order.map(\.1), layerCount: 16)
      return (prompt, try conditioner([prompt], samples: [.init(prompt: 0, timestep: 400)]))
    }
    let (prompt, both) = try contexts([("toy", toy), ("mug", mug)], text)
    let (_, swapped) = try contexts([("mug", mug), ("toy", toy)], text)
    let (_, other) = try contexts([("toy", toy), ("mug", toy)], text)
    let (_, alone) = try contexts([("toy", toy)], "a photo of {toy} next to cat")
    let second = prompt.positions[1]
    for l in [0, 6, 15] {
      #expect(try relativeError(both[l].keys, swapped[l].keys) < 1e-5)
      #expect(try relativeError(both[l].values, swapped[l].values) < 1e-5)
      // The encoder is causal: before the second placeholder the first is all there is.
      #expect(
        try relativeError(both[l].values.sliced(1, 0..<second), alone[l].values.sliced(1, 0..<second)) < 1e-5)
      #expect(
        try relativeError(both[l].values.sliced(1, second..<32), other[l].values.sliced(1, second..<32))
          > 1e-2)
      // Each placeholder has a bypass, and only there do keys and values differ.
      let difference = try (both[l].values - both[l].keys).abs().max([0, 2]).doubles()
      for (i, d) in difference.enumerated() {
        #expect((d > 1e-3) == prompt.positions.contains(i), "\(i): \(d)")
      }
    }
  }

  @Test("refuses a concept of another size")
  func wrongSize() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let mapper = try NeTIMapper(.init(hiddenSize: 768, layerCount: 16), keys: RandomKeys(seed: 1))
    #expect(throws: NeTIError.self) {
      try SpaceTimeConditioner(try model.textEncoders, concepts: [mapper], layerCount: 16)
    }
  }
}

@Suite("Prompts with concepts")
struct ConceptPromptTests {
  private func prompter(_ names: [ConceptPrompter.Name]) throws -> ConceptPrompter {
    try ConceptPrompter(CLIPTokenizer(folder: Fixtures.miniSD.appending(path: "tokenizer")), names)
  }

  @Test("finds the placeholder, written as braces or as the concept's token")
  func placeholder() throws {
    let p = try prompter([.init(token: "<toy>")])
    let a = try p("a photo of {} on a beach")
    #expect(a.positions == [4])
    #expect(try p("a photo of <toy> on a beach").ids == a.ids)
  }

  @Test("names each of several concepts")
  func several() throws {
    let p = try prompter([.init(name: "toy", token: "<toy>"), .init(name: "mug", token: "<mug>")])
    let positions = try p("a photo of {mug} next to {toy}").positions
    #expect(positions[1] == 4)
    #expect(positions[0] > 4)
    #expect(throws: NeTIError.self) { try p("a photo of {mug}") }
    #expect(try p("{mug} {toy} {cup}").positions.count == 2)
  }

  @Test(
    "refuses a prompt without the placeholder, with two, or too long for it",
    arguments: [
      "a photo of a cat", "{} and {}", String(repeating: "red ", count: 80) + "{}",
    ])
  func refused(_ text: String) throws {
    let p = try prompter([.init(token: "<toy>")])
    #expect(throws: NeTIError.self) { try p(text) }
  }

  @Test("says what was cut off behind the placeholder")
  func cutOff() throws {
    let p = try prompter([.init(token: "<toy>")])("a photo of {} " + String(repeating: "red ", count: 80))
    #expect(p.cutOff.contains("red"))
    #expect(p.positions == [4])
  }
}
