import Diffusion
import Foundation
import NeTI

/// The one thread that computes, with the one model in memory, and what waits for it.
///
/// Learning goes from one concept to the next. Generating comes between two training steps, and does not change
/// what is learned: the trainer's random numbers are keyed by what they are for.
final class Workshop: @unchecked Sendable {
  let library: ConceptLibrary
  let gallery: Gallery
  let changes: Changes
  let settings: StudioSettings
  let facts: ModelFacts
  // Only the thread touches these.
  let model: StableDiffusion
  var preview: LatentPreview?
  // Behind the condition's lock.
  private let condition = NSCondition()
  private var state = State()

  struct State {
    var toLearn: [ID] = []
    var toGenerate: [GenerateJob] = []
    var learning: LearnJob?
    var generating: GenerateJob?
    /// Why the last generation failed.
    var problem: String?
    /// What the last generation said.
    var warnings: [String] = []
  }

  /// Generations that may wait; more clicks are refused.
  static let mostWaiting = 8

  init(
    _ model: StableDiffusion, _ settings: StudioSettings, facts: ModelFacts, library: ConceptLibrary,
    gallery: Gallery, changes: Changes
  ) {
    self.model = model
    self.settings = settings
    self.facts = facts
    self.library = library
    self.gallery = gallery
    self.changes = changes
  }

  /// Works from now on.
  func start() {
    let thread = Thread { [self] in
      while true { work(next()) }
    }
    thread.name = "studio work"
    thread.stackSize = 16 << 20
    thread.start()
  }

  // MARK: What waits

  private enum Task {
    case learn(LearnJob)
    case generate(GenerateJob)
  }

  private func work(_ task: Task) {
    switch task {
    case .learn(let job): learn(job)
    case .generate(let job): generate(job)
    }
  }

  /// Waits for something to do; what is quick comes first.
  private func next() -> Task {
    defer { changes.mark(.work) }
    condition.lock()
    defer { condition.unlock() }
    while true {
      if let job = Self.takeGeneration(&state) { return .generate(job) }
      if !state.toLearn.isEmpty {
        let job = LearnJob(id: state.toLearn.removeFirst())
        state.learning = job
        return .learn(job)
      }
      // Nothing of the state is held on to: others change it meanwhile.
      condition.wait()
    }
  }

  private static func takeGeneration(_ state: inout State) -> GenerateJob? {
    guard !state.toGenerate.isEmpty else { return nil }
    state.generating = state.toGenerate.removeFirst()
    return state.generating
  }

  /// Generates what is waiting, between two training steps.
  func generateWaiting() {
    while let job = locked({ Self.takeGeneration(&$0) }) { generate(job) }
  }

  /// Looks at the state, or changes it.
  func locked<T>(_ body: (inout State) throws -> T) rethrows -> T {
    condition.lock()
    defer { condition.unlock() }
    return try body(&state)
  }

  /// Changes the state, and tells the pages.
  func update(_ body: (inout State) -> Void) {
    locked { body(&$0) }
    changes.mark(.work)
  }

  // MARK: What is asked for

  /// Puts a concept at the end of the queue.
  func learn(_ id: ID) {
    library.setProgress(id) {
      $0.state = .waiting
      $0.problem = nil
    }
    update { $0.toLearn.append(id) }
    condition.broadcast()
  }

  /// Ends the learning of a concept after the step at hand, or takes it out of the queue.
  func stopLearning(_ id: ID) {
    let wasWaiting = locked { state in
      defer { state.toLearn.removeAll { $0 == id } }
      if state.learning?.id == id { state.learning?.requestStop() }
      return state.toLearn.contains(id)
    }
    if wasWaiting { library.setProgress(id) { $0.state = .stopped } }
    changes.mark(.work)
  }

  /// Puts a generation into the queue; a request that waits already is not added again.
  ///
  /// - Parameter replacing: whether what this page asked for before is no longer wanted.
  func generate(_ request: GenerateRequest, replacing: Bool) throws -> ID {
    try request.check()
    let id = try locked { state -> ID in
      if replacing {
        state.toGenerate.removeAll()
        state.generating?.requestStop()
      }
      if let same = (state.toGenerate + [state.generating].compactMap { $0 }).first(where: {
        $0.request == request
      }),
        !same.isStopping
      {
        return same.id
      }
      guard state.toGenerate.count < Self.mostWaiting else {
        throw StudioError("\(Self.mostWaiting) generations wait already; let them come first", .tooMany)
      }
      let job = GenerateJob(request)
      state.toGenerate.append(job)
      return job.id
    }
    condition.broadcast()
    changes.mark(.work)
    return id
  }

  /// Stops what is being generated, and what waits to be.
  func stopGenerating() {
    update {
      $0.toGenerate.removeAll()
      $0.generating?.requestStop()
    }
  }

  /// Whether a concept is being learned or waits for it.
  func isBusy(with id: ID) -> Bool {
    locked { $0.learning?.id == id || $0.toLearn.contains(id) }
  }
}
