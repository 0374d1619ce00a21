import Diffusion
import Files
public import Foundation
import Torch

extension AuthorsCheckpoint {
  /// The only sizes that the authors' loader builds.
  public static let hiddenSize = 768
  public static let layerCount = 16
  static let frequencyCount = 1024
  static let hiddenUnits = 128

  /// Writes the two files that the authors' code loads, `mapper-steps-N.pt` (or `mapper-final.pt`) and
  /// `learned_embeds-….bin`, into `folder`, and returns them. Each is written atomically.
  ///
  /// Throws `NeTIError` that names what their format cannot hold: their loader builds a mapper for 768
  /// numbers per token and 16 layers, with 1024 frequencies and 128 hidden units, and nothing else.
  @discardableResult
  public func write(into folder: URL) throws -> (mapper: URL, embeddings: URL) {
    try checkSizes()
    let suffix = steps.map { "steps-\($0)" } ?? "final"
    let mapper = folder.appending(path: "mapper-\(suffix).pt")
    let embeddings = folder.appending(path: "learned_embeds-\(suffix).bin")
    // The mapper is what is opened, so it comes last: where it lies, its row does.
    let files = [
      (embeddings, try encodedRow("learned_embeds-\(suffix)")),
      (mapper, try encodedMapper("mapper-\(suffix)")),
    ]
    for (url, data) in files { try AtomicFile.write(data, to: url) }
    return (mapper, embeddings)
  }

  /// Refuses what their format cannot hold.
  public func checkSizes() throws {
    guard embedding.shape == [Self.hiddenSize] else {
      throw NeTIError(
        "the authors' format holds concepts for a text encoder of width \(Self.hiddenSize); this one has the "
          + "row \(embedding.shape)")
    }
    guard layers == Self.layerCount else {
      throw NeTIError(
        "the authors' format holds concepts for \(Self.layerCount) cross-attention layers; this one has \(layers)"
      )
    }
    let model = settings.model
    let shapes = Self.shapes(
      frequencies: model.usePositionalEncoding ? Self.frequencyCount : nil,
      width: model.usePositionalEncoding ? model.numPeTimeAnchors * layers : 2, hidden: Self.hiddenUnits,
      output: Self.hiddenSize * (model.outputBypass ? 2 : 1))
    for name in Set(shapes.keys).union(tensors.keys).sorted() where tensors[name]?.shape != shapes[name] {
      let found = tensors[name].map { "has the shape \($0.shape)" } ?? "is missing"
      let wanted = shapes[name].map { "\($0)" } ?? "no such tensor"
      throw NeTIError("the authors' format cannot hold this mapper: \(name) \(found), theirs is \(wanted)")
    }
  }

  /// The bytes of the mapper file, whose archive is called `name`, whatever the sizes.
  package func encodedMapper(_ name: String) throws -> Data {
    var storages = TorchStorages()
    var state: [PickleEntry] = []
    for (ours, theirs) in Self.parts where tensors["\(ours).weight"] != nil {
      let stored = try ["weight", "bias"].compactMap { kind in
        try tensors["\(ours).\(kind)"].map { (kind, try storages.add($0)) }
      }
      // Their two names of the anchor layer share one storage.
      for prefix in theirs { state += stored.map { PickleEntry("\(prefix).\($0)", $1) } }
    }
    let encoder = try encoder(&storages)
    let root = [
      PickleEntry("state_dict", .dictionary(state, ordered: true)),
      PickleEntry("cfg", settings.authorsConfiguration), PickleEntry("encoder", encoder),
    ]
    return try storages.archive(name, .dictionary(root, ordered: false))
  }

  /// The bytes of the file with the placeholder's row.
  package func encodedRow(_ name: String) throws -> Data {
    var storages = TorchStorages()
    let row = try storages.add(embedding)
    return try storages.archive(name, .dictionary([PickleEntry(token, row)], ordered: false))
  }

  /// Their encoder, a `torch.nn.Module`, with the attributes that PyTorch 1.13 gives one; later
  /// versions add what they miss.
  private func encoder(_ storages: inout TorchStorages) throws -> PickleValue {
    let empty = PickleValue.dictionary([], ordered: true)
    var attributes: [(String, PickleValue)] = [
      ("training", .bool(true)), ("_parameters", empty), ("_buffers", empty),
      ("_non_persistent_buffers_set", .set([])), ("_backward_hooks", empty),
      ("_is_full_backward_hook", .none), ("_forward_hooks", empty), ("_forward_pre_hooks", empty),
      ("_state_dict_hooks", empty), ("_load_state_dict_pre_hooks", empty),
      ("_load_state_dict_post_hooks", empty), ("_modules", empty),
    ]
    let name: String
    if let frequencies = tensors["frequencies"] {
      name = Self.positionalEncoding
      attributes += [
        ("sigma_t", .float(settings.model.peSigmas.sigmaT)),
        ("sigma_l", .float(settings.model.peSigmas.sigmaL)),
        ("num_w", .int(Self.frequencyCount)), ("w", try storages.add(frequencies)),
      ]
    } else {
      name = Self.basicEncoder
      for (table, count) in [("normalized_timesteps", 1000), ("normalized_unet_layers", layers)] {
        attributes.append((table, try storages.add(Self.evenTable(count))))
      }
    }
    return .object(name, attributes.map { PickleEntry($0.0, $0.1) })
  }

  /// `count` numbers that rise evenly from −1 to 1, in float32 throughout as theirs.
  private static func evenTable(_ count: Int) throws -> Tensor {
    try Tensor((0..<count).map { Float($0) / Float(count - 1) * 2 - 1 })
  }
}
