import Files
import Diffusion
import Foundation
import Imaging
import NeTI

/// A folder that pictures are written to; files that are there already keep their names and stay.
struct PictureOutput {
  let folder: URL

  /// Makes the folder; throws when that is not possible.
  init(_ folder: URL) throws {
    self.folder = folder
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw NeTIError(
        "\(folder.relativePath): the folder cannot be made; check the path and its permissions, or choose another with --output"
      )
    }
  }

  /// One picture, called by its prompt, variant and seed, with its recipe in text chunks.
  func write(_ drawn: DrawnPicture, recipe: [String: String]) throws -> URL {
    var text = recipe.merging(drawn.variant.names.recipe) { $1 }
    text["prompt"] = drawn.prompt
    text["seed"] = String(drawn.seed)
    let stem = [Self.slug(drawn.prompt), drawn.variant.names.slug, "s\(drawn.seed)"].compactMap { $0 }
      .joined(separator: "-")
    return try write(drawn.picture, stem: stem, text: text)
  }

  /// Writes all pictures, and a sheet of them when there are several; tells on standard output where
  /// they are.
  func report(
    _ drawn: [DrawnPicture], recipe: [String: String], title: String, subtitle: String = "", json: Bool
  ) throws {
    let files = try drawn.map { try write($0, recipe: recipe) }
    let sheet =
      try drawn.count > 1
      ? write(Self.sheet(drawn, title: title, subtitle: subtitle), stem: "sheet") : nil
    guard json else {
      for f in files + [sheet].compactMap({ $0 }) { tell(f.relativePath) }
      return
    }
    struct Entry: Encodable {
      let file: String, prompt: String, seed: UInt64, truncation: Int?, setting: [String: String]
    }
    struct Report: Encodable { let pictures: [Entry], sheet: String?, recipe: [String: String] }
    try tellJSON(
      Report(
        pictures: zip(drawn, files).map {
          Entry(
            file: $1.relativePath, prompt: $0.prompt, seed: $0.seed, truncation: $0.truncation,
            setting: $0.variant.names.recipe)
        },
        sheet: sheet?.relativePath, recipe: recipe))
  }

  /// Writes a PNG under a name that is not taken.
  func write(_ picture: Picture, stem: String, text: [String: String] = [:]) throws -> URL {
    let url = free(stem)
    try AtomicFile.write(
      Data(
        picture.png(
          text: text.sorted { $0.key < $1.key }.filter { !$0.value.isEmpty }.map { ($0.key, $0.value) })),
      to: url)
    return url
  }

  /// Rows are prompts, columns seeds; or columns variants, where there are several. The training
  /// pictures, when there are any, come first.
  static func sheet(
    _ drawn: [DrawnPicture], title: String, subtitle: String = "", training: [Picture] = []
  ) throws -> Picture {
    let acrossVariants = drawn.contains { $0.variant != drawn[0].variant }
    let severalSeeds = drawn.contains { $0.seed != drawn[0].seed }
    var rows: [Sheet.Row] = []
    var columns: [String] = []
    for d in drawn {
      let label = acrossVariants && severalSeeds ? "\(d.prompt), seed \(d.seed)" : d.prompt
      let column = acrossVariants ? d.variant.names.label : "seed \(d.seed)"
      if !columns.contains(column) { columns.append(column) }
      if let i = rows.firstIndex(where: { $0.label == label }) {
        rows[i].pictures.append(d.picture)
      } else {
        rows.append(.init(label: label, pictures: [d.picture]))
      }
    }
    var sections = [Sheet.Section(heading: training.isEmpty ? "" : "drawn", columns: columns, rows: rows)]
    if !training.isEmpty {
      sections.insert(.init(heading: "learned from", rows: [.init(pictures: training)]), at: 0)
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

  /// A prompt as part of a file's name.
  static func slug(_ text: String) -> String {
    let words = text.lowercased().replacing("{}", with: "concept").split {
      !($0.isLetter || $0.isNumber) || !$0.isASCII
    }
    let slug = words.joined(separator: "-").prefix(60)
    return slug.isEmpty ? "picture" : String(slug)
  }
}

extension URL {
  /// As a user would write it: seen from the current folder when it lies there.
  var shownPath: String {
    let here = URL(filePath: FileManager.default.currentDirectoryPath, directoryHint: .isDirectory)
      .standardizedFileURL.path
    let path = standardizedFileURL.path
    let prefix = here.hasSuffix("/") ? here : here + "/"
    return path.hasPrefix(prefix) ? String(path.dropFirst(prefix.count)) : path
  }
}
