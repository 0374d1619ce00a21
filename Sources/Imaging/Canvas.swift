/// Drawing on a picture; what lies outside it is not drawn.
extension Picture {
  mutating func fill(x: Int, y: Int, width w: Int, height h: Int, _ colour: Colour) {
    let (left, right) = (max(x, 0), min(x + w, width))
    let (top, bottom) = (max(y, 0), min(y + h, height))
    guard left < right, top < bottom else { return }
    for line in top..<bottom {
      for i in (line * width + left)..<(line * width + right) {
        pixels[3 * i] = colour.red
        pixels[3 * i + 1] = colour.green
        pixels[3 * i + 2] = colour.blue
      }
    }
  }

  /// `picture` with its upper left corner at (x, y).
  mutating func draw(_ picture: Picture, x: Int, y: Int) {
    let (left, right) = (max(x, 0), min(x + picture.width, width))
    let (top, bottom) = (max(y, 0), min(y + picture.height, height))
    guard left < right, top < bottom else { return }
    for line in top..<bottom {
      let from = ((line - y) * picture.width + left - x) * 3
      let to = (line * width + left) * 3
      let count = (right - left) * 3
      pixels.replaceSubrange(to..<to + count, with: picture.pixels[from..<from + count])
    }
  }

  /// Lets `colour` cover a part (0…1) of one pixel.
  mutating func blend(x: Int, y: Int, _ colour: Colour, _ part: Float) {
    guard x >= 0, y >= 0, x < width, y < height, part > 0 else { return }
    let i = (y * width + x) * 3
    let alpha = min(part, 1)
    func mixed(_ old: UInt8, _ new: UInt8) -> UInt8 {
      UInt8(Float(old) * (1 - alpha) + Float(new) * alpha + 0.5)
    }
    pixels[i] = mixed(pixels[i], colour.red)
    pixels[i + 1] = mixed(pixels[i + 1], colour.green)
    pixels[i + 2] = mixed(pixels[i + 2], colour.blue)
  }
}

/// The colours of sheets and plots.
enum Palette {
  static let paper = Colour(251, 250, 247)
  static let ink = Colour(33, 37, 41)
  static let quiet = Colour(104, 110, 116)
  static let rule = Colour(222, 220, 214)
  /// Apart also for most colour-blind readers.
  static let series = [
    Colour(31, 98, 165), Colour(213, 94, 0), Colour(0, 140, 105), Colour(176, 62, 130), Colour(120, 120, 120),
    Colour(200, 150, 0),
  ]
}
