import Diffusion
import Files
import Foundation

/// What a run learns from, told by content: where it lies may change while the run is interrupted.
struct RunContent {
  private static let (examples, model, loras, start) = ("images", "model", "loras", "start")

  /// By what they are of; for the log.
  private(set) var hashes: [String: String]

  /// - Throws: a `FileError` when the model's weights cannot be read.
  init(_ configuration: RunConfiguration, _ examples: [TrainingExample], _ model: StableDiffusion) throws {
    let isTold = try model.textEncoders.pooling != nil
    hashes = [Self.examples: TrainingExample.fingerprint(examples, sizes: isTold)]
    hashes[Self.model] = try model.folder.contentFingerprint()
    hashes[Self.loras] = try model.loraFingerprint
    if let path = configuration.model.mapperCheckpointPath, FileManager.default.fileExists(atPath: path) {
      hashes[Self.start] = try fingerprint(of: [URL(filePath: path)])
    }
  }

  /// Refuses to go on with other things than the run in `folder` had at its last start, as its log says.
  ///
  /// - Parameter isSaved: whether there is a checkpoint. It holds what became of the concept that the run started
  ///   from, which then may have changed, or be gone, but not be named anew.
  /// - Returns: one line where nothing tells.
  mutating func requireSame(asIn folder: URL, _ configuration: RunConfiguration, isSaved: Bool) throws
    -> String?
  {
    let file = folder.appending(path: RunFolder.eventsName)
    guard FileManager.default.fileExists(atPath: file.path),
      let begun = try RunLog.read(file).last(where: { $0.kind == .start })
    else {
      return isSaved
        ? "\(file.path) does not tell with which images and which model the run began: that they are still the same "
          + "is not known" : nil
    }
    // A run of an earlier version is known by its images only: “training data 0123…, model 4567…”.
    let images = begun.note.map { String($0.replacing("training data ", with: "").prefix { $0 != "," }) }
    let earlier = begun.content ?? images.map { [Self.examples: $0] } ?? [:]
    if configuration.model.mapperCheckpointPath != nil, let start = earlier[Self.start] {
      let before = try RunFolder.configuration(of: folder).canonical.model.mapperCheckpointPath
      let isNamedAnew = configuration.canonical.model.mapperCheckpointPath != before
      if hashes[Self.start] == nil || (isSaved && !isNamedAnew) { hashes[Self.start] = start }
    }
    // Before its first step was saved, a run can begin with others as well.
    guard isSaved else { return nil }
    let refusals = [
      (
        Self.examples,
        "the images, captions or masks are not those that the run in \(folder.path) began with: put them back"
      ),
      (
        Self.model,
        "the model is not the one that the run in \(folder.path) began with: name that with `model`"
      ),
      (
        Self.loras,
        "the LoRAs are not those that the run in \(folder.path) began with: name those with `lora`"
      ),
      (
        Self.start,
        "`model.mapper_checkpoint_path` is not the concept that the run in \(folder.path) started from: "
          + "name that one"
      ),
    ]
    for (part, refusal) in refusals where begun.content != nil || earlier[part] != nil {
      // An earlier version told files apart in another way.
      if part != Self.examples, let before = earlier[part], !before.hasPrefix(fingerprintVersion) { continue }
      guard hashes[part] == earlier[part] else {
        throw NeTIError("\(refusal), or begin a new run in another `output`")
      }
    }
    return nil
  }
}
