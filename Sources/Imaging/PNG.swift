import CPNG
import Files

extension Image {
  /// PNG by libpng's simplified interface: every colour type and bit depth, interlaced, tRNS.
  ///
  /// libpng is given only the chunks that make the pixels: with gAMA, cHRM or iCCP in the file it would convert
  /// colours, which Pillow does not, and text or profiles that inflate without end are never looked at.
  static func decodePNG(_ bytes: [UInt8], _ name: String) throws -> Loaded {
    let (file, header) = try essentials(bytes, name)
    var image = png_image()
    image.version = UInt32(PNG_IMAGE_VERSION)
    defer { png_image_free(&image) }
    // libpng keeps the address that it is given until the pixels are read.
    let decoded = try file.withUnsafeBytes { memory in
      guard png_image_begin_read_from_memory(&image, memory.baseAddress, memory.count) != 0,
        Int(image.width) == header.width, Int(image.height) == header.height
      else { throw damaged(image, name) }
      let alpha = image.format & UInt32(PNG_FORMAT_FLAG_ALPHA) != 0
      return header.depth == 16
        ? try readDeep(&image, alpha: alpha, header, name)
        : try readShallow(&image, alpha: alpha, header, name)
    }
    return decoded.turned(header.orientation)
  }

  /// The size that a PNG file says it has, without its pixels; nil where its header is damaged or has no size.
  package static func sizeOfPNG(_ bytes: [UInt8]) -> (width: Int, height: Int)? {
    let (header, sum) = (12..<29, 29)
    guard format(bytes) == .png, let checksum = bytes.number(4, at: sum),
      checksum == Int(crc32(bytes[header])), bytes.number(4, at: 8) == 13,
      bytes.number(4, at: 12).map(PNGChunk.Kind.init(code:)) == .header,
      let width = bytes.number(4, at: 16), let height = bytes.number(4, at: 20), width > 0, height > 0
    else { return nil }
    return (width, height)
  }

  private struct PNGHeader {
    var width = 0
    var height = 0
    var depth = 0
    var orientation = Orientation.upright
  }

  /// The file reduced to IHDR, PLTE, tRNS, IDAT and IEND, and what its header says, within the limits.
  private static func essentials(_ bytes: [UInt8], _ name: String) throws -> ([UInt8], PNGHeader) {
    var file = PNGChunk.signature
    var header = PNGHeader()
    var compressed = 0
    try PNGChunk.forEach(in: bytes, name: name) { chunk in
      if header.width == 0 {
        guard chunk.kind == .header, chunk.data.count == 13 else {
          throw ImagingError(
            "\(name): the PNG data is damaged (it does not start with IHDR); replace the file")
        }
        header.width = bytes.number(4, at: chunk.data.lowerBound) ?? 0
        header.height = bytes.number(4, at: chunk.data.lowerBound + 4) ?? 0
        header.depth = bytes.number(1, at: chunk.data.lowerBound + 8) ?? 0
        _ = try byteCount(width: header.width, height: header.height, name: name)
      }
      switch chunk.kind {
      case .header, .palette, .transparency, .end: file += bytes[chunk.whole]
      case .data:
        file += bytes[chunk.whole]
        compressed += chunk.data.count
      case .exif: header.orientation = Orientation.read(bytes, chunk.data)
      // Of an animation every reader of PNG shows one frame.
      case .animation where compressed == 0 && bytes.number(4, at: chunk.data.lowerBound) ?? 0 > 1:
        throw animation(name)
      default:
        if chunk.kind.isCritical {
          throw ImagingError(
            "\(name): the PNG data needs the unknown chunk \(chunk.kind); save it as plain PNG")
        }
      }
      return true
    }
    // Deflate shrinks to 1/1032 at best: a file that claims more pixels than that lies, or is cut short.
    let leastBits = header.width * header.height * min(header.depth, 16)
    guard leastBits / 8 <= (compressed + 64) * 1032 else {
      throw ImagingError(
        "\(name): the PNG data is far too short for \(header.width)×\(header.height) pixels; replace the file"
      )
    }
    return (file, header)
  }

  /// At most 8 bits a channel.
  private static func readShallow(
    _ image: inout png_image, alpha: Bool, _ header: PNGHeader, _ name: String
  ) throws -> Loaded {
    image.format = UInt32(PNG_FORMAT_FLAG_COLOR) | (alpha ? UInt32(PNG_FORMAT_FLAG_ALPHA) : 0)
    var out = [UInt8](repeating: 0, count: header.width * header.height * (alpha ? 4 : 3))
    guard png_image_finish_read(&image, nil, &out, 0, nil) != 0 else { throw damaged(image, name) }
    return alpha
      ? onWhite(rgba: out, width: header.width, height: header.height)
      : Loaded(image: Image(unchecked: header.width, header.height, out), opacity: nil)
  }

  /// 16 bits a channel: libpng's "linear" format is the stored numbers, multiplied by alpha where there is one.
  /// What shows on white keeps its high byte.
  private static func readDeep(
    _ image: inout png_image, alpha: Bool, _ header: PNGHeader, _ name: String
  ) throws -> Loaded {
    image.format =
      UInt32(PNG_FORMAT_FLAG_COLOR) | UInt32(PNG_FORMAT_FLAG_LINEAR)
      | (alpha ? UInt32(PNG_FORMAT_FLAG_ALPHA) : 0)
    let channels = alpha ? 4 : 3
    var deep = [UInt16](repeating: 0, count: header.width * header.height * channels)
    guard png_image_finish_read(&image, nil, &deep, 0, nil) != 0 else { throw damaged(image, name) }
    var rgb = [UInt8](repeating: 0, count: header.width * header.height * 3)
    for i in 0..<header.width * header.height {
      let white = alpha ? 65535 - Int(deep[channels * i + 3]) : 0
      for c in 0..<3 { rgb[3 * i + c] = UInt8(min(Int(deep[channels * i + c]) + white, 65535) >> 8) }
    }
    return Loaded(
      image: Image(unchecked: header.width, header.height, rgb),
      opacity: alpha
        ? opacity(header.width, header.height) { UInt8(deep[channels * $0 + 3] >> 8) } : nil)
  }

  private static func damaged(_ image: png_image, _ name: String) -> ImagingError {
    ImagingError("\(name): the PNG data is cut short or damaged (\(message(image))); replace the file")
  }

  private static func message(_ image: png_image) -> String {
    withUnsafeBytes(of: image.message) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
  }

  // MARK: - Writing

  /// The image as a PNG file, 8-bit RGB, with `text` (keyword and value) before the pixels. The same image
  /// and text give the same bytes. Throws when a keyword is not one (see `PNGText.chunk`).
  public func png(text: [(String, String)] = []) throws -> [UInt8] {
    let chunks = try text.flatMap { try PNGText.chunk($0.0, $0.1) }
    var image = png_image()
    image.version = UInt32(PNG_IMAGE_VERSION)
    image.width = UInt32(width)
    image.height = UInt32(height)
    image.format = UInt32(PNG_FORMAT_FLAG_COLOR)
    defer { png_image_free(&image) }
    // Stored blocks add less than 1 %, chunks 12 bytes in 8192, the other chunks less than 1 KB.
    var size = height * (1 + 3 * width)
    size += size / 50 + 4096
    var file = [UInt8](repeating: 0, count: size)
    guard png_image_write_to_memory(&image, &file, &size, 0, pixels, 0, nil) != 0, size <= file.count else {
      throw ImagingError("PNG of \(width)×\(height) pixels: cannot be written (\(Self.message(image)))")
    }
    file.removeLast(file.count - size)
    var start = file.count
    try PNGChunk.forEach(in: file, name: "PNG") { chunk in
      start = chunk.whole.lowerBound
      return chunk.kind != .data
    }
    file.insert(contentsOf: chunks, at: start)
    return file
  }
}
