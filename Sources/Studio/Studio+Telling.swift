import Diffusion
import Files
import Foundation
import NeTI

/// What pages are told, as JSON.
extension Studio {
  /// What does not change while the studio runs.
  struct About: Encodable {
    struct Example: Encodable { let name: String, kind: String }
    let model: String, side: Int, sides: ImageSides, memory: String?, examples: [Example]
    /// For each quality, its steps.
    let steps: [String: Int]
    let guidance: Double, denoisingSteps: Int, scheduler: String, schedulers: [String], width: Int
    let mostPictureBytes: Int, mostImportBytes: Int
    /// How often a run pauses for pictures and a checkpoint, and the fewest steps between.
    let pauses: Int, leastPause: Int
    let learning: LearningDefaults
  }

  var about: About {
    let qualities = LearnRequest.Quality.allCases.map { ($0.rawValue, $0.steps(of: facts.usualSteps)) }
    return About(
      model: facts.name, side: facts.side, sides: facts.sides, memory: facts.memory,
      examples: settings.examples.map { .init(name: $0.name, kind: $0.kind) },
      steps: Dictionary(uniqueKeysWithValues: qualities), guidance: facts.defaults?.guidance ?? 7.5,
      denoisingSteps: facts.defaults?.denoisingSteps ?? 25,
      scheduler: (facts.defaults?.scheduler ?? .dpm).rawValue,
      schedulers: SchedulerKind.allCases.map(\.rawValue),
      width: NeTIMapper.hiddenWidth, mostPictureBytes: PictureFolder.mostBytes,
      mostImportBytes: Import.mostBytes, pauses: LearnRequest.times, leastPause: LearnRequest.leastPause,
      learning: facts.learning)
  }

  /// A model on this machine.
  struct ModelView: Encodable {
    let name: String, isOpen: Bool, parts: [ModelFacts.Part]
    /// What opens it.
    let commandLine: String?
  }

  private static let mostModels = 50

  /// The open one first, then those that could be opened.
  func models() -> [ModelView] {
    let others = ModelFolder.cached(atMost: Self.mostModels).filter { $0.name != facts.name }
    return [ModelView(name: facts.name, isOpen: true, parts: facts.parts, commandLine: nil)]
      + others.compactMap { folder in
        guard let parts = try? ModelFacts.parts(folder, bytesEach: 4) else { return nil }
        return ModelView(
          name: folder.name, isOpen: false, parts: parts,
          commandLine: [settings.command, "studio", "--model", folder.name].map(\.shellQuoted)
            .joined(separator: " "))
      }
  }

  /// A concept as pages show it.
  private struct ConceptView: Encodable {
    struct Picture: Encodable {
      let number: Int, name: String, caption: String, note: String?, version: Int
      let width: Int, height: Int, part: PicturePart?
    }
    let id: ID, title: String, kind: String, name: String?, steps: Int?
    let pictures: [Picture]
    let progress: StudioConcept.Progress
    /// Whether the studio's model understands it.
    let fits: Bool
    /// The model that it is learned on, and bytes of its file.
    let base: String?, bytes: Int?, isImported: Bool
    /// What learns the same without the studio.
    let commandLine: String?

    init(_ concept: StudioConcept, _ progress: StudioConcept.Progress, _ studio: Studio) {
      (id, title, kind) = (concept.id, concept.title, concept.kind)
      (name, steps) = (concept.plan?.name, concept.plan?.steps)
      let twins = StudioConcept.Picture.twins(among: concept.pictures)
      pictures = concept.pictures.map { picture in
        let twin = twins[picture.number].map {
          "it looks the same as picture \($0); another one teaches more"
        }
        let notes = [picture.note, twin].compactMap(\.self)
        return .init(
          number: picture.number, name: picture.name, caption: picture.caption,
          note: notes.isEmpty ? nil : notes.joined(separator: "; "), version: picture.version ?? 0,
          width: picture.width, height: picture.height, part: picture.part)
      }
      self.progress = progress
      base = concept.plan?.baseName
      bytes = progress.bytes
      isImported = concept.plan?.isImported ?? false
      fits = concept.plan.map { $0.base == studio.facts.base } ?? true
      commandLine = concept.plan.flatMap { plan in
        plan.words.isEmpty
          ? nil : plan.commandLine(studio.settings.command, in: studio.library.place(of: concept.id))
      }
    }
  }

  /// What is being computed.
  private struct WorkView: Encodable {
    let learning: ID?, learnJob: LearnJob.Shown?, toLearn: [ID]
    let generating: ID?, generateJob: GenerateJob.Shown?, prompt: String?, toGenerate: Int
    /// What runs and what waits, in the order in which it will be done.
    let queue: [Workshop.Queued]
    let problem: String?, warnings: [String]
    /// What learning takes on this model, as far as that was measured.
    let experience: Experience.Entry?
    /// Whether that is being measured or soon will be, and why it cannot be.
    let isTrying: Bool, trialProblem: String?
    /// Why the studio ends.
    let closing: String?
    let deleted: [Deleted]

    struct Deleted: Encodable { let id: ID, title: String }

    init(_ state: Workshop.State, _ library: ConceptLibrary, _ circumstances: String) {
      experience = library.folder.experience(circumstances)
      isTrying = state.isTrying || state.trial != nil
      (trialProblem, closing) = (experience == nil ? state.trialProblem : nil, state.closing)
      deleted = library.restorable.map { .init(id: $0.id, title: $0.title) }
      (learning, learnJob, toLearn) = (state.learning?.id, state.learning?.view, state.toLearn)
      (generating, generateJob) = (state.generating?.id, state.generating?.view)
      (prompt, toGenerate) = (state.generating?.order.prompt, state.toGenerate.count)
      queue = state.queue
      (problem, warnings) = (state.problem ?? state.notKept, state.warnings)
    }
  }

  /// Encoded once for all pages.
  private func part(_ part: Changes.Part, _ version: Int?) throws -> Data {
    try told(part, version) { try self.part(part) }
  }

  private func part(_ part: Changes.Part) throws -> Data {
    switch part {
    case .concepts: try HTTPResponse.encoded(library.all.map { ConceptView($0.concept, $0.progress, self) })
    case .images: try HTTPResponse.encoded(gallery.newest)
    case .work: try HTTPResponse.encoded(WorkView(workshop.locked { $0 }, library, facts.circumstances))
    }
  }

  /// Seconds between two news for a page: shorter than a denoising step, so that it sees each of them in time.
  private static let pause = 0.02
  /// After so long without news it is asked whether it still listens.
  private static let patience = 5.0

  /// Tells a page what changes, until it goes.
  func tell(_ stream: EventStream, _ connection: Connection) throws {
    var seen: [Changes.Part: Int] = [:]
    while !connection.isGone {
      let now = changes.next(after: seen, patience: Self.patience)
      let news = Changes.Part.allCases.filter { now[$0] != seen[$0] }
      for part in news { try stream.send(part.rawValue, self.part(part, now[part])) }
      if news.isEmpty { try stream.ping() }
      seen = now
      Thread.sleep(forTimeInterval: Self.pause)
    }
  }
}
