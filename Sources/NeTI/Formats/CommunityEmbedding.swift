import Diffusion
import Files
public import Foundation
public import Torch

/// Learned vectors as other programs keep them: one for the whole U-Net, or one per layer.
///
/// | format | content |
/// |---|---|
/// | diffusers | one tensor, its name is the token |
/// | A1111 | `string_to_param: {"*": tensor}` and `name` (pickles only), or one tensor of any name |
/// | kohya | `emb_params`, or for XTI the 16 layers `IN01` … `OUT11` |
/// | all, for SDXL | `clip_l` and `clip_g`, one for each text encoder |
///
/// Each vector is a row of the text encoder's token table. Sources: `loaders/textual_inversion.py` of
/// diffusers, `modules/textual_inversion` of stable-diffusion-webui, `train_textual_inversion*.py` of
/// kohya-ss/sd-scripts.
public struct CommunityEmbedding {
  /// The token or the name that the file gives; nil where it gives none.
  public var name: String?
  /// [1, d], or [16, d] in the order of `LayerNames.shortNames`; float32.
  public var vectors: Tensor
  /// How a vector is shared among several text encoders; nil for one.
  public var sizes: [Int]?
  /// Training steps, where the file says.
  public var steps: Int?

  /// `string_to_param` of the first textual inversion is one.
  static let classes: Set = ["torch.nn.modules.container ParameterDict"]
  /// A name that says nothing about the concept.
  private static let anonymous: Set<String> = ["emb_params", "*"]
  /// Tensors of such a file: no format has more than the 16 layers.
  private static let maximumTensors = 16
  private static let maximumHiddenSize = 16_384
  /// SDXL's text encoders, in the order of its states.
  static let encoderNames = ["clip_l", "clip_g"]

  public init(name: String?, vectors: Tensor, sizes: [Int]? = nil, steps: Int? = nil) {
    self.name = name
    self.vectors = vectors
    self.sizes = sizes
    self.steps = steps
  }

  /// Reads a file of any of the formats, told apart by what is in it.
  ///
  /// - Throws: `FileError` or `NeTIError` that names the file and what is wrong with it.
  public init(contentsOf url: URL) throws {
    if try TorchFile.isOne(url) {
      try self.init(TorchFile(url, classes: Self.classes))
    } else {
      try self.init(SafetensorsFile(url))
    }
  }

  // MARK: Reading

  init(_ file: SafetensorsFile) throws {
    try self.init(
      names: file.entries.keys.sorted(), of: file.url, given: file.metadata["name"],
      steps: file.metadata["step"].flatMap { Int($0) }, tensor: file.tensor)
  }

  init(_ file: TorchFile) throws {
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
      throw NeTIError("cannot read \(file.url.path): it holds \(root.kind), not named vectors")
    }
    var tensors: [String: TorchTensor] = [:]
    for entry in entries {
      guard case .string(let name) = entry.key, case .tensor(let t) = entry.value else {
        throw NeTIError(
          "cannot read \(file.url.path): it holds something else than named vectors; "
            + "neti reads embeddings of diffusers, A1111 and kohya, and checkpoints of NeTI's authors")
      }
      tensors[name] = t
    }
    try self.init(
      names: tensors.keys.sorted(), of: file.url, given: given, steps: steps,
      tensor: { name in
        guard let t = tensors[name] else { throw NeTIError("it lacks \(quoted(name))") }
        return try file.tensor(t)
      })
  }

  private init(
    names: [String], of url: URL, given: String?, steps: Int?, tensor: (String) throws -> Tensor
  ) throws {
    func fail(_ why: String) -> NeTIError { NeTIError("cannot read \(url.path): \(why)") }
    let isXL = names.contains(where: Self.encoderNames.contains)
    guard !isXL || names == Self.encoderNames.sorted() else {
      throw fail(
        "it holds \(names.prefix(4).map(quoted).joined(separator: ", ")); an embedding for SDXL holds clip_l and clip_g"
      )
    }
    let ordered: [String]
    if names.count == 1 {
      ordered = names
    } else if isXL {
      ordered = Self.encoderNames
    } else if names.count <= Self.maximumTensors, Set(names) == Set(LayerNames.shortNames) {
      ordered = LayerNames.shortNames
    } else {
      throw fail(
        "it is not a neti concept, and no embedding: it holds \(names.count) tensors; diffusers, A1111 and kohya keep one, or for XTI "
          + "the 16 called IN01 to OUT11")
    }
    var rows: [Tensor] = []
    for name in ordered {
      let t = try tensor(name)
      guard (1...2).contains(t.rank), t.dtype.isFloating, t.count > 0,
        t.shape[t.rank - 1] <= Self.maximumHiddenSize
      else {
        throw fail("\(quoted(name)) has the shape \(t.shape), which is no embedding")
      }
      guard t.rank == 1 || t.size(0) == 1 else {
        throw fail(
          "\(quoted(name)) holds \(t.size(0)) vectors for one placeholder; neti reads embeddings with one vector"
        )
      }
      let row = try t.to(.float32, copy: true).reshaped([1, -1])
      guard try row.isFinite().to(.float32).sum().item() == Double(row.count) else {
        throw fail("\(quoted(name)) has values that are not finite numbers")
      }
      guard isXL || rows.first.map({ $0.shape == row.shape }) ?? true else {
        throw fail("its vectors have different sizes")
      }
      rows.append(row)
    }
    vectors = try .concatenated(rows, isXL ? 1 : 0)
    sizes = isXL ? rows.map(\.count) : nil
    name = given ?? (names.count == 1 && !Self.anonymous.contains(names[0]) ? names[0] : nil)
    self.steps = steps
  }

  // MARK: Writing

  /// The tensors of a file in `format`. Throws when the format cannot hold the vectors or the name.
  func tensors(_ format: ConceptFormat) throws -> [(String, Tensor)] {
    if let sizes {
      guard sizes.count == Self.encoderNames.count, vectors.size(0) == 1 else {
        throw NeTIError("the format \(format.rawValue) holds one vector for each of SDXL's two text encoders")
      }
      return try [
        (Self.encoderNames[0], vectors.sliced(1, 0..<sizes[0]).contiguous()),
        (Self.encoderNames[1], vectors.sliced(1, sizes[0]..<sizes[0] + sizes[1]).contiguous()),
      ]
    }
    if vectors.size(0) == LayerNames.shortNames.count {
      guard format == .kohya else {
        throw NeTIError("the format \(format.rawValue) holds one vector, and this has one for each layer")
      }
      return try LayerNames.shortNames.enumerated().map {
        ($1, try vectors.sliced(0, $0..<$0 + 1).contiguous())
      }
    }
    guard vectors.size(0) == 1 else {
      throw NeTIError(
        "kohya's XTI format is for the \(LayerNames.shortNames.count) layers of Stable Diffusion 1.x, and this base "
          + "model has \(vectors.size(0)); use `format diffusers`")
    }
    guard format == .diffusers else { return [("emb_params", vectors)] }
    guard let name, !name.isEmpty else {
      throw NeTIError("diffusers' format needs the token; give it with `token`")
    }
    return [(name, vectors)]
  }
}
