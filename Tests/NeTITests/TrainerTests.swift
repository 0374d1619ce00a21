import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

@Suite("Training", .serialized)
struct TrainerTests {
  private static func configuration(steps: Int, representation: String = "neti", rate: Double = 2e-3) throws
    -> RunConfiguration
  {
    try RunConfiguration.load(overrides: [
      ("data.train_data_dir", "spotty"), ("data.placeholder_token", "<spotty>"),
      ("data.super_category_token", "monster"),
      ("log.exp_name", "test"), ("optim.max_train_steps", String(steps)),
      ("optim.learning_rate", String(rate)), ("optim.scale_lr", "false"),
      ("optim.gradient_accumulation_steps", "2"), ("model.representation", representation),
      ("eval.validation_prompts", "[]"),
    ]).configuration
  }

  private static func examples(_ side: Int) throws -> [TrainingExample] {
    try TrainingImages(folder: Fixtures.examples.appending(path: "spotty"), side: side, crop: true).examples
  }

  private static func trainer(_ c: RunConfiguration, resuming: Checkpoint? = nil) throws -> Trainer {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    return try Trainer(
      model: model, examples: examples(model.resolution), configuration: c, resuming: resuming)
  }

  private func bytes(_ c: Concept) throws -> [[Float]] {
    try c.representation.parameters.map { try $0.tensor.detached().floats() }
  }

  @Test("is the same for a seed, and resumed at any checkpoint gives exactly the uninterrupted concept")
  func resume() throws {
    let scratch = try Scratch()
    var c = try Self.configuration(steps: 5)
    c.log.saveSteps = 1
    let save: (Int, Data) throws -> URL = { step, data in
      let url = scratch.file("\(step).safetensors")
      try AtomicFile.write(data, to: url)
      return url
    }
    var losses: [Double] = []
    let whole = try Self.trainer(c).run(save: save) { if case .step(let s) = $0 { losses.append(s.loss) } }
    #expect(losses.count == 5)
    #expect(whole.about.steps == 5)
    for step in [1, 3] {
      let checkpoint = try Checkpoint(contentsOf: scratch.file("\(step).safetensors"))
      #expect(checkpoint.concept.about.steps == step)
      var again: [Double] = []
      let resumed = try Self.trainer(c, resuming: checkpoint).run(save: { _, _ in scratch.folder }) {
        if case .step(let s) = $0 { again.append(s.loss) }
      }
      #expect(again == Array(losses[step...]))
      #expect(try bytes(resumed) == bytes(whole))
    }
  }

  @Test("stops when asked, with a checkpoint of the last completed step that another thread can write, too")
  func stop() throws {
    let scratch = try Scratch()
    let trainer = try Self.trainer(Self.configuration(steps: 50))
    var saved: [Int] = []
    let concept = try trainer.run(save: { step, data in
      saved.append(step)
      let url = scratch.file("\(step).safetensors")
      try AtomicFile.write(data, to: url)
      return url
    }) { if case .step(let s) = $0, s.step == 2 { trainer.commands.requestStop() } }
    #expect(concept.about.steps == 2)
    #expect(saved == [2])
    let last = try #require(try trainer.commands.saveLastStep())
    #expect(last.step == 2)
    #expect(try bytes(Checkpoint(contentsOf: last.file).concept) == bytes(concept))
  }

  @Test("merges micro-batches without changing the result but for rounding")
  func merging() throws {
    // Accumulation over 4 × 1 and one pass over 4 see the same samples and, with one coin per sample, the same dropout.
    var one = try Self.configuration(steps: 2)
    one.optim.trainBatchSize = 1
    one.optim.gradientAccumulationSteps = 4
    func run(_ trainer: Trainer) throws -> (Concept, losses: [Double]) {
      var losses: [Double] = []
      let concept = try trainer.run(save: { _, _ in URL(filePath: "/dev/null") }) {
        if case .step(let s) = $0 { losses.append(s.loss) }
      }
      return (concept, losses)
    }
    let split = try Self.trainer(one)
    split.latentPositionsPerPass = 1
    let ((merged, losses), (apart, others)) = try (run(Self.trainer(one)), run(split))
    #expect(losses.count == 2 && others.count == 2)
    for (a, b) in zip(losses, others) { #expect(abs(a - b) < 1e-5, "\(a) and \(b)") }
    let start = try Self.trainer(one).concept
    let parameters = [merged, apart, start].map(\.representation.parameters)
    for ((a, b), c) in zip(zip(parameters[0], parameters[1]), parameters[2]) {
      // Of the way that the tensor went as a whole: Adam's first steps turn a gradient that is only rounding into a
      // whole step. By CPU, it is up to 0.01; other samples go elsewhere, which is 1.
      let (x, y, z) = try (a.tensor.detached(), b.tensor.detached(), c.tensor.detached())
      let error = try ((x - y) * (x - y)).mean().item() / ((z - y) * (z - y)).mean().item()
      #expect(error.squareRoot() < 0.03, "\(a.name): \(error.squareRoot())")
    }
    #expect(try bytes(merged) != bytes(start))
  }

  @Test("stops at a loss that is not finite, says why, and keeps the last good step")
  func nonFinite() throws {
    let scratch = try Scratch()
    let trainer = try Self.trainer(Self.configuration(steps: 50, representation: "ti", rate: 1e18))
    var saved: [Int: Data] = [:]
    let error = #expect(throws: NeTIError.self) {
      try trainer.run(save: { step, data in
        saved[step] = data
        return scratch.folder
      }) { _ in }
    }
    let last = try #require(saved.keys.max())
    let line = error?.message ?? ""
    #expect(
      line.contains("in step \(last + 1), so that step was not taken; step \(last) is saved"), "\(line)")
    #expect(line.contains("Try a smaller learning rate (this step's was 1e+18)"), "\(line)")
    let url = scratch.file("last.safetensors")
    try saved[last]?.write(to: url)
    _ = try Checkpoint(contentsOf: url)
  }

  @Test("says of a first loss that is not finite that the model is to blame")
  func damagedModel() throws {
    let scratch = try Scratch()
    let folder = try scratch.damagedMiniSD("unet", "conv_in.bias")
    let model = try StableDiffusion(ModelFolder(folder.path))
    let trainer = try Trainer(
      model: model, examples: Self.examples(model.resolution), configuration: Self.configuration(steps: 2))
    let error = refusal { try trainer.run(save: { _, _ in URL(filePath: "/dev/null") }) { _ in } }
    #expect(
      error?.message
        == "the first loss, or its gradient, is nan, before anything is learned: the model's weights are damaged, or too "
        + "large for the precision; use another copy of the model")
  }

  @Test("stops before the first step at a rate that is out of reason, and at a category without a word")
  func unreasonable() throws {
    let trainer = try Self.trainer(Self.configuration(steps: 5, representation: "ti", rate: 1e25))
    let rate = refusal { try trainer.run(save: { _, _ in URL(filePath: "/dev/null") }) { _ in } }
    #expect(
      rate?.message.hasPrefix(
        "the loss or the mapper became inf in step 1, so that step was not taken; no step is saved. "
          + "Try a smaller learning rate (this step's was 1e+25)") == true, "\(rate?.message ?? "")")
    var c = try Self.configuration(steps: 1)
    c.data.superCategoryToken = " "
    #expect(
      refusal { try Self.trainer(c) }?.message
        == "the category “ ” has no word in it; give one such as toy, cat or mug (`category`)")
  }

  @Test("says which step is saved where the concept cannot be written in the end")
  func noPlace() throws {
    let scratch = try Scratch()
    var c = try Self.configuration(steps: 1)
    c.log.expDir = scratch.folder.path
    c.data.trainDataDir = Fixtures.examples.appending(path: "spotty").path
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let run = try TrainingRun(
      folder: c.runFolder, configuration: c, model: model, examples: Self.examples(model.resolution),
      resume: false)
    let file = c.runFolder.appending(path: "concept.safetensors")
    let error = refusal {
      try run { event in
        guard case .step = event else { return }
        try FileManager.default.createDirectory(
          at: file.appending(path: "in-the-way"), withIntermediateDirectories: true)
      }
    }
    #expect(
      error?.message == "cannot write \(file.path): Is a directory; step 1 is saved",
      "\(error?.message ?? "")")
  }

  @Test("goes on, with a warning, without validation images and checkpoints that fail")
  func goesOn() throws {
    var c = try Self.configuration(steps: 3)
    let whole = try Self.trainer(c).run(save: { _, _ in URL(filePath: "/dev/null") }) { _ in }
    c.log.saveSteps = 1
    c.eval.validationSteps = 2
    var warnings: [String] = []
    let concept = try Self.trainer(c).run(
      save: { _, _ in throw FileError("cannot write it: the disk is full; nothing was changed") },
      validate: { _ in throw NeTIError("no such scheduler") },
      listener: { if case .warning(let line) = $0 { warnings.append(line) } })
    #expect(try bytes(concept) == bytes(whole))
    #expect(
      warnings == [
        "step 1 is not saved: cannot write it: the disk is full",
        "step 2 is not saved: cannot write it: the disk is full",
        "no validation images of step 2: no such scheduler",
        "step 3 is not saved: cannot write it: the disk is full",
      ])
  }

  private struct Strange: Error {}

  @Test("saves the last completed step when an error ends the run, and says what is saved")
  func ends() throws {
    func end(_ error: any Error, savingFails: Bool = false) throws -> (saved: [Int], error: (any Error)?) {
      var saved: [Int] = []
      do {
        _ = try Self.trainer(Self.configuration(steps: 5)).run(save: { step, _ in
          if savingFails { throw FileError("the disk is full") }
          saved.append(step)
          return URL(filePath: "/dev/null")
        }) { if case .step(let s) = $0, s.step == 2 { throw error } }
        return (saved, nil)
      } catch { return (saved, error) }
    }
    let ours = try end(NeTIError("a cable is loose"))
    #expect(ours.saved == [2])
    #expect("\(try #require(ours.error))" == "a cable is loose; step 2 is saved")
    let theirs = try end(Strange())
    #expect(theirs.saved == [2] && theirs.error is Strange)
    let full = try end(NeTIError("a cable is loose"), savingFails: true)
    #expect(
      "\(try #require(full.error))"
        == "a cable is loose; step 2 could not be saved (the disk is full); no step is saved")
    let memory = try end(TorchError("out of memory"))
    #expect(memory.saved == [2])
    #expect("\(try #require(memory.error))".hasSuffix("out of memory; step 2 is saved"))
  }

  @Test("lowers the loss on the images it learns from", arguments: ["neti", "ti"])
  func learns(_ representation: String) throws {
    let c = try Self.configuration(
      steps: 40, representation: representation, rate: representation == "ti" ? 1e-2 : 2e-3)
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let examples = try Self.examples(model.resolution)
    let trainer = try Trainer(model: model, examples: examples, configuration: c)
    let loss = try HeldOutLoss(model, image: examples[0].image)
    let before = try loss(trainer.concept)
    let concept = try trainer.run(save: { _, _ in URL(filePath: "/dev/null") }) { _ in }
    let after = try loss(concept)
    #expect(after < before * 0.99, "\(before) → \(after)")
  }

  /// Trains `steps` steps on `examples` and returns the losses.
  private static func losses(_ c: RunConfiguration, _ examples: [TrainingExample]) throws -> [Double] {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    var losses: [Double] = []
    _ = try Trainer(model: model, examples: examples, configuration: c).run(save: { _, _ in
      URL(filePath: "/dev/null")
    }) {
      if case .step(let s) = $0 { losses.append(s.loss) }
    }
    return losses
  }

  @Test("takes captions in the place of templates, and masks as weights of the loss")
  func captionsAndMasks() throws {
    let c = try Self.configuration(steps: 2)
    let plain = try Self.examples(128)
    let losses = try Self.losses(c, plain)
    // A caption that is the template that would be drawn changes nothing: only the words count.
    var words = plain
    for i in words.indices { words[i].caption = "a photo of {} on a beach" }
    let captioned = try Self.losses(c, words)
    #expect(captioned != losses)
    for i in words.indices { words[i].caption = "a photo of <spotty> on a beach" }
    #expect(try Self.losses(c, words) == captioned)
    var grey = plain
    for i in grey.indices { grey[i].mask = try Image(width: 128, height: 128, colour: Colour(100, 100, 100)) }
    for (a, b) in zip(try Self.losses(c, grey), losses) { #expect(abs(a - b) / b < 1e-3) }
    // The left half alone weighs differently from the right half alone; and the mean of both is near the whole.
    func half(_ left: Bool) throws -> [Double] {
      var examples = plain
      let row = (0..<128).flatMap { x in [UInt8](repeating: (x < 64) == left ? 255 : 0, count: 3) }
      let mask = try Image(width: 128, height: 128, pixels: (0..<128).flatMap { _ in row })
      for i in examples.indices { examples[i].mask = mask }
      return try Self.losses(c, examples)
    }
    let (left, right) = (try half(true), try half(false))
    #expect(left[0] != right[0])
    #expect(abs((left[0] + right[0]) / 2 - losses[0]) / losses[0] < 1e-4)
    words[0].caption = "{} and {}"
    let e = #expect(throws: NeTIError.self) { try Self.losses(c, words) }
    #expect(e?.message.contains("caption of") == true)
  }

  static let settings: [[(String, String)]] =
    RepresentationKind.allCases.map { [("model.representation", $0.rawValue)] }
    + ["use_positional_encoding", "output_bypass", "normalize_mapper_output", "use_nested_dropout"].map {
      [("model." + $0, "false")]
    } + [[("data.learnable_property", "style")]]

  @Test("learns and draws with every representation and without each part", arguments: settings)
  func variants(_ overrides: [(String, String)]) throws {
    var c = try Self.configuration(steps: 2)
    for (key, value) in overrides { c = try Self.changed(c, key, value) }
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let trainer = try Trainer(model: model, examples: Self.examples(64), configuration: c)
    let before = try bytes(trainer.concept)
    let concept = try trainer.run(save: { _, _ in URL(filePath: "/dev/null") }) { _ in }
    #expect(concept.representation.kind == c.model.representation)
    #expect(try bytes(concept) != before)
    var request = ConceptGenerator.Request(prompts: ["a photo of {}"])
    request.steps = 2
    let drawn = try ConceptGenerator(model, concepts: [.init(concept)])(request)
    #expect(drawn.count == 1 && drawn[0].image.width == 128)
  }

  private static func changed(_ c: RunConfiguration, _ key: String, _ value: String) throws
    -> RunConfiguration
  {
    let scratch = try Scratch()
    let file = try scratch.file(Data(c.resolvedYAML().utf8), "config.yaml")
    return try RunConfiguration.load(yaml: file, overrides: [(key, value)]).configuration
  }

  @Test("draws with xti exactly what ti draws when all vectors are equal")
  func xtiEqualsTI() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let base = try model.baseIdentity
    let row = try RandomSource(seed: 5).normal([base.hiddenSize]) * 0.05
    func image(_ kind: RepresentationKind) throws -> Image {
      let concept = Concept(
        try learnedVectors(kind, startingAt: row, layerCount: base.layers.count),
        about: .init(token: "<x>", category: "", base: base, steps: 0, training: ""), placeholder: row)
      var request = ConceptGenerator.Request(prompts: ["a photo of {} on a beach"])
      request.steps = 4
      return try ConceptGenerator(model, concepts: [.init(concept)])(request)[0].image
    }
    let (ti, xti) = (try image(.ti), try image(.xti))
    let largest = zip(ti.pixels, xti.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 255
    #expect(largest <= 1)
  }
}
