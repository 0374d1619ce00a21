import CPango

/// Drawing on an image; what lies outside it is not drawn.
extension Image {
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

  /// `image` with its upper left corner at (x, y).
  mutating func draw(_ image: Image, x: Int, y: Int) {
    let (left, right) = (max(x, 0), min(x + image.width, width))
    let (top, bottom) = (max(y, 0), min(y + image.height, height))
    guard left < right, top < bottom else { return }
    for line in top..<bottom {
      let from = ((line - y) * image.width + left - x) * 3
      let to = (line * width + left) * 3
      let count = (right - left) * 3
      pixels.replaceSubrange(to..<to + count, with: image.pixels[from..<from + count])
    }
  }

  /// Lets Cairo draw, in `colour` unless it is told another, on the part of the image at (x, y): its origin
  /// is there, and nothing is drawn outside.
  mutating func paint(
    x: Int, y: Int, width w: Int, height h: Int, _ colour: Colour, _ draw: (OpaquePointer) -> Void
  ) {
    let (left, right) = (max(x, 0), min(x + w, width))
    let (top, bottom) = (max(y, 0), min(y + h, height))
    guard left < right, top < bottom else { return }
    let (columns, rows) = (right - left, bottom - top)
    // Cairo's pixels are numbers, 0x00RRGGBB.
    var part = (0..<rows * columns).map { i -> UInt32 in
      let from = ((top + i / columns) * width + left + i % columns) * 3
      return UInt32(pixels[from]) << 16 | UInt32(pixels[from + 1]) << 8 | UInt32(pixels[from + 2])
    }
    part.withUnsafeMutableBytes { memory in
      let surface = cairo_image_surface_create_for_data(
        memory.bindMemory(to: UInt8.self).baseAddress, CAIRO_FORMAT_RGB24, Int32(columns), Int32(rows),
        Int32(4 * columns))
      defer { cairo_surface_destroy(surface) }
      guard let cairo = cairo_create(surface) else { return }
      defer { cairo_destroy(cairo) }
      cairo_translate(cairo, Double(x - left), Double(y - top))
      cairo_set_source_rgb(
        cairo, Double(colour.red) / 255, Double(colour.green) / 255, Double(colour.blue) / 255)
      draw(cairo)
      cairo_surface_flush(surface)
    }
    for (i, value) in part.enumerated() {
      let to = ((top + i / columns) * width + left + i % columns) * 3
      pixels[to] = UInt8(value >> 16 & 255)
      pixels[to + 1] = UInt8(value >> 8 & 255)
      pixels[to + 2] = UInt8(value & 255)
    }
  }
}

/// The colours of sheets and charts.
enum Palette {
  static let paper = Colour(251, 250, 247)
  static let ink = Colour(33, 37, 41)
  static let quiet = Colour(104, 110, 116)
  static let rule = Colour(222, 220, 214)
  static let bar = Colour(31, 98, 165)
}
