import Files
public import Foundation
import Hub
package import Torch

/// A model on this machine: a folder in the diffusers layout, with `unet/`, `vae/`, `text_encoder/`,
/// `tokenizer/` and `scheduler/`, for SDXL also `text_encoder_2/` and `tokenizer_2/`; or one file, as model sites have
/// it.
///
/// Found by path, or a folder by repository id (`CompVis/stable-diffusion-v1-4`) in the local Hugging Face
/// cache, whose snapshots are folders of symbolic links; with `@REVISION`, a certain one; or a file there by
/// `ORGANISATION/NAME/FILE`. Nothing is downloaded:
/// `ModelDownload` does that.
public struct ModelFolder: Sendable {
  /// What a component's folder is called.
  public enum Component: String, Sendable, CaseIterable {
    case tokenizer
    case tokenizer2 = "tokenizer_2"
    case textEncoder = "text_encoder"
    case textEncoder2 = "text_encoder_2"
    case unet
    case vae
    case scheduler

    /// What it is called in a sentence.
    public var title: String {
      switch self {
      case .tokenizer: "tokenizer"
      case .tokenizer2: "second tokenizer"
      case .textEncoder: "text encoder"
      case .textEncoder2: "second text encoder"
      case .unet: "U-Net"
      case .vae: "VAE"
      case .scheduler: "scheduler"
      }
    }

    /// How the weight files' names begin.
    var weightsName: String {
      [.textEncoder, .textEncoder2].contains(self) ? "model" : "diffusion_pytorch_model"
    }
  }

  /// The folder, or the file.
  public let url: URL
  /// The repository id, or the folder's name, or the file's without its ending.
  public let name: String
  /// What the U-Net predicts, where the caller says so.
  public let predicting: PredictionType?
  /// Whether it has two text encoders, as SDXL has.
  public let hasTwoTextEncoders: Bool
  /// Whether guidance leads away from zeros where there is no negative prompt.
  let zerosForEmptyPrompt: Bool
  /// The model where it is one file.
  private let file: ModelFile?

  /// - Parameters:
  ///   - model: a path, in which `~` and variables may stand, or a repository id.
  ///   - predicting: what the U-Net predicts; nil leaves it to the model.
  ///   - environment: where `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME` and `HOME` are looked up.
  /// - Throws: `DiffusionError` that says where it looked and how to get the model, or what a file is that is none;
  ///   `FileError` for a broken file.
  public init(
    _ model: String, predicting: PredictionType? = nil,
    environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws {
    self.predicting = predicting
    if let file = try Self.file(expandedPath(model, environment: environment), environment) {
      url = file
      name = url.deletingPathExtension().lastPathComponent
      let file = try ModelFile(url, predicting: predicting)
      self.file = file
      hasTwoTextEncoders = file.family.isXL
      zerosForEmptyPrompt = file.family.isXL
      return
    }
    (url, name) = try Self.locate(model, environment)
    file = nil
    hasTwoTextEncoders = try Self.checkLayout(url)
    zerosForEmptyPrompt = try hasTwoTextEncoders && PipelineIndex(url).forceZerosForEmptyPrompt
  }

  /// The text encoders, in the order in which their states stand.
  public var textEncoders: [Component] {
    hasTwoTextEncoders ? [.textEncoder, .textEncoder2] : [.textEncoder]
  }
  /// What has weights.
  public var networks: [Component] { textEncoders + [.unet, .vae] }

  /// What one file is, what its U-Net predicts, and how both are known; nil for a folder, which says it itself.
  public var identification: String? { file?.identification }

  /// The file that a path, or a name on the Hub, means.
  private static func file(_ path: String, _ environment: [String: String]) throws -> URL? {
    var isFolder: ObjCBool = false
    if !path.isEmpty, FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) {
      return isFolder.boolValue ? nil : URL(filePath: path).standardizedFileURL
    }
    return try RepositoryFileName(path).flatMap { try HubCache(environment).file($0) }
  }

  /// The folder that a path or a repository id means, and what it is called.
  package static func locate(
    _ model: String, _ environment: [String: String] = ProcessInfo.processInfo.environment
  ) throws -> (url: URL, name: String) {
    let model = try expandedPath(model, environment: environment)
    var isFolder: ObjCBool = false
    if !model.isEmpty, FileManager.default.fileExists(atPath: model, isDirectory: &isFolder) {
      guard isFolder.boolValue else {
        throw DiffusionError("\(model) is a file; a folder of a model's files is needed")
      }
      let url = URL(filePath: model, directoryHint: .isDirectory).standardizedFileURL
      return (url, url.lastPathComponent)
    }
    guard let repository = RepositoryName(model) else {
      throw DiffusionError(
        absence(model)
          ?? "model \(quoted(model)): there is no such folder, and it is no repository id (ORGANISATION/NAME)"
      )
    }
    let cache = try HubCache(environment)
    guard let snapshot = try cache.snapshot(of: repository) else {
      if let absence = absence(model) { throw DiffusionError(absence) }
      throw DiffusionError(
        """
        model \(model): there is no such folder, and it is not in the local Hugging Face cache \
        (looked for \(cache.snapshots(of: repository).path)). Add `download`, or fetch it with: `model get \(model)`
        """)
    }
    return (snapshot, model)
  }

  /// The models in the local Hugging Face cache that are complete and of a kind that is run here; at most `count`.
  package static func cached(
    atMost count: Int, _ environment: [String: String] = ProcessInfo.processInfo.environment
  ) -> [ModelFolder] {
    guard let cache = try? HubCache(environment) else { return [] }
    return cache.repositories.lazy.compactMap { try? ModelFolder($0.id, environment: environment) }
      .prefix(count).map { $0 }
  }

  /// Numbers in the weights of a network, from the heads of its files.
  package func parameterCount(_ component: Component) throws -> Int {
    try weights(component, dtype: .float32, device: .cpu).count
  }

  /// The folder of one component.
  public func folder(_ component: Component) -> URL {
    url.appending(path: component.rawValue, directoryHint: .isDirectory)
  }

  /// A component's JSON configuration.
  ///
  /// - Throws: `FileError` that names the file and the key at fault.
  public func configuration<T: Decodable>(
    _ type: T.Type, _ component: Component, file: String = "config.json"
  ) throws -> T {
    if let model = self.file { return try model.configuration(type, component) }
    return try JSONFile.decode(type, from: folder(component).appending(path: file))
  }

  /// The tensors of a network, by diffusers' current names.
  ///
  /// - Throws: as `weightFiles`; `FileError` for a broken file.
  package func weights(_ component: Component, dtype: DType, device: Device) throws -> Weights {
    try weights(component, dtype: dtype, device: device, changes: WeightChanges())
  }

  /// The same, with changes that are merged into the tensors as they are read.
  func weights(_ component: Component, dtype: DType, device: Device, changes: WeightChanges) throws -> Weights
  {
    if let file { return file.weights(component, dtype: dtype, device: device, changes: changes) }
    let rename: ((String) -> String?)? =
      switch component {
      case .textEncoder: CLIPTextEncoder.currentName
      case .textEncoder2: CLIPTextEncoder.projectedName
      case .vae: VAE.currentName
      default: nil
      }
    return try Weights(
      files: weightFiles(component), dtype: dtype, device: device, rename: rename, changes: changes)
  }

  /// The tokenizer of each text encoder, for `maxLength` positions.
  ///
  /// - Throws: `DiffusionError` when two give prompts of other lengths or other ends.
  func tokenizers(maxLength: Int) throws -> [CLIPTokenizer] {
    if let file { return try file.tokenizers(maxLength: maxLength) }
    let folders: [Component] = hasTwoTextEncoders ? [.tokenizer, .tokenizer2] : [.tokenizer]
    let made = try folders.map { try CLIPTokenizer(folder: folder($0), maxLength: maxLength) }
    guard made.allSatisfy({ $0.modelMaxLength == made[0].modelMaxLength && $0.eosToken == made[0].eosToken })
    else {
      throw DiffusionError(
        "\(url.path): tokenizer/ and tokenizer_2/ have another length or another end token; do they belong together?"
      )
    }
    return made
  }

  /// The files that hold a component's weights: one, or the shards of an index; or the one file that holds all.
  ///
  /// safetensors are preferred to `.bin`, and the plain name to `fp16`, that to another variant.
  ///
  /// - Throws: `DiffusionError` that names what is there when no such file is; that or `FileError` for a bad
  ///   index.
  public func weightFiles(_ component: Component) throws -> [URL] {
    if file != nil { return [url] }
    return try WeightFile.files(in: folder(component), base: component.weightsName)
  }

  /// The variant of each network's weights that is read: empty for the plain one.
  package var variants: [(component: Component, variant: String)] {
    guard file == nil else { return [] }
    return networks.compactMap { component in
      (try? WeightFile.choice(in: folder(component), base: component.weightsName)).map {
        (component, $0.variant)
      }
    }
  }

  /// The files that decide what it generates: the weights, and the schedule where that is not in the same file.
  ///
  /// - Throws: as `weightFiles`.
  public func contentFiles() throws -> [URL] {
    if file != nil { return [url] }
    return try networks.flatMap { try weightFiles($0) }
      + [folder(.scheduler).appending(path: "scheduler_config.json")]
  }

  /// A short hash of `contentFiles`, which tells models apart wherever they lie.
  ///
  /// - Throws: as `weightFiles`; `FileError` when a file cannot be read.
  package func contentFingerprint() throws -> String { try fingerprint(of: contentFiles()) }

  private static func exists(_ url: URL) -> Bool { FileManager.default.fileExists(atPath: url.path) }
}

// MARK: - What is there, and what is not

extension ModelFolder {
  /// Whether a folder's model has two text encoders.
  ///
  /// - Throws: `DiffusionError` when parts are missing, or are there that no supported model has.
  private static func checkLayout(_ url: URL) throws -> Bool {
    func has(_ name: String) -> Bool { exists(url.appending(path: name)) }
    let pipeline = foreignPipeline(url).map { ", but of \(quoted($0))" } ?? ""
    for other in ["text_encoder_3", "transformer"] where has(other) {
      throw DiffusionError(
        "\(url.path) has \(other)/: it is no model of Stable Diffusion 1, 2 or XL, which are supported\(pipeline)"
      )
    }
    let second: [Component] = [.tokenizer2, .textEncoder2]
    let isXL = second.contains { has($0.rawValue) }
    if isXL, !has(Component.textEncoder.rawValue) {
      throw DiffusionError("\(url.path) is SDXL's refiner, which is not supported; \(ModelFamily.advice)")
    }
    let needed = Component.allCases.filter { (isXL || !second.contains($0)) && !has($0.rawValue) }
    if needed == Component.allCases.filter({ !second.contains($0) }), pipeline.isEmpty,
      let content = content(url)
    {
      throw DiffusionError("\(url.path) is no model in the diffusers layout: \(content)")
    }
    guard needed.isEmpty else {
      let names = needed.map { $0.rawValue + "/" }.joined(separator: ", ")
      throw DiffusionError(
        "\(url.path) is no complete model in the diffusers layout\(pipeline.isEmpty ? "" : " of Stable Diffusion")\(pipeline): "
          + "there is no \(names)\(pipeline.isEmpty ? "; fetch the rest of it" : "")")
    }
    return isXL
  }

  /// `model_index.json`, as far as it decides anything.
  private struct PipelineIndex: Decodable {
    let forceZerosForEmptyPrompt: Bool

    init(_ folder: URL) throws {
      let url = folder.appending(path: "model_index.json")
      self = try exists(url) ? JSONFile.decode(Self.self, from: url) : Self(forceZerosForEmptyPrompt: true)
    }

    private init(forceZerosForEmptyPrompt: Bool) { self.forceZerosForEmptyPrompt = forceZerosForEmptyPrompt }

    init(from decoder: any Decoder) throws {
      let json = try ConfigurationReader(decoder)
      forceZerosForEmptyPrompt = try json.value("force_zeros_for_empty_prompt", default: true)
    }
  }
}
