import Files
import Foundation
import Torch

/// A base model in one file, as model sites have it: Stable Diffusion 1, 2 or XL, `.safetensors` or what `torch.save`
/// wrote. Configurations, scheduler and vocabulary come with the program; sizes are read from the tensors.
struct ModelFile: Sendable {
  let url: URL
  let family: ModelFamily
  let prediction: PredictionEvidence
  /// What the file is and how that is known, in a sentence.
  let identification: String
  /// Where the tensors of each network are, by diffusers' names.
  private let tensors: [ModelFolder.Component: [String: StoredTensor]]
  private let configurations: [ModelFolder.Component: Data]

  /// - Parameter predicting: what the U-Net predicts, where that is known.
  /// - Throws: `FileError` for a broken file; `DiffusionError` that says what a file is that is no such model.
  init(_ url: URL, predicting: PredictionType? = nil) throws {
    try ForeignFormat.refuse(url)
    let file: any TensorFile = try TorchFile.isOne(url) ? TorchWeights(url) : SafetensorsFile(url)
    let names = try TensorNames(file)
    self.url = url
    family = try Self.family(names)
    prediction = try PredictionEvidence(names, of: file, family, given: predicting)
    tensors = try Self.sorted(names, of: file)
    configurations = try ModelFileConfigurations(names, family, prediction).encoded()
    let inpainting =
      names.size(ModelFamily.inputs, 1) == 9 ? " for inpainting (its U-Net takes 9 channels)" : ""
    let distilled =
      ModelFamily.guidance.contains { names.has($0) }
      ? " as a latent consistency model (LCM: its U-Net takes the guidance)" : ""
    identification =
      "\(quoted(url.lastPathComponent)) is \(family.title)\(inpainting)\(distilled), as \(family.reason); it predicts "
      + "\(prediction.title), as \(prediction.reason)"
  }

  /// The JSON configuration of a network or of the scheduler.
  func configuration<T: Decodable>(_ type: T.Type, _ component: ModelFolder.Component) throws -> T {
    try JSONFile.decode(
      type, from: configurations[component] ?? Data("{}".utf8),
      name: "\(url.lastPathComponent) (\(component.title))")
  }

  func weights(
    _ component: ModelFolder.Component, dtype: DType, device: Device, changes: WeightChanges
  ) -> Weights {
    Weights(
      tensors[component] ?? [:], title: url.lastPathComponent, dtype: dtype, device: device, changes: changes)
  }

  /// Of each text encoder.
  func tokenizers(maxLength: Int) throws -> [CLIPTokenizer] {
    try family.padTokens.map { pad in
      try CLIPTokenizer(
        files: TokenizerFiles(clipPaddedWith: pad, name: url.lastPathComponent), maxLength: maxLength)
    }
  }

  /// Which model tensors of such names and shapes are.
  ///
  /// - Throws: `DiffusionError` that says what else they are.
  static func family(_ names: TensorNames) throws -> ModelFamily {
    do { return try ModelFamily(names) } catch let error as DiffusionError {
      throw DiffusionError("\(names.place): \(error.message)")
    }
  }

  /// Each tensor's place by our names.
  private static func sorted(_ names: TensorNames, of file: any TensorFile) throws
    -> [ModelFolder.Component: [String: StoredTensor]]
  {
    var result: [ModelFolder.Component: [String: StoredTensor]] = [:]
    try names.requireKnown()
    for (name, original) in names.originals.sorted(by: { $0.key < $1.key }) {
      guard let declaration = names.declarations[name] else { continue }
      for target in OriginalNames.targets(name) ?? [] {
        let stored = try StoredTensor(
          file: file, name: original, declaration, third: target.third, isTransposed: target.isTransposed)
        if let other = result[target.component, default: [:]].updateValue(stored, forKey: target.name) {
          throw DiffusionError(
            "\(names.place): \(quoted(other.name)) and \(quoted(original)) are both “\(target.name)” of the "
              + target.component.title)
        }
      }
    }
    return result
  }
}

/// The names and shapes of a file's tensors, to ask what kind of file it is. They are without what compiled models have
/// in theirs.
struct TensorNames {
  /// The file, as a message names it.
  let place: String
  /// What each is called in the file.
  let originals: [String: String]
  let declarations: [String: TensorDeclaration]

  /// - Throws: `DiffusionError` for two names that differ by no more than that.
  init(_ tensors: [String: TensorDeclaration], in place: String) throws {
    self.place = place
    originals = try Dictionary(tensors.keys.map { (Weights.plain($0), $0) }) { a, b in
      throw DiffusionError(
        "\(place): \(quoted(min(a, b))) and \(quoted(max(a, b))) are one tensor twice")
    }
    declarations = originals.compactMapValues { tensors[$0] }
  }

  init(_ file: any TensorFile) throws {
    try self.init(file.tensorNames.reduce(into: [:]) { $0[$1] = file.declaration($1) }, in: file.url.path)
  }

  /// A size of a tensor; nil where there is no such tensor or dimension.
  func size(_ name: String, _ dimension: Int) -> Int? {
    guard let shape = declarations[name]?.shape, shape.indices.contains(dimension) else { return nil }
    return shape[dimension]
  }

  func has(_ name: String) -> Bool { declarations[name] != nil }

  /// Whether any tensor is in a module.
  func has(in prefix: String) -> Bool { declarations.keys.contains { $0.hasPrefix(prefix) } }

  /// Whether any part of a name begins with one of `words`.
  func hasPart(_ words: [String]) -> Bool {
    declarations.keys.contains { name in
      name.split(separator: ".").contains { part in words.contains { part.hasPrefix($0) } }
    }
  }

  /// - Throws: `DiffusionError` that names tensors that Stable Diffusion has not.
  func requireKnown() throws {
    let unknown = originals.filter { OriginalNames.targets($0.key) == nil }.map(\.value)
    guard unknown.isEmpty else {
      let shown = unknown.sorted().prefix(4).map(quoted).joined(separator: ", ")
      let rest = unknown.count > 4 ? " and \(unknown.count - 4) more" : ""
      throw DiffusionError(
        "\(place): Stable Diffusion has no tensors \(shown)\(rest); it seems to be another kind of model")
    }
  }
}
