public import Torch

/// A glimpse of unfinished latents as small images, without the VAE: each pixel is a linear function of its latent,
/// fitted to images that the VAE encoded. It costs next to nothing.
public struct LatentPreview: Sendable {
  /// For red, green and blue: a factor for each latent channel, and what is added.
  private let weights: [[Double]]
  private let channels: Int

  /// Fits the function.
  ///
  /// - Parameters:
  ///   - images: [B, 3, H, W] from −1 to 1, H and W multiples of the model's `vaeFactor`.
  /// - Throws: `DiffusionError` when the images are too few or too plain to fit it to.
  public init(_ model: StableDiffusion, images: Tensor) throws {
    let (latents, small) = try withoutGradients {
      let x = try images.to(device: model.device)
      let latents = try model.vae.encode(x).mean.to(.float32) * model.scalingFactor
      let (b, h, w) = (latents.size(0), latents.size(2), latents.size(3))
      let f = model.vaeFactor
      // The mean of the pixels that a latent stands for.
      return (latents, try images.reshaped([b, 3, h, f, w, f]).mean([3, 5]))
    }
    channels = latents.size(1)
    let rows = try Self.rows(latents)
    let targets = try Self.rows(small)
    weights = try (0..<3).map { c in
      let n = rows[0].count
      var matrix = Array(repeating: Array(repeating: 0.0, count: n + 1), count: n)
      for (row, target) in zip(rows, targets) {
        for i in 0..<n {
          for j in 0..<n { matrix[i][j] += row[i] * row[j] }
          matrix[i][n] += row[i] * target[c]
        }
      }
      return try Self.solve(matrix)
    }
  }

  /// Images of latents [B, C, h, w], each h × w pixels.
  public func callAsFunction(_ latents: Tensor) throws -> [DecodedImage] {
    guard latents.shape.count == 4, latents.size(1) == channels else {
      throw DiffusionError("a preview of latents \(latents.shape), fitted to \(channels) channels")
    }
    let (b, h, w) = (latents.size(0), latents.size(2), latents.size(3))
    let values = try Self.rows(latents).flatMap { row in
      weights.map { factors -> UInt8 in
        let value = zip(factors, row).reduce(0) { $0 + $1.0 * $1.1 }
        return UInt8((max(-1, min(1, value.isFinite ? value : 0)) + 1) * 127.5)
      }
    }
    return (0..<b).map { i in
      DecodedImage(width: w, height: h, rgb: Array(values[i * 3 * h * w..<(i + 1) * 3 * h * w]))
    }
  }

  /// The channels of each position, [B, C, h, w] as B · h · w rows; latents with a one at the end.
  private static func rows(_ tensor: Tensor) throws -> [[Double]] {
    let c = tensor.size(1)
    let values = try tensor.permuted([0, 2, 3, 1]).to(.float32, device: .cpu).doubles()
    return stride(from: 0, to: values.count, by: c).map { Array(values[$0..<$0 + c]) + [1] }
  }

  /// Gaussian elimination with pivots; the right side is the last column.
  private static func solve(_ system: [[Double]]) throws -> [Double] {
    var m = system
    let n = m.count
    for k in 0..<n {
      let pivot = (k..<n).max { abs(m[$0][k]) < abs(m[$1][k]) } ?? k
      m.swapAt(k, pivot)
      guard abs(m[k][k]) > 1e-9 else {
        throw DiffusionError("these images are too plain to fit a preview to")
      }
      for i in 0..<n where i != k {
        let factor = m[i][k] / m[k][k]
        for j in k...n { m[i][j] -= factor * m[k][j] }
      }
    }
    return (0..<n).map { m[$0][n] / m[$0][$0] }
  }
}
