public import Diffusion

/// `config.json` of a whole CLIP in the transformers layout: two towers and the space that both project to.
public struct CLIPConfiguration: Decodable, Sendable {
  /// P, the size of the common space.
  public let projectionSize: Int
  public let text: CLIPTextConfiguration
  public let vision: CLIPVisionConfiguration
  /// The token whose state stands for the text. The 2 of old configurations stands for the largest id.
  let endOfText: Int

  private enum Towers: String, CodingKey {
    case text = "text_config"
    case vision = "vision_config"
  }

  private enum TextKeys: String, CodingKey { case endOfText = "eos_token_id" }

  public init(from decoder: any Decoder) throws {
    projectionSize = try ConfigurationReader(decoder).integer(
      "projection_dim", default: 512, in: 1...16_384)
    let towers = try decoder.container(keyedBy: Towers.self)
    text = try towers.decode(CLIPTextConfiguration.self, forKey: .text)
    vision = try towers.decode(CLIPVisionConfiguration.self, forKey: .vision)
    let more = try towers.nestedContainer(keyedBy: TextKeys.self, forKey: .text)
    endOfText = try more.decodeIfPresent(Int.self, forKey: .endOfText) ?? 49_407
  }
}

/// `vision_config` of a CLIP; what is left out is as in ViT-B/32.
public struct CLIPVisionConfiguration: Decodable, Sendable {
  public let layers: Int
  /// The side of its images, in pixels.
  public let imageSize: Int
  /// The side of the squares that an image is cut into, in pixels.
  public let patchSize: Int
  let shape: CLIPLayer.Shape

  /// d of the vision tower.
  public var hiddenSize: Int { shape.hiddenSize }
  /// Patches of an image.
  var patches: Int { (imageSize / patchSize) * (imageSize / patchSize) }

  public init(from decoder: any Decoder) throws {
    let json = try ConfigurationReader(decoder)
    shape = try CLIPLayer.Shape(json, default: (hidden: 768, intermediate: 3072, heads: 12))
    layers = try json.integer("num_hidden_layers", default: 12, in: 1...256)
    // Images are red, green and blue.
    _ = try json.integer("num_channels", default: 3, in: 3...3)
    imageSize = try json.integer("image_size", default: 224, in: 1...1024)
    patchSize = try json.integer("patch_size", default: 32, in: 1...1024)
    // The attention is quadratic in the patches.
    guard imageSize.isMultiple(of: patchSize), (imageSize / patchSize) <= 64 else {
      throw EvaluationError(
        "“image_size” \(imageSize) is no multiple of “patch_size” \(patchSize), or more than 64 times as large"
      )
    }
  }
}
