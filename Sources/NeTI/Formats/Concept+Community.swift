public import Diffusion
import Files
public import Foundation
import Torch

// A concept from and to the embeddings of other programs.
extension Concept {
  /// An embedding of another program as a concept for `base`: `ti` for vectors that all layers share, `xti` for
  /// those of each layer.
  ///
  /// - Parameters:
  ///   - token: what the concept is called; else what the embedding says, else `name` without its extension.
  ///   - name: the file's.
  /// - Throws: when the vectors are of another size than the base model's.
  public init(
    community file: CommunityEmbedding, base: BaseIdentity, token: String? = nil, category: String = "",
    name: String
  ) throws {
    let (count, d) = (file.vectors.size(0), file.vectors.size(2))
    guard (file.sizes ?? [d]) == base.encoderSizes else {
      let shown = (file.sizes ?? [d]).map(String.init).joined(separator: " + ")
      throw NeTIError(
        "\(name) is an embedding of \(shown) numbers, and \(base.name) has hidden size \(base.shownSizes); "
          + "give the model it was trained on with `model`"
          + (Self.hint[file.sizes ?? [d]].map { " (\(shown) is that of \($0))" } ?? ""))
    }
    guard count == 1 || base.layers == LayerNames.pathsOfShortNames else {
      throw NeTIError(
        "\(name) has vectors for the 16 layers of Stable Diffusion 1.x, and \(base.name) has other layers; "
          + "give the model it was trained on with `model`")
    }
    let word = token ?? file.name ?? URL(filePath: name).deletingPathExtension().lastPathComponent
    guard !word.isEmpty, word.utf8.count <= Self.longestToken, !word.contains("{"), !word.contains("}"),
      word.unicodeScalars.allSatisfy({ $0.properties.generalCategory != .control })
    else {
      throw NeTIError("\(name) calls its concept \(quoted(word)); choose another word with `token`")
    }
    self.init(
      count == 1
        ? try TextualInversion(vectors: file.vectors.selected(0, 0), layerCount: base.layers.count)
        : try ExtendedTextualInversion(vectors: file.vectors, layerCount: base.layers.count),
      about: About(
        token: word, category: category, base: base, steps: max(file.steps ?? 0, 0), training: ""),
      placeholder: try file.vectors.selected(0, 0).selected(0, 0).clone())
  }

  private static let longestToken = 200
  /// Hidden sizes of models that people have.
  private static let hint = [
    [768]: "Stable Diffusion 1.x", [1024]: "Stable Diffusion 2.x", [768, 1280]: "SDXL", [128]: "mini-sd",
  ]

  /// This concept as vectors that other programs read, and one line that says what was lost, if
  /// anything.
  ///
  /// - Parameters:
  ///   - format: one that `holdsVectors`. `kohya` gets a vector per layer from a concept that depends
  ///     on the layer, the others the mean over the layers.
  ///   - timestep: 0…999, where the concept is taken; needed by one that depends on time.
  ///   - layer: take this layer instead of all.
  /// - Throws: when a timestep is needed and not given, or given and of no use.
  public func embedding(for format: ConceptFormat, timestep: Double? = nil, layer: Int? = nil) throws
    -> (embedding: CommunityEmbedding, loss: String?)
  {
    let r = representation
    guard format.holdsVectors else {
      throw NeTIError("the format \(format.rawValue) does not hold plain vectors")
    }
    guard !r.dependsOnTime || timestep != nil else {
      throw NeTIError(
        wrongUsage:
          "the format \(format.rawValue) holds vectors that do not change with time, and this concept does: give "
          + "the timestep it is taken at, as `timestep 500` (0 to \(NeTIMapper.timestepCount - 1))")
    }
    guard r.dependsOnTime || timestep == nil else {
      throw NeTIError(
        wrongUsage: "a \(r.kind.rawValue) concept does not change with time; leave `timestep` out")
    }
    guard r.dependsOnLayer || layer == nil else {
      throw NeTIError(
        wrongUsage: "a \(r.kind.rawValue) concept is the same in every layer; leave `layer` out")
    }
    if let timestep, !(0..<Double(NeTIMapper.timestepCount)).contains(timestep) {
      throw NeTIError(
        wrongUsage: "`timestep` \(timestep): it must be between 0 and \(NeTIMapper.timestepCount - 1)")
    }
    let layers = r.dependsOnLayer ? layer.map { [$0] } ?? Array(0..<r.layerCount) : [0]
    let e = try withoutGradients {
      try r.embeddings(
        timesteps: .full([layers.count], timestep ?? 0), layers: Tensor(layers.map { Float($0) }), mask: nil)
    }
    let perLayer = format == .kohya && layers.count > 1 && about.base.hiddenSizes == nil
    let vectors = try perLayer || layers.count == 1 ? e.base : e.base.mean([0], keep: true)
    var lost: [String] = []
    if let timestep, r.dependsOnTime { lost.append("it stands still at timestep \(Self.text(timestep))") }
    if r.dependsOnLayer, !perLayer {
      lost.append(
        layer.map { "layer \(Self.layerName($0, about.base)) stands for all" }
          ?? "the mean over \(r.layerCount) layers stands for each")
    }
    if e.bypass != nil { lost.append("without the textual bypass") }
    if r.truncationWidth != nil { lost.append("without truncation") }
    return (
      CommunityEmbedding(
        name: about.token, vectors: try vectors.detached().contiguous(), sizes: about.base.hiddenSizes,
        steps: about.steps),
      lost.isEmpty
        ? nil : "an approximation of the \(r.kind.rawValue) concept: \(lost.joined(separator: ", "))"
    )
  }

  /// Writes the concept in `format`, as safetensors; returns what was lost, if anything.
  ///
  /// The same line is in the file's metadata as `neti.approximation`. See `embedding(for:timestep:layer:)`.
  @discardableResult
  public func export(
    _ format: ConceptFormat, to url: URL, timestep: Double? = nil, layer: Int? = nil
  ) throws -> String? {
    let (data, loss) = try exported(format, timestep: timestep, layer: layer)
    try AtomicFile.write(data, to: url)
    return loss
  }

  /// The same as the bytes of a file.
  package func exported(_ format: ConceptFormat, timestep: Double? = nil, layer: Int? = nil) throws
    -> (data: Data, loss: String?)
  {
    let (embedding, loss) = try embedding(for: format, timestep: timestep, layer: layer)
    var metadata = ["format": "pt", "name": about.token, "step": String(about.steps)]
    metadata["neti.base"] = about.base.name
    metadata["neti.approximation"] = loss
    return (try Safetensors.encode(embedding.tensors(format), metadata: metadata), loss)
  }

  /// The layer that `name` means: kohya's short name or diffusers' path. Throws when there is none.
  public func layer(named name: String) throws -> Int {
    if let i = LayerNames.shortNames(of: about.base.layers)?.firstIndex(of: name.uppercased()) { return i }
    if let i = about.base.layers.firstIndex(of: name) { return i }
    let names = (0..<about.base.layers.count).map { Self.layerName($0, about.base) }
    throw NeTIError(
      wrongUsage:
        "\(about.base.name) has no layer \(quoted(name)); there are \(names.joined(separator: ", "))")
  }

  private static func layerName(_ i: Int, _ base: BaseIdentity) -> String {
    LayerNames.shortNames(of: base.layers)?[i] ?? base.layers[i]
  }

  private static func text(_ number: Double) -> String {
    number == number.rounded() ? String(Int(number)) : String(number)
  }
}
