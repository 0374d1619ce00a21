import Diffusion
import Files
public import Foundation

/// One line of a run's log.
public struct RunEvent: Codable, Sendable, Equatable {
  public enum Kind: String, Codable, Sendable {
    /// A process began to train, after `step` updates.
    case start
    /// An update was made; `step` counts them from 1.
    case step
    /// A checkpoint was written.
    case checkpoint
    /// Validation images were generated.
    case sample
    /// Training ended or was stopped.
    case stop
  }

  public var kind: Kind
  /// Updates made when it happened.
  public var step: Int
  /// The mean loss of the update.
  public var loss: Double?
  /// The learning rate of the update.
  public var learningRate: Double?
  /// Wall time of the update.
  public var seconds: Double?
  /// The names of the files written, in `checkpoints/` or `samples/` of the run folder.
  public var files: [String]?
  /// Of a start: hashes of what is learned from, to recognise it by.
  public var content: [String: String]?
  /// Of a start, in runs of earlier versions: “training data” and its hash, and perhaps others after commas.
  public var note: String?

  enum CodingKeys: String, CodingKey {
    case kind, step, loss, seconds, files, content, note
    case learningRate = "lr"
  }

  public init(
    _ kind: Kind, step: Int, loss: Double? = nil, learningRate: Double? = nil, seconds: Double? = nil,
    files: [String]? = nil, content: [String: String]? = nil
  ) {
    self.kind = kind
    self.step = step
    self.loss = loss
    self.learningRate = learningRate
    self.seconds = seconds
    self.files = files
    self.content = content
  }
}

/// A run's log: one JSON object a line, each written whole or not at all.
public final class RunLog {
  /// Larger logs are refused: no run of ours writes one.
  public static let largestSize = 1 << 30

  private let file: AppendOnlyFile
  private let encoder: JSONEncoder

  /// Opens a log, made when it is not there.
  ///
  /// Lines of later steps than `lastStep` are dropped (the run goes on from that step and writes them
  /// again), and so is what no event can be read from, as the torn last line of a process that was
  /// killed. Throws when the file cannot be read or written.
  public init(_ url: URL, keepingThrough lastStep: Int = .max) throws {
    encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    encoder.nonConformingFloatEncodingStrategy = Self.nonFinite.encoding
    if FileManager.default.fileExists(atPath: url.path) {
      let old = try Self.contents(url)
      let kept = Self.lines(old).filter { ($0.event?.step).map { $0 <= lastStep } ?? false }
      let new = kept.reduce(into: Data()) { $0 += $1.bytes + Data("\n".utf8) }
      if new != old { try AtomicFile.write(new, to: url) }
    }
    file = try AppendOnlyFile(url)
  }

  /// Writes one line. Throws when the disk is full; the log then ends with its last whole line.
  public func append(_ event: RunEvent) throws {
    try file.append(encoder.encode(event) + Data("\n".utf8))
  }

  /// The events of a log, without what cannot be read.
  public static func read(_ url: URL) throws -> [RunEvent] {
    try lines(contents(url)).compactMap(\.event)
  }

  private static func contents(_ url: URL) throws -> Data {
    try readFile(url, limit: largestSize)
  }

  /// The lines that are ended, and what they say.
  private static func lines(_ data: Data) -> [(bytes: Data, event: RunEvent?)] {
    let decoder = JSONDecoder()
    decoder.nonConformingFloatDecodingStrategy = nonFinite.decoding
    let pieces = data.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).dropLast()
    return pieces.map { (Data($0), try? decoder.decode(RunEvent.self, from: Data($0))) }
  }

  /// JSON has no infinity; a loss can be one.
  private static let nonFinite = (
    encoding: JSONEncoder.NonConformingFloatEncodingStrategy.convertToString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan"),
    decoding: JSONDecoder.NonConformingFloatDecodingStrategy.convertFromString(
      positiveInfinity: "inf", negativeInfinity: "-inf", nan: "nan")
  )
}
