import Foundation

/// A concept as its person sees it: pictures at first, then what is learned from them.
struct StudioConcept: Codable, Sendable {
  let id: ID
  let created: Date
  /// What the person calls it.
  var title: String
  /// What kind of thing it is: “cat”.
  var kind: String
  var pictures: [Picture] = []
  /// From when learning was asked for; the pictures then stay as they are.
  var plan: Plan?
  /// The number of the next picture: one that was removed does not come again.
  private var next: Int?

  init(id: ID, created: Date, title: String, kind: String) {
    (self.id, self.created, self.title, self.kind) = (id, created, title, kind)
  }

  /// A number that no picture had.
  mutating func takeNumber() -> Int {
    let number = max(next ?? 1, (pictures.map(\.number).max() ?? 0) + 1)
    next = number + 1
    return number
  }

  /// Refuses to change the pictures of what is learned already.
  func requireEditable() throws {
    guard plan == nil else {
      throw StudioError("what this concept is learned from stays as it is; begin a new one", .conflict)
    }
  }

  /// Where a picture is.
  func index(of number: Int) throws -> Int {
    guard let index = pictures.firstIndex(where: { $0.number == number }) else {
      throw StudioError("this picture is not there any more", .notFound)
    }
    return index
  }

  struct Picture: Codable, Sendable {
    /// Its file's name: 1 for 1.jpg.
    let number: Int
    /// Of the copy of the file.
    let ending: String
    /// What the file was called that it is a copy of.
    let name: String
    /// Of the copy, upright.
    let width: Int
    let height: Int
    /// A sentence with {} in it; empty for none.
    var caption = ""
    /// What its person should know of it.
    var note: String?
    /// Which part of it is learned, where that is not the middle.
    var part: PicturePart?
    /// How often `part` was changed, so that no browser shows an old one.
    var version: Int?
    /// What is learned from it, very small, to tell pictures that look the same.
    var glance: Data?

    /// The side of a glance, in pixels of three bytes.
    static let glanceSide = 16
    /// The mean difference of two glances below which they look the same, of 255. Examples that were saved anew as
    /// JPEG of quality 30, at 0.4 times their size, differ by at most 3; different ones by at least 33.
    private static let leastDifference = 6.0

    private func looksLike(_ other: Picture) -> Bool {
      guard let glance, let theirs = other.glance, glance.count == theirs.count, !glance.isEmpty else {
        return false
      }
      let sum = zip(glance, theirs).reduce(0) { $0 + abs(Int($1.0) - Int($1.1)) }
      return Double(sum) / Double(glance.count) < Self.leastDifference
    }

    /// For each picture that looks like an earlier one, by its number, the number of that.
    static func twins(among pictures: [Picture]) -> [Int: Int] {
      pictures.indices.reduce(into: [:]) { twins, i in
        twins[pictures[i].number] = pictures[..<i].first { pictures[i].looksLike($0) }?.number
      }
    }
  }

  /// How it is learned.
  struct Plan: Codable, Sendable {
    /// What prompts call it, and its run's folder.
    let name: String
    let steps: Int
    /// Tells the base model that it is learned on.
    let base: String
    /// What `neti` is asked to do, word by word; “{folder}” is the concept's folder.
    let words: [String]
    /// Those of the words that say how the model is opened.
    var modelWords: [String]?
    /// What the base model is called.
    var baseName: String?
    /// Whether the concept came as a file.
    var isImported: Bool?
  }

  /// Where it stands.
  enum State: String, Codable, Sendable {
    /// Pictures are chosen.
    case pictures
    /// Others are learned first.
    case waiting
    case learning
    /// Stopped before its last step, or interrupted: it can go on.
    case stopped
    case learned
  }

  /// What is known of its learning, beside what it is.
  struct Progress: Sendable, Encodable {
    var state = State.pictures
    /// Steps that are done.
    var step = 0
    /// Steps with pictures of how it looked.
    var previews: [Int] = []
    /// Pictures of each of these steps.
    var previewCount = 0
    /// Steps whose concept is kept.
    var checkpoints: [Int] = []
    /// Of the concept's file.
    var bytes: Int?
    /// Why it stopped, where something failed.
    var problem: String?
  }

  /// What a title or a kind may be.
  static func checked(_ text: String, what: String, longest: Int) throws -> String {
    let words = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard !words.isEmpty else { throw StudioError("\(what) is missing") }
    guard words.count <= longest else {
      throw StudioError("\(what) has \(words.count) letters; at most \(longest) fit")
    }
    guard !words.unicodeScalars.contains(where: { $0.properties.generalCategory == .control }) else {
      throw StudioError("\(what) has signs in it that cannot be shown")
    }
    return words
  }

  /// A title as prompts and folders have it: small letters, digits and hyphens.
  static func slug(_ title: String) -> String {
    let plain = title.lowercased().folding(options: .diacriticInsensitive, locale: nil)
    let words = plain.split { !($0.isASCII && ($0.isLetter || $0.isNumber)) }
    return String(words.joined(separator: "-").prefix(40)).trimmingCharacters(
      in: CharacterSet(charactersIn: "-"))
  }
}
