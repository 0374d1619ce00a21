import Diffusion
import Files
import Foundation

/// What a run learns from, told by content: where it lies may change while the run is interrupted.
struct RunContent {
  private enum Part: String, CaseIterable {
    case examples = "training data"
    case model
    case start
  }

  private var hashes: [Part: String]

  /// - Throws: a `FileError` when the model's weights cannot be read.
  init(_ configuration: RunConfiguration, _ examples: [TrainingExample], _ model: StableDiffusion) throws {
    hashes = [.examples: TrainingExample.fingerprint(examples)]
    let weights = try [.textEncoder, .unet, .vae].flatMap { try model.folder.weightFiles($0) }
    hashes[.model] = try Self.fingerprint(weights)
    if let path = configuration.model.mapperCheckpointPath, FileManager.default.fileExists(atPath: path) {
      hashes[.start] = try Self.fingerprint([URL(filePath: path)])
    }
  }

  /// As `note` wrote it; what it does not say is not compared.
  init(note: String) {
    hashes = [:]
    for piece in note.components(separatedBy: ", ") {
      guard let space = piece.lastIndex(of: " "), let part = Part(rawValue: String(piece[..<space])) else {
        continue
      }
      hashes[part] = String(piece[piece.index(after: space)...])
    }
  }

  /// For the log: “training data 0123…, model 4567…”.
  var note: String {
    Part.allCases.compactMap { part in hashes[part].map { "\(part.rawValue) \($0)" } }.joined(separator: ", ")
  }

  /// Refuses to go on with other things than the run in `folder` had at its last start, as its log says.
  ///
  /// A concept that the run started from may be gone: the checkpoints hold what became of it.
  mutating func requireSame(asIn folder: URL, _ configuration: RunConfiguration) throws {
    let file = folder.appending(path: RunFolder.eventsName)
    guard FileManager.default.fileExists(atPath: file.path),
      let note = try RunLog.read(file).last(where: { $0.kind == .start })?.note
    else { return }
    let earlier = RunContent(note: note)
    if configuration.model.mapperCheckpointPath != nil, hashes[.start] == nil {
      hashes[.start] = earlier.hashes[.start]
    }
    let what: [Part: String] = [
      .examples: "the images, captions or masks are not those that the run in \(folder.path) began with: "
        + "put them back",
      .model: "the model is not the one that the run in \(folder.path) began with: name that with `model`",
      .start:
        "`model.mapper_checkpoint_path` is not the concept that the run in \(folder.path) started from: "
        + "name that one",
    ]
    for part in Part.allCases {
      // A run of an earlier version tells of its images only.
      guard earlier.hashes[part] != nil || (part == .start && earlier.hashes[.model] != nil) else { continue }
      guard hashes[part] == earlier.hashes[part] else {
        throw NeTIError("\(what[part] ?? ""), or begin a new run in another `output`")
      }
    }
  }

  private static let pieces = 16
  private static let pieceSize = 1 << 16

  /// A short hash of files' sizes and of pieces all over them: a model of gigabytes is told from its fine-tunes
  /// in a moment.
  private static func fingerprint(_ files: [URL]) throws -> String {
    var bytes: [UInt8] = []
    for url in files {
      let file: FileHandle
      do { file = try FileHandle(forReadingFrom: url) } catch {
        throw FileError("\(url.path): the file cannot be read; check its permissions")
      }
      defer { try? file.close() }
      let size = Int(try file.seekToEnd())
      bytes += Array("\(size)\n".utf8)
      let last = max(size - pieceSize, 0)
      for i in 0..<(size <= pieces * pieceSize ? 1 : pieces) {
        try file.seek(toOffset: UInt64(last * i / (pieces - 1)))
        bytes += try file.read(upToCount: size <= pieces * pieceSize ? size : pieceSize) ?? Data()
      }
    }
    return String(SHA256.hexadecimal(bytes).prefix(16))
  }
}
