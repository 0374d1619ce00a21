public import Foundation
public import Imaging

/// The pictures of a concept, prepared as training takes them.
///
/// RGB with transparency on white, turned as their EXIF says; centre-cropped to a square, or squashed
/// as the authors' code does; resized bicubically, as Pillow does it.
public struct TrainingPictures: Sendable {
  /// Beyond this many the run would not see each of them often enough to matter.
  public static let maximumCount = 1000

  public let names: [String]
  public let pictures: [Picture]
  /// Files that were left out, one line each.
  public let warnings: [String]

  /// - Parameters:
  ///   - side: the training resolution in pixels.
  ///   - crop: cut a centred square first, instead of squashing.
  /// - Throws: when the folder cannot be read or holds no picture.
  public init(folder: URL, side: Int, crop: Bool) throws {
    let list = try PictureFolder.list(folder)
    guard list.pictures.count <= Self.maximumCount else {
      throw NeTIError(
        "\(folder.lastPathComponent) holds \(list.pictures.count) pictures, more than \(Self.maximumCount); 3 to 6 are usual"
      )
    }
    var warnings = list.warnings
    var names: [String] = []
    var pictures: [Picture] = []
    for url in list.pictures {
      do {
        pictures.append(try Self.prepare(Picture.load(url), side: side, crop: crop))
        names.append(url.lastPathComponent)
      } catch let e as ImagingError {
        warnings.append("left out: \(e.message)")
      }
    }
    guard !pictures.isEmpty else {
      throw NeTIError(
        ([
          "\(folder.lastPathComponent) holds no picture that can be read; put 3 to 6 JPEG, PNG or WebP files there"
        ]
          + warnings).joined(separator: "; "))
    }
    self.names = names
    self.pictures = pictures
    self.warnings = warnings
  }

  /// One picture at the training size.
  public static func prepare(_ picture: Picture, side: Int, crop: Bool) throws -> Picture {
    try (crop ? picture.centreSquare() : picture).resized(width: side, height: side)
  }
}
