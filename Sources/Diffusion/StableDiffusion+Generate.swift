public import Torch

/// A picture as bytes: red, green, blue, in rows from the top.
public struct DecodedPicture: Sendable, Equatable {
  public let width: Int
  public let height: Int
  /// 3 · width · height bytes.
  public let rgb: [UInt8]

  public init(width: Int, height: Int, rgb: [UInt8]) {
    self.width = width
    self.height = height
    self.rgb = rgb
  }
}

extension StableDiffusion {
  /// The longest side of a picture that is drawn, in pixels.
  public static let maximumSide = 8192
  /// Pixels that are decoded at once: a batch of small pictures, or one large one.
  private static let pixelsPerDecoding = 512 * 512

  /// Pictures of the base model itself, one for each seed.
  ///
  /// - Parameters:
  ///   - prompt: cut off where the tokenizer's length ends.
  ///   - negative: what guidance leads away from; empty for the plain unconditional branch.
  ///   - width: in pixels, a multiple of `vaeFactor`; the model's `resolution` when nil. So is `height`.
  ///   - check: called with the index of each step before it; throws to stop.
  public func generate(
    prompt: String, negative: String = "", settings: SamplerSettings = SamplerSettings(),
    width: Int? = nil, height: Int? = nil, check: (Int) throws -> Void = { _ in }
  ) throws -> [DecodedPicture] {
    try withoutGradients {
      let size = try latentSize(width: width, height: height)
      let conditional = try CrossAttentionContext(encode(prompt))
      let unconditional = try settings.usesGuidance ? [CrossAttentionContext(encode(negative))] : []
      let sampler = try Sampler(
        unet, schedulerConfiguration, settings, height: size.height, width: size.width, device: device)
      let latents = try sampler.run(unconditional: unconditional, check: check) { _ in [Region([conditional])]
      }
      return try decode(latents)
    }
  }

  /// The text encoder's output for a prompt, [1, S, d].
  public func encode(_ prompt: String) throws -> Tensor {
    try withoutGradients {
      let ids = tokenizer(prompt).ids
      return try textEncoder.encode(Tensor(ids, [1, ids.count]))
    }
  }

  /// The size of the latents of a picture of `width` × `height` pixels; nil is the model's own.
  public func latentSize(width: Int?, height: Int?) throws -> (height: Int, width: Int) {
    func latents(_ pixels: Int?, _ name: String) throws -> Int {
      let n = pixels ?? resolution
      guard (1...Self.maximumSide).contains(n), n.isMultiple(of: vaeFactor) else {
        throw DiffusionError(
          "\(name) \(n): it must be a multiple of \(vaeFactor) and at most \(Self.maximumSide)")
      }
      return n / vaeFactor
    }
    return (height: try latents(height, "height"), width: try latents(width, "width"))
  }

  /// Pictures of latents [B, C, h, w] as the U-Net left them.
  ///
  /// - Parameter tiled: whether the VAE decodes in tiles (see `VAE.decodeInTiles`); where the memory is
  ///   too short for the whole, when nil.
  public func decode(_ latents: Tensor, tiled: Bool? = nil) throws -> [DecodedPicture] {
    try withoutGradients {
      let (count, height, width) = (latents.size(0), latents.size(2) * vaeFactor, latents.size(3) * vaeFactor)
      let rows = max(1, Self.pixelsPerDecoding / max(1, width * height))
      let inTiles = try tiled ?? !hasMemory(forDecoding: rows * width * height)
      var pictures: [DecodedPicture] = []
      for start in stride(from: 0, to: count, by: rows) {
        let part = try latents.sliced(0, start..<min(start + rows, count)) / scalingFactor
        let images = try inTiles ? vae.decodeInTiles(part) : vae.decode(part).to(.float32)
        let values = try ((images / 2 + 0.5).clamped(0, 1) * 255).rounded()
        let bytes = try values.permuted([0, 2, 3, 1]).to(.uint8, device: .cpu).bytes()
        let size = 3 * width * height
        for picture in stride(from: 0, to: bytes.count, by: size) {
          pictures.append(
            DecodedPicture(width: width, height: height, rgb: Array(bytes[picture..<picture + size])))
        }
      }
      return pictures
    }
  }

  /// Whether `pixels` can be decoded at once in what is free; true where nothing tells.
  private func hasMemory(forDecoding pixels: Int) throws -> Bool {
    guard device == .cpu, let free = SystemMemory.available() else { return true }
    return try vae.decodingBytes(pixels: pixels) <= free
  }
}
