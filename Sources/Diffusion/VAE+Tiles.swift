public import Torch

// Decoding large images in overlapping squares, so that memory depends on the square only.
extension VAE {
  /// Latents of a tile, in each direction: what the model was trained on.
  public var tileSide: Int { max(1, configuration.sampleSize / configuration.factor) }

  /// Bytes that `decode` takes at its peak, besides the weights: some tensors of the image's size with
  /// the channels of the last but one resolution.
  func decodingBytes(pixels: Int) -> Double {
    let widths = configuration.blockOutChannels
    let channels = widths[min(1, widths.count - 1)]
    return Self.tensorsOfDecoding * Double(pixels * channels * weightType.size)
  }
  /// Measured at 512 pixels on Stable Diffusion 1's VAE: 2.9 in fp32, 2.5 in bf16.
  private static let tensorsOfDecoding = 3.5

  /// `decode` in tiles of `tileSide` latents that overlap by a quarter and are blended linearly.
  ///
  /// Each tile's normalisations and attention see that tile only, so the image is close to that of
  /// `decode`, not equal. The latents of one tile give exactly that one.
  ///
  /// - Parameter latents: [B, C, h, w], as for `decode`.
  /// - Returns: [B, 3, h·f, w·f] in fp32.
  public func decodeInTiles(_ latents: Tensor) throws -> Tensor {
    let (height, width, factor) = (latents.size(2), latents.size(3), configuration.factor)
    let shape = [latents.size(0), configuration.outChannels, height * factor, width * factor]
    let device = latents.device
    let sum = try Tensor.zeros(shape, device: device)
    let weights = try Tensor.zeros([1, 1] + shape[2...], device: device)
    for rows in Self.tiles(height, side: tileSide) {
      for columns in Self.tiles(width, side: tileSide) {
        let tile = try decode(latents.sliced(2, rows).sliced(3, columns)).to(.float32)
        let weight = try ramp(rows.count * factor).unsqueezed(1) * ramp(columns.count * factor).unsqueezed(0)
        func place(_ t: Tensor) throws -> Tensor {
          try t.sliced(2, rows.lowerBound * factor..<rows.upperBound * factor)
            .sliced(3, columns.lowerBound * factor..<columns.upperBound * factor)
        }
        let onDevice = try weight.to(device: device)
        try place(sum).add(tile * onDevice)
        try place(weights).add(onDevice.unsqueezed(0).unsqueezed(0))
      }
    }
    return try sum / weights
  }

  /// Ranges of `side` that cover 0 ..< length, evenly placed, neighbours overlapping by a quarter or more.
  package static func tiles(_ length: Int, side: Int) -> [Range<Int>] {
    guard length > side else { return [0..<length] }
    let overlap = side / 4
    let steps = (length - side + (side - overlap) - 1) / (side - overlap)
    return (0...steps).map { i in
      let start = (length - side) * i / steps
      return start..<start + side
    }
  }

  /// Weights [n] that rise from the edges over a quarter of a tile: where two tiles overlap, one fades
  /// as the other comes.
  private func ramp(_ n: Int) throws -> Tensor {
    let top = max(1, tileSide / 4 * configuration.factor)
    return try Tensor((0..<n).map { i in Float(min(i + 1, n - i, top)) })
  }
}
