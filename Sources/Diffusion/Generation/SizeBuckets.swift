import Foundation

/// The sizes that SDXL was trained on: near the pixels of its square one, with sides that are multiples of 64 (Podell et
/// al. 2023, appendix I, https://arxiv.org/abs/2307.01952).
enum SizeBuckets {
  private static let step = 64

  /// For each long side from the square's to twice as much, the longest short side with no more pixels.
  static func all(resolution: Int) -> [(width: Int, height: Int)] {
    let longSides = stride(from: resolution, through: 2 * resolution, by: step)
    let wide = longSides.map { long in
      (width: long, height: max(step, resolution * resolution / long / step * step))
    }
    return wide + wide.dropFirst().map { (width: $0.height, height: $0.width) }
  }

  /// The one whose proportions are nearest to those of an image.
  static func nearest(width: Int, height: Int, resolution: Int) -> (width: Int, height: Int) {
    func shape(_ w: Int, _ h: Int) -> Double { log(Double(w) / Double(h)) }
    let wanted = shape(width, height)
    return all(resolution: resolution).min {
      abs(shape($0.width, $0.height) - wanted) < abs(shape($1.width, $1.height) - wanted)
    } ?? (resolution, resolution)
  }
}
