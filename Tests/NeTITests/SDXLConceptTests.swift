import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

/// Concepts on SDXL, on a small random model, against PyTorch (Tests/Fixtures/sections/sdxl_concept.py).
@Suite("Concepts on SDXL", .serialized)
struct SDXLConceptTests {
  private final class Golden {
    let scratch: Scratch
    let file: SafetensorsFile
    let model: StableDiffusion
    let prompts: [ConceptPrompt]
    let timesteps: [Int]

    init() throws {
      scratch = try Scratch()
      file = try SafetensorsFile(Fixtures.url("sdxl_concept/gradients.safetensors"))
      let folder = scratch.file("model")
      try RandomModel("sdxl").writeFolder(folder)
      model = try StableDiffusion(ModelFolder(folder.path))
      let prompter = try ConceptPrompter(model.tokenizers, [.init(token: "<toy>", category: "cat")])
      prompts = try ["a photo of a {} on a beach!", "{} in the snow"].map { try prompter($0) }
      timesteps = try file.tensor("timesteps").integers()
    }

    func mapper() throws -> NeTIMapper {
      let norms = try file.tensor("norms").floats()
      var s = NeTIMapper.Settings(hiddenSize: 192, layerCount: 11)
      s.parts = zip([64, 128], norms).map { .init(hiddenSize: $0, targetNorm: Double($1)) }
      s.timeAnchors = 2
      s.usesNestedDropout = false
      var tensors: [String: Tensor] = [:]
      for name in file.entries.keys where name.hasPrefix("parameter.") {
        tensors[String(name.dropFirst("parameter.".count))] = try file.tensor(name)
      }
      let frequencies = tensors.removeValue(forKey: "frequencies")
      return try NeTIMapper(s, tensors: tensors, frequencies: frequencies)
    }

    func conditioner(_ r: any ConceptRepresentation) throws -> SpaceTimeConditioner {
      try SpaceTimeConditioner(model.textEncoders, concepts: [r], layerCount: 11)
    }

    var samples: [SpaceTimeConditioner.Sample] {
      zip([0, 1, 1, 0], timesteps).map { .init(prompt: $0, timestep: Double($1)) }
    }

    /// The loss of the four samples.
    func loss(_ r: any ConceptRepresentation) throws -> Tensor {
      let conditioner = try conditioner(r)
      let sizes = [
        SizeConditioning(original: (640, 480), crop: (0, 16), target: (64, 64)),
        SizeConditioning(height: 64, width: 64),
      ]
      let rows = try Tensor([0, 1, 1, 0])
      let pooled = try #require(try conditioner.pooled(prompts)).indexSelected(0, rows)
      return try NoiseSchedule(model.schedulerConfiguration).loss(
        unet: model.unet, clean: file.tensor("clean"), noise: file.tensor("noise"), timesteps: timesteps,
        context: conditioner(prompts, samples: samples),
        added: AddedConditioning(pooled: pooled, sizes: [0, 1, 1, 0].map { sizes[$0] }),
        predicting: model.predictionType)
    }

    func category() throws -> [Tensor] {
      try zip(model.textEncoders.members, model.tokenizers).map { encoder, tokenizer in
        try encoder.tokenEmbedding.selected(0, tokenizer.encode("cat")[0]).to(.float32)
      }
    }

    func concept(_ kind: RepresentationKind, steps: Int = 1) throws -> Concept {
      var asked = RepresentationSettings()
      asked.kind = kind
      let rows = try category()
      return Concept(
        try kind.type.init(startingAs: asked, rows: rows, layerCount: 11, keys: RandomKeys(seed: 2)),
        about: .init(
          token: "<toy>", category: "cat", base: try model.baseIdentity, steps: steps, training: ""),
        placeholder: try .concatenated(rows, 0))
    }
  }

  @Test("Each encoder's ids and places, and the pooled text's with the category's word, are the reference's")
  func tokens() throws {
    let g = try Golden()
    for (i, name) in ["ids", "ids_2"].enumerated() {
      let expected = try g.file.tensor(name)
      for (p, prompt) in g.prompts.enumerated() {
        var ids = prompt.tokens[i].ids
        // The placeholder's id is nobody's.
        ids[prompt.tokens[i].positions[0]] = 0
        #expect(try ids == expected.selected(0, p).integers(), "\(name)")
      }
    }
    // “!” is another token for the second, whose padding it is.
    #expect(g.prompts[0].tokens[0].ids != g.prompts[0].tokens[1].ids)
    let pooled = try #require(try g.conditioner(g.mapper()).pooled(g.prompts))
    #expect(try relativeError(pooled, g.file.tensor("pooled")) < 1e-4)
    #expect(!pooled.requiresGradient)
  }

  @Test("A mapper gives the formulas' sequences, loss and the gradient of every parameter")
  func mapper() throws {
    let g = try Golden()
    let mapper = try g.mapper()
    let contexts = try withoutGradients { try g.conditioner(mapper)(g.prompts, samples: g.samples) }
    #expect(contexts.count == 11 && contexts[0].keys.shape == [4, 77, 192])
    for l in [0, 5] {
      let (keys, values) = (contexts[l].keys, contexts[l].values)
      #expect(try relativeError(keys.sliced(0, 0..<2).sliced(1, 0..<12), g.file.tensor("keys.\(l)")) < 1e-4)
      #expect(
        try relativeError(values.sliced(0, 0..<2).sliced(1, 0..<12), g.file.tensor("values.\(l)")) < 1e-4)
    }
    for p in mapper.parameters { try p.tensor.requireGradient() }
    let loss = try g.loss(mapper)
    #expect(try relativeError(loss.detached(), g.file.tensor("loss")) < 1e-5)
    try loss.backward()
    for p in mapper.parameters {
      let gradient = try #require(p.tensor.gradient)
      #expect(try relativeError(gradient, g.file.tensor("gradient.\(p.name)")) < 1e-3, "\(p.name)")
    }
  }

  @Test("Learned vectors give the reference's loss and gradient; one vector stands in the pooled text, too")
  func vectors() throws {
    let g = try Golden()
    let ti = try TextualInversion(vectors: g.file.tensor("ti.vectors"), layerCount: 11)
    let xti = try ExtendedTextualInversion(vectors: g.file.tensor("xti.vectors"), layerCount: 11)
    #expect(try relativeError(g.conditioner(ti).pooled(g.prompts)!, g.file.tensor("ti.pooled")) < 1e-4)
    #expect(try relativeError(g.conditioner(xti).pooled(g.prompts)!, g.file.tensor("pooled")) < 1e-4)
    for (name, r) in [("ti", ti), ("xti", xti)] as [(String, any LearnedVectors)] {
      try r.vectors.requireGradient()
      let loss = try g.loss(r)
      #expect(try relativeError(loss.detached(), g.file.tensor("\(name).loss")) < 1e-5)
      try loss.backward()
      #expect(
        try relativeError(#require(r.vectors.gradient), g.file.tensor("\(name).gradient")) < 1e-3, "\(name)")
    }
  }

  @Test("A mapper and an xti in one prompt give the formulas' loss and gradients")
  func two() throws {
    let g = try Golden()
    let mapper = try g.mapper()
    let xti = try ExtendedTextualInversion(vectors: g.file.tensor("xti.vectors"), layerCount: 11)
    let prompter = try ConceptPrompter(
      g.model.tokenizers,
      [.init(name: "a", token: "<a>", category: "cat"), .init(name: "b", token: "<b>", category: "mug")])
    let prompt = try prompter("a photo of a {a} next to a {b}!")
    let conditioner = try SpaceTimeConditioner(
      g.model.textEncoders, concepts: [mapper, xti], layerCount: 11)
    let output = try #require(mapper.parameters.first { $0.name == "output.weight" }).tensor
    for t in [output, xti.vectors] { try t.requireGradient() }
    let sizes = g.samples.map { sample in
      sample.prompt == 0
        ? SizeConditioning(original: (640, 480), crop: (0, 16), target: (64, 64))
        : SizeConditioning(height: 64, width: 64)
    }
    let pooled = try #require(try conditioner.pooled([prompt]))
    let loss = try NoiseSchedule(g.model.schedulerConfiguration).loss(
      unet: g.model.unet, clean: g.file.tensor("clean"), noise: g.file.tensor("noise"),
      timesteps: g.timesteps,
      context: conditioner(
        [prompt], samples: g.timesteps.map { .init(prompt: 0, timestep: Double($0)) }),
      added: AddedConditioning(pooled: pooled.expanded([4, -1]), sizes: sizes),
      predicting: g.model.predictionType)
    #expect(try relativeError(loss.detached(), g.file.tensor("two.loss")) < 1e-5)
    try loss.backward()
    for (t, name) in [(output, "mapper"), (xti.vectors, "xti")] {
      let error = try relativeError(#require(t.gradient), g.file.tensor("two.\(name).gradient"))
      #expect(error < 1e-3, "\(name)")
    }
  }

  @Test("Files keep both encoders' parts, and fit no other model", arguments: RepresentationKind.allCases)
  func files(kind: RepresentationKind) throws {
    let g = try Golden()
    let a = try g.concept(kind)
    let url = g.scratch.file("c.safetensors")
    try a.write(to: url)
    let b = try Concept.open(url)
    #expect(b.about == a.about && b.about.base.hiddenSizes == [64, 128] && b.about.base.hiddenSize == 192)
    #expect(try b.check(against: g.model.baseIdentity) == nil)
    let (t, l) = (try Tensor([3, 700] as [Float]), try Tensor([0, 7] as [Float]))
    let x = try a.representation.embeddings(timesteps: t, layers: l, mask: nil)
    let y = try b.representation.embeddings(timesteps: t, layers: l, mask: nil)
    #expect(try x.base.floats() == y.base.floats() && x.bypass?.floats() == y.bypass?.floats())
    if kind == .neti {
      // Base and bypass of an encoder together are as long as the category's word there.
      for (part, row) in zip([0..<64, 64..<192], try g.category()) {
        let both = try Tensor.concatenated([x.base.sliced(2, part), #require(x.bypass).sliced(2, part)], 2)
        for norm in try both.norm([2]).doubles() { #expect(abs(norm - (try row.norm().item())) < 1e-4) }
      }
    }
    var other = try g.model.baseIdentity
    other.hiddenSizes = [128, 64]
    #expect(refusal { try b.check(against: other) }?.message.contains("64 + 128; ") == true)
    let mini = try StableDiffusion(ModelFolder(Fixtures.miniSD.path)).baseIdentity
    #expect(refusal { try b.check(against: mini) }?.message.contains("has 128") == true)
  }

  @Test("A file whose encoders' sizes do not add up is refused")
  func unsound() throws {
    let g = try Golden()
    var a = try g.concept(.ti)
    for sizes in [[64], [64, 129], [192, 0], [-1, 193], [64, 64, 32, 16, 16]] {
      a.about.base.hiddenSizes = sizes
      let url = g.scratch.file("c.safetensors")
      try a.write(to: url)
      #expect(
        refusal { try Concept(contentsOf: url) }?.message.contains("which no model has") == true, "\(sizes)")
    }
    a = try g.concept(.neti)
    a.about.base.hiddenSizes = [128, 64]
    let url = g.scratch.file("c.safetensors")
    try a.write(to: url)
    #expect(refusal { try Concept(contentsOf: url) }?.message.contains("do not fit together") == true)
  }

  @Test("clip_l and clip_g of other programs are read and written, bit for bit")
  func community() throws {
    let g = try Golden()
    let random = try RandomSource(seed: 3)
    let (l, big) = (try random.normal([1, 64]), try random.normal([1, 128]))
    let url = g.scratch.file("toy.safetensors")
    try Safetensors.write([("clip_g", big), ("clip_l", l)], metadata: ["name": "toy"], to: url)
    let c = try Concept.open(url, category: "cat") { try g.model.baseIdentity }
    #expect(c.representation.kind == .ti && c.about.token == "toy" && c.about.category == "cat")
    #expect(try c.representation.parameters[0].tensor.floats() == l.floats() + big.floats())
    for format in [ConceptFormat.diffusers, .a1111, .kohya] {
      let out = g.scratch.file("\(format.rawValue).safetensors")
      #expect(try c.export(format, to: out) == nil)
      let file = try SafetensorsFile(out)
      #expect(file.entries.keys.sorted() == ["clip_g", "clip_l"])
      #expect(
        try file.tensor("clip_l").floats() == l.floats() && file.tensor("clip_g").floats() == big.floats())
    }
    let neti = try g.concept(.neti)
    let out = g.scratch.file("neti.safetensors")
    let loss = try neti.export(
      .a1111, to: out, timestep: 500, layer: neti.layer(named: "down_blocks.2.attentions.1"))
    #expect(loss?.contains("layer IN08 stands for all") == true)
    #expect(try SafetensorsFile(out).tensor("clip_g").shape == [1, 128])
    let mini = try StableDiffusion(ModelFolder(Fixtures.miniSD.path)).baseIdentity
    #expect(refusal { try Concept.open(url) { mini } }?.message.contains("64 + 128 numbers") == true)
    try Safetensors.write([("clip_g", big)], to: url)
    let alone = refusal { try Concept.open(url) { try g.model.baseIdentity } }
    #expect(alone?.message.contains("one for SDXL holds clip_l and clip_g") == true)
    try Safetensors.write([("clip_g", l), ("clip_l", big)], to: url)
    #expect(
      refusal { try Concept.open(url) { try g.model.baseIdentity } }?.message.contains("128 + 64") == true)
  }

  @Test(
    "A concept of every kind is trained, generated, mixed and decomposed",
    arguments: ["neti", "ti", "xti"])
  func training(kind: String) throws {
    let g = try Golden()
    let c = try RunConfiguration.load(overrides: [
      ("data.train_data_dir", "x"), ("data.placeholder_token", "<toy>"), ("data.super_category_token", "cat"),
      ("data.resolution", "64"), ("log.exp_name", "test"), ("optim.max_train_steps", "3"),
      ("optim.learning_rate", "1e-2"), ("optim.scale_lr", "false"), ("model.representation", kind),
      ("optim.gradient_accumulation_steps", "1"), ("eval.validation_prompts", "[]"),
    ]).configuration
    let examples = try TrainingImages(
      folder: Fixtures.examples.appending(path: "spotty"), side: 64, crop: true
    ).examples
    var losses: [Double] = []
    let trained = try Trainer(model: g.model, examples: examples, configuration: c).run(
      save: { _, _ in g.scratch.folder }
    ) { if case .step(let s) = $0 { losses.append(s.loss) } }
    #expect(losses.count == 3 && losses.allSatisfy { $0.isFinite && $0 > 0 })
    #expect(trained.representation.kind.rawValue == kind && trained.about.base.hiddenSizes == [64, 128])
    let before = try g.concept(trained.representation.kind)
    let moved = try zip(trained.representation.parameters, before.representation.parameters).map {
      try relativeError($0.tensor.detached(), $1.tensor)
    }
    #expect(moved.contains { $0 > 1e-4 })

    var settings = GenerationSettings()
    (settings.steps, settings.width, settings.height, settings.scheduler) = (2, 64, 64, .euler)
    var request = ConceptGenerator.Request(prompts: ["a photo of a {} in the snow"])
    request.settings = settings
    let image = try ConceptGenerator(g.model, concepts: [.init(trained)])(request)[0].image
    #expect(image.pixels.count == 64 * 64 * 3)
    var mixing = StyleMixing.Request(
      prompts: request.prompts, geometryLayers: try LayerNames(g.model.unetConfiguration).indices(["coarse"]))
    mixing.settings = settings
    mixing.parents = true
    let mixed = try StyleMixing(g.model, geometry: trained, appearance: g.concept(.ti))(mixing)
    #expect(mixed.count == 3 && mixed[0].image.pixels == image.pixels)
    var decomposition = Decomposition.Request(prompts: request.prompts, columns: [.cumulative(500)])
    decomposition.settings = settings
    #expect(try Decomposition(g.model, trained)(decomposition).count == decomposition.variants.count)
  }

  @Test("Layers have kohya's names, and the coarse ones are those of the lowest resolution")
  func layers() throws {
    let g = try Golden()
    let names = LayerNames(g.model.unetConfiguration)
    #expect(names.aliases?.first == "IN04" && names.aliases?.last == "OUT05" && names.aliases?.count == 11)
    #expect(names.names(try names.indices(["coarse"])) == ["IN07", "IN08", "MID", "OUT00", "OUT01", "OUT02"])
    #expect(names.resolutions == [64, 64, 32, 32, 32, 32, 32, 32, 64, 64, 64])
  }

  @Test("What was cut off and how large an image was follow from how it is prepared")
  func sizes() throws {
    let scratch = try Scratch()
    let image = try Image(width: 96, height: 64, pixels: Array(repeating: 90, count: 96 * 64 * 3))
    try Data(image.png()).write(to: scratch.file("a.png"))
    let cropped = try TrainingImages(folder: scratch.folder, side: 128, crop: true).examples[0].size
    #expect(cropped == SizeConditioning(original: (64, 96), crop: (0, 32), target: (128, 128)))
    let squashed = try TrainingImages(folder: scratch.folder, side: 128, crop: false).examples[0].size
    #expect(squashed == SizeConditioning(original: (64, 96), crop: (0, 0), target: (128, 128)))
  }
}
