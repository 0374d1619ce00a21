import Diffusion
import Files
public import Foundation
public import Imaging

/// The images of a concept, prepared as training takes them, with their captions and masks.
///
/// RGB with transparency on white, turned as their EXIF says; centre-cropped to a square, or squashed
/// as the authors' code does; resized bicubically, as Pillow does it. A caption is the `.txt` file
/// beside an image; a mask is the image of the same name in another folder, cropped and resized with
/// its image.
public struct TrainingImages: Sendable {
  /// Beyond this many the run would not see each of them often enough to matter.
  public static let maximumCount = 1000
  /// A caption is a sentence.
  static let maximumCaptionBytes = 16_384

  public let examples: [TrainingExample]
  /// Files that were left out, one line each.
  public let warnings: [String]

  public var images: [Image] { examples.map(\.image) }

  /// The images, captions and masks that `data` names, at `side` pixels.
  ///
  /// - Throws: when a folder cannot be read or holds no image; for a caption without the concept in
  ///   it; for a mask of another size than its image, without an image, or black.
  public init(_ data: RunConfiguration.Images, side: Int) throws {
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
    let list = try ImageFolder.list(folder)
    guard list.images.count <= Self.maximumCount else {
      throw NeTIError(
        "\(folder.lastPathComponent) holds \(list.images.count) images, more than \(Self.maximumCount); 3 to 6 are usual"
      )
    }
    var warnings = list.warnings
    let masks = try masks.map { try MaskFolder($0, images: folder, list.images) }
    warnings += masks?.warnings ?? []
    var examples: [TrainingExample] = []
    for url in list.images {
      let image: Image
      do { image = try Image.load(url) } catch let e as ImagingError {
        warnings.append("left out: \(e.message)")
        continue
      }
      examples.append(
        TrainingExample(
          name: url.lastPathComponent, try Self.prepare(image, side: side, crop: crop),
          caption: try token.flatMap { try Self.caption(beside: url, token: $0) },
          mask: try masks?.mask(of: url, image).map { mask, file in
            let prepared = try Self.prepare(mask, side: side, crop: crop)
            guard prepared.pixels.contains(where: { $0 > 0 }) else {
              throw NeTIError(
                "the mask \(file.lastPathComponent) is black in all of the image, so that nothing would be learned from it"
              )
            }
            return prepared
          }))
    }
    guard !examples.isEmpty else {
      throw NeTIError(
        ([
          "\(folder.lastPathComponent) holds no image that can be read; put 3 to 6 JPEG, PNG or WebP files there"
        ]
          + warnings).joined(separator: "; "))
    }
    self.examples = examples
    self.warnings = warnings
  }

  /// What there is, in a few words: “5 images (3 with a caption)”.
  public var summary: String {
    let captions = examples.count { $0.caption != nil }
    let masks = examples.count { $0.mask != nil }
    let more =
      (captions > 0 ? ["\(captions) with a caption"] : []) + (masks > 0 ? ["\(masks) with a mask"] : [])
    return "\(examples.count) image\(examples.count == 1 ? "" : "s")"
      + (more.isEmpty ? "" : " (\(more.joined(separator: ", ")))")
  }

  /// One image at the training size.
  public static func prepare(_ image: Image, side: Int, crop: Bool) throws -> Image {
    try (crop ? image.centreSquare() : image).resized(width: side, height: side)
  }

  /// The text beside an image with its white space evened out; nil where there is none.
  private static func caption(beside image: URL, token: String) throws -> String? {
    let url = image.deletingPathExtension().appendingPathExtension("txt")
    guard FileManager.default.fileExists(atPath: url.path) else { return nil }
    guard let text = String(data: try readFile(url, limit: maximumCaptionBytes), encoding: .utf8) else {
      throw NeTIError("\(url.path) is not UTF-8 text, as a caption is")
    }
    let caption = text.trimmingPrefix("\u{FEFF}").split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard try PromptText(caption, [.init(token: token)], kind: "caption").count(of: 0) == 1 else {
      throw NeTIError(
        "\(url.path): a caption has the concept in it once, as {} or \(token), and this is \(quoted(caption)); "
          + "correct it, or ignore captions with `data.use_captions false`")
    }
    return caption
  }
}

/// A folder of masks, by the names of the images that they belong to.
private struct MaskFolder {
  private let files: [String: URL]
  let warnings: [String]

  /// Throws when the folder cannot be read, or holds a mask that belongs to no image or two for one.
  init(_ folder: URL, images: URL, _ list: [URL]) throws {
    guard folder.standardizedFileURL.path != images.standardizedFileURL.path else {
      throw NeTIError("\(folder.path) is the folder of the images; put the masks into one of their own")
    }
    let masks = try ImageFolder.list(folder)
    var files: [String: URL] = [:]
    let stems = Set(list.map(Self.stem))
    for url in masks.images {
      guard stems.contains(Self.stem(url)) else {
        throw NeTIError(
          "the mask \(url.path) belongs to no image: there is no \(Self.stem(url)).jpg, .png or .webp in \(images.lastPathComponent)"
        )
      }
      if let other = files.updateValue(url, forKey: Self.stem(url)) {
        throw NeTIError(
          "\(other.lastPathComponent) and \(url.lastPathComponent) in \(folder.path) are masks for the same image; remove one"
        )
      }
    }
    self.files = files
    warnings = masks.warnings
  }

  /// The mask for the image in a file; nil when it has none. Throws when their sizes differ.
  func mask(of url: URL, _ image: Image) throws -> (Image, URL)? {
    guard let file = files[Self.stem(url)] else { return nil }
    let mask = try Image.load(file)
    guard mask.width == image.width, mask.height == image.height else {
      throw NeTIError(
        "the mask \(file.path) is \(mask.width)×\(mask.height), and its image \(url.lastPathComponent) "
          + "\(image.width)×\(image.height); make them the same size")
    }
    return (mask, file)
  }

  private static func stem(_ url: URL) -> String { url.deletingPathExtension().lastPathComponent }
}
