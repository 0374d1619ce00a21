import CTurboJPEG

/// What is needed from a JPEG file before it is decoded.
struct JPEGHeader {
  var width = 0
  var height = 0
  var components = 0
  var isArithmetic = false
  var orientation = Orientation.upright
  /// Where the parts of its colour profile lie, and their numbers.
  var profile: [(number: UInt8, range: Range<Int>)] = []
  /// Bytes of all coefficients where the decoder keeps them, as it does for a progressive image and for any other
  /// whose first scan has not all colours; else 0.
  var keptBytes = 0

  /// Walks the segments up to the first scan. Throws when there is no frame header.
  init(_ bytes: [UInt8], name: String) throws {
    var at = 2
    var seenEXIF = false
    var isProgressive = false
    while true {
      // Padding and stray bytes before a marker are skipped, as the library does.
      while at < bytes.count, bytes[at] != 0xFF { at += 1 }
      while at < bytes.count, bytes[at] == 0xFF { at += 1 }
      guard at < bytes.count else { break }
      let marker = bytes[at]
      at += 1
      if marker == 0 || marker == 0x01 || 0xD0...0xD8 ~= marker { continue }
      if marker == 0xDA, !isProgressive, let colours = bytes.number(1, at: at + 2), colours >= components {
        keptBytes = 0
      }
      if marker == 0xD9 || marker == 0xDA { break }
      guard let length = bytes.number(2, at: at), length >= 2, at + length <= bytes.count else { break }
      if marker == 0xE1, !seenEXIF, bytes.has("Exif\0\0", at: at + 2) {
        orientation = Orientation.read(bytes, at + 2..<at + length)
        seenEXIF = true
      }
      if marker == 0xE2, length >= 16, bytes.has("ICC_PROFILE\0", at: at + 2) {
        profile.append((bytes[at + 14], at + 16..<at + length))
      }
      if 0xC0...0xCF ~= marker, ![0xC4, 0xC8, 0xCC].contains(marker), components == 0, length >= 8 {
        isArithmetic = marker >= 0xC9
        isProgressive = marker & 3 == 2
        height = bytes.number(2, at: at + 3) ?? 0
        width = bytes.number(2, at: at + 5) ?? 0
        components = bytes.number(1, at: at + 7) ?? 0
        keptBytes = coefficientBytes((0..<components).map { bytes.number(1, at: at + 9 + 3 * $0) ?? 0x11 })
      }
      at += length
    }
    guard components > 0 else {
      throw ImagingError("\(name): the JPEG data is cut short or damaged (no frame header); replace the file")
    }
  }

  /// Two bytes for each coefficient, of which each component has those of whole blocks of 8×8.
  ///
  /// - Parameter samplings: a byte for each component, as in the file: four bits of how many blocks of it lie side by
  ///   side in a unit of the image, and four of how many lie below each other.
  private func coefficientBytes(_ samplings: [Int]) -> Int {
    let (across, down) = (samplings.map { max($0 >> 4, 1) }, samplings.map { max($0 & 15, 1) })
    let unit = (8 * (across.max() ?? 1), 8 * (down.max() ?? 1))
    let units = ((width + unit.0 - 1) / unit.0) * ((height + unit.1 - 1) / unit.1)
    return zip(across, down).reduce(0) { $0 + units * $1.0 * $1.1 * 128 }
  }
}

extension Image {
  /// JPEG by libjpeg-turbo: baseline and progressive, grey, RGB, YCbCr, CMYK and YCCK (inverted, as Adobe writes
  /// them and Pillow assumes). One beyond the limit of pixels, as phones with 108 and 200 megapixels make, is
  /// decoded at half its size.
  static func decodeJPEG(_ bytes: [UInt8], _ name: String) throws -> Image {
    let header = try JPEGHeader(bytes, name: name)
    let scale = scale(of: header)
    let (width, height) = ((header.width + scale - 1) / scale, (header.height + scale - 1) / scale)
    let count = try byteCount(width: width, height: height, name: name)
    // Huffman codes spend a bit or more on each block of 64 pixels; arithmetic ones may spend less.
    guard header.isArithmetic || header.width * header.height / 512 <= bytes.count else {
      throw ImagingError(
        "\(name): the JPEG data is far too short for \(header.width)×\(header.height) pixels; replace the file"
      )
    }
    guard header.keptBytes <= ImageLimits.coefficientBytes else {
      throw ImagingError(
        """
        \(name): this JPEG of \(header.width)×\(header.height) pixels is stored in several scans and takes \(header.keptBytes >> 20) MiB to \
        decode, and \(ImageLimits.coefficientBytes >> 20) are accepted; save it without “progressive”, or make it smaller
        """)
    }
    let fourColours = header.components == 4

    guard let decoder = tjInitDecompress() else {
      throw ImagingError("\(name): no memory for the JPEG decoder; close other programs")
    }
    defer { tjDestroy(decoder) }
    let channels = fourColours ? 4 : 3
    var out = [UInt8](repeating: 0, count: count / 3 * channels)
    let status = tjDecompress2(
      decoder, bytes, UInt(bytes.count), &out, Int32(width), Int32(width * channels), Int32(height),
      Int32(fourColours ? TJPF_CMYK.rawValue : TJPF_RGB.rawValue),
      TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS)
    if status != 0 {
      let message = tjGetErrorStr2(decoder).map { String(cString: $0) } ?? "unknown error"
      // Warnings leave a usable image, unless they say that a part of it is missing. The code does not
      // tell them from an error that comes after a warning, so that the message has to.
      let missing = message.lowercased().contains("premature end")
      let isWarning =
        tjGetErrorCode(decoder) == Int32(TJERR_WARNING.rawValue)
        && warnings.contains { message.hasPrefix($0) }
      if missing || !isWarning {
        throw ImagingError("\(name): the JPEG data is cut short or damaged (\(message)); replace the file")
      }
    }
    let image =
      fourColours ? fromInvertedCMYK(out, width, height) : Image(unchecked: width, height, out)
    return image.turned(header.orientation)
  }

  /// 2 when the image has more than the limit of pixels and half its size will do; else 1.
  private static func scale(of header: JPEGHeader) -> Int {
    let area = header.width * header.height
    guard area <= ImageLimits.scaledJPEGPixels else { return 1 }
    return area <= ImageLimits.pixels ? 1 : 2
  }

  /// How the warnings of libjpeg (`JWRN_…`) begin.
  private static let warnings = [
    "Corrupt JPEG data", "Inconsistent progression", "Invalid SOS parameters", "Unknown Adobe", "Warning:",
  ]

  /// Pillow's formula: with c, k the stored (inverted) values, k − (255 − c)·k / 255, rounded.
  private static func fromInvertedCMYK(_ cmyk: [UInt8], _ width: Int, _ height: Int) -> Image {
    var rgb = [UInt8](repeating: 0, count: cmyk.count / 4 * 3)
    for i in 0..<cmyk.count / 4 {
      let k = Int(cmyk[4 * i + 3])
      for c in 0..<3 {
        rgb[3 * i + c] = UInt8(k - ((255 - Int(cmyk[4 * i + c])) * k + 127) / 255)
      }
    }
    return Image(unchecked: width, height, rgb)
  }
}
