public import Diffusion
import Files
public import Foundation
public import Imaging
public import Torch

/// A personal concept: the file that training makes and everything else reads.
///
/// One safetensors file. The tensors are the representation's, plus `placeholder`, the row that
/// stands for the token; everything else is text in the file's metadata. A checkpoint is the same
/// file with the optimiser's state beside it, in tensors called `optimizer.…`.
public struct Concept {
  /// major.minor of the file format: a newer major is refused. Version 2 has several vectors for the concept; a
  /// file that has one is of version 1.
  public static let formatVersion = (major: 2, minor: 0)

  public let representation: any ConceptRepresentation
  public var about: About
  /// The placeholder's row in the embedding table, [d]; the mapper's output overwrites it.
  public let placeholder: Tensor

  /// What the file says of the concept beside its tensors.
  public struct About: Codable, Sendable, Equatable {
    public var token: String
    public var category: String
    /// The model it was trained on.
    public var base: BaseIdentity
    /// Updates made.
    public var steps: Int
    /// The resolved training configuration as YAML, without absolute paths; empty for an import.
    public var training: String

    public init(token: String, category: String, base: BaseIdentity, steps: Int, training: String) {
      self.token = token
      self.category = category
      self.base = base
      self.steps = steps
      self.training = training
    }

    /// Which layer of the text encoder it was trained with, counted from the last; nil of an import, which does not say.
    public var clipSkip: Int? {
      guard !training.isEmpty else { return nil }
      return (try? RunConfiguration(resolvedYAML: training, name: "training"))?.model.clipSkip ?? 1
    }
  }

  public init(_ representation: any ConceptRepresentation, about: About, placeholder: Tensor) {
    self.representation = representation
    self.about = about
    self.placeholder = placeholder
  }

  // MARK: Files

  private enum Key {
    static let version = "neti.version"
    static let representation = "neti.representation"
    static let vectors = "neti.vectors"
    static let settings = "neti.mapper"
    static let about = "neti.about"
    /// Of the metadata that programs like ComfyUI list models with (https://github.com/Stability-AI/ModelSpec).
    static let thumbnail = "modelspec.thumbnail"
  }

  /// What of the representation is in the file, by name.
  var tensors: [(String, Tensor)] {
    get throws {
      try (representation.parameters + representation.buffers).map { ($0.name, try $0.tensor.detached()) }
    }
  }

  /// Everything the file holds, `extra` included; `tensors` are the representation's, or copies that it
  /// had at another time.
  func encoded(
    _ tensors: [(String, Tensor)], extra: [(String, Tensor)] = [], thumbnail: Image? = nil
  ) throws -> Data {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    var meta = ["format": "pt"]
    meta[Key.version] = "1.0"
    // What programs of the first version would read as something else.
    if representation.vectorCount > 1 || about.base.hiddenSizes != nil {
      meta[Key.version] = "\(Self.formatVersion.major).\(Self.formatVersion.minor)"
    }
    if representation.vectorCount > 1 { meta[Key.vectors] = String(representation.vectorCount) }
    meta[Key.representation] = representation.kind.rawValue
    meta[Key.about] = String(decoding: try encoder.encode(about), as: UTF8.self)
    if let settings = representation.storedSettings {
      meta[Key.settings] = String(decoding: try encoder.encode(settings), as: UTF8.self)
    }
    if let thumbnail {
      meta[Key.thumbnail] = "data:image/png;base64," + Data(try thumbnail.png()).base64EncodedString()
    }
    return try Safetensors.encode(tensors + [("placeholder", placeholder)] + extra, metadata: meta)
  }

  /// The bytes of its file.
  package func encoded(thumbnail: Image? = nil) throws -> Data { try encoded(tensors, thumbnail: thumbnail) }

  /// Writes the file atomically.
  ///
  /// - Parameter thumbnail: what other programs list the concept with; some hundred pixels at most.
  public func write(to url: URL, thumbnail: Image? = nil) throws {
    try AtomicFile.write(encoded(thumbnail: thumbnail), to: url)
  }

  /// Reads a concept; throws one line that names the file and what is wrong with it.
  public init(contentsOf url: URL) throws {
    try self.init(SafetensorsFile(url), name: url.lastPathComponent)
  }

  /// What a concept file says of itself, its tensors unread.
  static func about(of url: URL) throws -> About {
    let file = try SafetensorsFile(url)
    return try decode(About.self, file.metadata[Key.about], Key.about, url.lastPathComponent)
  }

  /// Tensors that belong to a checkpoint, not to the concept.
  static let optimizerPrefix = "optimizer."
  /// A mapper is about 2 MB at Stable Diffusion's size; nothing near this is a concept.
  static let maximumTensorCount = 4096

  init(_ file: SafetensorsFile, name: String) throws {
    func fail(_ why: String) -> NeTIError { NeTIError("\(name): \(why)") }
    guard let version = file.metadata[Key.version] else {
      throw fail(
        "this safetensors file is not a neti concept (it has no \(Key.version)); `convert` makes one of other formats"
      )
    }
    guard let major = Int(version.split(separator: ".").first ?? ""), major >= 1 else {
      throw fail("the format version \(quoted(version)) is no version; make the file anew")
    }
    guard major <= Self.formatVersion.major else {
      throw fail(
        "it has format version \(quoted(version)), newer than this program reads (\(Self.formatVersion.major).x); update neti"
      )
    }
    let vectorCount = try Self.vectorCount(file.metadata[Key.vectors], major: major, name)
    guard let kind = file.metadata[Key.representation].flatMap(RepresentationKind.init(rawValue:)) else {
      throw fail(
        "unknown representation \(quoted(file.metadata[Key.representation] ?? "none")); known are \(RepresentationKind.allCases.map(\.rawValue).joined(separator: ", "))"
      )
    }
    guard file.entries.count <= Self.maximumTensorCount else {
      throw fail("it holds \(file.entries.count) tensors, which no concept does")
    }
    let about = try Self.decode(About.self, file.metadata[Key.about], Key.about, name)
    guard (1...16_384).contains(about.base.hiddenSize), (1...1_024).contains(about.base.layers.count),
      about.base.hasSoundSizes
    else {
      throw fail(
        "its base model has hidden size \(about.base.hiddenSize) and \(about.base.layers.count) layers, which no model has"
      )
    }
    guard about.steps >= 0 else {
      throw fail(
        "it says that it learned \(about.steps) steps; make the file anew")
    }
    guard !about.token.isEmpty else { throw fail("its token is empty; make the file anew") }
    self.about = about
    var tensors: [String: Tensor] = [:]
    for key in file.entries.keys where !key.hasPrefix(Self.optimizerPrefix) {
      let t = try file.tensor(key)
      guard t.dtype.isFloating, try t.to(.float32).isFinite().to(.float32).sum().item() == Double(t.count)
      else {
        throw fail(
          "the tensor \(quoted(key)) has values that are not finite numbers; use an earlier checkpoint, or "
            + "learn it anew")
      }
      tensors[key] = try t.to(.float32, copy: true)
    }
    guard let placeholder = tensors.removeValue(forKey: "placeholder") else {
      throw fail("the tensor placeholder is missing; make the file anew")
    }
    self.placeholder = placeholder
    do {
      representation = try kind.type.init(
        StoredRepresentation(
          kind: kind, vectorCount: vectorCount, tensors: tensors, layerCount: about.base.layers.count,
          settings: (name, Key.settings, file.metadata[Key.settings])))
    } catch let e as NeTIError {
      throw fail(e.message)
    }
    guard representation.vectorCount == vectorCount else {
      throw fail(
        "its tensor vectors is for \(representation.vectorCount) vectors, and \(Key.vectors) says \(vectorCount)"
      )
    }
    guard representation.kind == kind, placeholder.shape == [representation.hiddenSize],
      representation.hiddenSize == about.base.hiddenSize,
      representation.layerCount == about.base.layers.count,
      representation.encoderSizes.map({ $0 == about.base.encoderSizes }) ?? true
    else {
      throw fail("its parts do not fit together: mapper, placeholder and base model have different sizes")
    }
  }

  /// What a file says of its vectors: from version 2 on, where there are several.
  private static func vectorCount(_ text: String?, major: Int, _ name: String) throws -> Int {
    guard let text else { return 1 }
    guard major > 1, let count = Int(text), count > 1, RepresentationSettings.vectorCounts.contains(count)
    else {
      throw NeTIError(
        "\(name): \(Key.vectors) is \(quoted(text)); files of version 2 say 2 to 16 there, and others nothing"
      )
    }
    return count
  }

  private static func decode<T: Decodable>(_ type: T.Type, _ text: String?, _ key: String, _ name: String)
    throws -> T
  {
    guard let text else {
      throw NeTIError("\(name): the entry \(key) is missing from its metadata; make the file anew")
    }
    return try JSONFile.decode(type, from: Data(text.utf8), name: "\(name), metadata \(key)")
  }

  // MARK: The base model

  /// Checks that this concept can be used with `base`: throws when dimensions or layers differ, and
  /// returns a warning when only the weights do, as in a fine-tune.
  public func check(against base: BaseIdentity) throws -> String? {
    let mine = about.base
    guard mine.encoderSizes == base.encoderSizes else {
      throw NeTIError(
        "the concept \(about.token) was trained on \(mine.name) with hidden size \(mine.shownSizes); \(base.name) "
          + "has \(base.shownSizes): use the model it was trained on (`model`)")
    }
    guard mine.layers.count == base.layers.count else {
      throw NeTIError(
        "the concept \(about.token) was trained on \(mine.name) with \(mine.layers.count) cross-attention layers; "
          + "\(base.name) has \(base.layers.count): use the model it was trained on (`model`)")
    }
    if mine.layers != base.layers {
      throw NeTIError(
        "the concept \(about.token) was trained on \(mine.name), whose cross-attention layers are others than those "
          + "of \(base.name): use the model it was trained on (`model`)")
    }
    let missing = (mine.loras ?? []).filter { lora in
      !(base.loras ?? []).contains { Self.fileName($0) == Self.fileName(lora) }
    }
    if !missing.isEmpty {
      let names = missing.map { quoted($0) }.joined(separator: ", ")
      return "the concept \(about.token) was trained with \(names); "
        + "give that with `lora`, too"
    }
    if !mine.tokenTableHash.isEmpty, mine.tokenTableHash != base.tokenTableHash {
      return "the concept \(about.token) was trained on \(mine.name), and \(base.name) has other weights; "
        + "on a fine-tune of the same model that is fine"
    }
    return nil
  }

  /// What someone should know who uses this concept on `model`; throws as `check(against:)`.
  public func warnings(on model: StableDiffusion) throws -> [String] {
    let (mine, theirs) = (about.clipSkip, model.clipSkip)
    return try [
      check(against: model.baseIdentity),
      mine.flatMap { mine in
        mine == theirs
          ? nil
          : "the concept \(about.token) was learned with `clip-skip` \(mine), and this is computed with \(theirs)"
      },
    ].compactMap(\.self)
  }

  /// A LoRA's without its weight.
  private static func fileName(_ lora: String) -> Substring {
    lora.lastIndex(of: ":").map { lora[..<$0] } ?? lora[...]
  }
}

extension BaseIdentity {
  /// Whether the sizes of several text encoders add up.
  fileprivate var hasSoundSizes: Bool {
    guard let hiddenSizes else { return true }
    return (2...4).contains(hiddenSizes.count) && hiddenSizes.allSatisfy((1...hiddenSize).contains)
      && hiddenSizes.reduce(0, +) == hiddenSize
  }

  /// “768”, “768 + 1280”
  package var shownSizes: String { encoderSizes.map(String.init).joined(separator: " + ") }
}
