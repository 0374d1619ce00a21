import Files
import Foundation
public import Torch

/// What tells one base model from another, as a concept file keeps it.
public struct BaseIdentity: Codable, Sendable, Equatable {
  /// The repository id or the folder's name.
  public var name: String
  /// d of the text encoder; of two together.
  public var hiddenSize: Int
  /// d of each of several text encoders; nil for one.
  public var hiddenSizes: [Int]?
  /// The cross-attention layers in execution order.
  public var layers: [String]
  /// SHA-256 of the rows of the tokenizer's tokens, [V, d], rounded to fp16, little-endian; of both tables in turn
  /// where there are two text encoders.
  public var tokenTableHash: String
  /// The LoRAs that were merged into it (`WeightedLoRA.description`); nil without.
  public var loras: [String]?

  public init(
    name: String, hiddenSize: Int, hiddenSizes: [Int]? = nil, layers: [String], tokenTableHash: String,
    loras: [String]? = nil
  ) {
    self.name = name
    self.hiddenSize = hiddenSize
    self.hiddenSizes = hiddenSizes
    self.layers = layers
    self.tokenTableHash = tokenTableHash
    self.loras = loras
  }

  /// d of each text encoder.
  public var encoderSizes: [Int] { hiddenSizes ?? [hiddenSize] }
}

/// A model of Stable Diffusion 1, 2 or XL, everything driven by the JSON files of its folder, or in one file.
///
/// Configurations and tokenizer are read at once, and checked against one another. The networks
/// are loaded when they are first asked for, and can be released again.
///
/// Not `Sendable`: it belongs to one thread at a time.
public final class StableDiffusion {
  public let folder: ModelFolder
  public let dtype: DType
  public let device: Device
  /// Which layer of the text encoders is used, counted from the model's own.
  public let clipSkip: Int
  /// Of each text encoder: what fills a prompt up may differ.
  public let tokenizers: [CLIPTokenizer]
  /// Of each text encoder.
  public let textConfigurations: [CLIPTextConfiguration]
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

  private var loadedTextEncoders: [ModelFolder.Component: CLIPTextEncoder] = [:]
  private var loadedUNet: UNet?
  private var loadedVAE: VAE?
  private var identity: BaseIdentity?

  /// - Parameters:
  ///   - dtype: of all weights and of what the networks compute: float32 or bfloat16.
  ///   - clipSkip: which layer of the text encoders is used, counted from the one that the model was trained with,
  ///     which is 1: the last, with the final LayerNorm behind it; in SDXL the last but one, without. As in A1111's
  ///     program, the negative prompt is encoded alike.
  /// - Throws: `FileError` or `DiffusionError` when a file is missing or broken; `DiffusionError` when the
  ///   parts do not fit together.
  public init(
    _ folder: ModelFolder, dtype: DType = .float32, device: Device = .cpu, clipSkip: Int = 1
  ) throws {
    guard device.isAvailable else {
      let names = Device.available.map(\.description).joined(separator: ", ")
      throw DiffusionError("there is no device \(device) here; there is \(names)")
    }
    // The VAEs of SDXL leave the range of fp16, as do the attention scores of Stable Diffusion 2.1.
    guard [.float32, .bfloat16].contains(dtype) else {
      throw DiffusionError("a model cannot compute in \(dtype); choose float32 or bfloat16")
    }
    self.folder = folder
    self.dtype = dtype
    self.device = device
    self.clipSkip = clipSkip
    textConfigurations = try folder.textEncoders.map { component in
      var text = try folder.configuration(CLIPTextConfiguration.self, component)
      let own = folder.hasTwoTextEncoders ? 1 : 0
      let most = text.layers - own
      guard (1...max(most, 1)).contains(clipSkip), most >= 1 else {
        throw DiffusionError(
          wrongUsage:
            "`clip-skip \(clipSkip)`: the \(component.title) has \(text.layers) layers; choose a number in 1…\(max(most, 1))"
        )
      }
      text.output = CLIPTextConfiguration.Output(
        skippedLayers: clipSkip - 1 + own, isNormed: own == 0, isPooled: component == .textEncoder2)
      return text
    }
    unetConfiguration = try folder.configuration(UNetConfiguration.self, .unet)
    vaeConfiguration = try folder.configuration(VAEConfiguration.self, .vae)
    schedulerConfiguration = try folder.schedulerConfiguration()
    tokenizers = try folder.tokenizers(maxLength: textConfigurations.map(\.maxPositions).min() ?? 0)
    try checkConsistency()
  }

  // MARK: Networks

  public var textEncoders: TextEncoders {
    get throws {
      let members = try zip(folder.textEncoders, textConfigurations).map { component, configuration in
        if let loaded = loadedTextEncoders[component] { return loaded }
        let made = try CLIPTextEncoder(configuration, weights: weights(component))
        loadedTextEncoders[component] = made
        return made
      }
      return TextEncoders(members, endToken: tokenizer.eosToken)
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

  /// Merges LoRAs into the weights of the U-Net and the text encoders, which are read anew where they are loaded.
  ///
  /// - Returns: a line for each LoRA that has layers which this model has not, or an embedding beside them.
  /// - Throws: `DiffusionError` for a LoRA that fits the model nowhere, or has another size.
  public func add(_ loras: [WeightedLoRA]) throws -> [String] {
    guard !loras.isEmpty else { return [] }
    var changes = changes
    for used in loras {
      guard let layer = used.lora.layers.first(where: { !folder.networks.contains($0.component) }) else {
        continue
      }
      throw DiffusionError(
        "\(used.lora.name) is for SDXL: it changes a \(layer.component.title) (\(quoted(layer.shownName))), and "
          + "\(folder.name) has none")
    }
    var foreign = Array(repeating: [] as [String], count: loras.count)
    for component in folder.textEncoders + [.unet] {
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
    return lines + loras.compactMap(\.lora.embeddingsWarning)
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
    case .textEncoder, .textEncoder2: loadedTextEncoders[component] = nil
    case .unet: loadedUNet = nil
    case .vae: loadedVAE = nil
    case .tokenizer, .tokenizer2, .scheduler: break
    }
  }

  private func weights(_ component: ModelFolder.Component) throws -> Weights {
    let weights = try folder.weights(
      component, dtype: dtype, device: device, changes: changes[component] ?? WeightChanges())
    willLoad(component, weights.byteCount)
    return weights
  }

  // MARK: Properties

  /// The first text encoder's tokenizer.
  public var tokenizer: CLIPTokenizer { tokenizers[0] }

  /// Pixels per latent, in each direction.
  public var vaeFactor: Int { vaeConfiguration.factor }
  /// What latents are multiplied by after encoding.
  public var scalingFactor: Double { vaeConfiguration.scalingFactor }
  /// Height and width of the images the model was trained on.
  public var resolution: Int { unetConfiguration.sampleSize * vaeFactor }
  /// d of the text encoder; of two together.
  public var hiddenSize: Int { textConfigurations.reduce(0) { $0 + $1.hiddenSize } }
  /// What its files say that nothing follows from, in lines for the user.
  public var warnings: [String] {
    folder.variants.filter { !["", "fp16"].contains($0.variant) }.map {
      "\(folder.name): the \($0.component.title)'s weights are the variant \(quoted($0.variant)), as there are no plain ones"
    }
      + schedulerConfiguration.unknownKeys.map {
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
      let tables = try folder.textEncoders.indices.map { i in
        let text = textConfigurations[i]
        return try folder.weights(folder.textEncoders[i], dtype: .float16, device: .cpu).tensor(
          "embeddings.token_embedding.weight", [text.vocabularySize, text.hiddenSize]
        ).sliced(0, 0..<tokenizers[i].vocabularySize).rawBytes()
      }
      let made = BaseIdentity(
        name: folder.name, hiddenSize: hiddenSize,
        hiddenSizes: folder.hasTwoTextEncoders ? textConfigurations.map(\.hiddenSize) : nil,
        layers: UNet.crossAttentionLayers(unetConfiguration),
        tokenTableHash: SHA256.hexadecimal(Array(tables.joined())),
        loras: loras.isEmpty ? nil : loras.map(\.description))
      identity = made
      return made
    }
  }

  private func checkConsistency() throws {
    func same(_ a: Int, _ nameA: String, _ b: Int, _ nameB: String) throws {
      guard a == b else {
        throw DiffusionError(
          "\(folder.url.path): \(nameA) is \(a) but \(nameB) is \(b); these parts do not belong together"
            + (folder.unusualPipeline.map { ", or are those of \(quoted($0)), which is not supported" } ?? "")
        )
      }
    }
    let (u, v, texts) = (unetConfiguration, vaeConfiguration, textConfigurations)
    let hidden =
      texts.count == 1 ? "the text encoder's hidden_size" : "the text encoders' hidden_size together"
    try same(u.crossAttentionDim, "the U-Net's cross_attention_dim", hiddenSize, hidden)
    guard (u.addition != nil) == folder.hasTwoTextEncoders else {
      throw DiffusionError(
        "\(folder.url.path): the U-Net's addition_embed_type is \(u.additionType?.rawValue ?? "null"), and there "
          + "\(texts.count == 1 ? "is one text encoder" : "are two text encoders"); these parts do not belong together"
      )
    }
    if let addition = u.addition, let last = texts.last {
      try same(
        addition.pooledSize, "the pooled text of the U-Net's projection_class_embeddings_input_dim",
        last.projectionSize, "the second text encoder's projection_dim")
    }
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
    let tables = [
      (ModelFolder.Component.tokenizer, ModelFolder.Component.textEncoder), (.tokenizer2, .textEncoder2),
    ]
    for ((words, encoder), (tokenizer, text)) in zip(tables, zip(tokenizers, texts))
    where tokenizer.vocabularySize > text.vocabularySize {
      throw DiffusionError(
        """
        \(folder.url.path): the \(words.title) knows \(tokenizer.vocabularySize) tokens but the \
        \(encoder.title)'s vocab_size is \(text.vocabularySize); take \(words.rawValue)/ and \(encoder.rawValue)/ \
        from the same model
        """)
    }
  }
}
