/// The EXIF orientation (tag 0x0112): how a stored image is to be turned and mirrored for viewing.
struct Orientation: Equatable {
  /// 1 to 8; 1 is upright.
  let value: Int
  static let upright = Orientation(value: 1)

  /// Reads it from an EXIF block (`Exif\0\0` in front is optional): a TIFF header and the entries of its first
  /// directory. No other directory is followed, so there is nothing to loop in. What makes no sense is upright.
  static func read(_ bytes: [UInt8], _ range: Range<Int>) -> Orientation {
    let block = Array(bytes[range])
    let start = block.has("Exif\0\0", at: 0) ? 6 : 0
    let big = block.has("MM", at: start)
    guard big || block.has("II", at: start) else { return .upright }
    func number(_ count: Int, _ offset: Int) -> Int? {
      block.number(count, at: start + offset, bigEndian: big)
    }

    guard number(2, 2) == 42, let directory = number(4, 4), let entries = number(2, directory) else {
      return .upright
    }
    for entry in 0..<entries {
      let at = directory + 2 + 12 * entry
      guard let tag = number(2, at), let type = number(2, at + 2) else { break }
      guard tag == 0x0112 else { continue }
      // SHORT as the standard says, or LONG as some programs write.
      guard type == 3 || type == 4, let value = number(type == 3 ? 2 : 4, at + 8), 1...8 ~= value else {
        break
      }
      return Orientation(value: value)
    }
    return .upright
  }
}

extension Image {
  /// The image as it is to be seen when its file says `orientation`.
  func turned(_ orientation: Orientation) -> Image {
    let (w, h) = (width, height)
    switch orientation.value {
    case 2: return mapped(w, h) { x, y in (w - 1 - x, y) }
    case 3: return mapped(w, h) { x, y in (w - 1 - x, h - 1 - y) }
    case 4: return mapped(w, h) { x, y in (x, h - 1 - y) }
    case 5: return mapped(h, w) { x, y in (y, x) }
    case 6: return mapped(h, w) { x, y in (y, h - 1 - x) }
    case 7: return mapped(h, w) { x, y in (w - 1 - y, h - 1 - x) }
    case 8: return mapped(h, w) { x, y in (w - 1 - y, x) }
    default: return self
    }
  }

  /// Turned clockwise by 90 degrees, so many times.
  package func turnedClockwise(_ quarters: Int) -> Image {
    // EXIF's 6 says that the camera was turned to the left, and 8 to the right.
    let orientations = [1, 6, 3, 8]
    return turned(Orientation(value: orientations[((quarters % 4) + 4) % 4]))
  }

  /// An image whose pixel (x, y) is this one's at `source(x, y)`.
  private func mapped(_ newWidth: Int, _ newHeight: Int, _ source: (Int, Int) -> (Int, Int)) -> Image {
    var out = [UInt8](repeating: 0, count: pixels.count)
    for y in 0..<newHeight {
      for x in 0..<newWidth {
        let (sx, sy) = source(x, y)
        let from = (sy * width + sx) * 3
        let to = (y * newWidth + x) * 3
        for c in 0..<3 { out[to + c] = pixels[from + c] }
      }
    }
    return Image(unchecked: newWidth, newHeight, out)
  }
}
