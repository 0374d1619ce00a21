import Diffusion
import Files
public import Foundation
public import NeTI

/// What is evaluated: a concept file, or a category's word by itself, with the images to compare with.
public struct EvaluationSubject {
  /// The method of a category's word.
  public static let wordMethod = "word"

  /// Nil: the category's word stands in its place.
  public let concept: Concept?
  public let token: String
  public let category: String
  /// What it was learned by; images of one method are averaged.
  public let method: String
  /// Updates that it was trained for.
  public let steps: Int
  public let references: ReferenceImages
  /// A hash of its file.
  let identity: String?

  /// - Parameters:
  ///   - file: a concept's.
  ///   - method: the name of its representation when nil.
  public init(_ concept: Concept, file: URL, method: String?, references: ReferenceImages) throws {
    let about = concept.about
    guard !about.category.isEmpty else {
      throw EvaluationError(
        "\(file.lastPathComponent) does not say the category of \(about.token), which text similarity needs; make it "
          + "anew with `convert --category WORD`")
    }
    self.concept = concept
    (token, category, steps) = (about.token, about.category, about.steps)
    self.method = method ?? concept.representation.kind.rawValue
    self.references = references
    identity = try fingerprint(of: [file])
  }

  /// The word of the category that `other` is of.
  public init(wordOf other: EvaluationSubject) {
    concept = nil
    (token, category, method) = (other.token, other.category, Self.wordMethod)
    steps = 0
    references = other.references
    identity = nil
  }

  /// “<toy> by neti, 250 steps”
  public var title: String {
    concept == nil ? "\(category), the word for \(token)" : "\(token) by \(method), \(steps) steps"
  }

  /// The name of its folder of results.
  var folderName: String {
    func plain(_ text: String) -> String {
      String(text.map { $0.isASCII && ($0.isLetter || $0.isNumber) ? $0 : "-" }.prefix(40))
        .trimmingCharacters(in: CharacterSet(charactersIn: "-"))
    }
    // Names may be the same when only letters and digits are left.
    let hash = SHA256.hexadecimal(Array("\(token)\n\(category)\n\(method)\n\(identity ?? "")".utf8)).prefix(8)
    return [plain(token), plain(method), String(steps), String(hash)].filter { !$0.isEmpty }
      .joined(separator: "-")
  }

  /// Refuses concepts of several bases, which cannot be evaluated on one.
  public static func checkOneBase(_ subjects: [EvaluationSubject]) throws {
    let concepts = subjects.compactMap(\.concept)
    for other in concepts.dropFirst() {
      let (a, b) = (concepts[0].about, other.about)
      let hashes = [a.base.tokenTableHash, b.base.tokenTableHash].filter { !$0.isEmpty }
      guard a.base.hiddenSize == b.base.hiddenSize, a.base.layers.count == b.base.layers.count,
        Set(hashes).count <= 1
      else {
        throw EvaluationError(
          "the concepts \(a.token) and \(b.token) are of two bases, \(a.base.name) and \(b.base.name), with other "
            + "weights; evaluate the concepts of each base by themselves")
      }
    }
  }
}
