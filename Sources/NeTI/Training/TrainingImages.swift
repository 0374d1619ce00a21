public import Diffusion
import Files
public import Foundation
public import Imaging

/// The images of a concept, prepared as training takes them, with their captions and masks.
///
/// RGB with transparency on white, turned as their EXIF says; centre-cropped to a square, or squashed
/// as the authors' code does, or centre-cropped to the size that is nearest to their proportions (`SizeBuckets`);
/// resized bicubically, as Pillow does it. A caption is the `.txt` or `.caption` file
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

  /// The images, captions and masks that `data` names, at the sizes that it asks for on `model`.
  ///
  /// - Throws: when a folder cannot be read or holds no image; for a caption without the concept in
  ///   it; for a mask of another size than its image, without an image, or black.
  public init(_ data: RunConfiguration.Images, on model: StableDiffusion) throws {
    let side = data.resolution ?? model.resolution
    try self.init(
      folder: URL(filePath: data.trainDataDir, directoryHint: .isDirectory), side: side,
      crop: data.centerCrop,
      buckets: data.buckets ? SizeBuckets(resolution: side, factor: model.vaeFactor) : nil,
      captionsFor: data.useCaptions ? data.placeholderToken : nil,
      masks: data.masksDir.map { URL(filePath: $0, directoryHint: .isDirectory) }, alphaMask: data.alphaMask)
  }

  /// - Parameters:
  ///   - side: the training resolution in pixels.
  ///   - crop: cut a centred square first, instead of squashing.
  ///   - buckets: sizes to choose from for each image, instead of the square.
  ///   - token: read captions, in which this or `{}` stands for the concept; nil leaves them alone.
  ///   - masks: the folder of masks.
  ///   - alphaMask: whether the opacity of an image without a mask is its mask.
  /// - Throws: as above.
  public init(
    folder: URL, side: Int, crop: Bool, buckets: SizeBuckets? = nil, captionsFor token: String? = nil,
    masks: URL? = nil, alphaMask: Bool = false
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
      guard !loaded.isInvisible else {
        unread.append(
          "left out: \(url.path): transparent everywhere, so that nothing of it is seen; save it again, or remove it"
        )
        continue
      }
      let given = try masks.mask(of: url, loaded.image)
      let opacity = alphaMask && given == nil ? loaded.opacity.map { ($0, url.lastPathComponent) } : nil
      let frame = Frame(
        buckets?.nearest(width: loaded.image.width, height: loaded.image.height) ?? (side, side),
        crop: crop || buckets != nil)
      let image = try frame.image(loaded.image)
      examples.append(
        TrainingExample(
          name: url.lastPathComponent, image, caption: captions?[url],
          mask: try (given ?? opacity).map { try frame.mask($0, called: $1) },
          size: frame.conditioning(loaded.image)))
      findings.look(at: url, loaded, image, frame, isMasked: given != nil)
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

  /// The sizes there are, and how many images have each: “1152×896 (2) and 1024×1024 (3)”.
  public var sizes: String {
    let names = examples.map { "\($0.image.width)×\($0.image.height)" }
    let distinct = names.reduce(into: [String]()) { if !$0.contains($1) { $0.append($1) } }
    guard distinct.count > 1 else { return distinct.joined() }
    let counted = distinct.map { name in "\(name) (\(names.count { $0 == name }))" }
    return counted.dropLast().joined(separator: ", ") + " and \(counted[counted.count - 1])"
  }

  /// One image at a square training size.
  public static func prepare(_ image: Image, side: Int, crop: Bool) throws -> Image {
    try Frame((side, side), crop: crop).image(image)
  }
}

/// The size of an image in training, and how it gets that.
struct Frame {
  let width: Int
  let height: Int
  /// Whether what does not fit is cut off; else the image is squashed.
  let crop: Bool

  init(_ size: (width: Int, height: Int), crop: Bool) {
    (width, height) = size
    self.crop = crop
  }

  func image(_ image: Image) throws -> Image {
    try (crop ? image.centre(inProportions: (width, height)) : image).resized(width: width, height: height)
  }

  func mask(_ mask: Image, called name: String) throws -> Image {
    let prepared = try image(mask)
    guard prepared.pixels.contains(where: { $0 > 0 }) else {
      throw NeTIError(
        "the mask \(name) is black in all of the image, so that nothing would be learned from it")
    }
    return prepared
  }

  /// How many times larger an image becomes; below 1, smaller.
  func enlargement(_ image: Image) -> Double {
    max(Double(width) / Double(image.width), Double(height) / Double(image.height))
  }

  /// The share of an image that is learned, 0 to 1.
  func shareKept(_ image: Image) -> Double {
    guard crop else { return 1 }
    let scale = enlargement(image)
    return min(1, Double(width) / (Double(image.width) * scale))
      * min(1, Double(height) / (Double(image.height) * scale))
  }

  /// How large an image was, and what was cut off, at the training size.
  func conditioning(_ image: Image) -> SizeConditioning {
    let scale = enlargement(image)
    func cut(_ pixels: Int, _ side: Int) -> Int {
      crop ? max(0, (Int((Double(pixels) * scale).rounded()) - side) / 2) : 0
    }
    return SizeConditioning(
      original: (image.height, image.width), crop: (cut(image.height, height), cut(image.width, width)),
      target: (height, width))
  }
}

/// What the images themselves tell that their owner may not know.
private struct ImageFindings {
  private var (transparent, suspect): ([String], [String]) = ([], [])
  private var isAnyTransparent = false
  private var (tiny, cut): ([String], [String]) = ([], [])
  private var (twice, sameName): ([String], [String]) = ([], [])
  private var profiled: [(name: String, profile: ColourProfile)] = []
  private var nameOfPixels: [String: String] = [:]
  private var nameOfStem: [String: String] = [:]

  /// - Parameter image: as it is learned.
  mutating func look(at url: URL, _ loaded: Image.Loaded, _ image: Image, _ frame: Frame, isMasked: Bool) {
    let name = url.lastPathComponent
    let (original, kept) = (loaded.image, frame.shareKept(loaded.image))
    if frame.enlargement(original) > 2 {
      tiny.append("\(name) (\(original.width)×\(original.height) for \(frame.width)×\(frame.height))")
    }
    if kept < 0.5 { cut.append("\(name) (\(Int((kept * 100).rounded())) % of it is kept)") }
    if loaded.opacity != nil {
      isAnyTransparent = true
      if !isMasked { transparent.append(name) }
    }
    if let profile = loaded.profile { profiled.append((name, profile)) }
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
    if !profiled.isEmpty { lines.append("\(folder.path): " + ColourProfile.warning(profiled)) }
    add(suspect) {
      "\($0): learned as an image, and looks like a mask; masks go into a folder of their own, named with `masks`"
    }
    add(tiny) { "\($0): less than half as large as they are learned, and blurred; take larger images" }
    add(cut) {
      "\($0): so long that most of it is cut off; only its middle is learned. Cut out what should be learned"
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
