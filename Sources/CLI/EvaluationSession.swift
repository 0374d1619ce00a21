import Evaluation
import Files
import Foundation
import NeTI

/// The concepts of an evaluation's command line, with the images that they are compared with.
struct EvaluationSubjects {
  private(set) var subjects: [EvaluationSubject] = []

  /// - Parameters:
  ///   - files: FILE or method=FILE.
  ///   - images: a folder of images that were trained on; the run's when nil.
  ///   - references: a folder of held-out images.
  ///   - model: what an embedding of another program is for.
  init(files: [String], images: String?, references: String?, model: ModelOptions) throws {
    let read = try files.map { try Self.read($0, for: model) }
    let isOnly = Set(read.map(\.concept.about.token)).count == 1
    var known: [String: ReferenceImages] = [:]
    var hasFile: Set<String> = []
    for (method, file, concept) in read {
      guard hasFile.insert(file.standardizedFileURL.path + "\n" + (method ?? "")).inserted else {
        throw NeTIError(wrongUsage: "\(file.relativePath) is given twice; leave one of them out")
      }
      let token = concept.about.token
      func folder(_ path: String?) throws -> URL? {
        try path.map {
          try ReferenceImages.folder(place($0, isFolder: true), of: token, isOnly: isOnly)
        }
      }
      let (trained, heldOut) = (try folder(images) ?? Self.trainedOn(file), try folder(references))
      guard trained != nil || heldOut != nil else {
        throw EvaluationError(
          "\(file.relativePath): the images of \(token) that it was trained on are not beside it, as they are for a "
            + "file in its run's folder; name them with `images`, or held-out ones with `references`")
      }
      let key = "\(trained?.path ?? "")\n\(heldOut?.path ?? "")"
      let images = try known[key] ?? ReferenceImages(trained: trained, heldOut: heldOut)
      known[key] = images
      subjects.append(try EvaluationSubject(concept, file: file, method: method, references: images))
    }
  }

  private static func read(_ argument: String, for model: ModelOptions) throws
    -> (method: String?, file: URL, concept: Concept)
  {
    var (method, path) = (String?.none, argument)
    if !FileManager.default.fileExists(atPath: try place(argument).path),
      let equals = argument.firstIndex(of: "=")
    {
      let name = argument[..<equals].trimmingCharacters(in: .whitespaces)
      guard (1...60).contains(name.count), name != EvaluationSubject.wordMethod else {
        throw NeTIError(
          wrongUsage:
            "\(quoted(argument)): a method's name has 1 to 60 characters, and is not “word”, the baseline's")
      }
      (method, path) = (name, String(argument[argument.index(after: equals)...]))
    }
    let file = try place(path)
    return (method, file, try Concept.open(file, base: model.identity))
  }

  /// The images of the run in whose folder a concept or checkpoint lies.
  private static func trainedOn(_ file: URL) throws -> URL? {
    var folder = file.standardizedFileURL.deletingLastPathComponent()
    if folder.lastPathComponent == "checkpoints" { folder.deleteLastPathComponent() }
    guard RunFolder.holdsRun(folder) else { return nil }
    let images = URL(
      filePath: try RunFolder.configuration(of: folder).data.trainDataDir, directoryHint: .isDirectory)
    return FileManager.default.fileExists(atPath: images.path) ? images : nil
  }
}

/// The work of an evaluation, concept by concept. What another process works on is passed over, and looked at once
/// more in the end.
struct EvaluationSession {
  private let evaluation: Evaluation
  private let part: Shard

  init(_ evaluation: Evaluation, _ part: Shard) {
    self.evaluation = evaluation
    self.part = part
  }

  /// Of each image, as the progress bar counts them.
  private var steps: Int { evaluation.settings.steps }

  /// Returns false where this part has no concept, so that nothing was measured.
  func run() throws -> Bool {
    let mine = stride(from: part.index - 1, to: evaluation.subjects.count, by: part.count).map {
      evaluation.subjects[$0]
    }
    guard !mine.isEmpty else {
      note(
        "part \(part.index)/\(part.count) has no concept, as there are \(evaluation.subjects.count); nothing is to do"
      )
      return false
    }
    let left = try mine.map { try evaluation.imagesLeft($0) }
    note(
      "\(evaluation.settings.name): \(Self.count(evaluation.prompts.count, "prompt")), "
        + "\(Self.count(evaluation.seeds.count, "seed")), \(Self.count(left.reduce(0, +), "image")) left")
    let bar = ProgressBar("evaluating", total: left.reduce(0, +) * steps)
    var done = 0
    func isBusy(_ subject: EvaluationSubject, _ images: Int) throws -> Bool {
      guard try work(on: subject, bar, before: done) else { return true }
      done += images
      return false
    }
    let busy = try zip(mine, left).filter(isBusy)
    let others = try busy.filter(isBusy)
    bar.finish()
    for (subject, _) in others {
      note("another process works on \(subject.title): the last one to finish writes the whole report")
    }
    return true
  }

  private static func count(_ n: Int, _ noun: String) -> String { "\(n) \(noun)\(n == 1 ? "" : "s")" }

  /// Returns false when another process works on it.
  private func work(on subject: EvaluationSubject, _ bar: ProgressBar, before: Int) throws -> Bool {
    do {
      try evaluation.run(subject) { images in
        bar.update(Int((Double(before) + images) * Double(steps)), detail: subject.title)
      }
      return true
    } catch is RunFolderInUse {
      return false
    }
  }
}

/// The figures of an evaluation as JSON and as a table for a terminal.
struct EvaluationFigures: Encodable {
  struct Figure: Encodable {
    let mean: Double
    let low: Double?
    let high: Double?

    init(_ e: Estimate) {
      mean = e.mean
      low = e.interval?.lowerBound
      high = e.interval?.upperBound
    }
  }

  struct Method: Encodable {
    let method: String
    let similarity: [String: Figure]
    let heldOutLossChange: Figure?
  }

  struct Difference: Encodable {
    let method: String
    let minus: String
    let similarity: [String: Figure]
  }

  let protocolName: String
  let caution: String
  let report: String
  let imagesDone: Int
  let imagesWanted: Int
  let methods: [Method]
  let differences: [Difference]

  enum CodingKeys: String, CodingKey {
    case protocolName = "protocol"
    case caution, report, methods, differences
    case imagesDone = "images_done"
    case imagesWanted = "images_wanted"
  }

  init(_ summary: EvaluationSummary, _ evaluation: Evaluation, report: String) throws {
    protocolName = evaluation.settings.name
    caution = EvaluationProtocol.caution
    self.report = report
    (imagesDone, imagesWanted) = (summary.imagesDone, summary.imagesWanted)
    methods = try summary.methods.map { method in
      var figures: [String: Figure] = [:]
      for metric in Metric.allCases {
        figures[metric.rawValue] = try summary.estimate(metric, method).map(Figure.init)
      }
      return Method(
        method: method, similarity: figures,
        heldOutLossChange: try summary.heldOutLoss(method).map(Figure.init))
    }
    differences = try summary.differences().map { d in
      Difference(
        method: d.method, minus: d.other,
        similarity: Dictionary(uniqueKeysWithValues: d.estimates.map { ($0.key.rawValue, Figure($0.value)) }))
    }
  }

  func table() -> String {
    func cell(_ f: Figure?) -> String {
      guard let f else { return "–" }
      guard let low = f.low, let high = f.high else { return String(format: "%.3f", f.mean) }
      return String(format: "%.3f (%.3f to %.3f)", f.mean, low, high)
    }
    let rows =
      [["method"] + Metric.allCases.map(\.title)]
      + methods.map { m in [m.method] + Metric.allCases.map { cell(m.similarity[$0.rawValue]) } }
    let widths = rows[0].indices.map { c in rows.map { $0[c].count }.max() ?? 0 }
    let lines = rows.map { row in
      zip(row, widths).map { $0 + String(repeating: " ", count: $1 - $0.count) }.joined(separator: "  ")
        .trimmingCharacters(in: .whitespaces)
    }
    let state = imagesDone < imagesWanted ? ["not finished: \(imagesDone) of \(imagesWanted) images"] : []
    return (["\(protocolName). \(caution)"] + lines + state + [report]).joined(separator: "\n")
  }
}
