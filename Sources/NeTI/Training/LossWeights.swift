import Imaging
package import Torch

/// Where in an image the loss counts, at latent resolution, straight and mirrored.
///
/// A latent position weighs as much as the mask is bright on average over the pixels that it covers.
/// The mirrored weights are the mirrored columns of the straight ones.
package struct LossWeights {
  /// Of each image, [2 (straight, mirrored), 1, h, w], 0…1.
  private let weights: [Tensor]

  /// Nil when no example has a mask; one without counts everywhere.
  ///
  /// - Parameter sizes: of each example's latents.
  package init?(_ examples: [TrainingExample], sizes: [(height: Int, width: Int)], device: Device) throws {
    guard examples.contains(where: { $0.mask != nil }) else { return nil }
    weights = try zip(examples, sizes).map { example, size in
      let straight =
        try example.mask.map {
          try Tensor(Self.means($0, size.height, size.width), [1, size.height, size.width])
        } ?? .ones([1, size.height, size.width])
      return try .stacked([straight, straight.flipped(2)], 0).to(device: device)
    }
  }

  /// The weights of one image, [1, h, w].
  package func weights(image: Int, flipped: Bool) throws -> Tensor {
    try weights[image].selected(0, flipped ? 1 : 0)
  }

  /// The mean brightness of the pixels of each cell, 0…1.
  private static func means(_ mask: Image, _ height: Int, _ width: Int) -> [Float] {
    let brightness = mask.brightness
    var result: [Float] = []
    for y in 0..<height {
      let rows = (y * mask.height / height)..<((y + 1) * mask.height / height)
      for x in 0..<width {
        let columns = (x * mask.width / width)..<((x + 1) * mask.width / width)
        var sum = 0.0
        for row in rows {
          for column in columns { sum += brightness[row * mask.width + column] }
        }
        result.append(Float(sum / 255 / Double(max(rows.count * columns.count, 1))))
      }
    }
    return result
  }
}
