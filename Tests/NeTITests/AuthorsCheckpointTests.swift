import Diffusion
import Files
import Foundation
import NeTI
import TestSupport
import Testing
import Torch

extension Fixtures {
  /// The mapper files, by what is special about them.
  static let authorsMappers = [
    "default": "default/mapper-steps-5.pt", "nobypass": "nobypass/mapper-steps-2.pt",
    "nope": "nope/mapper-steps-2.pt", "resumed": "resumed/mapper-steps-7.pt",
  ]
}

private func checkpoint(_ name: String) throws -> AuthorsCheckpoint {
  try AuthorsCheckpoint(Fixtures.authors(Fixtures.authorsMappers[name] ?? name))
}

extension PickleEntry {
  fileprivate func isCalled(_ name: String) -> Bool {
    if case .string(name) = key { true } else { false }
  }
}

/// A checkpoint as theirs, but tiny: width 3, two anchors and two layers.
private enum SmallCheckpoint {
  static func make() throws -> AuthorsCheckpoint {
    var settings = RunConfiguration()
    settings.data.placeholderToken = "<x>"
    settings.model.numPeTimeAnchors = 2
    let shapes = [
      "frequencies": [5, 2], "input.weight": [4, 10], "input.bias": [4], "hidden1.weight": [6, 4],
      "hidden1.bias": [6], "norm1.weight": [6], "norm1.bias": [6], "hidden2.weight": [6, 6],
      "hidden2.bias": [6], "norm2.weight": [6], "norm2.bias": [6], "output.weight": [6, 6],
      "output.bias": [6],
    ]
    return AuthorsCheckpoint(
      settings: settings, steps: nil, embedding: try Tensor.ones([3]),
      tensors: try shapes.mapValues { try Tensor.full($0, 0.5) }, layers: 2)
  }
}

@Suite struct AuthorsCheckpointTests {
  @Test func `The default checkpoint gives its tensors and settings`() throws {
    let found = try checkpoint("default")
    #expect(found.token == "<concept>" && found.steps == 5 && found.layers == 16)
    #expect(found.embedding.shape == [768] && found.embedding.dtype == .float32)
    let shapes = found.tensors.mapValues(\.shape)
    #expect(
      shapes == [
        "frequencies": [1024, 2], "input.weight": [160, 2048], "input.bias": [160],
        "hidden1.weight": [128, 160], "hidden1.bias": [128], "norm1.weight": [128], "norm1.bias": [128],
        "hidden2.weight": [128, 128], "hidden2.bias": [128], "norm2.weight": [128], "norm2.bias": [128],
        "output.weight": [1536, 128], "output.bias": [1536],
      ])
    let settings = found.settings
    let (data, model, optim) = (settings.data, settings.model, settings.optim)
    #expect(model.targetNorm == 0.5571879744529724 && model.useNestedDropout)
    #expect(model.nestedDropoutProb == 0.5 && model.outputBypass && model.numPeTimeAnchors == 10)
    #expect(model.peSigmas.sigmaT == 0.03 && model.peSigmas.sigmaL == 2 && model.usePositionalEncoding)
    #expect(data.superCategoryToken == "object" && model.pretrainedModelNameOrPath == "tiny-random")
    #expect(optim.learningRate == 0.008 && optim.scaleLr && optim.seed == 1)
    #expect(optim.maxTrainSteps == 5 && data.resolution == 64 && optim.adamEpsilon == 1e-8)
  }

  @Test func `The frequencies are found in the encoder, in its parameters and in the state`() throws {
    let found = try checkpoint("resumed")
    #expect(found.steps == 7)
    // A resumed run keeps the frequencies of the run that it continues.
    let first = try checkpoint("default").tensors["frequencies"]
    #expect(try found.tensors["frequencies"]?.floats() == first?.floats())
    #expect(found.tensors["frequencies"]?.shape == [1024, 2])
  }

  @Test func `Without positional encoding there is neither anchor layer nor frequencies`() throws {
    let found = try checkpoint("nope")
    #expect(!found.settings.model.usePositionalEncoding && found.layers == 16)
    #expect(found.tensors["hidden1.weight"]?.shape == [128, 2])
    #expect(found.tensors["input.weight"] == nil && found.tensors["frequencies"] == nil)
  }

  @Test func `Without bypass the output has half the width`() throws {
    let found = try checkpoint("nobypass")
    #expect(!found.settings.model.outputBypass && found.tensors["output.weight"]?.shape == [768, 128])
  }

  /// What the authors' mapper returns, kept beside each checkpoint; error max|a−b| / max|b|.
  @Test(arguments: ["default", "nobypass", "nope", "resumed"])
  func `The mapper gives the authors' values to 1e-5`(_ name: String) throws {
    let mapper = try checkpoint(name).mapper()
    let expected = try SafetensorsFile(Fixtures.authors("\(name)/expected.safetensors"))
    let query = try expected.tensor("query")
    let columns = try (0..<3).map { try query.selected(1, $0).to(.float32) }
    let kept = try columns[2].floats().map { $0 < 0 ? 128 : Int($0) }
    let mask = try Tensor(
      kept.flatMap { k in (0..<128).map { $0 < k ? 1 : 0 as Float } }, [kept.count, 128])
    let output = try withoutGradients {
      try mapper.output(timesteps: columns[0], layers: columns[1], mask: mask)
    }
    #expect(try relativeError(output, expected.tensor("output")) < 1e-5)
  }

  @Test func `A mapper put back into a checkpoint is the same, another representation is refused`() throws {
    let original = try checkpoint("default")
    let mapper = try original.mapper()
    let again = try AuthorsCheckpoint(
      mapper, settings: original.settings, steps: 5, embedding: original.embedding)
    #expect(again.settings == original.settings && again.layers == 16)
    #expect(again.tensors.keys == original.tensors.keys)
    var settings = mapper.settings
    settings.kind = .time
    let tensors = Dictionary(uniqueKeysWithValues: mapper.parameters.map { ($0.name, $0.tensor) })
    let other = try NeTIMapper(settings, tensors: tensors, frequencies: original.tensors["frequencies"])
    let error = #expect(throws: NeTIError.self) {
      try AuthorsCheckpoint(other, settings: original.settings, steps: 5, embedding: original.embedding)
    }
    #expect(error?.message.contains("time") == true)
  }

  @Test(arguments: ["default", "nobypass", "nope", "resumed"])
  func `A checkpoint written back is read as the same`(_ name: String) throws {
    let scratch = try Scratch()
    let original = try checkpoint(name)
    let files = try original.write(into: scratch.folder)
    let suffix = original.steps.map { "steps-\($0)" } ?? ""
    #expect(scratch.contents == ["learned_embeds-\(suffix).bin", "mapper-\(suffix).pt"])
    let again = try AuthorsCheckpoint(files.mapper)
    #expect(again.settings == original.settings && again.steps == original.steps)
    #expect(again.layers == original.layers)
    #expect(try again.embedding.rawBytes() == original.embedding.rawBytes())
    #expect(again.tensors.keys == original.tensors.keys)
    for (key, tensor) in original.tensors {
      #expect(try again.tensors[key]?.rawBytes() == tensor.rawBytes(), "\(key)")
    }
  }

  @Test func `A mapper that their format cannot hold is refused by name, and nothing is written`() throws {
    let scratch = try Scratch()
    let original = try checkpoint("default")
    var narrow = original
    narrow.embedding = try Tensor.zeros([128])
    var layers = original
    layers.layers = 12
    var missing = original
    missing.tensors["norm1.bias"] = nil
    var extra = original
    extra.tensors["token"] = try Tensor.zeros([768])
    for (value, reason) in [(narrow, "width 768"), (layers, "12"), (missing, "norm1.bias"), (extra, "token")]
    {
      let error = #expect(throws: NeTIError.self) { try value.write(into: scratch.folder) }
      #expect(error?.message.contains(reason) == true, "\(error?.message ?? "")")
    }
    #expect(scratch.contents.isEmpty)
  }

  @Test func `A missing or foreign file beside the mapper is named`() throws {
    let scratch = try Scratch()
    let mapper = try Data(contentsOf: Fixtures.authors("nope/mapper-steps-2.pt"))
    let alone = try scratch.file(mapper, "mapper-steps-2.pt")
    var error = #expect(throws: NeTIError.self) { try AuthorsCheckpoint(alone) }
    #expect(error?.message.contains("learned_embeds-steps-2.bin") == true)
    _ = try scratch.file(mapper, "learned_embeds-steps-2.bin")
    error = #expect(throws: NeTIError.self) { try AuthorsCheckpoint(alone) }
    #expect(error?.message.contains("learned_embeds-steps-2.bin: it does not hold") == true)
    error = #expect(throws: NeTIError.self) { try AuthorsCheckpoint(scratch.file(mapper, "other.pt")) }
    #expect(error?.message.contains("not named mapper-") == true)
    let row = Fixtures.authors("nope/learned_embeds-steps-2.bin")
    error = #expect(throws: NeTIError.self) { try AuthorsCheckpoint(row, embeddings: row) }
    #expect(error?.message.contains("not a mapper of NeTI") == true)
    // Other programs keep a state_dict, too.
    for (name, what) in [
      (
        "model.diffusion_model.out.2.weight",
        "it is a whole model in one file; give it to a command with `model`"
      ),
      ("lora_unet_mid_block.lora_up.weight", "it is a LoRA of kohya's scripts"),
    ] {
      var storages = TorchStorages()
      let tensor = PickleEntry(.string(name), try storages.add(Tensor.zeros([2])))
      let inner = PickleEntry(.string("state_dict"), .dictionary([tensor], ordered: false))
      let state = PickleValue.dictionary([inner], ordered: false)
      let file = try scratch.file(storages.archive("model", state), "model.ckpt")
      error = #expect(throws: NeTIError.self) { try Concept.open(file) }
      #expect(error?.message.contains(what) == true, "\(error?.message ?? "")")
    }
  }

  @Test func `Parts that do not belong together are refused, and what does not fit is said`() throws {
    let scratch = try Scratch()
    func message(_ change: (_ mapper: inout AuthorsCheckpoint, _ row: inout AuthorsCheckpoint) throws -> Void)
      throws -> String
    {
      var (mapper, row) = (try SmallCheckpoint.make(), try SmallCheckpoint.make())
      try change(&mapper, &row)
      let file = try scratch.file(mapper.encodedMapper("mapper"), "mapper-final.pt")
      _ = try scratch.file(row.encodedRow("row"), "learned_embeds-final.bin")
      return #expect(throws: NeTIError.self) { try AuthorsCheckpoint(file) }?.message ?? ""
    }
    let token = try message { $1.settings.data.placeholderToken = "<y>" }
    #expect(token.contains("it is for the token “<y>”, but the mapper is for “<x>”"), "\(token)")
    let width = try message { $1.embedding = try .ones([4]) }
    #expect(width.contains("does not fit the row of 4 numbers in learned_embeds-final.bin"), "\(width)")
    let flat = try message { $1.embedding = try .ones([1, 3]) }
    #expect(flat.contains("the embedding of “<x>” has the shape [1, 3], not one dimension"), "\(flat)")
    let shape = try message { mapper, _ in mapper.tensors["norm1.bias"] = try .ones([7]) }
    #expect(shape.contains("its tensor norm1.bias has the shape [7], which does not fit"), "\(shape)")
    #expect(
      refusal { try Concept(authors: SmallCheckpoint.make()) }?.message
        == "the checkpoint is for 2 cross-attention layers; Stable Diffusion 1.x has 16")
  }

  /// What refuses a mapper's file in which `change` changed the weights and the encoder's attributes.
  private func refusalOfMapper(
    encoding: Bool = true,
    _ change: (_ weights: inout [PickleEntry], _ encoder: inout [PickleEntry], _ more: [String: PickleValue])
      -> Void
  ) throws -> String {
    let scratch = try Scratch()
    var small = try SmallCheckpoint.make()
    if !encoding {
      small.settings.model.usePositionalEncoding = false
      for name in ["frequencies", "input.weight", "input.bias"] { small.tensors[name] = nil }
      small.tensors["hidden1.weight"] = try .ones([6, 2])
    }
    _ = try scratch.file(small.encodedRow("row"), "learned_embeds-final.bin")
    let sound = try TorchFile(
      scratch.file(small.encodedMapper("mapper"), "sound.pt"),
      classes: [
        "models.positional_encoding NeTIPositionalEncoding", "models.positional_encoding BasicEncoder",
      ])
    var storages = TorchStorages()
    func copies(_ entries: [PickleEntry]) throws -> [PickleEntry] {
      try entries.map { entry in
        guard case .tensor(let tensor) = entry.value, case .string(let name) = entry.key else { return entry }
        return PickleEntry(name, try storages.add(sound.tensor(tensor)))
      }
    }
    guard case .dictionary(let state, _)? = sound.root["state_dict"],
      case .object(let name, let attributes)? = sound.root["encoder"], let settings = sound.root["cfg"]
    else { return "another kind of file" }
    var (weights, encoder) = (try copies(state), try copies(attributes))
    let more = [
      "ones": try storages.add(.full([4, 10], 1)), "table": try storages.add(.ones([1000])),
      "short": try storages.add(Tensor((0..<999).map { Float($0) / 998 * 2 - 1 })),
    ]
    change(&weights, &encoder, more)
    let root = [
      PickleEntry("state_dict", weights.isEmpty ? .none : .dictionary(weights, ordered: true)),
      PickleEntry("cfg", settings),
      PickleEntry("encoder", encoder.isEmpty ? .none : .object(name, encoder)),
    ]
    let file = try scratch.file(
      storages.archive("mapper", .dictionary(root, ordered: false)), "mapper-final.pt")
    return refusal { try AuthorsCheckpoint(file) }?.message ?? "nothing is refused"
  }

  @Test func `A mapper whose parts are of another kind is refused, and which part is said`() throws {
    #expect(try refusalOfMapper { _, _, _ in } == "nothing is refused")
    for (words, change) in [
      (
        "its state has an unknown tensor “more”",
        { w, _, m in w.append(PickleEntry("more", m["ones"] ?? .none)) }
      ),
      (
        "its state_dict holds something else than named tensors",
        { w, _, _ in w.append(PickleEntry("x", .int(3))) }
      ),
      (" twice", { w, _, _ in w.append(w[0]) }), ("it lacks ", { w, _, _ in w.removeLast() }),
      (
        " in it differ",
        { w, _, m in
          // The anchor layer has two names.
          guard case .string(let name) = w[2].key else { return }
          w[2] = PickleEntry(name, m["ones"] ?? .none)
        }
      ),
      (
        "its encoder is not the one that model.use_positional_encoding calls for",
        { _, encoder, _ in encoder = [] }
      ),
      ("it lacks w of the encoder", { _, encoder, _ in encoder.removeAll { $0.isCalled("w") } }),
    ] as [(String, (inout [PickleEntry], inout [PickleEntry], [String: PickleValue]) -> Void)] {
      let message = try refusalOfMapper(change)
      #expect(message.contains("mapper-final.pt") && message.contains(words), "\(words) ≠ \(message)")
    }
    let list = try refusalOfMapper { weights, _, _ in weights = [] }
    #expect(list.contains("its state_dict is None, not a dict"), "\(list)")
    let scratch = try Scratch()
    let archive = try ZipArchive(Array(SmallCheckpoint.make().encodedMapper("mapper")))
    var zip = ZipWriter()
    for name in archive.names {
      var data = try Data(archive.contents(name))
      // Two words of one length.
      if name == "mapper/data.pkl", let found = data.range(of: Data("FloatStorage".utf8)) {
        data.replaceSubrange(found, with: Data("ShortStorage".utf8))
      }
      try zip.add(name, data)
    }
    let file = try scratch.file(zip.finish(), "mapper-final.pt")
    let whole = refusal { try AuthorsCheckpoint(file) }?.message ?? ""
    #expect(whole.hasSuffix("mapper-final.pt: input_layer.weight does not hold real numbers"), "\(whole)")
    #expect(try refusalOfMapper(encoding: false) { _, _, _ in } == "nothing is refused")
    let other = try refusalOfMapper(encoding: false) { _, encoder, _ in encoder = [] }
    #expect(
      other.contains("its encoder is not the one that model.use_positional_encoding calls for"), "\(other)")
    let timesteps = "normalized_timesteps"
    for (words, other) in [
      ("its encoder lacks normalized_timesteps", nil),
      ("its encoder's normalized_timesteps do not rise evenly from -1 to 1", "table"),
      ("its encoder knows 999 timesteps instead of 1000", "short"),
    ] {
      let message = try refusalOfMapper(encoding: false) { _, encoder, more in
        encoder.removeAll { $0.isCalled(timesteps) }
        if let value = other.flatMap({ more[$0] }) { encoder.append(PickleEntry(timesteps, value)) }
      }
      #expect(message.contains(words), "\(words) ≠ \(message)")
    }
  }

  @Test func `Five thousand damaged pickles in sound archives crash nothing`() throws {
    let scratch = try Scratch()
    let small = try SmallCheckpoint.make()
    _ = try scratch.file(small.encodedRow("row"), "learned_embeds-final.bin")
    let file = try small.encodedMapper("mapper")
    let mapper = try scratch.file(file, "mapper-final.pt")
    let sound = try AuthorsCheckpoint(mapper)
    #expect(sound.layers == 2 && sound.tensors.count == 13)
    let archive = try ZipArchive(Array(file))
    var refused = 0
    for pickle in Mutations(of: Data(try archive.contents("mapper/data.pkl")), count: 5000, seed: 4) {
      var zip = ZipWriter()
      for name in archive.names {
        try zip.add(name, name == "mapper/data.pkl" ? pickle : Data(archive.contents(name)))
      }
      try zip.finish().write(to: mapper)
      do { _ = try AuthorsCheckpoint(mapper) } catch is any DescribedError { refused += 1 }
    }
    #expect(refused > 2000 && refused < 5000)
  }

  @Test func `A final checkpoint has no number of steps`() throws {
    let scratch = try Scratch()
    for (from, to) in [
      ("mapper-steps-2.pt", "mapper-final.pt"), ("learned_embeds-steps-2.bin", "learned_embeds-final.bin"),
    ] {
      _ = try scratch.file(try Data(contentsOf: Fixtures.authors("nope/\(from)")), to)
    }
    let found = try AuthorsCheckpoint(scratch.folder.appending(path: "mapper-final.pt"))
    #expect(found.steps == nil)
    #expect(try found.write(into: scratch.folder).mapper.lastPathComponent == "mapper-final.pt")
  }
}
