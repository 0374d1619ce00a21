import Files
public import Foundation

/// What is accepted from files that anybody may have made.
public enum ImageLimits {
  /// Bytes of an image file.
  public static let fileBytes = 256 << 20
  /// Width × height. A header that claims more is refused before anything is allocated.
  public static let pixels = 100_000_000
  /// Width × height of a JPEG that is decoded at half its size because it has more than `pixels`.
  public static let scaledJPEGPixels = 220_000_000
  /// Bytes of the coefficients of a progressive JPEG, which are all kept until it is decoded: enough for 100
  /// megapixels of full colour, and for 220 whose colours have half the resolution. Beside them are at most
  /// four bytes for each of `pixels`, and the file.
  public static let coefficientBytes = 640 << 20
  /// Longest side in pixels.
  public static let side = 65_535
}

/// An image in memory: 8-bit RGB, row by row from the top, no padding.
public struct Image: Sendable, Equatable {
  public let width: Int
  public let height: Int
  /// `width · height · 3` values: red, green, blue of each pixel.
  public internal(set) var pixels: [UInt8]

  /// An image from its values. Throws when their number is not `width · height · 3`, or the size is out of
  /// bounds (`ImageLimits`).
  public init(width: Int, height: Int, pixels: [UInt8]) throws {
    let count = try Image.byteCount(width: width, height: height, name: "image")
    guard pixels.count == count else {
      throw ImagingError(
        "image: \(width)×\(height) RGB needs \(count) values, not \(pixels.count)")
    }
    self.init(unchecked: width, height, pixels)
  }

  /// An image of one colour. Throws when the size is out of bounds.
  public init(width: Int, height: Int, colour: Colour) throws {
    let count = try Image.byteCount(width: width, height: height, name: "image")
    self.init(unchecked: width, height, [UInt8](repeating: colour.red, count: count))
    if colour.red != colour.green || colour.green != colour.blue {
      fill(x: 0, y: 0, width: width, height: height, colour)
    }
  }

  /// For callers that have just made `pixels` of the right size.
  init(unchecked width: Int, _ height: Int, _ pixels: [UInt8]) {
    self.width = width
    self.height = height
    self.pixels = pixels
  }

  /// Bytes of an RGB image of this size; throws when the size is out of bounds.
  static func byteCount(width: Int, height: Int, name: String) throws -> Int {
    guard width > 0, height > 0 else {
      throw ImagingError("\(name): an image of \(width)×\(height) pixels has nothing in it; replace it")
    }
    let (area, overflow) = width.multipliedReportingOverflow(by: height)
    guard !overflow, area <= ImageLimits.pixels, max(width, height) <= ImageLimits.side else {
      throw ImagingError(
        """
        \(name): \(width)×\(height) pixels are more than the \(ImageLimits.pixels / 1_000_000) megapixels \
        (\(ImageLimits.side) a side) accepted here; make the image smaller
        """)
    }
    return area * 3
  }

  /// The red, green and blue of one pixel; `nil` outside the image.
  public subscript(x: Int, y: Int) -> Colour? {
    guard x >= 0, y >= 0, x < width, y < height else { return nil }
    let i = (y * width + x) * 3
    return Colour(pixels[i], pixels[i + 1], pixels[i + 2])
  }
}

/// A colour, 8 bits a channel.
public struct Colour: Sendable, Equatable {
  public let red: UInt8
  public let green: UInt8
  public let blue: UInt8
  public init(_ red: UInt8, _ green: UInt8, _ blue: UInt8) {
    self.red = red
    self.green = green
    self.blue = blue
  }
}

// MARK: - Reading

extension Image {
  /// The file formats that are read, told apart by their first bytes.
  enum Format { case jpeg, png, webp }

  /// Bytes from a file's start that `isImage` needs.
  public static let signatureBytes = 12

  static func format(_ head: some Collection<UInt8>) -> Format? {
    let b = [UInt8](head.prefix(signatureBytes))
    if b.starts(with: [0xFF, 0xD8, 0xFF]) { return .jpeg }
    if b.starts(with: PNGChunk.signature) { return .png }
    if b.count >= 12, b.starts(with: Array("RIFF".utf8)), b[8...].elementsEqual("WEBP".utf8) { return .webp }
    return nil
  }

  /// Whether a file that starts with these bytes says that it is a JPEG, PNG or WebP image.
  public static func isImage(_ head: some Collection<UInt8>) -> Bool { format(head) != nil }

  /// Whether the file says that it is a JPEG, PNG or WebP image; false when it cannot be read.
  public static func isImage(_ url: URL) -> Bool {
    guard (try? regularFileSize(url)) != nil, let file = try? FileHandle(forReadingFrom: url) else {
      return false
    }
    defer { try? file.close() }
    guard let head = try? file.read(upToCount: signatureBytes) else { return false }
    return isImage(head)
  }

  /// An image from a file: as it shows on white, and where it is opaque.
  public struct Loaded: Sendable {
    public let image: Image
    /// White where the image is opaque, black where it is transparent; nil where all of it is opaque.
    public let opacity: Image?
    /// Of a file: what it says of its numbers, where that is not sRGB.
    package var profile: ColourProfile? = nil

    /// Whether nothing of it is seen.
    package var isInvisible: Bool { opacity.map { !$0.pixels.contains { $0 > 0 } } ?? false }

    func turned(_ orientation: Orientation) -> Loaded {
      Loaded(image: image.turned(orientation), opacity: opacity?.turned(orientation))
    }
  }

  /// Reads a JPEG, PNG or WebP image of any colour type and bit depth as 8-bit RGB, as Pillow's
  /// `convert("RGB")` does; alpha is composited on white, 16-bit values keep their high byte, and the EXIF
  /// orientation is applied. Colour profiles and gamma are ignored, as Pillow ignores them. A JPEG of 100 to 220
  /// megapixels is decoded at half its size.
  ///
  /// - Parameter name: what errors call the image.
  /// - Throws: `ImagingError` when it is no image, damaged, cut short, animated, or beyond `ImageLimits`.
  public static func decode(_ bytes: [UInt8], name: String) throws -> Image {
    try decodeWithOpacity(bytes, name: name).image
  }

  private static func decodeWithOpacity(_ bytes: [UInt8], name: String) throws -> Loaded {
    guard bytes.count <= ImageLimits.fileBytes else { throw tooLarge(bytes.count, name) }
    switch format(bytes) {
    case .jpeg: return Loaded(image: try decodeJPEG(bytes, name), opacity: nil)
    case .png: return try decodePNG(bytes, name)
    case .webp: return try decodeWebP(bytes, name)
    case nil:
      guard let kind = ForeignFile(bytes, ending: URL(filePath: name).pathExtension.lowercased()) else {
        throw ImagingError("\(name): not a JPEG, PNG or WebP image; convert it to one of these or remove it")
      }
      throw ImagingError("\(name): not a JPEG, PNG or WebP image but \(kind.title); \(kind.remedy)")
    }
  }

  /// As `decode(_:name:)` of the bytes.
  public static func decode(_ data: Data, name: String) throws -> Image {
    guard data.count <= ImageLimits.fileBytes else { throw tooLarge(data.count, name) }
    return try decode([UInt8](data), name: name)
  }

  /// Reads an image file (see `decode(_:name:)`). Errors name it by its path.
  public static func load(_ url: URL) throws -> Image { try loadWithOpacity(url).image }

  /// As `load(_:)`, with the image's transparency.
  public static func loadWithOpacity(_ url: URL) throws -> Loaded {
    let data: Data
    do { data = try readFile(url, limit: ImageLimits.fileBytes) } catch let error as FileError {
      throw ImagingError(error.message)
    }
    let bytes = [UInt8](data)
    var loaded = try decodeWithOpacity(bytes, name: url.path)
    loaded.profile = ColourProfile(bytes)
    return loaded
  }

  private static func tooLarge(_ bytes: Int, _ name: String) -> ImagingError {
    ImagingError(
      """
      \(name): \(bytes >> 20) MB are more than the \(ImageLimits.fileBytes >> 20) MB accepted for an image; \
      make it smaller
      """)
  }

  static func animation(_ name: String) -> ImagingError {
    ImagingError("\(name): an animation; save one of its frames as an image")
  }

  /// RGB from RGBA whose colours are not multiplied by alpha: what shows on white, rounded to nearest.
  static func onWhite(rgba: [UInt8], width: Int, height: Int) -> Loaded {
    var rgb = [UInt8](repeating: 255, count: width * height * 3)
    for i in 0..<width * height {
      let alpha = Int(rgba[4 * i + 3])
      for c in 0..<3 {
        rgb[3 * i + c] = UInt8((Int(rgba[4 * i + c]) * alpha + 255 * (255 - alpha) + 127) / 255)
      }
    }
    return Loaded(
      image: Image(unchecked: width, height, rgb), opacity: opacity(width, height) { rgba[4 * $0 + 3] })
  }

  /// The opacity that a file gives each pixel, as an image; nil where all of it is opaque.
  static func opacity(_ width: Int, _ height: Int, of pixel: (Int) -> UInt8) -> Image? {
    guard (0..<width * height).contains(where: { pixel($0) < 255 }) else { return nil }
    var grey = [UInt8](repeating: 0, count: width * height * 3)
    for i in 0..<width * height {
      for c in 0..<3 { grey[3 * i + c] = pixel(i) }
    }
    return Image(unchecked: width, height, grey)
  }
}
