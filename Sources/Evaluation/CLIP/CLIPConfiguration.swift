public import Diffusion

/// `config.json` of a whole CLIP in the transformers layout: two towers and the space that both project to.
public struct CLIPConfiguration: Decodable, Sendable {
  /// P, the size of the common space.
  public let projectionSize: Int
  public let text: CLIPTextConfiguration
  public let vision: CLIPVisionConfiguration
  /// The token whose state stands for the text. The 2 of old configurations stands for the largest id.
  let endOfText: Int

  private enum CodingKeys: String, CodingKey {
    case projectionSize = "projection_dim"
    case text = "text_config"
    case vision = "vision_config"
  }

  private enum TextKeys: String, CodingKey { case endOfText = "eos_token_id" }

  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    projectionSize = try c.decodeIfPresent(Int.self, forKey: .projectionSize) ?? 512
    guard (1...16_384).contains(projectionSize) else {
      throw EvaluationError("“projection_dim” is \(projectionSize); it must be in 1…16384")
    }
    text = try c.decode(CLIPTextConfiguration.self, forKey: .text)
    vision = try c.decode(CLIPVisionConfiguration.self, forKey: .vision)
    let more = try c.nestedContainer(keyedBy: TextKeys.self, forKey: .text)
    endOfText = try more.decodeIfPresent(Int.self, forKey: .endOfText) ?? 49_407
  }
}

/// `vision_config` of a CLIP; what is left out is as in ViT-B/32.
public struct CLIPVisionConfiguration: Decodable, Sendable {
  /// d of the vision tower.
  public let hiddenSize: Int
  public let layers: Int
  /// The side of its images, in pixels.
  public let imageSize: Int
  /// The side of the squares that an image is cut into, in pixels.
  public let patchSize: Int
  let shape: CLIPLayer.Shape

  /// Patches of an image.
  var patches: Int { (imageSize / patchSize) * (imageSize / patchSize) }

  private enum CodingKeys: String, CodingKey {
    case hiddenSize = "hidden_size"
    case intermediateSize = "intermediate_size"
    case layers = "num_hidden_layers"
    case heads = "num_attention_heads"
    case imageSize = "image_size"
    case patchSize = "patch_size"
    case channels = "num_channels"
    case activation = "hidden_act"
    case layerNormEpsilon = "layer_norm_eps"
  }

  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    func integer(_ key: CodingKeys, _ usual: Int, _ limit: Int) throws -> Int {
      let n = try c.decodeIfPresent(Int.self, forKey: key) ?? usual
      guard (1...limit).contains(n) else {
        throw EvaluationError("“\(key.rawValue)” is \(n); it must be in 1…\(limit)")
      }
      return n
    }
    hiddenSize = try integer(.hiddenSize, 768, 16_384)
    layers = try integer(.layers, 12, 256)
    imageSize = try integer(.imageSize, 224, 1024)
    patchSize = try integer(.patchSize, 32, 1024)
    let heads = try integer(.heads, 12, 256)
    guard try integer(.channels, 3, 3) == 3 else {
      throw EvaluationError("“num_channels” must be 3, as images are red, green and blue")
    }
    guard hiddenSize.isMultiple(of: heads) else {
      throw EvaluationError("“hidden_size” \(hiddenSize) is no multiple of “num_attention_heads” \(heads)")
    }
    // The attention is quadratic in the patches.
    guard imageSize.isMultiple(of: patchSize), (imageSize / patchSize) <= 64 else {
      throw EvaluationError(
        "“image_size” \(imageSize) is no multiple of “patch_size” \(patchSize), or more than 64 times as large"
      )
    }
    let epsilon = try c.decodeIfPresent(Double.self, forKey: .layerNormEpsilon) ?? 1e-5
    guard epsilon.isFinite, epsilon > 0 else {
      throw EvaluationError("“layer_norm_eps” is \(epsilon); it must be above 0")
    }
    let name = try c.decodeIfPresent(String.self, forKey: .activation) ?? "quick_gelu"
    guard let activation = CLIPTextConfiguration.Activation(rawValue: name) else {
      throw EvaluationError("“hidden_act” of the vision tower is none of quick_gelu and gelu")
    }
    shape = CLIPLayer.Shape(
      hiddenSize: hiddenSize, intermediateSize: try integer(.intermediateSize, 3072, 65_536), heads: heads,
      activation: activation, layerNormEpsilon: epsilon)
  }
}
