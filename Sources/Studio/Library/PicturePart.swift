import Files
import Foundation
import Imaging
import NeTI

/// A square part of a picture, as a person chose it.
struct PicturePart: Codable, Sendable, Equatable {
  /// Its upper left corner and its side, as parts of the turned picture's shorter side.
  let x: Double
  let y: Double
  let side: Double
  /// How often the picture is turned clockwise by 90 degrees first.
  let quarters: Int
  /// What of it is learned: a PNG in Base64, white where it is; nil for all.
  let mask: String?

  /// Of a mask's file, and of its sides.
  private static let (mostMaskBytes, largestMask) = (1 << 20, 1024)
  /// Bytes of a request with a part in it: Base64 has four letters for three bytes.
  static let mostBytes = mostMaskBytes / 3 * 4 + 1024

  /// The mask, and whether there is anything to learn.
  fileprivate func readMask() throws -> Image? {
    guard let mask else { return nil }
    guard let data = Data(base64Encoded: mask), data.count <= Self.mostMaskBytes else {
      throw StudioError(
        "the mask must be an image in Base64, of at most \(Self.mostMaskBytes >> 10) KiB", .badRequest)
    }
    let image = try Image.decode(data, name: "the mask")
    guard image.width == image.height, image.width <= Self.largestMask else {
      throw StudioError(
        "the mask is \(image.width)×\(image.height), and must be a square of at most \(Self.largestMask) pixels a side"
      )
    }
    guard image.pixels.contains(where: { $0 >= 128 }) else {
      throw StudioError("nothing is left to learn from: the brush has covered all of the square")
    }
    return image
  }

  /// Where it is in a picture of this size.
  fileprivate func pixels(width: Int, height: Int) throws -> (x: Int, y: Int, side: Int) {
    let short = Double(min(width, height))
    guard [x, y, side].allSatisfy({ $0.isFinite && abs($0) < 1e6 }), (0...3).contains(quarters),
      side > 0, side <= 1
    else { throw StudioError("this is no square of the picture", .badRequest) }
    let pixels = max(1, Int((side * short).rounded()))
    guard pixels >= Self.leastSide || pixels == Int(short) else {
      throw StudioError("the square is \(pixels) pixels wide; at least \(Self.leastSide) are needed")
    }
    let left = Int((x * short).rounded())
    let top = Int((y * short).rounded())
    guard left >= -1, top >= -1, left + pixels <= width + 1, top + pixels <= height + 1 else {
      throw StudioError("the square reaches beyond the picture", .badRequest)
    }
    return (min(max(0, left), width - pixels), min(max(0, top), height - pixels), pixels)
  }

  private static let leastSide = 32
}

/// A picture that was taken apart, before it is kept.
struct PreparedPicture {
  let data: Data
  let name: String
  let ending: String
  let width: Int
  let height: Int
  /// What the trainer makes of all of it.
  let square: Image

  /// One large picture at a time is taken apart: each needs memory for all its pixels.
  static let decoding = NSLock()

  /// - Parameters:
  ///   - name: what its file is called where it comes from.
  ///   - side: of the squares that are learned from, in pixels.
  /// - Throws: when it is no picture that can be learned from.
  init(_ data: Data, name: String, side: Int) throws {
    let name = Self.shown(name, else: "the picture")
    self.data = data
    self.name = name
    let image = try Self.decoding.withLock { try Image.decode(data, name: name) }
    (width, height) = (image.width, image.height)
    square = try TrainingImages.prepare(image, side: side, crop: true)
    ending =
      switch data.first {
      case 0xFF: "jpg"
      case 0x89: "png"
      default: "webp"
      }
  }

  /// A file's name from a stranger, for messages.
  static func shown(_ name: String, else what: String) -> String {
    let last = name.split(whereSeparator: { "/\\".contains($0) }).last.map(String.init) ?? ""
    return last.isEmpty ? what : String(last.escaped.prefix(80))
  }
}

/// A part of a picture that was cut out.
struct CutPicture {
  /// What the trainer will read; as large as it is in the picture, within reason.
  let image: Image
  /// Of the same size.
  let mask: Image?
  /// What the trainer makes of it.
  let square: Image

  /// Larger parts are made smaller: no model learns from more.
  private static let largestSide = 2048

  init(_ picture: Image, _ part: PicturePart, side: Int) throws {
    let picture = try picture.turned(quarters: part.quarters)
    let (x, y, pixels) = try part.pixels(width: picture.width, height: picture.height)
    let size = min(pixels, Self.largestSide)
    let image = try picture.cropped(x: x, y: y, pixels).resized(width: size, height: size)
    self.image = image
    mask = try part.readMask()?.resized(width: size, height: size)
    square = try TrainingImages.prepare(image, side: side, crop: true)
  }
}

extension Image {
  /// Turned clockwise, so many times 90 degrees.
  func turned(quarters: Int) throws -> Image {
    guard (0...3).contains(quarters) else {
      throw StudioError("a picture is turned 0 to 3 times", .badRequest)
    }
    return turnedClockwise(quarters)
  }

  /// What its person should know of a square that is learned from.
  ///
  /// - Parameters:
  ///   - pixels: that the square had in the picture.
  ///   - side: of the squares that are learned from.
  func note(from pixels: Int, side: Int) -> String? {
    if pixels < side {
      return "small: \(pixels) × \(pixels) pixels, and \(side) × \(side) are learned from; it will be blurred"
    }
    let (least, atSide) = Self.leastSharpness
    guard let sample = try? resized(width: atSide, height: atSide), sample.sharpness < least else {
      return nil
    }
    return "it looks blurred; a sharper one teaches more"
  }

  /// Below this a square of so many pixels is out of focus. The examples have 279 and more, and 18 and less when they
  /// are blurred by a 64th of their width.
  private static var leastSharpness: (Double, side: Int) { (40, 128) }
}
