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

  /// One picture, called by its prompt, truncation and seed, with its recipe in text chunks.
  func write(_ drawn: ConceptGenerator.Drawn, recipe: [String: String]) throws -> URL {
    var text = recipe
    text["prompt"] = drawn.prompt
    text["seed"] = String(drawn.seed)
    if let k = drawn.truncation { text["truncation"] = String(k) }
    let stem = [Self.slug(drawn.prompt), drawn.truncation.map { "t\($0)" }, "s\(drawn.seed)"].compactMap {
      $0
    }.joined(separator: "-")
    return try write(drawn.picture, stem: stem, text: text)
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

  /// All pictures with their prompts, truncations and seeds.
  func writeSheet(_ drawn: [ConceptGenerator.Drawn], title: String) throws -> URL {
    try write(Self.sheet(drawn, title: title), stem: "sheet")
  }

  /// Rows are prompts, columns seeds; or columns truncations, where there are several. The training
  /// pictures, when there are any, come first.
  static func sheet(_ drawn: [ConceptGenerator.Drawn], title: String, training: [Picture] = []) throws
    -> Picture
  {
    let acrossTruncations = Set(drawn.map(\.truncation)).count > 1
    var rows: [Sheet.Row] = []
    var columns: [String] = []
    for d in drawn {
      let label = acrossTruncations ? "\(d.prompt), seed \(d.seed)" : d.prompt
      let column = acrossTruncations ? "keep \(d.truncation.map(String.init) ?? "all")" : "seed \(d.seed)"
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
    return try Sheet(title: title, sections: sections).draw()
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

/// Machine-readable results on standard output.
func printJSON(_ value: some Encodable) throws {
  let encoder = JSONEncoder()
  encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
  print(String(decoding: try encoder.encode(value), as: UTF8.self))
}
