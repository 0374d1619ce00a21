public import Diffusion
import Files
import Foundation
public import Imaging

/// An image to learn from, at the training size, with what belongs to it.
public struct TrainingExample: Sendable, Equatable {
  /// The file's name, for messages.
  public var name: String
  public var image: Image
  /// Its own sentence, with `{}` or the token where the concept goes; nil samples a template.
  public var caption: String?
  /// Where the loss counts, as brightness: white fully, black not at all; of the image's size. Nil
  /// counts everywhere.
  public var mask: Image?
  /// What SDXL is told of its sizes.
  public var size: SizeConditioning

  /// - Parameter size: nil where the image is all of it, as large as it was.
  public init(
    name: String = "image", _ image: Image, caption: String? = nil, mask: Image? = nil,
    size: SizeConditioning? = nil
  ) {
    self.name = name
    self.image = image
    self.caption = caption
    self.mask = mask
    self.size = size ?? SizeConditioning(height: image.height, width: image.width)
  }

  /// A short hash of everything that training takes from the examples, to recognise them by.
  ///
  /// - Parameter sizes: whether the model is told of them.
  static func fingerprint(_ examples: [TrainingExample], sizes: Bool) -> String {
    var parts: [String] = []
    for e in examples {
      parts += ["\(e.image.width)×\(e.image.height)", SHA256.hexadecimal(e.image.pixels)]
      parts += [e.caption ?? "", e.mask.map { SHA256.hexadecimal($0.pixels) } ?? ""]
      if sizes { parts.append("\(e.size)") }
    }
    return String(SHA256.hexadecimal(Array(parts.joined(separator: "\n").utf8)).prefix(16))
  }
}

extension Image {
  /// The brightness of each pixel, 0…255, row by row: ITU-R 601-2 as Pillow's `convert("L")`, whole
  /// numbers aside.
  var brightness: [Double] {
    stride(from: 0, to: pixels.count, by: 3).map { i -> Double in
      let (red, green, blue) = (Double(pixels[i]), Double(pixels[i + 1]), Double(pixels[i + 2]))
      return 0.299 * red + 0.587 * green + 0.114 * blue
    }
  }
}
