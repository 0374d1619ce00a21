import Diffusion
import Foundation
import NeTI

/// What pages are told, as JSON.
extension Studio {
  /// What does not change while the studio runs.
  struct About: Encodable {
    struct Example: Encodable { let name: String, kind: String }
    let model: String, side: Int, memory: String?, examples: [Example]
    /// For each quality, its steps.
    let steps: [String: Int]
    let guidance: Double, denoisingSteps: Int, scheduler: String, schedulers: [String], width: Int
    let mostPictureBytes: Int
  }

  var about: About {
    let qualities = LearnRequest.Quality.allCases.map { ($0.rawValue, $0.steps(of: facts.usualSteps)) }
    return About(
      model: facts.name, side: facts.side, memory: facts.memory,
      examples: settings.examples.map { .init(name: $0.name, kind: $0.kind) },
      steps: Dictionary(uniqueKeysWithValues: qualities), guidance: facts.defaults?.guidance ?? 7.5,
      denoisingSteps: facts.defaults?.denoisingSteps ?? 25,
      scheduler: (facts.defaults?.scheduler ?? .dpm).rawValue,
      schedulers: SchedulerKind.allCases.map(\.rawValue),
      width: NeTIMapper.hiddenWidth, mostPictureBytes: PictureFolder.mostBytes)
  }

  /// A concept as pages show it.
  private struct ConceptView: Encodable {
    struct Picture: Encodable { let number: Int, name: String, caption: String, note: String? }
    let id: ID, title: String, kind: String, name: String?, steps: Int?
    let pictures: [Picture]
    let progress: StudioConcept.Progress
    /// Whether the studio's model understands it.
    let fits: Bool
    /// What learns the same without the studio.
    let commandLine: String?

    init(_ concept: StudioConcept, _ progress: StudioConcept.Progress, _ studio: Studio) {
      (id, title, kind) = (concept.id, concept.title, concept.kind)
      (name, steps) = (concept.plan?.name, concept.plan?.steps)
      pictures = concept.pictures.map {
        .init(number: $0.number, name: $0.name, caption: $0.caption, note: $0.note)
      }
      self.progress = progress
      fits = concept.plan.map { $0.base == studio.facts.base } ?? true
      commandLine = concept.plan?.commandLine(
        studio.settings.command, in: studio.library.place(of: concept.id))
    }
  }

  /// What is being computed.
  private struct WorkView: Encodable {
    let learning: ID?, learnJob: LearnJob.Shown?, toLearn: [ID]
    let generating: ID?, generateJob: GenerateJob.Shown?, prompt: String?, toGenerate: Int
    let problem: String?, warnings: [String]

    init(_ state: Workshop.State) {
      (learning, learnJob, toLearn) = (state.learning?.id, state.learning?.view, state.toLearn)
      (generating, generateJob) = (state.generating?.id, state.generating?.view)
      (prompt, toGenerate) = (state.generating?.request.prompt, state.toGenerate.count)
      (problem, warnings) = (state.problem, state.warnings)
    }
  }

  private func part(_ part: Changes.Part) throws -> Data {
    switch part {
    case .concepts: try HTTPResponse.encoded(library.all.map { ConceptView($0.concept, $0.progress, self) })
    case .images: try HTTPResponse.encoded(gallery.all)
    case .work: try HTTPResponse.encoded(WorkView(workshop.locked { $0 }))
    }
  }

  /// A page is told at most this often.
  private static let pause = 0.1
  /// After so long without news it is asked whether it still listens.
  private static let patience = 5.0

  /// Tells a page what changes, until it goes.
  func tell(_ stream: EventStream, _ connection: Connection) throws {
    var seen: [Changes.Part: Int] = [:]
    while !connection.isGone {
      let now = changes.next(after: seen, patience: Self.patience)
      let news = Changes.Part.allCases.filter { now[$0] != seen[$0] }
      for part in news { try stream.send(part.rawValue, self.part(part)) }
      if news.isEmpty { try stream.ping() }
      seen = now
      Thread.sleep(forTimeInterval: Self.pause)
    }
  }
}
