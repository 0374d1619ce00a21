import Files
import Foundation
public import Torch

/// What tells one base model from another, as a concept file keeps it.
public struct BaseIdentity: Codable, Sendable, Equatable {
  /// The repository id or the folder's name.
  public var name: String
  /// d of the text encoder.
  public var hiddenSize: Int
  /// The cross-attention layers in execution order.
  public var layers: [String]
  /// SHA-256 of the rows of the tokenizer's tokens, [V, d], rounded to fp16, little-endian.
  public var tokenTableHash: String
  /// The LoRAs that were merged into it (`WeightedLoRA.description`); nil without.
  public var loras: [String]?

  public init(
    name: String, hiddenSize: Int, layers: [String], tokenTableHash: String, loras: [String]? = nil
  ) {
    self.name = name
    self.hiddenSize = hiddenSize
    self.layers = layers
    self.tokenTableHash = tokenTableHash
    self.loras = loras
  }
}

/// A Stable Diffusion 1 or 2 model, everything driven by the JSON files of its folder, or in one file.
///
/// Configurations and tokenizer are read at once, and checked against one another. The three networks
/// are loaded when they are first asked for, and can be released again.
///
/// Not `Sendable`: it belongs to one thread at a time.
public final class StableDiffusion {
  public let folder: ModelFolder
  public let dtype: DType
  public let device: Device
  /// Which layer of the text encoder is used, counted from the last.
  public let clipSkip: Int
  public let tokenizer: CLIPTokenizer
  public let textConfiguration: CLIPTextConfiguration
  public let unetConfiguration: UNetConfiguration
  public let vaeConfiguration: VAEConfiguration
  /// From the folder; may be changed, to generate as other versions of the reference do.
  public var schedulerConfiguration: SchedulerConfiguration

  /// More layers than any text encoder has.
  public static let largestClipSkip = 256

  /// Called before a network is loaded, with the size of its stored weights in bytes.
  public var willLoad: (ModelFolder.Component, _ bytes: Int) -> Void = { _, _ in }

  /// What `add` has added.
  public private(set) var loras: [WeightedLoRA] = []
  private var changes: [ModelFolder.Component: WeightChanges] = [:]

  private var loadedTextEncoder: CLIPTextEncoder?
  private var loadedUNet: UNet?
  private var loadedVAE: VAE?
  private var identity: BaseIdentity?

  /// - Parameters:
  ///   - dtype: of all weights and of what the networks compute.
  ///   - clipSkip: which layer of the text encoder is used, counted from the last, which is 1; the final
  ///     LayerNorm follows it. As in A1111's program, the negative prompt is encoded alike.
  /// - Throws: `FileError` or `DiffusionError` when a file is missing or broken; `DiffusionError` when the
  ///   parts do not fit together.
  public init(
    _ folder: ModelFolder, dtype: DType = .float32, device: Device = .cpu, clipSkip: Int = 1
  ) throws {
    guard device.isAvailable else {
      let names = Device.available.map(\.description).joined(separator: ", ")
      throw DiffusionError("there is no device \(device) here; there is \(names)")
    }
    guard dtype.isFloating else { throw DiffusionError("a model cannot compute in \(dtype)") }
    self.folder = folder
    self.dtype = dtype
    self.device = device
    self.clipSkip = clipSkip
    var text = try folder.configuration(CLIPTextConfiguration.self, .textEncoder)
    guard (1...text.layers).contains(clipSkip) else {
      throw DiffusionError(
        "`clip-skip \(clipSkip)`: the text encoder has \(text.layers) layers; choose a number in 1…\(text.layers)"
      )
    }
    text.layers -= clipSkip - 1
    textConfiguration = text
    unetConfiguration = try folder.configuration(UNetConfiguration.self, .unet)
    vaeConfiguration = try folder.configuration(VAEConfiguration.self, .vae)
    schedulerConfiguration = try folder.schedulerConfiguration()
    tokenizer = try folder.tokenizer(maxLength: textConfiguration.maxPositions)
    try checkConsistency()
  }

  // MARK: Networks

  public var textEncoder: CLIPTextEncoder {
    get throws {
      if let loaded = loadedTextEncoder { return loaded }
      let made = try CLIPTextEncoder(textConfiguration, weights: weights(.textEncoder))
      loadedTextEncoder = made
      return made
    }
  }

  public var unet: UNet {
    get throws {
      if let loaded = loadedUNet { return loaded }
      let made = try UNet(unetConfiguration, weights: weights(.unet))
      loadedUNet = made
      return made
    }
  }

  public var vae: VAE {
    get throws {
      if let loaded = loadedVAE { return loaded }
      let made = try VAE(vaeConfiguration, weights: weights(.vae))
      loadedVAE = made
      return made
    }
  }

  /// Merges LoRAs into the weights of the U-Net and the text encoder, which are read anew where they are loaded.
  ///
  /// - Returns: a line for each LoRA that has layers which this model has not.
  /// - Throws: `DiffusionError` for a LoRA that fits the model nowhere, or has another size.
  public func add(_ loras: [WeightedLoRA]) throws -> [String] {
    guard !loras.isEmpty else { return [] }
    var changes = changes
    var foreign = Array(repeating: [] as [String], count: loras.count)
    for component in [ModelFolder.Component.textEncoder, .unet] {
      let shapes = try folder.weights(component, dtype: dtype, device: .cpu).shapes
      for (i, lora) in loras.enumerated() {
        foreign[i] += try changes[component, default: WeightChanges()].add(
          lora, to: component, shapes: shapes)
      }
    }
    let lines = try zip(loras, foreign).compactMap { used, names -> String? in
      guard !names.isEmpty else { return nil }
      guard names.count < used.lora.layers.count else {
        throw DiffusionError(
          "\(used.lora.name) fits \(folder.name) nowhere: it has no \(quoted(names[0])), nor any other layer of it"
        )
      }
      return
        "\(used.lora.name): \(folder.name) has nothing for \(names.prefix(4).map { quoted($0) }.joined(separator: ", "))"
        + (names.count > 4 ? " and \(names.count - 4) more" : "") + "; the rest is used"
    }
    self.changes = changes
    self.loras += loras
    identity = nil
    for component in changes.keys { release(component) }
    return lines
  }

  /// What tells the LoRAs apart by content, and their weights; nil without.
  ///
  /// - Throws: when a file is gone.
  package var loraFingerprint: String? {
    get throws {
      guard !loras.isEmpty else { return nil }
      return try fingerprint(of: loras.map(\.lora.url)) + loras.map { " \($0.weight)" }.joined()
    }
  }

  /// Gives a network's memory back, as far as nobody else holds it; it is loaded anew when asked for.
  public func release(_ component: ModelFolder.Component) {
    switch component {
    case .textEncoder: loadedTextEncoder = nil
    case .unet: loadedUNet = nil
    case .vae: loadedVAE = nil
    case .tokenizer, .scheduler: break
    }
  }

  private func weights(_ component: ModelFolder.Component) throws -> Weights {
    let weights = try folder.weights(
      component, dtype: dtype, device: device, changes: changes[component] ?? WeightChanges())
    willLoad(component, weights.byteCount)
    return weights
  }

  // MARK: Properties

  /// Pixels per latent, in each direction.
  public var vaeFactor: Int { vaeConfiguration.factor }
  /// What latents are multiplied by after encoding.
  public var scalingFactor: Double { vaeConfiguration.scalingFactor }
  /// Height and width of the images the model was trained on.
  public var resolution: Int { unetConfiguration.sampleSize * vaeFactor }
  /// d of the text encoder.
  public var hiddenSize: Int { textConfiguration.hiddenSize }
  /// What its files say that nothing follows from, in lines for the user.
  public var warnings: [String] {
    schedulerConfiguration.unknownKeys.map {
      "\(folder.name), scheduler_config.json: \(quoted($0)) is no key of its schedulers, and changes nothing"
    }
  }
  /// What the U-Net predicts.
  public var predictionType: PredictionType { schedulerConfiguration.predictionType }

  /// This model's identity; the first call hashes the token table.
  public var baseIdentity: BaseIdentity {
    get throws {
      if let identity { return identity }
      // From the file, in fp16: the same whatever dtype the model is loaded in.
      let stored = try folder.weights(.textEncoder, dtype: .float16, device: .cpu)
      let table = try stored.tensor(
        "embeddings.token_embedding.weight", [textConfiguration.vocabularySize, hiddenSize]
      ).sliced(0, 0..<tokenizer.vocabularySize)
      let made = BaseIdentity(
        name: folder.name, hiddenSize: hiddenSize, layers: UNet.crossAttentionLayers(unetConfiguration),
        tokenTableHash: SHA256.hexadecimal(try table.rawBytes()),
        loras: loras.isEmpty ? nil : loras.map(\.description))
      identity = made
      return made
    }
  }

  private func checkConsistency() throws {
    func same(_ a: Int, _ nameA: String, _ b: Int, _ nameB: String) throws {
      guard a == b else {
        throw DiffusionError(
          "\(folder.url.path): \(nameA) is \(a) but \(nameB) is \(b); these parts do not belong together")
      }
    }
    let (u, v, t) = (unetConfiguration, vaeConfiguration, textConfiguration)
    try same(
      u.crossAttentionDim, "the U-Net's cross_attention_dim", t.hiddenSize, "the text encoder's hidden_size")
    guard u.inChannels != 2 * v.latentChannels else {
      throw DiffusionError(
        "\(folder.url.path): the U-Net's in_channels is \(u.inChannels), as in instruct-pix2pix, which is not "
          + "supported; choose a Stable Diffusion model for text to image, or for inpainting")
    }
    if !isInpainting {
      try same(u.inChannels, "the U-Net's in_channels", v.latentChannels, "the VAE's latent_channels")
    }
    try same(u.outChannels, "the U-Net's out_channels", v.latentChannels, "the VAE's latent_channels")
    try same(v.inChannels, "the VAE's in_channels", 3, "an image's number of channels")
    try same(v.outChannels, "the VAE's out_channels", 3, "an image's number of channels")
    // A longer table is padded, or has rows that this tokenizer has no text for.
    guard tokenizer.vocabularySize <= t.vocabularySize else {
      throw DiffusionError(
        """
        \(folder.url.path): the tokenizer knows \(tokenizer.vocabularySize) tokens but the text encoder's \
        vocab_size is \(t.vocabularySize); take tokenizer/ and text_encoder/ from the same model
        """)
    }
  }
}
