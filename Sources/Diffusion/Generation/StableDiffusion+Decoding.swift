public import Torch

/// An image as bytes: red, green, blue, in rows from the top.
public struct DecodedImage: Sendable, Equatable {
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
  /// The longest side of a generated image, in pixels.
  public static let maximumSide = 8192
  /// Pixels that are decoded at once: a batch of small images, or one large one.
  private static let pixelsPerDecoding = 512 * 512

  /// The size of the latents of an image of `width` × `height` pixels; nil is the model's own.
  public func latentSize(width: Int?, height: Int?) throws -> (height: Int, width: Int) {
    func latents(_ pixels: Int?, _ name: String) throws -> Int {
      let n = pixels ?? resolution
      guard (1...Self.maximumSide).contains(n), n.isMultiple(of: vaeFactor) else {
        throw DiffusionError(
          wrongUsage: "`\(name)` \(n): it must be a multiple of \(vaeFactor) and at most \(Self.maximumSide)")
      }
      return n / vaeFactor
    }
    return (height: try latents(height, "height"), width: try latents(width, "width"))
  }

  /// Images of latents [B, C, h, w] as the U-Net left them.
  ///
  /// - Parameter tiled: whether the VAE decodes in tiles (see `VAE.decodeInTiles`); where the memory is
  ///   too short for the whole, when nil.
  /// - Throws: `DiffusionError` when numbers left the range of the dtype.
  public func decode(_ latents: Tensor, tiled: Bool? = nil) throws -> [DecodedImage] {
    try withoutGradients {
      let (count, height, width) = (latents.size(0), latents.size(2) * vaeFactor, latents.size(3) * vaeFactor)
      let rows = max(1, Self.pixelsPerDecoding / max(1, width * height))
      let inTiles = try tiled ?? !hasMemory(forDecoding: rows * width * height)
      var images: [DecodedImage] = []
      for start in stride(from: 0, to: count, by: rows) {
        let part = try latents.sliced(0, start..<min(start + rows, count)) / scalingFactor
        let decoded = try inTiles ? vae.decodeInTiles(part) : vae.decode(part).to(.float32)
        guard try decoded.isFinite().to(.float32).min().item() == 1 else {
          throw DiffusionError(
            "the VAE gave numbers that are not finite; "
              + (try vae.weightType == .float32
                ? "its weights are damaged: use another copy of the model"
                : "try precision fp32, and where that does not help, another copy of the model"))
        }
        let values = try ((decoded / 2 + 0.5).clamped(0, 1) * 255).rounded()
        let bytes = try values.permuted([0, 2, 3, 1]).to(.uint8, device: .cpu).bytes()
        let size = 3 * width * height
        for image in stride(from: 0, to: bytes.count, by: size) {
          images.append(DecodedImage(width: width, height: height, rgb: Array(bytes[image..<image + size])))
        }
      }
      return images
    }
  }

  /// Whether `pixels` can be decoded at once in what is free; true where nothing tells.
  private func hasMemory(forDecoding pixels: Int) throws -> Bool {
    guard device == .cpu, let free = SystemMemory.available() else { return true }
    return try vae.decodingBytes(pixels: pixels) <= free
  }
}
