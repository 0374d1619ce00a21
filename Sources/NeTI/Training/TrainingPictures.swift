import Files
public import Foundation
public import Imaging

import Diffusion

/// The pictures of a concept, prepared as training takes them, with their captions and masks.
///
/// RGB with transparency on white, turned as their EXIF says; centre-cropped to a square, or squashed
/// as the authors' code does; resized bicubically, as Pillow does it. A caption is the `.txt` file
/// beside a picture; a mask is the picture of the same name in another folder, cropped and resized with
/// its picture.
public struct TrainingPictures: Sendable {
  /// Beyond this many the run would not see each of them often enough to matter.
  public static let maximumCount = 1000
  /// A caption is a sentence.
  static let maximumCaptionBytes = 16_384

  public let examples: [TrainingExample]
  /// Files that were left out, one line each.
  public let warnings: [String]

  public var pictures: [Picture] { examples.map(\.picture) }

  /// The pictures, captions and masks that `data` names, at `side` pixels.
  ///
  /// - Throws: when a folder cannot be read or holds no picture; for a caption without the concept in
  ///   it; for a mask of another size than its picture, without a picture, or black.
  public init(_ data: RunConfiguration.Pictures, side: Int) throws {
    try self.init(
      folder: URL(filePath: data.trainDataDir, directoryHint: .isDirectory), side: side,
      crop: data.centerCrop,
      captionsFor: data.useCaptions ? data.placeholderToken : nil,
      masks: data.masksDir.map { URL(filePath: $0, directoryHint: .isDirectory) })
  }

  /// - Parameters:
  ///   - side: the training resolution in pixels.
  ///   - crop: cut a centred square first, instead of squashing.
  ///   - token: read captions, in which this or `{}` stands for the concept; nil leaves them alone.
  ///   - masks: the folder of masks.
  /// - Throws: as above.
  public init(folder: URL, side: Int, crop: Bool, captionsFor token: String? = nil, masks: URL? = nil) throws
  {
    let list = try PictureFolder.list(folder)
    guard list.pictures.count <= Self.maximumCount else {
      throw NeTIError(
        "\(folder.lastPathComponent) holds \(list.pictures.count) pictures, more than \(Self.maximumCount); 3 to 6 are usual"
      )
    }
    var warnings = list.warnings
    let masks = try masks.map { try MaskFolder($0, pictures: folder, list.pictures) }
    warnings += masks?.warnings ?? []
    var examples: [TrainingExample] = []
    for url in list.pictures {
      let picture: Picture
      do { picture = try Picture.load(url) } catch let e as ImagingError {
        warnings.append("left out: \(e.message)")
        continue
      }
      examples.append(
        TrainingExample(
          name: url.lastPathComponent, try Self.prepare(picture, side: side, crop: crop),
          caption: try token.flatMap { try Self.caption(beside: url, token: $0) },
          mask: try masks?.mask(of: url, picture).map { mask, file in
            let prepared = try Self.prepare(mask, side: side, crop: crop)
            guard prepared.pixels.contains(where: { $0 > 0 }) else {
              throw NeTIError(
                "the mask \(file.lastPathComponent) is black in all of the picture, so that nothing would be learned from it"
              )
            }
            return prepared
          }))
    }
    guard !examples.isEmpty else {
      throw NeTIError(
        ([
          "\(folder.lastPathComponent) holds no picture that can be read; put 3 to 6 JPEG, PNG or WebP files there"
        ]
          + warnings).joined(separator: "; "))
    }
    self.examples = examples
    self.warnings = warnings
  }

  /// What there is, in a few words: “5 pictures (3 with a caption)”.
  public var summary: String {
    let captions = examples.count { $0.caption != nil }
    let masks = examples.count { $0.mask != nil }
    let more =
      (captions > 0 ? ["\(captions) with a caption"] : []) + (masks > 0 ? ["\(masks) with a mask"] : [])
    return "\(examples.count) picture\(examples.count == 1 ? "" : "s")"
      + (more.isEmpty ? "" : " (\(more.joined(separator: ", ")))")
  }

  /// One picture at the training size.
  public static func prepare(_ picture: Picture, side: Int, crop: Bool) throws -> Picture {
    try (crop ? picture.centreSquare() : picture).resized(width: side, height: side)
  }

  /// The text beside a picture with its white space evened out; nil where there is none.
  private static func caption(beside picture: URL, token: String) throws -> String? {
    let url = picture.deletingPathExtension().appendingPathExtension("txt")
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    guard let text = String(data: try readFile(url, limit: maximumCaptionBytes), encoding: .utf8) else {
      throw NeTIError("\(url.path) is not UTF-8 text, as a caption is")
    }
    let caption = text.trimmingPrefix("\u{FEFF}").split(whereSeparator: \.isWhitespace).joined(separator: " ")
    let placeholder = caption.contains(Templates.placeholder) ? Templates.placeholder : token
    guard !placeholder.isEmpty, caption.ranges(of: placeholder).count == 1 else {
      throw NeTIError(
        "\(url.path): a caption has the concept in it once, as {} or \(token), and this is \(quoted(caption)); "
          + "correct it, or ignore captions with `data.use_captions false`")
    }
    return caption
  }
}

/// A folder of masks, by the names of the pictures that they belong to.
private struct MaskFolder {
  private let files: [String: URL]
  let warnings: [String]

  /// Throws when the folder cannot be read, or holds a mask that belongs to no picture or two for one.
  init(_ folder: URL, pictures: URL, _ list: [URL]) throws {
    guard folder.standardizedFileURL.path != pictures.standardizedFileURL.path else {
      throw NeTIError("\(folder.path) is the folder of the pictures; put the masks into one of their own")
    }
    let masks = try PictureFolder.list(folder)
    var files: [String: URL] = [:]
    let stems = Set(list.map(Self.stem))
    for url in masks.pictures {
      guard stems.contains(Self.stem(url)) else {
        throw NeTIError(
          "the mask \(url.path) belongs to no picture: there is no \(Self.stem(url)).jpg, .png or .webp in \(pictures.lastPathComponent)"
        )
      }
      if let other = files.updateValue(url, forKey: Self.stem(url)) {
        throw NeTIError(
          "\(other.lastPathComponent) and \(url.lastPathComponent) in \(folder.path) are masks for the same picture; remove one"
        )
      }
    }
    self.files = files
    warnings = masks.warnings
  }

  /// The mask for the picture in a file; nil when it has none. Throws when their sizes differ.
  func mask(of url: URL, _ picture: Picture) throws -> (Picture, URL)? {
    guard let file = files[Self.stem(url)] else { return nil }
    let mask = try Picture.load(file)
    guard mask.width == picture.width, mask.height == picture.height else {
      throw NeTIError(
        "the mask \(file.path) is \(mask.width)×\(mask.height), and its picture \(url.lastPathComponent) "
          + "\(picture.width)×\(picture.height); make them the same size")
    }
    return (mask, file)
  }

  private static func stem(_ url: URL) -> String { url.deletingPathExtension().lastPathComponent }
}
