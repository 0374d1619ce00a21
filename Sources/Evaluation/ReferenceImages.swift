import Files
public import Foundation
import Imaging
import NeTI

/// Files of images of the thing itself, which generated ones are compared with. Masks beside images are none.
///
/// A file is decoded where it is needed: all of a folder may be too large to hold.
public struct ReferenceImages: Sendable {
  /// Those that were trained on. What papers compare with; it rewards whoever copies their background.
  public let trained: [URL]
  /// Those that were not.
  public let heldOut: [URL]
  /// Files that were left out, one line each.
  public let warnings: [String]
  /// What they are, told by their bytes; nil where there are none.
  let trainedIdentity: String?
  let heldOutIdentity: String?

  /// More would take long to compare, and nobody has them.
  static let maximumCount = 1000

  /// - Parameters:
  ///   - trained: the folder of the images that were trained on.
  ///   - heldOut: the folder of those that were not.
  /// - Throws: when both are nil, or a folder has no image that can be read.
  public init(trained: URL?, heldOut: URL?) throws {
    var warnings: [String] = []
    func read(_ folder: URL?) throws -> (images: [URL], identity: String?) {
      guard let folder else { return ([], nil) }
      let list = try ImageFolder.list(folder)
      let masks = try MaskFiles(list.images, in: folder, masks: nil)
      guard masks.images.count <= Self.maximumCount else {
        throw EvaluationError(
          "\(folder.path) holds more than \(Self.maximumCount) images; a few are compared with")
      }
      var unread: [String] = []
      var (invisible, transparent): ([String], [String]) = ([], [])
      var profiled: [(name: String, profile: ColourProfile)] = []
      let images = masks.images.filter { url in
        let loaded: Image.Loaded
        do { loaded = try Image.loadWithOpacity(url) } catch {
          unread.append("left out: \(error)")
          return false
        }
        guard !loaded.isInvisible else {
          invisible.append(url.lastPathComponent)
          return false
        }
        if loaded.opacity != nil { transparent.append(url.lastPathComponent) }
        if let profile = loaded.profile { profiled.append((url.lastPathComponent, profile)) }
        return true
      }
      if !invisible.isEmpty {
        unread.append(
          "left out: \(folder.path): \(ImageFolder.listed(invisible)): transparent everywhere, so that nothing is seen"
        )
      }
      warnings += list.warnings + masks.warnings + unread
      if !transparent.isEmpty {
        warnings.append(
          "\(folder.path): \(ImageFolder.listed(transparent)): transparent in part, and compared on white")
      }
      if !profiled.isEmpty { warnings.append("\(folder.path): " + ColourProfile.warning(profiled)) }
      guard !images.isEmpty else {
        throw EvaluationError(
          (["\(folder.path) holds no image to compare with; put JPEG, PNG or WebP files there"] + unread)
            .joined(separator: "; "))
      }
      return (images, try fingerprint(of: images))
    }
    (self.trained, trainedIdentity) = try read(trained)
    (self.heldOut, heldOutIdentity) = try read(heldOut)
    self.warnings = warnings
  }

  /// Where the images of one of several concepts are: in the folder of `folder` that is called as the concept, or in
  /// `folder` itself, where it is for one concept.
  ///
  /// - Throws: when several concepts would have the same images.
  public static func folder(_ folder: URL, of token: String, isOnly: Bool) throws -> URL {
    let bare = token.trimmingCharacters(in: CharacterSet(charactersIn: "<>*"))
    for name in [bare, token.filter { $0.isLetter || $0.isNumber }]
    where !name.isEmpty && !name.hasPrefix(".") && !name.hasSlash {
      let inner = folder.appending(path: name, directoryHint: .isDirectory)
      var isFolder: ObjCBool = false
      if FileManager.default.fileExists(atPath: inner.path, isDirectory: &isFolder), isFolder.boolValue {
        return inner
      }
    }
    guard isOnly else {
      throw EvaluationError(
        "\(folder.path): there is no folder \(quoted(bare)) in it; where several concepts are evaluated, the images of "
          + "each are in a folder of its name")
    }
    return folder
  }
}
