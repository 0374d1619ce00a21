import Diffusion
import Files
public import Foundation
import Imaging
public import Torch

/// Learned vectors as other programs keep them: for the whole U-Net, or per layer.
///
/// | format | content |
/// |---|---|
/// | diffusers | one tensor, its name is the token |
/// | A1111 | `string_to_param: {"*": tensor}` and `name` (pickles only), or one tensor of any name |
/// | kohya | `emb_params`, or for XTI the 16 layers `IN01` … `OUT11` |
/// | OneTrainer | `emp_params`; in a LoRA's file what is called `bundle_emb.TOKEN.…` |
/// | prompt-plus-pytorch | 16 tensors `<toy>-0` … `<toy>-15` |
/// | all, for SDXL | `clip_l` and `clip_g`, one for each text encoder; pivotal tuning: `text_encoders_0` and `…_1` |
///
/// A tensor [n, d] holds n vectors, each a row of the text encoder's token table. Pickles may hold arrays of NumPy's
/// instead of tensors, and A1111's PNGs the content of its pickles. Sources: `loaders/textual_inversion.py` of
/// diffusers, `modules/textual_inversion` of stable-diffusion-webui, `train_textual_inversion*.py` of
/// kohya-ss/sd-scripts.
public struct CommunityEmbedding {
  /// The token or the name that the file gives; nil where it gives none.
  public var name: String?
  /// [1, n, d] for n vectors in one placeholder, or [16, n, d] in the order of `LayerNames.shortNames`; float32.
  public var vectors: Tensor
  /// How a vector is shared among several text encoders; nil for one.
  public var sizes: [Int]?
  /// Training steps, where the file says.
  public var steps: Int?

  /// `string_to_param` of the first textual inversion is one.
  static let classes: Set = ["torch.nn.modules.container ParameterDict"]
  /// A name that says nothing about the concept.
  private static let anonymous: Set<String> = ["emb_params", "emp_params", "*", "clip_l"]
  private static let maximumHiddenSize = 16_384
  /// SDXL's text encoders, in the order of its states.
  static let encoderNames = ["clip_l", "clip_g"]
  /// What diffusers' scripts for pivotal tuning call them.
  private static let pivotalNames = ["text_encoders_0": "clip_l", "text_encoders_1": "clip_g"]

  public init(name: String?, vectors: Tensor, sizes: [Int]? = nil, steps: Int? = nil) {
    self.name = name
    self.vectors = vectors
    self.sizes = sizes
    self.steps = steps
  }

  /// Reads a file of any of the formats, told apart by what is in it.
  ///
  /// - Throws: a line that names the file and what is wrong with it.
  public init(contentsOf url: URL) throws {
    if try Self.isPicture(url) {
      try self.init(picture: url)
    } else if try TorchFile.isOne(url) {
      try self.init(TorchFile(url, classes: Self.classes))
    } else {
      try self.init(SafetensorsFile(url))
    }
  }

  // MARK: Reading

  /// Whether a file is a PNG, JPEG or WebP, by its first bytes.
  static func isPicture(_ url: URL) throws -> Bool {
    let file = try MappedFile(url)
    return withExtendedLifetime(file) { Image.isImage(file.bytes.prefix(Image.signatureBytes)) }
  }
  private static let png: [UInt8] = [0x89, 0x50, 0x4E, 0x47]
  /// How WebP begins, of the formats that `isPicture` knows.
  private static let riff = Array("RIFF".utf8)

  /// An embedding inside a PNG (`EmbeddingPNG`).
  init(picture url: URL) throws {
    let bytes = Array(try readFile(url, limit: ImageLimits.fileBytes))
    guard bytes.starts(with: Self.png) else {
      throw NeTIError(
        "cannot read \(url.path): "
          + (bytes.starts(with: Self.riff)
            ? "it is a WebP picture, and neti reads embeddings in PNG only; save it as PNG in the same size, for example with: "
              + "dwebp in.webp -o out.png"
            : "it is a picture, and only those in PNG can hold an embedding"))
    }
    let content: EmbeddingPNG
    do { content = try EmbeddingPNG(bytes) } catch let e as any DescribedError {
      throw NeTIError("cannot read \(url.path): \(e)")
    }
    try self.init(
      names: ["*"], of: url, given: content.name, steps: content.steps, tensor: { _ in content.vectors })
  }

  init(_ file: SafetensorsFile) throws {
    try self.init(
      names: file.entries.keys.sorted(), of: file.url, given: file.metadata["name"],
      steps: file.metadata["step"].flatMap { Int($0) }, tensor: file.tensor)
  }

  init(_ file: TorchFile) throws {
    func fail(_ why: String) -> NeTIError { NeTIError("cannot read \(file.url.path): \(why)") }
    var root = file.root
    var given: String?
    var steps: Int?
    if let param = root["string_to_param"] {
      if case .string(let text)? = root["name"] { given = text }
      if case .int(let n)? = root["step"] { steps = n }
      // The first textual inversion keeps a ParameterDict, later programs a dict.
      root = param["_parameters"] ?? param
    }
    guard case .dictionary(let entries, _) = root else {
      throw fail("it holds \(root.kind), not named vectors")
    }
    let names = entries.compactMap { entry in
      if case .string(let name) = entry.key { name } else { nil }
    }
    var values: [String: PickleValue] = [:]
    for entry in entries {
      guard case .string(let name) = entry.key else { continue }
      switch entry.value {
      case .tensor, .array: values[name] = entry.value
      default: break
      }
    }
    guard values.count == entries.count else {
      throw fail(
        EmbeddingLayout.otherContent(names)
          ?? "it holds something else than named vectors; neti reads embeddings of diffusers, A1111, kohya, OneTrainer "
          + "and prompt-plus-pytorch, and checkpoints of NeTI's authors")
    }
    try self.init(
      names: names.sorted(), of: file.url, given: given, steps: steps,
      tensor: { name in
        switch values[name] {
        case .tensor(let tensor)?: return try file.tensor(tensor)
        case .array(let array)?: return try array.tensor()
        default: throw NeTIError("it lacks \(quoted(name))")
        }
      })
  }

  private init(
    names written: [String], of url: URL, given declared: String?, steps: Int?,
    tensor: (String) throws -> Tensor
  ) throws {
    func fail(_ why: String) -> NeTIError { NeTIError("cannot read \(url.path): \(why)") }
    let bundled = Dictionary(grouping: written.filter { BundledTensor($0) != nil }) {
      BundledTensor($0)?.token ?? ""
    }
    guard bundled.count <= 1 else {
      let tokens = bundled.keys.sorted().prefix(4).map(quoted).joined(separator: ", ")
      throw fail("it is a LoRA with the embeddings \(tokens); have OneTrainer save each in a file of its own")
    }
    let tensors = bundled.values.first ?? written
    let given = bundled.keys.first ?? declared
    // By the names that they are read by.
    let isPivotal = tensors.allSatisfy { Self.pivotalNames[$0] != nil }
    let originals = Dictionary(
      uniqueKeysWithValues: Set(tensors).map {
        (isPivotal ? Self.pivotalNames[$0] ?? $0 : BundledTensor($0)?.name ?? $0, $0)
      })
    let names = originals.keys.sorted()
    let isXL = Set(names) == Set(Self.encoderNames)
    let layout: EmbeddingLayout?
    do { layout = isXL ? nil : try EmbeddingLayout(names) } catch let e as NeTIError { throw fail(e.message) }
    let ordered =
      switch layout {
      case nil: Self.encoderNames
      case .shared(let name)?: [name]
      case .layers(let names)?, .numbered(let names, _)?: names
      }
    var rows: [Tensor] = []
    for name in ordered {
      let t = try tensor(originals[name] ?? name)
      guard t.dtype.isFloating else {
        throw fail("\(quoted(name)) is \(t.dtype), and the numbers of an embedding are of a floating type")
      }
      guard (1...2).contains(t.rank), t.count > 0,
        t.shape[t.rank - 1] <= Self.maximumHiddenSize
      else {
        throw fail("\(quoted(name)) has the shape \(t.shape), which is no embedding")
      }
      let count = t.rank == 1 ? 1 : t.size(0)
      guard RepresentationSettings.vectorCounts.contains(count) else {
        throw fail(
          "\(quoted(name)) holds \(count) vectors for one placeholder; neti reads embeddings of 1 to 16")
      }
      let row = try t.to(.float32, copy: true).reshaped([1, count, t.shape[t.rank - 1]])
      guard try row.isFinite().to(.float32).sum().item() == Double(row.count) else {
        throw fail(
          "\(quoted(name)) has values that are not finite numbers; use another copy or version of it")
      }
      guard isXL || rows.first.map({ $0.shape == row.shape }) ?? true else {
        throw fail("its vectors have different sizes")
      }
      rows.append(row)
    }
    switch layout {
    case nil: name = given
    case .shared(let own)?:
      name = given ?? (Self.anonymous.contains(own) ? nil : own)
    case .layers?: name = given
    case .numbered(_, let token)?:
      name = given ?? token
      rows = try EmbeddingLayout.layersOfNumbered(rows).map { rows[$0] }
    }
    if isXL, Set(rows.map { $0.size(1) }).count > 1 {
      throw fail("clip_l and clip_g hold other numbers of vectors")
    }
    vectors = try .concatenated(rows, isXL ? 2 : 0)
    sizes = isXL ? rows.map { $0.size(2) } : nil
    self.steps = steps
  }

  // MARK: Writing

  /// The tensors of a file in `format`. Throws when the format cannot hold the vectors or the name.
  func tensors(_ format: ConceptFormat) throws -> [(String, Tensor)] {
    if let sizes {
      guard sizes.count == Self.encoderNames.count, vectors.size(0) == 1 else {
        let other = vectors.size(0) == 1 ? "\(sizes.count) text encoders" : "vectors for each layer"
        throw NeTIError(
          "the format \(format.rawValue) holds vectors of SDXL's two text encoders that all layers share, and this has "
            + other)
      }
      let shared = try vectors.selected(0, 0)
      return try [
        (Self.encoderNames[0], shared.sliced(1, 0..<sizes[0]).contiguous()),
        (Self.encoderNames[1], shared.sliced(1, sizes[0]..<sizes[0] + sizes[1]).contiguous()),
      ]
    }
    let layers = vectors.size(0)
    guard layers == 1 else {
      guard layers == LayerNames.shortNames.count else {
        throw NeTIError(
          "kohya's XTI format is for the \(LayerNames.shortNames.count) layers of Stable Diffusion 1.x, and this base "
            + "model has \(layers); use `format diffusers`")
      }
      guard format == .kohya else {
        throw NeTIError("the format \(format.rawValue) holds one vector, and this has one for each layer")
      }
      var tensors: [(String, Tensor)] = []
      for (i, layer) in LayerNames.shortNames.enumerated() {
        tensors.append((layer, try vectors.selected(0, i).contiguous()))
      }
      return tensors
    }
    let shared = try vectors.selected(0, 0).contiguous()
    guard format == .diffusers else { return [("emb_params", shared)] }
    guard let name, !name.isEmpty else {
      throw NeTIError(wrongUsage: "diffusers' format needs the token; give it with `token`")
    }
    return [(name, shared)]
  }
}
