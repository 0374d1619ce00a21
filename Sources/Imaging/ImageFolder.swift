import Files
public import Foundation

/// The images in a folder.
public struct ImageFolder: Sendable {
  /// In natural order (2.jpg before 10.jpg), the same on every machine.
  public let images: [URL]
  /// One line for each file that is left out though a user may have meant it.
  public let warnings: [String]

  /// Extensions that belong to images (captions, descriptions) and are left out without a word.
  public static let companions: Set<String> = ["txt", "json"]

  /// Lists the JPEG, PNG and WebP files of a folder, told by their first bytes; folders in it are not searched.
  /// Hidden files and companions are left out silently. Throws when the folder cannot be read or has no image.
  public static func list(_ folder: URL) throws -> ImageFolder {
    let names: [String]
    do { names = try FileManager.default.contentsOfDirectory(atPath: folder.path) } catch {
      throw ImagingError(unreadable(folder))
    }
    var images: [URL] = []
    var warnings: [String] = []
    for name in names.sorted(by: naturallyBefore) where !name.hasPrefix(".") {
      let url = folder.appending(path: name)
      if Image.isImage(url) {
        images.append(url)
      } else if !companions.contains(url.pathExtension.lowercased()) {
        warnings.append("\(url.path): \(problem(url)); left out")
      }
    }
    guard !images.isEmpty else {
      let others =
        warnings.isEmpty ? "" : ", only \(warnings.count) other file\(warnings.count == 1 ? "" : "s")"
      throw ImagingError(
        "\(folder.path): no JPEG, PNG or WebP image in this folder\(others); put 3 to 6 there")
    }
    return ImageFolder(images: images, warnings: warnings)
  }

  private static func unreadable(_ folder: URL) -> String {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder) else {
      return "\(folder.path): there is no such folder; check the path"
    }
    return isFolder.boolValue
      ? "\(folder.path): the folder cannot be read; check its permissions"
      : "\(folder.path): not a folder; give the folder that holds the images"
  }

  private static func problem(_ url: URL) -> String {
    guard (try? regularFileSize(url)) != nil else { return "not a file" }
    return FileManager.default.isReadableFile(atPath: url.path)
      ? "not a JPEG, PNG or WebP image" : "no permission to read it"
  }

  /// Runs of digits compare as numbers, letters without regard to case; ties by the bytes.
  static func naturallyBefore(_ a: String, _ b: String) -> Bool {
    let (x, y) = (pieces(a), pieces(b))
    for (p, q) in zip(x, y) where p != q {
      if let m = digits(p), let n = digits(q) {
        if m.count != n.count { return m.count < n.count }
        if m != n { return m < n }
      } else {
        return p < q
      }
    }
    if x.count != y.count { return x.count < y.count }
    return Array(a.utf8).lexicographicallyPrecedes(Array(b.utf8))
  }

  /// The name in lower case, cut where digits begin or end.
  private static func pieces(_ name: String) -> [String] {
    var pieces: [String] = []
    var wasDigit = false
    for character in name.lowercased() {
      let isDigit = "0"..."9" ~= character
      if isDigit == wasDigit, !pieces.isEmpty {
        pieces[pieces.count - 1].append(character)
      } else {
        pieces.append(String(character))
      }
      wasDigit = isDigit
    }
    return pieces
  }

  /// A run of digits without its leading zeros; `nil` for other pieces.
  private static func digits(_ piece: String) -> String? {
    guard let first = piece.first, "0"..."9" ~= first else { return nil }
    return String(piece.drop { $0 == "0" })
  }
}
