import Foundation

/// Sizes of other proportions with about as many pixels as a model's square: those that SDXL was trained on (Podell et
/// al. 2023, appendix I, https://arxiv.org/abs/2307.01952), and the like for models of another resolution.
public struct SizeBuckets: Sendable {
  /// Width and height in pixels: the square, then wide ones, then tall ones.
  public let sizes: [(width: Int, height: Int)]
  /// Pixels that all sides are multiples of.
  public let step: Int

  /// For each long side from the square's to twice as much, the longest short side with no more pixels than the square
  /// of `resolution`. All are multiples of 64, or of an eighth of a resolution below 512; where that does not divide the
  /// resolution, of the largest number below it that does, so that the square is as large as was asked for.
  ///
  /// - Parameters:
  ///   - resolution: of the square; what is left over of a multiple of `factor` is dropped.
  ///   - factor: what sides are multiples of at least, `StableDiffusion.vaeFactor`.
  public init(resolution: Int, factor: Int) {
    let square = max(1, resolution / factor) * factor
    let step =
      stride(from: min(64, resolution / 8) / factor * factor, to: factor, by: -factor)
      .first { square.isMultiple(of: $0) } ?? factor
    let wide = stride(from: square, through: 2 * square, by: step).map { long in
      (width: long, height: long == square ? square : resolution * resolution / long / step * step)
    }.filter { $0.height > 0 }
    self.step = step
    sizes = wide + wide.dropFirst().map { (width: $0.height, height: $0.width) }
  }

  /// The one whose proportions are nearest to those of an image.
  public func nearest(width: Int, height: Int) -> (width: Int, height: Int) {
    func shape(_ w: Int, _ h: Int) -> Double { log(Double(w) / Double(h)) }
    let wanted = shape(width, height)
    return sizes.min {
      abs(shape($0.width, $0.height) - wanted) < abs(shape($1.width, $1.height) - wanted)
    } ?? sizes[0]
  }
}
