package import Foundation
import Imaging

/// Which files are masks, and whose: those beside the images, told by their names, and those in a folder of their own.
package struct MaskFiles {
  /// The images of the folder that are no masks.
  package let images: [URL]
  /// What the first mask beside its image is called.
  let firstBeside: String?
  package var warnings: [String] {
    guard !coloured.isEmpty else { return lines }
    return lines + [
      "\(ImageFolder.listed(coloured)): \(coloured.count == 1 ? "a mask" : "masks") in colour; what counts is how bright "
        + "it is, red little and yellow much: save it in black and white"
    ]
  }
  private var (lines, coloured): ([String], [String]) = ([], [])
  /// By the name of the image that it belongs to, without its ending. Names in another Unicode form are equal.
  private var files: [String: URL] = [:]

  /// - Parameters:
  ///   - list: what lies in the folder of images, `folder`.
  ///   - masks: a folder of masks, or nil.
  /// - Throws: when that folder cannot be read or holds a mask that belongs to no image, or an image has two.
  package init(_ list: [URL], in folder: URL, masks: URL?) throws {
    let all = Set(list.map(\.stem))
    var (images, beside, lost): ([URL], [(image: String, mask: URL)], [URL]) = ([], [], [])
    for url in list {
      if let subject = Self.subject(url.stem), all.contains(subject) {
        beside.append((subject, url))
      } else if Self.isNeverImage(url.stem) {
        lost.append(url)
      } else {
        images.append(url)
      }
    }
    self.images = images
    firstBeside = beside.first?.mask.lastPathComponent
    if !lost.isEmpty {
      lines.append(
        "\(folder.path): left out \(ImageFolder.listed(lost.map(\.lastPathComponent))), masks or conditions of "
          + "OneTrainer that belong to no image")
    }
    for (image, mask) in beside { try add(mask, to: image) }
    if let masks { try add(folder: masks, images: folder, among: Set(images.map(\.stem))) }
  }

  private mutating func add(_ mask: URL, to image: String) throws {
    if let other = files.updateValue(mask, forKey: image) {
      throw NeTIError("\(other.path) and \(mask.path) are masks for the same image; remove one")
    }
  }

  private mutating func add(folder: URL, images: URL, among stems: Set<String>) throws {
    if folder.standardizedFileURL.path == images.standardizedFileURL.path {
      guard files.isEmpty else { return }
      throw NeTIError(
        "\(folder.path) is the folder of the images; put the masks into one of their own, or name them as "
          + "cat-masklabel.png for cat.jpg")
    }
    let list = try ImageFolder.list(
      folder, remedy: "put the masks there, called as their images, or leave `masks` out")
    lines += list.warnings
    for url in list.images {
      let image = stems.contains(url.stem) ? url.stem : Self.subject(url.stem) ?? url.stem
      guard stems.contains(image) else {
        throw NeTIError(
          "the mask \(url.path) belongs to no image: there is no \(image).jpg, .png or .webp in \(images.lastPathComponent)"
        )
      }
      try add(url, to: image)
    }
  }

  /// The mask of an image, and its file's name; nil when it has none. Throws when their sizes differ.
  mutating func mask(of url: URL, _ image: Image) throws -> (mask: Image, name: String)? {
    guard let file = files[url.stem] else { return nil }
    let loaded = try Image.loadWithOpacity(file)
    let mask = loaded.image
    guard mask.width == image.width, mask.height == image.height else {
      throw NeTIError(
        "the mask \(file.path) is \(mask.width)×\(mask.height), and its image \(url.lastPathComponent) "
          + "\(image.width)×\(image.height); make them the same size")
    }
    if loaded.opacity != nil {
      lines.append(
        "the mask \(file.path) is transparent in part; what counts is how bright it is on white: save it in black "
          + "and white")
    }
    if mask.isColoured { coloured.append(file.path) }
    return (mask, file.lastPathComponent)
  }

  // MARK: Names

  /// The image that a file of this name is a mask of, if there is one: `cat` for `cat-masklabel` (OneTrainer),
  /// `cat_mask` or `mask-cat`.
  static func subject(_ stem: String) -> String? {
    if let match = stem.wholeMatch(of: /(?i)(.+)[-_. ](?:masklabel|mask|matte)/) {
      return String(match.output.1)
    }
    if let match = stem.wholeMatch(of: /(?i)(?:mask|matte)[-_. ](.+)/) { return String(match.output.1) }
    return nil
  }

  /// Whether a name says that the file is no image to learn, as only OneTrainer gives it.
  private static func isNeverImage(_ stem: String) -> Bool {
    let name = stem.lowercased()
    return name.hasSuffix("-masklabel") || name.hasSuffix("-condlabel")
  }

  /// Whether what is learned as an image may be a mask: by its name, or as it is black and white only.
  static func isSuspect(_ url: URL, _ image: Image) -> Bool {
    url.stem.contains(/(?i)^(?:mask|matte)|(?:mask|matte)[-_. ]?\d*$/) || image.isBlackAndWhite
  }
}

extension URL {
  /// The file's name without its ending.
  var stem: String { deletingPathExtension().lastPathComponent }
}

extension Image {
  /// Whether nearly all pixels are black or white and there are many of both; of a large image, some pixels tell.
  fileprivate var isBlackAndWhite: Bool {
    let step = max(1, width * height / 250_000) * 3
    var (black, white, count) = (0, 0, 0)
    for i in stride(from: 0, to: pixels.count, by: step) {
      let (low, high) = (
        min(pixels[i], pixels[i + 1], pixels[i + 2]), max(pixels[i], pixels[i + 1], pixels[i + 2])
      )
      black += high < 24 ? 1 : 0
      white += low > 231 ? 1 : 0
      count += 1
    }
    return black + white >= count * 97 / 100 && min(black, white) * 100 >= count
  }
}
