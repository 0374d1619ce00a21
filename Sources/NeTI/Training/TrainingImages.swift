import Diffusion
import Files
public import Foundation
public import Imaging

/// The images of a concept, prepared as training takes them, with their captions and masks.
///
/// RGB with transparency on white, turned as their EXIF says; centre-cropped to a square, or squashed
/// as the authors' code does; resized bicubically, as Pillow does it. A caption is the `.txt` or `.caption` file
/// beside an image (`CaptionFiles`); a mask is an image named after it, beside it or in another folder
/// (`MaskFiles`), or its own opacity, cropped and resized with it.
public struct TrainingImages: Sendable {
  /// Beyond this many the run would not see each of them often enough to matter.
  public static let maximumCount = 1000

  public let examples: [TrainingExample]
  /// What was left out, or is used in another way than its owner may think, one line each.
  public let warnings: [String]
  private let firstMaskBeside: String?

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
      masks: data.masksDir.map { URL(filePath: $0, directoryHint: .isDirectory) }, alphaMask: data.alphaMask)
  }

  /// - Parameters:
  ///   - side: the training resolution in pixels.
  ///   - crop: cut a centred square first, instead of squashing.
  ///   - token: read captions, in which this or `{}` stands for the concept; nil leaves them alone.
  ///   - masks: the folder of masks.
  ///   - alphaMask: whether the opacity of an image without a mask is its mask.
  /// - Throws: as above.
  public init(
    folder: URL, side: Int, crop: Bool, captionsFor token: String? = nil, masks: URL? = nil,
    alphaMask: Bool = false
  ) throws {
    let list = try ImageFolder.list(folder, except: masks)
    var masks = try MaskFiles(list.images, in: folder, masks: masks)
    guard masks.images.count <= Self.maximumCount else {
      throw NeTIError(
        "\(folder.lastPathComponent) holds \(masks.images.count) images, more than \(Self.maximumCount); 3 to 6 are usual"
      )
    }
    let captions = try token.map {
      try CaptionFiles(list.texts, of: masks.images, in: folder, token: $0)
    }
    var unread: [String] = []
    var findings = ImageFindings()
    var examples: [TrainingExample] = []
    for url in masks.images {
      let loaded: Image.Loaded
      do { loaded = try Image.loadWithOpacity(url) } catch let e as ImagingError {
        unread.append("left out: \(e.message)")
        continue
      }
      let given = try masks.mask(of: url, loaded.image)
      let opacity = alphaMask && given == nil ? loaded.opacity.map { ($0, url.lastPathComponent) } : nil
      let image = try Self.prepare(loaded.image, side: side, crop: crop)
      examples.append(
        TrainingExample(
          name: url.lastPathComponent, image, caption: captions?[url],
          mask: try (given ?? opacity).map { try Self.prepare(mask: $0, called: $1, side: side, crop: crop) },
          size: Self.size(loaded.image, side: side, crop: crop))
      )
      findings.look(at: url, loaded, image, isMasked: given != nil)
    }
    let warnings =
      list.warnings + masks.warnings + (captions?.warnings ?? []) + unread
      + findings.warnings(folder, alphaMask: alphaMask)
    guard !examples.isEmpty else {
      throw NeTIError(
        ([
          "\(folder.lastPathComponent) holds no image that can be read; put 3 to 6 JPEG, PNG or WebP files there"
        ]
          + warnings).joined(separator: "; "))
    }
    self.examples = examples
    self.warnings = warnings
    firstMaskBeside = masks.firstBeside
  }

  /// What there is, in a few words: “5 images (3 with a caption)”.
  public var summary: String {
    let captions = examples.count { $0.caption != nil }
    let masks = examples.count { $0.mask != nil }
    let beside = firstMaskBeside.map { ", as \($0) beside it" } ?? ""
    let more =
      (captions > 0 ? ["\(captions) with a caption"] : [])
      + (masks > 0 ? ["\(masks) with a mask\(beside)"] : [])
    return "\(examples.count) image\(examples.count == 1 ? "" : "s")"
      + (more.isEmpty ? "" : " (\(more.joined(separator: ", ")))")
  }

  /// One image at the training size.
  public static func prepare(_ image: Image, side: Int, crop: Bool) throws -> Image {
    try (crop ? image.centreSquare() : image).resized(width: side, height: side)
  }

  /// How large an image was, and what `prepare` cut off, at the training size.
  static func size(_ image: Image, side: Int, crop: Bool) -> SizeConditioning {
    let scale = Double(side) / Double(min(image.width, image.height))
    func cut(_ pixels: Int) -> Int { crop ? (Int((Double(pixels) * scale).rounded()) - side) / 2 : 0 }
    return SizeConditioning(
      original: (image.height, image.width), crop: (cut(image.height), cut(image.width)), target: (side, side)
    )
  }

  private static func prepare(mask: Image, called name: String, side: Int, crop: Bool) throws -> Image {
    let prepared = try prepare(mask, side: side, crop: crop)
    guard prepared.pixels.contains(where: { $0 > 0 }) else {
      throw NeTIError(
        "the mask \(name) is black in all of the image, so that nothing would be learned from it")
    }
    return prepared
  }
}

/// What the images themselves tell that their owner may not know.
private struct ImageFindings {
  private var (transparent, suspect): ([String], [String]) = ([], [])
  private var isAnyTransparent = false
  private var (twice, sameName): ([String], [String]) = ([], [])
  private var nameOfPixels: [String: String] = [:]
  private var nameOfStem: [String: String] = [:]

  /// - Parameter image: as it is learned.
  mutating func look(at url: URL, _ loaded: Image.Loaded, _ image: Image, isMasked: Bool) {
    let name = url.lastPathComponent
    if loaded.opacity != nil {
      isAnyTransparent = true
      if !isMasked { transparent.append(name) }
    }
    if MaskFiles.isSuspect(url, loaded.image) { suspect.append(name) }
    let other = nameOfStem.updateValue(name, forKey: url.stem)
    if let same = nameOfPixels.updateValue(name, forKey: SHA256.hexadecimal(image.pixels)) {
      twice.append("\(same) and \(name)")
    } else if let other {
      sameName.append("\(other) and \(name)")
    }
  }

  func warnings(_ folder: URL, alphaMask: Bool) -> [String] {
    var lines: [String] = []
    func add(_ names: [String], _ text: (String) -> String) {
      if !names.isEmpty { lines.append("\(folder.path): " + text(ImageFolder.listed(names))) }
    }
    add(suspect) {
      "\($0): learned as an image, and looks like a mask; masks go into a folder of their own, named with `masks`"
    }
    add(twice) { "\($0): the same image, which counts twice; remove one" }
    add(sameName) { "\($0): one name, and both are learned; remove one if they show the same" }
    if !alphaMask {
      add(transparent) {
        "\($0): transparent in part, and learned on white; `data.alpha_mask true` has the loss count only where "
          + "images are opaque"
      }
    } else if !isAnyTransparent {
      lines.append("data.alpha_mask has no effect here: no image is transparent")
    }
    return lines
  }
}
