import Files
public import Foundation

/// What images are generated of, with `{}` for the concept.
public struct EvaluationPrompts: Sendable, Equatable {
  /// Bytes of a file of prompts, and prompts in it.
  static let largestSize = 1 << 20
  static let largestCount = 1000

  public let texts: [String]

  /// The paper's 15, in the words of the authors' code (`PROMPTS` in constants.py).
  public static let paper = EvaluationPrompts(texts: [
    "A photo of a {}", "A photo of {} in the jungle", "A photo of {} on a beach",
    "A photo of {} in Times Square",
    "A photo of {} in the moon", "A painting of {} in the style of Monet", "Oil painting of {}",
    "A Marc Chagall painting of {}", "A manga drawing of {}", "A watercolor painting of {}", "A statue of {}",
    "App icon of {}", "A sand sculpture of {}", "Colorful graffiti of {}",
    "A photograph of two {} on a table",
  ])

  private init(texts: [String]) { self.texts = texts }

  /// Reads a file with a prompt on each line; empty lines do not count, and `{{` and `}}` are braces.
  ///
  /// - Throws: an `EvaluationError` that names file and line when one has no `{}`, or several, or is there twice.
  public init(contentsOf url: URL) throws {
    let name = url.lastPathComponent
    let text = try decodedText(readFile(url, limit: Self.largestSize), name: url.path)
    var lineOf: [String: Int] = [:]
    var texts: [String] = []
    for (i, line) in text.split(
      omittingEmptySubsequences: false, whereSeparator: \.isNewline
    ).enumerated() {
      let prompt = line.trimmingCharacters(in: .whitespaces)
      guard !prompt.isEmpty else { continue }
      func fail(_ why: String) -> EvaluationError {
        EvaluationError("\(name), line \(i + 1): \(quoted(prompt)) \(why)")
      }
      let count = prompt.matches(of: Self.braces).count { $0.output == "{}" }
      guard count == 1 else {
        throw fail(
          "has \(count == 0 ? "no {}" : "{} \(count) times"); write {} once, where the concept belongs")
      }
      guard prompt.count <= 10_000 else { throw fail("has more than 10000 characters") }
      if let first = lineOf.updateValue(i + 1, forKey: prompt) { throw fail("is line \(first), too") }
      guard texts.count < Self.largestCount else {
        throw fail("is one of more than \(Self.largestCount) prompts")
      }
      texts.append(prompt)
    }
    guard !texts.isEmpty else {
      throw EvaluationError(
        "\(name) holds no prompt; write one on each line, such as “a photo of a {} on a beach”")
    }
    self.texts = texts
  }

  /// A prompt with a word, or nothing, in the place of the concept, to generate from: `{{` and `}}` stay as they are
  /// written.
  static func prompt(_ prompt: String, with word: String) -> String {
    filled(prompt) { $0 == "{}" ? word : String($0) }
  }

  /// The same as plain text, with braces for `{{` and `}}`.
  package static func text(_ prompt: String, with word: String) -> String {
    filled(prompt) { $0 == "{}" ? word : String($0.prefix(1)) }
  }

  /// Braces that are words, and the concept's place, in the order in which a prompt is read.
  private static var braces: Regex<Substring> { /\{\{|\}\}|\{\}/ }

  private static func filled(_ prompt: String, _ replacement: (Substring) -> String) -> String {
    prompt.replacing(braces) { replacement($0.output) }.split(separator: " ").joined(separator: " ")
  }
}
