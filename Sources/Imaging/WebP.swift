import CWebP

extension Image {
  /// WebP by libwebp: lossy and lossless, with and without alpha. Animations are refused.
  static func decodeWebP(_ bytes: [UInt8], _ name: String) throws -> Loaded {
    let damaged = ImagingError("\(name): the WebP data is cut short or damaged; replace the file")
    var features = WebPBitstreamFeatures()
    guard WebPGetFeatures(bytes, bytes.count, &features) == VP8_STATUS_OK else { throw damaged }
    guard features.has_animation == 0 else { throw animation(name) }
    let (width, height) = (Int(features.width), Int(features.height))
    let count = try byteCount(width: width, height: height, name: name)

    let loaded: Loaded
    if features.has_alpha != 0 {
      var rgba = [UInt8](repeating: 0, count: count / 3 * 4)
      let size = rgba.count
      guard WebPDecodeRGBAInto(bytes, bytes.count, &rgba, size, Int32(width * 4)) != nil else {
        throw damaged
      }
      loaded = onWhite(rgba: rgba, width: width, height: height)
    } else {
      var rgb = [UInt8](repeating: 0, count: count)
      guard WebPDecodeRGBInto(bytes, bytes.count, &rgb, count, Int32(width * 3)) != nil else { throw damaged }
      loaded = Loaded(image: Image(unchecked: width, height, rgb), opacity: nil)
    }
    return loaded.turned(webPOrientation(bytes))
  }

  /// The orientation in the container's `EXIF` chunk, if there is one.
  private static func webPOrientation(_ bytes: [UInt8]) -> Orientation {
    webPChunk("EXIF", in: bytes).map { Orientation.read(bytes, $0) } ?? .upright
  }
}

/// Where the contents of a container's first chunk of a kind lie.
func webPChunk(_ kind: String, in bytes: [UInt8]) -> Range<Int>? {
  var at = 12
  while let size = bytes.number(4, at: at + 4, bigEndian: false), size <= bytes.count - at - 8 {
    if bytes.has(kind, at: at) { return at + 8..<at + 8 + size }
    at += 8 + size + size % 2
  }
  return nil
}
