import Files
public import Foundation
import NeTI

/// The score of one generated image. Similarities are cosines, −1…1.
public struct ImageScore: Codable, Sendable, Equatable {
  /// What tells the images of one concept file apart.
  public struct Key: Codable, Sendable, Hashable {
    public let prompt: String
    public let seed: UInt64
    /// Hidden units that were kept; nil for all.
    public let truncation: Int?

    public init(prompt: String, seed: UInt64, truncation: Int?) {
      (self.prompt, self.seed, self.truncation) = (prompt, seed, truncation)
    }
  }

  public let key: Key
  /// With the images that were trained on, and with held-out ones: the mean over all of them; nil where there are
  /// none.
  public let trained: Double?
  public let heldOut: Double?
  /// With the prompt, the category's word in the concept's place, and without the placeholder.
  public let category: Double
  public let omitted: Double
  /// The image's name, beside the results.
  public let file: String

  public init(
    key: Key, trained: Double?, heldOut: Double?, category: Double, omitted: Double, file: String
  ) {
    (self.key, self.trained, self.heldOut) = (key, trained, heldOut)
    (self.category, self.omitted, self.file) = (category, omitted, file)
  }
}

/// What is measured of a concept once, with held-out images.
public struct HeldOutScore: Codable, Sendable, Equatable {
  /// The denoising loss on the held-out images: under the concept, and under its category's word.
  public let loss: Double
  public let wordLoss: Double
  /// The image similarity of the held-out images and those trained on: as much as can be hoped for; nil without the
  /// latter.
  public let ceiling: Double?

  public init(loss: Double, wordLoss: Double, ceiling: Double?) {
    (self.loss, self.wordLoss, self.ceiling) = (loss, wordLoss, ceiling)
  }
}

/// The results of one concept file: a folder with `results.jsonl` and the images.
///
/// The first line says what was measured and how (`Header`), each other line is a score. A line is added when its
/// image is written, so that a process that was killed loses what it had in hand and no more. One process at a time
/// adds to a folder, which is locked while the object lives; others may read.
public final class EvaluationResults {
  /// What the lines are of.
  public struct Header: Codable, Sendable, Equatable {
    /// `EvaluationProtocol.version`.
    public var evaluation = EvaluationProtocol.version
    public let settings: EvaluationProtocol
    public let token: String
    public let category: String
    public let method: String
    /// Updates that the concept was trained for.
    public let steps: Int
    /// Hashes of the concept's file and of the references.
    public let concept: String?
    public let trained: String?
    public let heldOut: String?

    package init(
      settings: EvaluationProtocol, token: String, category: String, method: String, steps: Int,
      concept: String?, trained: String?, heldOut: String?
    ) {
      (self.settings, self.token, self.category, self.method) = (settings, token, category, method)
      (self.steps, self.concept, self.trained, self.heldOut) = (steps, concept, trained, heldOut)
    }
  }

  /// What a file holds.
  public struct Contents: Sendable {
    public var images: [ImageScore.Key: ImageScore] = [:]
    public var heldOut: HeldOutScore?

    public init() {}
  }

  private struct Line: Codable {
    var image: ImageScore?
    var heldOut: HeldOutScore?
  }

  private struct Version: Decodable { let evaluation: Int }

  static let fileName = "results.jsonl"
  /// Bytes of a file that is read.
  static let largestSize = 1 << 29

  public let folder: URL
  public private(set) var contents: Contents
  private let lock: FolderLock
  private let file: AppendOnlyFile
  private let encoder = JSONEncoder()

  /// Opens the results in `folder`, or begins them.
  ///
  /// - Throws: `RunFolderInUse` when another process adds to them; `EvaluationError` when they are of another version,
  ///   or were measured in another way.
  public init(_ folder: URL, _ header: Header) throws {
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw EvaluationError("\(folder.path): the folder cannot be made; choose another `output`")
    }
    self.folder = folder
    lock = try FolderLock(folder)
    let url = folder.appending(path: Self.fileName)
    let earlier = try Self.lines(url)
    contents = try Self.contents(earlier, header, url)
    // What a process that was killed had not written to its end goes.
    if earlier.isTorn { try AtomicFile.write(earlier.whole, to: url) }
    file = try AppendOnlyFile(url)
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    if earlier.pieces.isEmpty { try append(header) }
  }

  /// Adds an image's score; the image lies there already.
  package func add(_ score: ImageScore) throws {
    try append(Line(image: score))
    contents.images[score.key] = score
  }

  package func add(_ score: HeldOutScore) throws {
    try append(Line(heldOut: score))
    contents.heldOut = score
  }

  private func append(_ line: some Encodable) throws {
    try file.append(encoder.encode(line) + Data("\n".utf8))
  }

  /// What is in a folder now, whoever adds to it; nil where nothing was begun. Throws as the initialiser does.
  public static func read(_ folder: URL, _ header: Header) throws -> Contents? {
    let url = folder.appending(path: fileName)
    let found = try lines(url)
    return found.pieces.isEmpty ? nil : try contents(found, header, url)
  }

  /// What another CLIP judged in a folder, of images that are otherwise those of `header`; nil where there are none.
  /// Throws as the initialiser does.
  static func read(_ folder: URL, judgedByAnyCLIP header: Header) throws -> Contents? {
    let url = folder.appending(path: fileName)
    let found = try lines(url)
    return found.pieces.isEmpty ? nil : try contents(found, header, url, isOneCLIP: false)
  }

  private struct Lines {
    /// Up to the last end of a line.
    var whole = Data()
    var pieces: [Data] = []
    var isTorn = false
  }

  private static func lines(_ url: URL) throws -> Lines {
    guard FileManager.default.fileExists(atPath: url.path) else { return Lines() }
    let data = try readFile(url, limit: largestSize)
    let end = data.lastIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? data.startIndex
    let whole = data[..<end]
    return Lines(
      whole: Data(whole), pieces: whole.split(separator: UInt8(ascii: "\n")).map { Data($0) },
      isTorn: end != data.endIndex)
  }

  private static func contents(
    _ lines: Lines, _ header: Header, _ url: URL, isOneCLIP: Bool = true
  ) throws -> Contents {
    guard let first = lines.pieces.first else { return Contents() }
    func place(_ line: Int) -> String { "\(JSONFile.displayName(url)), line \(line)" }
    guard let version = try? JSONFile.decode(Version.self, from: first, name: "").evaluation else {
      throw EvaluationError("\(url.path) holds no results of an evaluation: choose another `output`")
    }
    guard version == EvaluationProtocol.version else {
      throw EvaluationError(
        "\(url.path) holds results of another version (\(version), this is \(EvaluationProtocol.version)), which do "
          + "not compare: choose another `output`")
    }
    try check(JSONFile.decode(Header.self, from: first, name: place(1)), header, url, isOneCLIP)
    var contents = Contents()
    for (i, piece) in lines.pieces.enumerated().dropFirst() {
      let line = try JSONFile.decode(Line.self, from: piece, name: place(i + 1))
      if let image = line.image {
        guard isPlainName(image.file) else {
          throw EvaluationError("\(place(i + 1)): “file” is no name of an image")
        }
        contents.images[image.key] = image
      }
      contents.heldOut = line.heldOut ?? contents.heldOut
    }
    return contents
  }

  private static func check(_ found: Header, _ wanted: Header, _ url: URL, _ isOneCLIP: Bool) throws {
    var differences = wanted.settings.differences(from: found.settings, isOneCLIP: isOneCLIP)
    if found.trained != wanted.trained { differences.append("other images that were trained on") }
    if found.heldOut != wanted.heldOut { differences.append("other held-out images") }
    if (found.token, found.category, found.method) != (wanted.token, wanted.category, wanted.method)
      || (found.steps, found.concept) != (wanted.steps, wanted.concept)
    {
      differences.append("another concept")
    }
    guard differences.isEmpty else {
      throw EvaluationError(
        "\(url.deletingLastPathComponent().path) holds results of another evaluation: now "
          + "\(differences.joined(separator: "; ")). Give what was given then, or choose another `output`")
    }
  }

  /// A name that does not lead out of the folder.
  private static func isPlainName(_ name: String) -> Bool {
    name.hasSuffix(".png") && name.utf8.first != UInt8(ascii: ".") && !name.hasSlash && !name.utf8.contains(0)
  }
}
