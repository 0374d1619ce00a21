public import Foundation

/// Which pixels of an image are meant, and how much: one value each, 0 to 255, row by row from the top.
public struct Mask: Sendable, Equatable {
  public let width: Int
  public let height: Int
  /// `width · height` of them.
  public private(set) var values: [UInt8]

  /// The brightness of an image, as Pillow's `convert("L")` computes it.
  public init(_ image: Image) {
    (width, height) = (image.width, image.height)
    values = [UInt8](unsafeUninitializedCapacity: width * height) { buffer, count in
      count = image.width * image.height
      for i in 0..<count {
        let (r, g, b) = (Int(image.pixels[3 * i]), Int(image.pixels[3 * i + 1]), Int(image.pixels[3 * i + 2]))
        let sum: Int = r * 19595 + g * 38470 + b * 7471
        buffer[i] = UInt8((sum + 0x8000) >> 16)
      }
    }
  }

  /// Reads a mask: white, or light, is meant. In an image with transparency the alpha channel is the mask,
  /// whatever the colours: what is opaque is meant.
  ///
  /// - Returns: the mask, whether it is the alpha channel, and whether it was made of an image in colour.
  /// - Throws: as `Image.load`.
  public static func load(_ url: URL) throws -> (mask: Mask, isAlpha: Bool, isColoured: Bool) {
    let loaded = try Image.loadWithOpacity(url)
    return (
      Mask(loaded.opacity ?? loaded.image), loaded.opacity != nil,
      loaded.opacity == nil && loaded.image.isColoured
    )
  }

  /// Whether a pixel is meant by half or more.
  public var isOn: [Bool] { values.map { $0 >= 128 } }

  /// At another size, as `Image.resized`.
  public func resized(width newWidth: Int, height newHeight: Int) throws -> Mask {
    guard (newWidth, newHeight) != (width, height) else { return self }
    var grey = [UInt8](repeating: 0, count: 3 * values.count)
    for i in grey.indices { grey[i] = values[i / 3] }
    return Mask(try Image(unchecked: width, height, grey).resized(width: newWidth, height: newHeight))
  }

  /// The pixels that are on, in full, but for those near one that is off: they fade towards it, over `pixels`.
  /// What is off is 0, and the border of the image is no edge.
  public func feathered(_ pixels: Int) -> Mask {
    let most = min(max(pixels, 0), 253) + 1
    // The distance to the next pixel that is off, counted along rows and columns, in two passes.
    var distance = values.map { UInt8($0 >= 128 ? most : 0) }
    func pass(_ y: Int, _ x: Int, _ step: Int) {
      let i = y * width + x
      var least = distance[i]
      if x - step >= 0, x - step < width { least = min(least, distance[i - step] + 1) }
      if y - step >= 0, y - step < height { least = min(least, distance[i - step * width] + 1) }
      distance[i] = least
    }
    for y in 0..<height { for x in 0..<width { pass(y, x, 1) } }
    for y in (0..<height).reversed() { for x in (0..<width).reversed() { pass(y, x, -1) } }
    var mask = self
    mask.values = distance.map { UInt8(Int($0) * 255 / most) }
    return mask
  }
}

extension Image {
  /// Whether one pixel in a hundred or more is far from grey, as no rounding of a file makes it.
  package var isColoured: Bool {
    var count = 0
    for i in stride(from: 0, to: pixels.count, by: 3) {
      let (r, g, b) = (pixels[i], pixels[i + 1], pixels[i + 2])
      if max(r, g, b) - min(r, g, b) > 64 { count += 1 }
    }
    return count * 100 >= width * height
  }

  /// How sharp its edges are: the variance of the Laplacian of its brightness, 0 for one colour. A picture that is
  /// out of focus has little.
  ///
  /// Pech-Pacheco et al. 2000, https://doi.org/10.1109/ICPR.2000.903548.
  package var sharpness: Double {
    guard width > 2, height > 2 else { return 0 }
    let grey = Mask(self).values
    var (sum, squares) = (0.0, 0.0)
    for y in 1..<height - 1 {
      for x in 1..<width - 1 {
        let i = y * width + x
        let around = Int(grey[i - 1]) + Int(grey[i + 1]) + Int(grey[i - width]) + Int(grey[i + width])
        let value = Double(around - 4 * Int(grey[i]))
        sum += value
        squares += value * value
      }
    }
    let count = Double((width - 2) * (height - 2))
    return squares / count - (sum / count) * (sum / count)
  }

  /// This image with `other` over it where `mask` says. Where the mask is 0, pixels are unchanged. Throws when
  /// the sizes differ.
  public func covered(by other: Image, _ mask: Mask) throws -> Image {
    guard (width, height) == (other.width, other.height), (width, height) == (mask.width, mask.height) else {
      throw ImagingError(
        "\(other.width)×\(other.height) pixels under a mask of \(mask.width)×\(mask.height) do not cover "
          + "\(width)×\(height)")
    }
    var image = self
    for i in 0..<width * height where mask.values[i] > 0 {
      let share = Int(mask.values[i])
      for at in 3 * i..<3 * i + 3 {
        let (below, above) = (Int(pixels[at]), Int(other.pixels[at]))
        let sum: Int = below * (255 - share) + above * share
        image.pixels[at] = UInt8((sum + 127) / 255)
      }
    }
    return image
  }
}
