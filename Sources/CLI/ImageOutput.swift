import Diffusion
import Files
import Foundation
import Imaging
import NeTI

/// A folder that images are written to; files that are there already keep their names and stay.
struct ImageOutput {
  let folder: URL

  /// Makes the folder; throws when that is not possible.
  init(_ folder: URL) throws {
    self.folder = folder
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      if let file = Self.file(inTheWayOf: folder) {
        throw NeTIError(
          "\(file.named(in: folder.relativePath)) is a file; name a folder with --output")
      }
      throw NeTIError(
        "\(folder.relativePath): the folder cannot be made; check the path and its permissions, or choose another with --output"
      )
    }
  }

  /// A file that stands where this folder, or one that it lies in, should be.
  static func file(inTheWayOf folder: URL) -> URL? {
    var url = folder.standardizedFileURL
    while url.path != "/" {
      var isFolder: ObjCBool = false
      if FileManager.default.fileExists(atPath: url.path, isDirectory: &isFolder) {
        return isFolder.boolValue ? nil : url
      }
      url = url.deletingLastPathComponent().standardizedFileURL
    }
    return nil
  }

  /// One image, called by its prompt, variant and seed, with its metadata in text chunks.
  func write(_ generated: GeneratedImage, metadata: [String: String]) throws -> URL {
    let names = generated.variant.names
    var text = metadata.merging(names.metadata) { $1 }
    text["prompt"] = generated.prompt
    text["seed"] = String(generated.seed)
    let stem = [Self.slug(generated.prompt), names.slug, "s\(generated.seed)"].compactMap { $0 }
      .joined(separator: "-")
    return try write(generated.image, stem: stem, text: text)
  }

  /// Draws a sheet of the images when there are several; tells on standard output where all of them are.
  ///
  /// - Parameter files: where each image was written.
  func report(
    _ images: [GeneratedImage], in files: [URL], metadata: [String: String], title: String, subtitle: String,
    json: Bool
  ) throws {
    var drawn: Image?
    do {
      drawn = try images.count > 1 ? Self.sheet(images, title: title, subtitle: subtitle) : nil
    } catch let error as ImagingError {
      warn("\(files.count) images are written, but no sheet of them: \(error)")
    }
    let sheet = try drawn.map { try write($0, stem: "sheet") }
    guard json else {
      for f in files + [sheet].compactMap({ $0 }) { tell(f.relativePath) }
      return
    }
    struct Entry: Encodable {
      let file: String, prompt: String, seed: UInt64, truncation: Int?, variant: [String: String]
    }
    struct Report: Encodable { let images: [Entry], sheet: String?, metadata: [String: String] }
    try tellJSON(
      Report(
        images: zip(images, files).map {
          Entry(
            file: $1.relativePath, prompt: $0.prompt, seed: $0.seed, truncation: $0.variant.truncation,
            variant: $0.variant.names.metadata)
        },
        sheet: sheet?.relativePath, metadata: metadata))
  }

  /// Writes a PNG under a name that is not taken.
  func write(_ image: Image, stem: String, text: [String: String] = [:]) throws -> URL {
    let url = free(stem)
    try AtomicFile.write(
      Data(
        image.png(
          text: text.sorted { $0.key < $1.key }.filter { !$0.value.isEmpty }.map { ($0.key, $0.value) })),
      to: url)
    return url
  }

  /// Rows are prompts, columns seeds; or columns variants, where there are several. The training
  /// images, when there are any, come first.
  static func sheet(
    _ images: [GeneratedImage], title: String, subtitle: String = "", training: [Image] = []
  ) throws -> Image {
    let acrossVariants = images.contains { $0.variant != images[0].variant }
    let severalSeeds = images.contains { $0.seed != images[0].seed }
    var rows: [Sheet.Row] = []
    var columns: [String] = []
    for d in images {
      let label = acrossVariants && severalSeeds ? "\(d.prompt), seed \(d.seed)" : d.prompt
      let column = acrossVariants ? d.variant.names.label : "seed \(d.seed)"
      if !columns.contains(column) { columns.append(column) }
      if let i = rows.firstIndex(where: { $0.label == label }) {
        rows[i].images.append(d.image)
      } else {
        rows.append(.init(label: label, images: [d.image]))
      }
    }
    var sections = [Sheet.Section(heading: training.isEmpty ? "" : "generated", columns: columns, rows: rows)]
    if !training.isEmpty {
      sections.insert(.init(heading: "learned from", rows: [.init(images: training)]), at: 0)
    }
    return try Sheet(title: title, subtitle: subtitle, sections: sections).draw()
  }

  private func free(_ stem: String) -> URL {
    var url = folder.appending(path: "\(stem).png")
    var n = 2
    while FileManager.default.fileExists(atPath: url.path) {
      url = folder.appending(path: "\(stem)-\(n).png")
      n += 1
    }
    return url
  }

  /// A prompt as part of a file's name, which every file system takes: `ä` is a, `ß` is ss.
  static func slug(_ text: String) -> String {
    let plain = String(
      String.UnicodeScalarView(
        text.lowercased().replacing("{}", with: "concept").replacing("ß", with: "ss")
          .decomposedStringWithCanonicalMapping.unicodeScalars.filter {
            $0.properties.generalCategory != .nonspacingMark
          }))
    let words = plain.split { !($0.isLetter || $0.isNumber) || !$0.isASCII }
    let slug = words.joined(separator: "-").prefix(60)
    return slug.isEmpty ? "image" : String(slug)
  }
}

extension URL {
  /// What stands in the way of a path, behind that path where it is another.
  func named(in path: String) -> String { shownPath == path ? path : "\(path): \(shownPath)" }

  /// As a user would write it: seen from the current folder when it lies there.
  var shownPath: String {
    let here = URL(filePath: FileManager.default.currentDirectoryPath, directoryHint: .isDirectory)
      .standardizedFileURL.path
    let path = standardizedFileURL.path
    let prefix = here.hasSuffix("/") ? here : here + "/"
    return path.hasPrefix(prefix) ? String(path.dropFirst(prefix.count)) : path
  }
}
