import Diffusion
import Files
public import Foundation

/// The folder of one training run.
///
///     config.yaml                          the resolved configuration
///     events.jsonl                         the log (`RunLog`)
///     tensorboard/                         event files (`TensorBoardWriter`)
///     samples/                             validation images
///     checkpoints/step-000250.safetensors  what a resume continues from
///     concept.safetensors                  the result
///
/// Nothing in it is overwritten by another run, and one process at a time trains in it: the folder is
/// locked while the object lives.
public final class RunFolder {
  public let url: URL
  private let lock: FolderLock

  public var configurationFile: URL { url.appending(path: Self.configurationName) }
  public var eventsFile: URL { url.appending(path: Self.eventsName) }
  public var tensorBoardFolder: URL { url.appending(path: "tensorboard", directoryHint: .isDirectory) }
  public var samplesFolder: URL { url.appending(path: "samples", directoryHint: .isDirectory) }
  public var checkpointsFolder: URL { Self.checkpointsFolder(url) }
  public var conceptFile: URL { url.appending(path: Self.conceptName) }

  private static let configurationName = "config.yaml"
  static let eventsName = "events.jsonl"
  private static let conceptName = "concept.safetensors"
  /// Files that do not make a folder a used one.
  private static let unimportant: Set<String> = [FolderLock.fileName, ".DS_Store"]

  /// Makes the folder of a run, or opens it to go on.
  ///
  /// - Parameters:
  ///   - resume: go on with the run in the folder; where there is none yet, a new one begins. Without
  ///     it, a folder with anything in it is an error.
  /// - Throws: a `NeTIError` when the folder is in use by another run or another configuration (it names
  ///   the keys), or cannot be made; `FileError` when it cannot be written; `RunFolderInUse` when another process
  ///   trains in it.
  public init(_ folder: URL, configuration: RunConfiguration, resume: Bool) throws {
    url = folder
    try Self.require(configuration, in: folder, resume: resume)
    try Self.makeFolder(folder)
    lock = try FolderLock(folder)
    // Another process can have begun between the look and the lock.
    try Self.require(configuration, in: folder, resume: resume)
    for inner in [tensorBoardFolder, samplesFolder, checkpointsFolder] { try Self.makeFolder(inner) }
    for each in [folder, checkpointsFolder, samplesFolder] { AtomicFile.removeUnfinished(in: each) }
    try save(configuration)
  }

  /// Throws, as the initialiser does, when no run can begin or go on in a folder; changes nothing.
  static func require(_ configuration: RunConfiguration, in folder: URL, resume: Bool) throws {
    guard let earlier = try check(folder, resume: resume) else { return }
    try compare(configuration, with: earlier, in: folder)
  }

  /// Throws where a checkpoint was learned with other settings: those of the folder were changed since.
  static func require(_ configuration: RunConfiguration, asLearned concept: Concept, in folder: URL) throws {
    guard
      let then = try? RunConfiguration(resolvedYAML: concept.about.training, name: configurationName)
    else { return }
    var now = configuration
    if now.model.mapperCheckpointPath != nil {  // which decides them
      (now.model.representation, now.model.numVectors) = (then.model.representation, then.model.numVectors)
    }
    let differences = now.differences(from: then)
    guard differences.isEmpty else {
      throw NeTIError(
        "\(folder.path): \(configurationName) was changed since step \(concept.about.steps) was learned: "
          + "\(differences.joined(separator: "; ")). Change it back, or choose another `output`")
    }
  }

  /// Whether the folder of `configuration` holds its run, and that is finished. False where paths differ: only
  /// what lies there tells.
  ///
  /// Throws when the folder holds a run with other settings.
  public static func isFinished(_ configuration: RunConfiguration) throws -> Bool {
    let folder = configuration.runFolder
    guard holdsRun(folder) else { return false }
    let earlier = try Self.configuration(of: folder)
    try compare(configuration, with: earlier, in: folder)
    guard configuration.canonical.hasPaths(of: earlier.canonical) else { return false }
    let concept = folder.appending(path: conceptName)
    // A concept that cannot be read is made again.
    guard FileManager.default.fileExists(atPath: concept.path), let about = try? Concept.about(of: concept)
    else { return false }
    return about.steps >= configuration.optim.maxTrainSteps
  }

  /// Whether a run began in a folder.
  public static func holdsRun(_ folder: URL) -> Bool {
    FileManager.default.fileExists(atPath: folder.appending(path: configurationName).path)
  }

  /// Whether a folder has checkpoints, and nothing that tells of their run.
  public static func hasLostItsConfiguration(_ folder: URL) -> Bool {
    !holdsRun(folder) && !checkpoints(in: folder).isEmpty
  }

  /// The concept in the folder of a run: its result, or before that the latest checkpoint; nil before the first.
  static func result(of folder: URL) -> String? {
    if FileManager.default.fileExists(atPath: folder.appending(path: conceptName).path) { return conceptName }
    return checkpoints(in: folder).first.map { "checkpoints/\($0.url.lastPathComponent)" }
  }

  /// The configuration of the run in a folder, its paths located from there.
  ///
  /// Throws when there is no run or its configuration cannot be read.
  public static func configuration(of folder: URL) throws -> RunConfiguration {
    let file = folder.appending(path: configurationName)
    guard FileManager.default.fileExists(atPath: file.path) else {
      throw NeTIError("there is no run in \(folder.path): it has no \(configurationName)")
    }
    let data = try readFile(file, limit: ConfigurationYAML.largestSize)
    guard let text = String(data: data, encoding: .utf8) else {
      throw NeTIError("\(file.path) is not UTF-8 text; choose another `output`")
    }
    guard text.contains(":") else {
      throw NeTIError("\(file.path) says nothing of a run any more; choose another `output`")
    }
    return try RunConfiguration(resolvedYAML: text, name: file.path).located(in: folder)
  }

  private static let resolvedHeader = "# The resolved configuration of this run."

  /// Whether a configuration is one that a run wrote, whose paths count from where it lies.
  static func isResolved(_ yaml: Data) -> Bool { yaml.starts(with: Data(resolvedHeader.utf8)) }

  /// Writes `config.yaml`, when it changes.
  private func save(_ configuration: RunConfiguration) throws {
    let text =
      Self.resolvedHeader + " Paths count from its folder.\n" + configuration.storable(in: url).resolvedYAML()
    let data = Data(text.utf8)
    if FileManager.default.contents(atPath: configurationFile.path) == data { return }
    try AtomicFile.write(data, to: configurationFile)
  }

  /// Makes the folder again, with its configuration, where someone removed or moved it: what is learned is kept.
  func makeAgain(_ configuration: RunConfiguration) throws {
    guard !FileManager.default.fileExists(atPath: checkpointsFolder.path) else { return }
    for inner in [tensorBoardFolder, samplesFolder, checkpointsFolder] { try Self.makeFolder(inner) }
    try save(configuration)
  }

  /// Whether the validation images of a step are there and the log tells of them, which is what comes last.
  func holdsSamples(_ names: [String], step: Int) throws -> Bool {
    let logged = try RunLog.read(eventsFile).contains {
      $0.kind == .sample && $0.step == step && $0.files == names
    }
    return logged
      && names.allSatisfy { FileManager.default.fileExists(atPath: samplesFolder.appending(path: $0).path) }
  }

  // MARK: Checkpoints

  /// A checkpoint of the folder.
  public struct Checkpoint: Sendable, Equatable {
    public let step: Int
    public let url: URL
  }

  /// Where the checkpoint after `step` updates belongs.
  public func checkpointFile(step: Int) -> URL {
    checkpointsFolder.appending(path: Self.stepName(step) + ".safetensors")
  }

  /// What the names of a step's files begin with, so that they sort by their steps.
  package static func stepName(_ step: Int) -> String {
    let digits = String(step)
    return "step-" + String(repeating: "0", count: max(0, 6 - digits.count)) + digits
  }

  /// All checkpoints, the latest first.
  public func checkpoints() -> [Checkpoint] { Self.checkpoints(in: url) }

  /// The same of the run in a folder.
  package static func checkpoints(in url: URL) -> [Checkpoint] {
    let folder = checkpointsFolder(url)
    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []
    return names.compactMap { name in
      guard let match = name.wholeMatch(of: /step-([0-9]{6,15})\.safetensors/), let step = Int(match.1) else {
        return nil
      }
      return Checkpoint(step: step, url: folder.appending(path: name))
    }.sorted { $0.step > $1.step }
  }

  private static func checkpointsFolder(_ url: URL) -> URL {
    url.appending(path: "checkpoints", directoryHint: .isDirectory)
  }

  /// The latest checkpoint that `read` can read, with the names of later ones that it cannot.
  public func latestCheckpoint<T>(_ read: (Checkpoint) -> T?) -> (checkpoint: T?, broken: [String]) {
    var broken: [String] = []
    for checkpoint in checkpoints() {
      if let read = read(checkpoint) { return (read, broken) }
      broken.append(checkpoint.url.lastPathComponent)
    }
    return (nil, broken)
  }

  /// Removes the oldest checkpoints beyond `limit` (nil keeps all), and never the latest. What cannot
  /// be removed stays: it harms nothing.
  public func prune(keeping limit: Int?) {
    guard let limit else { return }
    for old in checkpoints().dropFirst(max(limit, 1)) { try? FileManager.default.removeItem(at: old.url) }
  }

  // MARK: Rules

  /// The configuration of the run to go on with; nil when one can begin here.
  private static func check(_ folder: URL, resume: Bool) throws -> RunConfiguration? {
    try requireFree(folder)
    guard FileManager.default.fileExists(atPath: folder.path) else { return nil }
    let names: [String]
    do {
      names = try FileManager.default.contentsOfDirectory(atPath: folder.path)
    } catch {
      throw NeTIError("cannot look into \(folder.path): no permission")
    }
    let content = names.filter {
      !unimportant.contains($0) && !AtomicFile.isUnfinished($0)
    }.sorted()
    guard !content.isEmpty else { return nil }
    if content.contains(configurationName) {
      guard !resume else { return try configuration(of: folder) }
      let concept = folder.appending(path: conceptName)
      if content.contains(conceptName) {
        let steps = (try? Concept.about(of: concept)).map { ", more than \($0.steps)," } ?? ""
        throw NeTIError(
          "\(folder.path) holds a finished run\(subject(of: folder)): learn on with `resume` and `steps N`\(steps) "
            + "or choose another `output`")
      }
      throw NeTIError(
        "\(folder.path) holds an unfinished run\(subject(of: folder)): go on with `resume`, or choose another "
          + "`output`")
    }
    // A process that was killed before it wrote its configuration leaves empty folders.
    if content.allSatisfy({ isEmptyFolder(folder.appending(path: $0)) }) { return nil }
    let some = content.prefix(3).map(quoted).joined(separator: ", ") + (content.count > 3 ? ", …" : "")
    throw NeTIError("\(folder.path) is not empty (\(some)) and holds no run: choose another `output`")
  }

  /// Throws where a file, or a link to what is not there, stands in the place of a folder or of one that it lies in.
  private static func requireFree(_ folder: URL) throws {
    let files = FileManager.default
    var url = folder.standardizedFileURL
    while url.path != "/" {
      var isFolder: ObjCBool = false
      if files.fileExists(atPath: url.path, isDirectory: &isFolder) {
        if isFolder.boolValue { return }
        throw NeTIError("\(url.path) is a file; name a folder with `output`")
      }
      if let target = try? files.destinationOfSymbolicLink(atPath: url.path) {
        throw NeTIError(
          "\(url.path) is a link to \(quoted(target)), which is not there; make that folder, or choose another `output`"
        )
      }
      url = url.deletingLastPathComponent().standardizedFileURL
    }
  }

  private static func subject(of folder: URL) -> String {
    guard let c = try? configuration(of: folder), !c.data.placeholderToken.isEmpty else { return "" }
    return " of \(c.data.placeholderToken)"
  }

  private static func isEmptyFolder(_ url: URL) -> Bool {
    (try? FileManager.default.contentsOfDirectory(atPath: url.path))?.isEmpty == true
  }

  private static func compare(
    _ configuration: RunConfiguration, with earlier: RunConfiguration, in folder: URL
  ) throws {
    let differences = configuration.differences(from: earlier)
    guard differences.isEmpty else {
      throw NeTIError(
        "\(folder.path) holds a run with other settings: \(differences.joined(separator: "; ")). "
          + "Resume with the same settings, or choose another `output`")
    }
  }

  private static func makeFolder(_ folder: URL) throws {
    do {
      try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    } catch {
      throw NeTIError(
        "cannot make the folder \(folder.path): \(systemReason(error)); check the path and its permissions, or choose "
          + "another `output`")
    }
    guard FileManager.default.isWritableFile(atPath: folder.path) else {
      throw NeTIError(
        "cannot write into \(folder.path): no permission; change that, or choose another `output`")
    }
  }

  /// The system's own words, where Foundation keeps them.
  private static func systemReason(_ error: any Error) -> String {
    let underlying = (error as NSError).userInfo[NSUnderlyingErrorKey] as? NSError
    if let underlying, underlying.domain == NSPOSIXErrorDomain {
      return String(cString: strerror(Int32(truncatingIfNeeded: underlying.code)))
    }
    return error.localizedDescription
  }
}
