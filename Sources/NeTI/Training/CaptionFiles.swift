import Files
package import Foundation
import Imaging

/// The captions of images: text files beside them, `1.txt` or `1.caption` for `1.jpg`.
package struct CaptionFiles {
  /// Bytes of a text: a caption is a sentence.
  private static let largestSize = 16_384
  /// How webui's templates name the concept, and the text of an image.
  private static let (webuiName, webuiText) = ("[name]", "[filewords]")

  private(set) var warnings: [String] = []
  private var captions: [URL: String] = [:]

  /// Reads the captions among `texts`.
  ///
  /// - Parameter token: what may stand in a caption for `{}`.
  /// - Throws: a `NeTIError` when an image has two captions, or one that is not right; it names all of these.
  package init(_ texts: [URL], of images: [URL], in folder: URL, token: String) throws {
    var used: Set<URL> = []
    var problems: [(file: String, problem: String)] = []
    // Names in another Unicode form are equal. Some programs write 1.jpg.txt.
    let byStem = Dictionary(grouping: texts, by: \.stem)
    for image in images {
      let own = (byStem[image.stem] ?? []) + (byStem[image.lastPathComponent] ?? [])
      used.formUnion(own)
      guard let text = own.first else { continue }
      do {
        guard own.count == 1 else {
          throw NeTIError(
            "\(text.path) and \(own[1].lastPathComponent) are captions for the same image; remove one")
        }
        captions[image] = try Self.caption(text, token)
        if captions[image] == nil {
          warnings.append("\(text.path) is empty; one of the built-in sentences stands for it")
        }
      } catch let e as any DescribedError { problems.append((text.lastPathComponent, e.message)) }
    }
    if let first = problems.first {
      let others = problems.dropFirst().map(\.file)
      throw NeTIError(
        first.problem + (others.isEmpty ? "" : " (not right either: \(ImageFolder.listed(others)))")
          + "; or ignore captions with `data.use_captions false`")
    }
    let lost = texts.filter { !used.contains($0) }.map(\.lastPathComponent)
    if !lost.isEmpty {
      warnings.append(
        "\(folder.path): left out \(ImageFolder.listed(lost)) (belongs to no image that is read)")
    }
  }

  /// The sentence of an image; nil where it has none.
  package subscript(_ image: URL) -> String? { captions[image] }

  /// What stands in a file, with its white space evened out; nil for nothing.
  private static func caption(_ url: URL, _ token: String) throws -> String? {
    let text = try decodedText(readFile(url, limit: largestSize), name: url.path)
    let words = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard !words.isEmpty else { return nil }
    guard !words.contains(webuiText) else {
      throw NeTIError(
        "\(url.path): \(webuiText) stands for an image's own text, and this file is that; write it in its place"
      )
    }
    let caption = words.replacing(webuiName, with: Templates.placeholder)
    guard try count(caption, token) == 1 else {
      throw NeTIError(
        "\(url.path): a caption has the concept in it once, as {} or \(token), and this is \(quoted(words)); "
          + "correct it")
    }
    return caption
  }

  /// How often the concept stands in a caption.
  private static func count(_ caption: String, _ token: String) throws -> Int {
    try PromptText(caption, [.init(token: token)], kind: "caption").count(of: 0)
  }

  /// Refuses a caption that no image can have, whatever the concept's token will be.
  package static func check(_ caption: String) throws {
    for marker in [webuiName, webuiText] where caption.contains(marker) {
      throw NeTIError("the caption has \(marker) in it; write {} where the concept stands")
    }
    guard try count(caption, "") == 1 else {
      throw NeTIError("the caption \(quoted(caption)) must have {} in it once, where the concept stands")
    }
  }
}
