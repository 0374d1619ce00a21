import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

@Suite("Embeddings of other programs")
struct CommunityEmbeddingTests {
  /// mini-sd's sizes, without reading it.
  private static let base = BaseIdentity(
    name: "mini", hiddenSize: 128, layers: stableDiffusion1Layers, tokenTableHash: "1")
  private static let stableDiffusion1Layers: [String] = {
    func block(_ path: String, _ n: Int) -> [String] {
      (0..<n).map { "\(path).attentions.\($0).transformer_blocks.0" }
    }
    return (0...2).flatMap { block("down_blocks.\($0)", 2) } + block("mid_block", 1)
      + (1...3).flatMap { block("up_blocks.\($0)", 3) }
  }()

  private static func file(_ name: String) -> URL { Fixtures.url("community/\(name)") }

  private static func expected(_ name: String) throws -> Tensor {
    try SafetensorsFile(file("expected.safetensors")).tensor(name)
  }

  static let single: [(String, String, Int)] = [
    ("diffusers.safetensors", "<toy>", 0), ("diffusers.bin", "<toy>", 0), ("parameter.bin", "<toy>", 0),
    ("a1111.pt", "toy", 500), ("first.pt", "first", 0), ("kohya.safetensors", "kohya", 0),
    ("onetrainer.safetensors", "onetrainer", 0), ("numpy.bin", "<toy>", 0), ("numpy-2.pkl", "<toy>", 0),
    ("numpy-4.pkl", "<toy>", 0), ("a1111.png", "toy", 500), ("pixels.png", "toy", 500),
  ]

  @Test("with one vector become a ti concept with exactly that vector", arguments: single)
  func one(_ name: String, _ token: String, _ steps: Int) throws {
    let c = try Concept.open(Self.file(name)) { Self.base }
    #expect(c.representation.kind == .ti && c.about.token == token && c.about.steps == steps)
    #expect(try c.representation.parameters[0].tensor.floats() == Self.expected("one").floats())
    #expect(try Concept.open(Self.file(name), token: "<other>") { Self.base }.about.token == "<other>")
  }

  @Test("in half precision are read to its rounding")
  func half() throws {
    let c = try Concept.open(Self.file("half.safetensors")) { Self.base }
    #expect(try relativeError(c.representation.parameters[0].tensor, Self.expected("one")) < 5e-4)
  }

  @Test("with 16 layers become an xti concept, layer by layer", arguments: ["xti.safetensors", "xti.pt"])
  func layers(_ name: String) throws {
    let c = try Concept.open(Self.file(name)) { Self.base }
    #expect(c.representation.kind == .xti)
    #expect(try c.representation.parameters[0].tensor.floats() == Self.expected("many").floats())
  }

  @Test(
    "with several vectors for one placeholder become a ti concept with exactly those",
    arguments: [
      ("two.safetensors", 2), ("three.pt", 3), ("sixteen.safetensors", 16), ("numpy-columns.pkl", 2),
    ])
  func several(_ name: String, _ count: Int) throws {
    let c = try Concept.open(Self.file(name)) { Self.base }
    #expect(c.representation.kind == .ti && c.representation.vectorCount == count)
    #expect(
      try c.representation.parameters[0].tensor.floats()
        == Self.expected("many").sliced(0, 0..<count).floats())
  }

  @Test("with several vectors in each layer become an xti concept")
  func severalInLayers() throws {
    let c = try Concept.open(Self.file("xti-two.safetensors")) { Self.base }
    #expect(c.representation.kind == .xti && c.representation.vectorCount == 2)
    let many = try Self.expected("many")
    let pairs = try (0..<16).map { try Tensor.stacked([many.selected(0, $0), many.selected(0, 15 - $0)], 0) }
    #expect(try c.representation.parameters[0].tensor.floats() == Tensor.stacked(pairs, 0).floats())
  }

  @Test("of prompt-plus-pytorch have a vector for each block, and of its forks for each layer")
  func promptPlus() throws {
    let many = try Self.expected("many")
    let layers = try Concept.open(Self.file("promptplus.bin")) { Self.base }
    #expect(layers.representation.kind == .xti && layers.about.token == "<toy>")
    #expect(try layers.representation.parameters[0].tensor.floats() == many.floats())
    let blocks = try Concept.open(Self.file("promptplus-blocks.bin")) { Self.base }
    let order = [0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6]
    #expect(
      try blocks.representation.parameters[0].tensor.floats()
        == order.flatMap { try many.selected(0, $0).floats() })
  }

  @Test(
    "whose arrays or pictures hold no vectors are refused in one line",
    arguments: [
      ("numpy-big.pkl", "little-endian"), ("numpy-objects.pkl", "not read"), ("plain.png", "no embedding"),
    ])
  func noVectors(_ name: String, _ why: String) throws {
    let message = refusal { try Concept.open(Self.file(name)) { Self.base } }?.message ?? "none"
    #expect(message.contains(why) && !message.contains("\n"), "\(message)")
  }

  @Test(
    "that neti cannot use are refused in one line that says why",
    arguments: [
      ("seventeen.safetensors", "17 vectors"), ("onetrainer-output.safetensors", "OneTrainer"),
      ("lora.safetensors", "`lora`"), ("sdxl.safetensors", "128 + 256 numbers"),
      (
        "others.safetensors",
        "it is not a neti concept, and no embedding: it holds 2 tensors; diffusers, A1111, kohya and OneTrainer keep one"
      ),
      ("nan.safetensors", "finite"), ("wide.safetensors", "768"), ("list.pt", "a list"),
    ])
  func refused(_ name: String, _ why: String) throws {
    let e = #expect(throws: NeTIError.self) { try Concept.open(Self.file(name)) { Self.base } }
    #expect(e?.message.contains(why) == true && e?.message.contains("\n") == false, "\(e?.message ?? "")")
  }

  @Test("that hold other shapes, or are pictures but no PNG, are refused in one line that says why")
  func shapes() throws {
    let scratch = try Scratch()
    func message(_ tensors: [(String, Tensor)]) throws -> String {
      let url = scratch.file("x.safetensors")
      try Safetensors.write(tensors, to: url)
      return refusal { try Concept.open(url) { Self.base } }?.message ?? ""
    }
    let cube = try message([("emb_params", .ones([2, 2, 2]))])
    #expect(cube.contains("“emb_params” has the shape [2, 2, 2], which is no embedding"), "\(cube)")
    let sizes = try message((0..<16).map { ("<p>-\($0)", try .ones([$0 == 15 ? 64 : 128])) })
    #expect(sizes.contains("its vectors have different sizes"), "\(sizes)")
    let counts = try message([("clip_l", .ones([1, 768])), ("clip_g", .ones([2, 1280]))])
    #expect(counts.contains("clip_l and clip_g hold other numbers of vectors"), "\(counts)")
    let lycoris = try message([("lycoris_conv_in.lora_down.weight", .ones([2, 4]))])
    #expect(
      lycoris.hasSuffix(
        "it is a LoRA with LyCORIS's own names (lycoris_…), which neti does not read; rename them as kohya's scripts do, "
          + "lora_unet_… or lora_te_…"), "\(lycoris)")
    let whole = try message([("<toy>", .ones([128], dtype: .int64))])
    #expect(
      whole.hasSuffix("“<toy>” is int64, and the numbers of an embedding are of a floating type"), "\(whole)")
    let two = try message([("<a>", .ones([128])), ("<b>", .ones([128]))])
    #expect(two.hasSuffix("; save each of several embeddings in a file of its own"), "\(two)")
    #expect(try !message([]).contains("several"))
    let array = try scratch.file(Data([0x93] + Array("NUMPY\u{1}\0v\0{'descr': '<f4'}\n".utf8)), "x.npy")
    let numbers = refusal { try Concept.open(array) { Self.base } }?.message ?? ""
    #expect(
      numbers.hasSuffix(
        "x.npy is an array of NumPy's (.npy), not a safetensors file; save it as one with safetensors.numpy.save_file"
      ),
      "\(numbers)")
    let webP = try scratch.file(Data("RIFF\u{24}\0\0\0WEBPVP8L".utf8), "x.webp")
    let lossless = refusal { try Concept.open(webP) { Self.base } }?.message ?? ""
    #expect(
      lossless.hasSuffix(
        "x.webp: it is a WebP picture, and neti reads embeddings in PNG only; save it as PNG in the same size, for "
          + "example with: dwebp in.webp -o out.png"), "\(lossless)")
    let photo = Fixtures.examples.appending(path: "spotty/1.jpg")
    let picture = refusal { try Concept.open(photo) { Self.base } }?.message ?? ""
    #expect(picture.hasSuffix("it is a picture, and only those in PNG can hold an embedding"), "\(picture)")
  }

  @Test("for one of several text encoders are read, or refused by the model that they are for")
  func encoders() throws {
    let scratch = try Scratch()
    func file(_ sizes: [(String, Int)]) throws -> URL {
      let url = scratch.file("x.safetensors")
      try Safetensors.write(try sizes.map { ($0, try RandomSource(seed: 3).normal([2, $1])) }, to: url)
      return url
    }
    let first = try Concept.open(file([("clip_l", 128)])) { Self.base }
    #expect(first.representation.kind == .ti && first.about.token == "x")
    #expect(
      try first.representation.parameters[0].tensor.floats()
        == SafetensorsFile(scratch.file("x.safetensors")).tensor("clip_l").floats())
    var base = Self.base
    (base.hiddenSize, base.hiddenSizes) = (384, [128, 256])
    let pivotal = try Concept.open(file([("text_encoders_1", 256), ("text_encoders_0", 128)])) { base }
    #expect(pivotal.representation.kind == .ti && pivotal.about.token == "x")
    let (a, b) = (try RandomSource(seed: 3).normal([2, 128]), try RandomSource(seed: 3).normal([2, 256]))
    #expect(
      try pivotal.representation.parameters[0].tensor.floats() == Tensor.concatenated([a, b], 1).floats())
    let one = try Concept.open(file([("text_encoders_0", 128)])) { Self.base }
    #expect(one.about.token == "x" && one.representation.vectorCount == 2)
    let others = "which is not supported; neti reads those for Stable Diffusion 1, 2 and XL"
    for (names, words) in [
      (
        ["clip_g"],
        "it is an embedding for SDXL's refiner (clip_g alone), which is not supported; one for SDXL holds clip_l and clip_g"
      ),
      (["clip_l", "t5xxl"], "it is an embedding for FLUX (clip_l, t5xxl), \(others)"),
      (["clip_l", "t5"], "it is an embedding for FLUX (clip_l, t5), \(others)"),
      (
        ["clip_l", "clip_g", "t5"],
        "it is an embedding for Stable Diffusion 3 (clip_g, clip_l, t5), \(others)"
      ),
      (["clip_l", "x"], "it holds “clip_l”, “x”; an embedding for SDXL holds clip_l and clip_g"),
    ] {
      let said = refusal { try Concept.open(file(names.map { ($0, 128) })) { Self.base } }?.message ?? ""
      #expect(said.hasSuffix("x.safetensors: \(words)"), "\(said)")
    }
  }

  @Test(
    "that OneTrainer saved in a LoRA's file are read out of it; of several none, and no output embeddings")
  func bundled() throws {
    let scratch = try Scratch()
    let matrix = try Tensor.ones([2, 4])
    let lora = ["down", "up"].map { ("lora_unet_conv_in.lora_\($0).weight", matrix) }
    func file(_ tensors: [(String, Tensor)]) throws -> URL {
      let url = scratch.file("style.safetensors")
      try Safetensors.write(lora + tensors, to: url)
      return url
    }
    func said(_ tensors: [(String, Tensor)]) throws -> String {
      refusal { try Concept.open(file(tensors)) { Self.base } }?.message ?? ""
    }
    let one = try RandomSource(seed: 3).normal([2, 128])
    for (name, token) in [("toy.emp_params", "toy"), ("<v1.5>.emp_params", "<v1.5>"), ("toy.clip_l", "toy")] {
      let concept = try Concept.open(file([("bundle_emb.\(name)", one)])) { Self.base }
      #expect(concept.about.token == token && concept.representation.kind == .ti)
      #expect(try concept.representation.parameters[0].tensor.floats() == one.floats())
    }
    let several = try said([("bundle_emb.b.emp_params", one), ("bundle_emb.a.emp_params", one)])
    #expect(
      several.hasSuffix(
        "it is a LoRA with the embeddings “a”, “b”; have OneTrainer save each in a file of its own"),
      "\(several)"
    )
    #expect(try said([]).hasSuffix("it is a LoRA of kohya's scripts; give it to a command with `lora`"))
    let loha = try said([("lora_unet_conv_in.hada_w1_a", matrix)])
    #expect(loha.contains("it is LoHa, which is not supported") && !loha.contains("`lora`"), "\(loha)")
    for names in [["emp_params_out"], ["clip_l", "clip_g", "clip_l_out", "clip_g_out"]] {
      let found = try said(names.map { ("bundle_emb.toy.\($0)", one) })
      let first = names.count == 1 ? "emp_params_out" : "clip_g_out"
      #expect(found.contains("it is an output embedding of OneTrainer (\(first)), which"), "\(found)")
      #expect(found.hasSuffix("train it in OneTrainer without output embedding"), "\(found)")
    }
  }

  @Test("that hold more than vectors, or in a PNG no sound ones, are refused in one line that says why")
  func contents() throws {
    let scratch = try Scratch()
    func message(_ data: Data, _ name: String) throws -> String {
      let url = try scratch.file(data, name)
      return refusal { try Concept.open(url) { Self.base } }?.message ?? ""
    }
    var storages = TorchStorages()
    let entries = [PickleEntry("<toy>", try storages.add(.ones([128]))), PickleEntry("more", .int(3))]
    let pickle = try message(storages.archive("toy", .dictionary(entries, ordered: false)), "toy.pt")
    #expect(
      pickle.hasPrefix("cannot read \(scratch.file("toy.pt").path): it holds something else"), "\(pickle)")
    #expect(
      pickle.hasSuffix(
        "than named vectors; neti reads embeddings of diffusers, A1111, kohya, OneTrainer and prompt-plus-pytorch, and "
          + "checkpoints of NeTI's authors"), "\(pickle)")
    func picture(_ text: String) throws -> String {
      let grey = try Image(width: 8, height: 8, colour: Colour(9, 9, 9))
      return try message(Data(grey.png(text: [("sd-ti-embedding", text)])), "toy.png")
    }
    let text = try picture("abcde")
    #expect(text.hasSuffix("its text sd-ti-embedding is not Base64; save it anew in A1111"), "\(text)")
    for rows in ["", "[1, 2], [3]", Array(repeating: "[1]", count: 17).joined(separator: ",")] {
      let json = #"{"string_to_param": {"*": {"TORCHTENSOR": [\#(rows)]}}}"#
      let vectors = try picture(Data(json.utf8).base64EncodedString())
      #expect(
        vectors.hasSuffix("toy.png: the embedding in the PNG is not one of 1 to 16 vectors of one size"),
        "\(vectors)")
    }
  }

  @Test("are refused without a model, for other layers, and with a token that is no word")
  func context() throws {
    let e = #expect(throws: NeTIError.self) { try Concept.open(Self.file("diffusers.bin")) }
    #expect(e?.message.contains("/diffusers.bin concept.safetensors`") == true)
    var other = Self.base
    other.layers.removeLast()
    let layers = refusal { try Concept.open(Self.file("xti.pt")) { other } }?.message ?? ""
    #expect(
      layers.hasPrefix("xti.pt has vectors for the 16 layers of Stable Diffusion 1.x, and "), "\(layers)")
    #expect(layers.hasSuffix("has other layers; give the model it was trained on with `model`"), "\(layers)")
    _ = try Concept.open(Self.file("diffusers.bin")) { other }
    for token in ["", "a{}", "a\n", String(repeating: "x", count: 300)] {
      let message = refusal { try Concept.open(Self.file("diffusers.bin"), token: token) { Self.base } }?
        .message
      #expect(message?.hasPrefix("diffusers.bin calls its concept “") == true, "\(message ?? "")")
      #expect(message?.hasSuffix("”; choose another word with `token`") == true, "\(message ?? "")")
    }
  }

  @Test("of our own files are told from them by what is in a file, not by its name")
  func sniffing() throws {
    let folder = try Scratch()
    let pairs = [("diffusers.safetensors", "a.pt"), ("diffusers.bin", "b.safetensors")]
    for (from, to) in pairs {
      try FileManager.default.copyItem(at: Self.file(from), to: folder.file(to))
      #expect(try Concept.open(folder.file(to)) { Self.base }.representation.kind == .ti)
    }
    try ConceptFileTests.concept().write(to: folder.file("c.bin"))
    #expect(try Concept.open(folder.file("c.bin")).representation.kind == .neti)
    let authors = folder.file("authors.safetensors")
    try FileManager.default.copyItem(at: Fixtures.authors("default/mapper-steps-5.pt"), to: authors)
    let e = #expect(throws: NeTIError.self) { try Concept.open(authors) }
    #expect(e?.message.contains("mapper-") == true)
  }

  @Test(
    "damaged in 5,000 ways never crash",
    arguments: [
      "first.pt", "xti.safetensors", "numpy-2.pkl", "numpy-4.pkl", "promptplus.bin", "a1111.png",
      "pixels.png",
    ])
  func mutations(_ name: String) throws {
    let folder = try Scratch()
    do {
      let good = try Data(contentsOf: Self.file(name))
      for data in Mutations(of: good, count: 5_000, seed: 5) {
        let url = folder.file("x")
        try data.write(to: url)
        do {
          _ = try Concept.open(url) { Self.base }
        } catch is any DescribedError {
        }
      }
    }
  }
}

@Suite("Concepts for other programs")
struct ConceptExportTests {
  /// A concept of random values on mini-sd's sizes.
  private static func concept(_ kind: RepresentationKind, vectors count: Int = 1) throws -> Concept {
    let base = try StableDiffusion(ModelFolder(Fixtures.miniSD.path)).baseIdentity
    let row = try RandomSource(seed: 1).normal([base.hiddenSize])
    let about = Concept.About(token: "<toy>", category: "toy", base: base, steps: 7, training: "")
    guard kind.type == NeTIMapper.self else {
      let n = kind == .xti ? base.layers.count : 1
      let vectors = try RandomSource(seed: 2).normal(
        kind == .xti ? [n, count, base.hiddenSize] : [count, base.hiddenSize])
      return Concept(
        kind == .ti
          ? try TextualInversion(vectors: vectors, layerCount: base.layers.count)
          : try ExtendedTextualInversion(vectors: vectors, layerCount: base.layers.count), about: about,
        placeholder: row)
    }
    var s = NeTIMapper.Settings(hiddenSize: base.hiddenSize, layerCount: base.layers.count)
    s.kind = kind
    s.targetNorm = 0.4
    s.vectorCount = count
    return Concept(try NeTIMapper(s, keys: RandomKeys(seed: 4)), about: about, placeholder: row)
  }

  @Test("of several vectors keep them in every format, and are no checkpoint of the authors'")
  func severalVectors() throws {
    let folder = try Scratch()
    let c = try Self.concept(.neti, vectors: 3)
    let e = try c.representation.embeddings(
      timesteps: .full([1], 300), layers: Tensor([4.0] as [Float]), mask: nil)
    let one = try c.embedding(for: .diffusers, timestep: 300, layer: 4)
    #expect(one.embedding.vectors.shape == [1, 3, 128])
    #expect(try relativeError(one.embedding.vectors, e.base) < 1e-6)
    let xti = folder.file("xti.safetensors")
    try c.export(.kohya, to: xti, timestep: 300)
    #expect(try SafetensorsFile(xti).tensor("IN01").shape == [3, 128])
    #expect(try Concept.open(xti) { c.about.base }.representation.vectorCount == 3)
    #expect(refusal { try c.authorsCheckpoint() }?.message.contains("has 3") == true)
  }

  @Test("come back as they were where the format can hold them", arguments: [1, 4])
  func roundTrip(_ count: Int) throws {
    let folder = try Scratch()
    let pairs: [(RepresentationKind, [ConceptFormat])] = [
      (.ti, [.diffusers, .a1111, .kohya]), (.xti, [.kohya]),
    ]
    for (kind, formats) in pairs {
      let c = try Self.concept(kind, vectors: count)
      for format in formats {
        let url = folder.file("\(kind.rawValue)-\(format.rawValue).safetensors")
        #expect(try c.export(format, to: url) == nil)
        let back = try Concept.open(url) { c.about.base }
        #expect(back.representation.kind == kind && back.about.token == "<toy>" && back.about.steps == 7)
        #expect(
          try back.representation.parameters[0].tensor.floats()
            == c.representation.parameters[0].tensor.floats())
      }
    }
  }

  @Test("that are more than vectors are approximated at a timestep, and say so")
  func lossy() throws {
    let folder = try Scratch()
    let c = try Self.concept(.neti)
    let n = c.about.base.layers.count
    let e = try c.representation.embeddings(
      timesteps: .full([n], 300), layers: Tensor((0..<n).map { Float($0) }), mask: nil)
    let xti = folder.file("xti.safetensors")
    let loss = try #require(try c.export(.kohya, to: xti, timestep: 300))
    #expect(loss.contains("timestep 300") && loss.contains("bypass") && !loss.contains("mean"))
    #expect(try SafetensorsFile(xti).metadata["neti.approximation"] == loss)
    let back = try Concept.open(xti) { c.about.base }
    #expect(try back.representation.parameters[0].tensor.floats() == e.base.floats())

    let mean = try c.embedding(for: .diffusers, timestep: 300)
    #expect(mean.loss?.contains("mean over 16 layers") == true)
    #expect(try relativeError(mean.embedding.vectors, e.base.mean([0], keep: true)) < 1e-6)
    let layer = try c.layer(named: "out05")
    #expect(layer == 9)
    let one = try c.embedding(for: .a1111, timestep: 300, layer: layer)
    #expect(one.loss?.contains("OUT05") == true)
    #expect(try relativeError(one.embedding.vectors, e.base.sliced(0, 9..<10)) < 1e-6)
    let space = try Self.concept(.space).embedding(for: .kohya)
    #expect(space.embedding.vectors.shape == [16, 1, 128])
  }

  @Test("need a timestep exactly when they change with time, and a layer that exists")
  func settings() throws {
    let neti = try Self.concept(.neti)
    let ti = try Self.concept(.ti)
    let base = neti.about.base.name
    for (words, attempt) in [
      (
        "the format diffusers holds vectors that do not change with time, and this concept does: give the timestep it",
        { _ = try neti.embedding(for: .diffusers) }
      ),
      (
        "`timestep` -1.0: it must be between 0 and 999",
        { _ = try neti.embedding(for: .diffusers, timestep: -1) }
      ),
      ("`timestep` 1000.0: it must be", { _ = try neti.embedding(for: .diffusers, timestep: 1000) }),
      ("`timestep` nan: it must be", { _ = try neti.embedding(for: .diffusers, timestep: .nan) }),
      ("the format neti does not hold plain vectors", { _ = try neti.embedding(for: .neti, timestep: 1) }),
      ("\(base) has no layer “IN03”; there are IN01, ", { _ = try neti.layer(named: "IN03") }),
      (
        "a ti concept does not change with time; leave `timestep` out",
        { _ = try ti.embedding(for: .diffusers, timestep: 1) }
      ),
      (
        "a ti concept is the same in every layer; leave `layer` out",
        { _ = try ti.embedding(for: .diffusers, layer: 1) }
      ),
    ] as [(String, () throws -> Void)] {
      let message = refusal(attempt)?.message ?? "nothing is refused"
      #expect(message.hasPrefix(words), "\(message)")
    }
  }

  @Test("that a format cannot hold are refused in one line that says why")
  func others() throws {
    let scratch = try Scratch()
    func message(_ concept: Concept, _ format: ConceptFormat, timestep: Double? = nil) -> String {
      refusal { try concept.export(format, to: scratch.file("x.safetensors"), timestep: timestep) }?.message
        ?? "nothing is refused"
    }
    let one = try ConceptFileTests.concept(.ti)
    var three = one
    three.about.base.hiddenSizes = [4, 4, 8]
    #expect(
      message(three, .a1111)
        == "the format a1111 holds vectors of SDXL's two text encoders that all layers share, and this has 3 text encoders"
    )
    #expect(
      message(try ConceptFileTests.concept(.xti), .kohya)
        == "kohya's XTI format is for the 16 layers of Stable Diffusion 1.x, and this base model has 3; use `format diffusers`"
    )
    var nameless = try AuthorsCheckpoint(Fixtures.authors("default/mapper-steps-5.pt"))
    nameless.settings.data.placeholderToken = ""
    #expect(
      message(try Concept(authors: nameless), .diffusers, timestep: 500)
        == "diffusers' format needs the token; give it with `token`")
    #expect(
      refusal { try one.authorsCheckpoint() }?.message
        == "the authors' format holds a neti concept only, and this is ti; `format diffusers` keeps its vectors"
    )
    #expect(scratch.contents.isEmpty)

    let folder = refusal {
      try ExportFolder(three, for: .comfyui, thumbnail: nil) { Fixtures.repository.appending(path: $0) }
    }
    #expect(
      folder?.message
        == "<toy> is a concept for SDXL, which the modules for other programs do not draw; give those its vectors "
        + "(`convert`, `format a1111`), or generate with neti")
    let missing = refusal { try ExportFolder(one, for: .comfyui, thumbnail: nil) { scratch.file($0) } }
    #expect(
      missing?.message == "\(scratch.file("Integrations/comfyui").path) cannot be read; install neti again")
    #expect(
      refusal { try one.importanceChart() }?.message == "a ti concept has no hidden units to plot")
  }

  /// A Python with diffusers, torch and transformers.
  static let python = ProcessInfo.processInfo.environment["NETI_DIFFUSERS_PYTHON"]

  @Test(
    "are read back by diffusers' load_textual_inversion",
    .enabled(if: python != nil, "NETI_DIFFUSERS_PYTHON names a Python with diffusers"))
  func diffusers() throws {
    let folder = try Scratch()
    var files: [String] = []
    func export(_ kind: RepresentationKind, _ format: ConceptFormat, _ timestep: Double? = nil) throws {
      let url = folder.file("\(kind.rawValue)-\(format.rawValue).safetensors")
      var c = try Self.concept(kind)
      c.about.token = "<\(kind.rawValue)-toy>"
      try c.export(format, to: url, timestep: timestep)
      files.append(url.path)
    }
    for format in [ConceptFormat.diffusers, .a1111, .kohya] { try export(.ti, format) }
    try export(.xti, .diffusers)
    try export(.neti, .diffusers, 500)
    let process = Process()
    process.executableURL = URL(filePath: Self.python ?? "")
    process.arguments =
      [Fixtures.repository.appending(path: "scripts/check_exports.py").path, Fixtures.miniSD.path] + files
    try process.run()
    process.waitUntilExit()
    #expect(process.terminationStatus == 0)
  }
}
