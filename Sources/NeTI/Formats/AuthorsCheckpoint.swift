import Diffusion
import Files
public import Foundation
public import Torch

/// A concept as the code of NeTI's authors saves it (`checkpoint_handler.py` of
/// https://github.com/NeuralTextualInversion/NeTI): `mapper-steps-N.pt` with the mapper, its settings and
/// its encoder, and `learned_embeds-steps-N.bin` with the placeholder's row of the token table.
public struct AuthorsCheckpoint {
  /// The placeholder, such as `<concept>`.
  public var token: String { settings.data.placeholderToken }
  /// What it says under `cfg`. `model.target_norm` is the L2 norm that the mapper's output is scaled to,
  /// nil for none; where `optim.scale_lr` is true, the scale is already in `optim.learning_rate`.
  public var settings: RunConfiguration
  /// Training steps, from the file's name; nil for `-final`.
  public var steps: Int?
  /// The placeholder's row, [d], float32.
  public var embedding: Tensor
  /// The mapper's tensors in float32, by our names: `input.weight` [A·L, 2F], `input.bias`,
  /// `hidden1.weight`, `hidden1.bias`, `norm1.weight`, …, `hidden2`, `norm2`, `output`, and
  /// `frequencies` [F, 2]. Without positional encoding there are neither `input` nor `frequencies`.
  public var tensors: [String: Tensor]
  /// The number of cross-attention layers that the mapper knows.
  public var layers: Int

  /// Our names of the mapper's parts and theirs; the anchor layer has two.
  static let parts: [(ours: String, theirs: [String])] = [
    ("input", ["input_layer", "net.0"]), ("hidden1", ["net.1"]), ("norm1", ["net.2"]),
    ("hidden2", ["net.4"]), ("norm2", ["net.5"]), ("output", ["output_layer.0"]),
  ]
  static let positionalEncoding = "models.positional_encoding NeTIPositionalEncoding"
  static let basicEncoder = "models.positional_encoding BasicEncoder"
  /// The classes of theirs that such a file holds instances of.
  static let classes: Set = [positionalEncoding, basicEncoder]

  public init(
    settings: RunConfiguration, steps: Int?, embedding: Tensor, tensors: [String: Tensor], layers: Int
  ) {
    self.settings = settings
    self.steps = steps
    self.embedding = embedding
    self.tensors = tensors
    self.layers = layers
  }

  /// Reads the mapper file at `url` and, beside it or at `embeddings`, the file with the placeholder's
  /// row.
  ///
  /// - Throws: `FileError` or `NeTIError` that names the file and what is wrong with it.
  public init(_ url: URL, embeddings: URL? = nil) throws {
    let mapper = try TorchFile(url, classes: Self.classes)
    (settings, tensors, layers) = try Self.naming(url) { try Self.readMapper(mapper) }
    steps = Self.steps(url)
    let beside = try embeddings ?? Self.embeddingsFile(of: url)
    let row = try TorchFile(beside, classes: Self.classes)
    let (token, model, tensors) = (settings.data.placeholderToken, settings.model, tensors)
    embedding = try Self.naming(beside) { try Self.readRow(row, token: token) }
    let width = embedding.size(0)
    try Self.naming(url) {
      guard tensors["output.weight"]?.size(0) == width * (model.outputBypass ? 2 : 1) else {
        throw NeTIError(
          "the mapper's output does not fit the row of \(width) numbers in \(beside.lastPathComponent)"
            + (model.outputBypass ? " and a bypass" : ""))
      }
    }
  }

  /// `learned_embeds-steps-5.bin` for `mapper-steps-5.pt`.
  public static func embeddingsFile(of mapper: URL) throws -> URL {
    let name = mapper.deletingPathExtension().lastPathComponent
    guard name.hasPrefix("mapper-") else {
      throw NeTIError(
        "\(mapper.path) is not named mapper-….pt, so the file with the placeholder's row (learned_embeds-….bin)"
          + " cannot be found beside it")
    }
    let file = mapper.deletingLastPathComponent()
      .appending(path: "learned_embeds-\(name.dropFirst("mapper-".count)).bin")
    guard FileManager.default.fileExists(atPath: file.path) else {
      throw NeTIError("\(mapper.path) needs \(file.lastPathComponent) beside it, which is not there")
    }
    return file
  }

  private static func steps(_ url: URL) -> Int? {
    let name = url.deletingPathExtension().lastPathComponent
    return name.hasPrefix("mapper-steps-") ? Int(name.dropFirst("mapper-steps-".count)) : nil
  }

  // MARK: The mapper

  private static func readMapper(_ file: TorchFile) throws -> (RunConfiguration, [String: Tensor], Int) {
    guard let state = file.root["state_dict"], let configuration = file.root["cfg"],
      let encoder = file.root["encoder"]
    else {
      throw NeTIError(
        EmbeddingLayout.otherContent(names(in: file.root["state_dict"]))
          ?? "it is not a mapper of NeTI: it lacks one of state_dict, cfg and encoder")
    }
    let settings = try RunConfiguration(authors: configuration)
    var stored = try tensors(of: state)
    var tensors: [String: Tensor] = [:]
    for (ours, theirs) in parts where ours != "input" || settings.model.usePositionalEncoding {
      for kind in ["weight", "bias"] {
        let copies = theirs.compactMap { stored.removeValue(forKey: "\($0).\(kind)") }
        tensors["\(ours).\(kind)"] = try agreed(copies, "\(theirs[0]).\(kind)", file)
      }
    }
    var frequencies = stored.removeValue(forKey: "encoder.w").map { [$0] } ?? []
    if let name = stored.keys.min() { throw NeTIError("its state has an unknown tensor \(quoted(name))") }

    if settings.model.usePositionalEncoding {
      guard case .object(positionalEncoding, _) = encoder else { throw otherEncoder }
      for value in [encoder["w"], encoder["_parameters"]?["w"]] {
        if case .tensor(let w)? = value { frequencies.append(w) }
      }
      tensors["frequencies"] = try agreed(frequencies, "w of the encoder", file)
      return (settings, tensors, try layers(settings.model, tensors))
    }
    guard case .object(basicEncoder, _) = encoder, frequencies.isEmpty else { throw otherEncoder }
    _ = try layers(settings.model, tensors)
    return (settings, tensors, try basicLayers(encoder, file))
  }

  private static func names(in state: PickleValue?) -> [String] {
    guard case .dictionary(let entries, _)? = state else { return [] }
    return entries.compactMap { if case .string(let name) = $0.key { name } else { nil } }
  }

  private static var otherEncoder: NeTIError {
    NeTIError("its encoder is not the one that model.use_positional_encoding calls for")
  }

  private static func tensors(of state: PickleValue) throws -> [String: TorchTensor] {
    guard case .dictionary(let entries, _) = state else {
      throw NeTIError("its state_dict is \(state.kind), not a dict")
    }
    var result: [String: TorchTensor] = [:]
    for entry in entries {
      guard case .string(let name) = entry.key, case .tensor(let tensor) = entry.value else {
        throw NeTIError("its state_dict holds something else than named tensors")
      }
      guard result.updateValue(tensor, forKey: name) == nil else {
        throw NeTIError("its state_dict has \(quoted(name)) twice")
      }
    }
    return result
  }

  /// The one tensor that all `copies` are, in float32.
  private static func agreed(_ copies: [TorchTensor], _ name: String, _ file: TorchFile) throws -> Tensor {
    guard let first = copies.first else { throw NeTIError("it lacks \(name)") }
    guard first.storage.dtype.isFloating else { throw NeTIError("\(name) does not hold real numbers") }
    let tensor = try file.tensor(first)
    for other in copies.dropFirst() where other != first {
      let copy = try file.tensor(other)
      guard copy.shape == tensor.shape, copy.dtype == tensor.dtype,
        try copy.rawBytes() == tensor.rawBytes()
      else { throw NeTIError("the copies of \(name) in it differ") }
    }
    return try tensor.to(.float32)
  }

  /// Checks that the shapes belong together and returns the number of layers (1 without anchors).
  private static func layers(_ model: RunConfiguration.Model, _ tensors: [String: Tensor]) throws -> Int {
    func shape(_ name: String) -> [Int] { tensors[name]?.shape ?? [] }
    func size(_ name: String) -> Int { shape(name).first ?? 0 }
    let width = model.usePositionalEncoding ? size("input.weight") : 2
    let expected = shapes(
      frequencies: model.usePositionalEncoding ? size("frequencies") : nil, width: width,
      hidden: size("hidden1.weight"), output: size("output.weight"))
    for (name, wanted) in expected.sorted(by: { $0.key < $1.key }) {
      guard shape(name) == wanted, !wanted.contains(0) else {
        throw NeTIError("its tensor \(name) has the shape \(shape(name)), which does not fit the others")
      }
    }
    guard model.usePositionalEncoding else { return 1 }
    let anchors = model.numPeTimeAnchors
    guard width.isMultiple(of: anchors) else {
      throw NeTIError("its anchor layer of \(width) does not fit \(anchors) time anchors")
    }
    return width / anchors
  }

  /// The shapes of such a mapper's tensors, by our names.
  static func shapes(frequencies: Int?, width: Int, hidden: Int, output: Int) -> [String: [Int]] {
    let network = MapperNetwork(frequencies: frequencies, width: width, hidden: hidden, output: output)
    var shapes = Dictionary(uniqueKeysWithValues: network.parameters.map { ($0.name, $0.value) })
    shapes["frequencies"] = frequencies.map { [$0, 2] }
    return shapes
  }

  /// The number of layers that a `BasicEncoder` scales to −1…1; its tables must be the ones that it
  /// always makes, because here they are a formula.
  private static func basicLayers(_ encoder: PickleValue, _ file: TorchFile) throws -> Int {
    var counts: [Int] = []
    for name in ["normalized_timesteps", "normalized_unet_layers"] {
      guard case .tensor(let table)? = encoder[name] ?? encoder["_parameters"]?[name] else {
        throw NeTIError("its encoder lacks \(name)")
      }
      let values = try file.tensor(table).doubles()
      let isLinear = values.indices.allSatisfy { i in
        abs(values[i] - (Double(i) / Double(values.count - 1) * 2 - 1)) < 1e-5
      }
      guard table.shape == [values.count], values.count > 1, isLinear else {
        throw NeTIError("its encoder's \(name) do not rise evenly from -1 to 1")
      }
      counts.append(values.count)
    }
    guard counts[0] == 1000 else {
      throw NeTIError("its encoder knows \(counts[0]) timesteps instead of 1000")
    }
    return counts[1]
  }

  // MARK: The placeholder's row

  private static func readRow(_ file: TorchFile, token: String) throws -> Tensor {
    guard case .dictionary(let entries, _) = file.root, entries.count == 1,
      case .string(let name) = entries[0].key, case .tensor(let row) = entries[0].value
    else { throw NeTIError("it does not hold exactly one token and its embedding") }
    guard name == token else {
      throw NeTIError("it is for the token \(quoted(name)), but the mapper is for \(quoted(token))")
    }
    guard row.shape.count == 1, row.shape[0] > 0, row.storage.dtype.isFloating else {
      throw NeTIError("the embedding of \(quoted(name)) has the shape \(row.shape), not one dimension")
    }
    return try file.tensor(row).to(.float32)
  }

  /// Puts the file's name before an error that has none yet.
  static func naming<R>(_ url: URL, _ body: () throws -> R) throws -> R {
    do { return try body() } catch let error as NeTIError {
      if error.message.contains(url.path) { throw error }
      throw NeTIError("cannot read \(url.path): \(error.message)")
    }
  }
}
