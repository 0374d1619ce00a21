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
  /// Nil before it was tried; then nil within where none can be had.
  var preview: LatentPreview??
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
    /// What will be tried, to say how long learning takes.
    var trial: Trial?
    var isTrying = false
    /// Why it could not be.
    var trialProblem: String?
    /// Why the studio ends.
    var closing: String?
    /// What is quick and needs the thread.
    var errands: [Errand] = []
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
    case errands
    case tryOut(ID)
  }

  private func work(_ task: Task) {
    switch task {
    case .learn(let job): learn(job)
    case .generate(let job): generate(job)
    case .errands: serveErrands()
    case .tryOut(let id): tryOut(id)
    }
  }

  /// Waits for something to do; what is quick comes first.
  private func next() -> Task {
    defer { changes.mark(.work) }
    condition.lock()
    defer { condition.unlock() }
    while true {
      if !state.errands.isEmpty { return .errands }
      if let job = Self.takeGeneration(&state) { return .generate(job) }
      if !state.toLearn.isEmpty {
        let job = LearnJob(id: state.toLearn.removeFirst())
        state.learning = job
        return .learn(job)
      }
      // Nothing of the state is held on to: others change it meanwhile.
      guard let trial = state.trial else {
        condition.wait()
        continue
      }
      // What was learned meanwhile tells more.
      if library.folder.experience(facts.circumstances) != nil {
        state.trial = nil
      } else if trial.due > Date() {
        _ = condition.wait(until: trial.due)
      } else {
        (state.trial, state.isTrying) = (nil, true)
        return .tryOut(trial.id)
      }
    }
  }

  private static func takeGeneration(_ state: inout State) -> GenerateJob? {
    guard !state.toGenerate.isEmpty else { return nil }
    state.generating = state.toGenerate.removeFirst()
    return state.generating
  }

  /// Generates one of what waits, between two training steps, so that learning goes on, too.
  func generateOne() {
    serveErrands()
    if let job = locked({ Self.takeGeneration(&$0) }) { generate(job) }
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

  /// There is something new to do.
  func wake() { condition.broadcast() }

  // MARK: What is quick

  /// Something that takes a moment, such as a plot of a concept.
  final class Errand: @unchecked Sendable {
    fileprivate let body: () -> Void
    fileprivate let done = DispatchSemaphore(value: 0)
    fileprivate init(_ body: @escaping () -> Void) { self.body = body }
  }

  /// Written by one thread before the other reads.
  private final class Box<T>: @unchecked Sendable { var value: T? }

  /// How long a page waits for the thread, which may be within a training step; and how many may.
  private static let (patience, mostErrands) = (20.0, 8)

  /// Runs `body` on the thread that computes, as soon as it has a moment, and gives its result.
  func errand<T: Sendable>(_ body: @escaping @Sendable () throws -> T) throws -> T {
    let result = Box<Result<T, any Error>>()
    let errand = Errand { result.value = Result { try body() } }
    try locked { state in
      guard state.errands.count < Self.mostErrands else {
        throw StudioError("the studio is busy; try again in a moment", .tooMany)
      }
      state.errands.append(errand)
    }
    condition.broadcast()
    let isDone = errand.done.wait(timeout: .now() + Self.patience) == .success
    locked { state in state.errands.removeAll { $0 === errand } }
    guard isDone, let result = result.value else {
      throw StudioError("the studio is busy with a long step; try again in a moment", .tooMany)
    }
    return try result.get()
  }

  /// Does what is quick.
  func serveErrands() {
    while let errand = locked({ $0.errands.isEmpty ? nil : $0.errands.removeFirst() }) {
      errand.body()
      errand.done.signal()
    }
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
  /// - Parameter replacing: whether it takes the place of what was asked for in this way before and is not finished.
  func generate(_ order: Order, replacing: Bool) throws -> ID {
    try order.check(facts.sides)
    let id = try locked { state -> ID in
      if replacing {
        state.toGenerate.removeAll(where: \.isReplaceable)
        if let job = state.generating, job.isReplaceable { job.requestStop() }
      }
      if let same = (state.toGenerate + [state.generating].compactMap { $0 }).first(where: {
        $0.order == order
      }),
        !same.isStopping
      {
        return same.id
      }
      guard state.toGenerate.count < Self.mostWaiting else {
        throw StudioError("\(Self.mostWaiting) generations wait already; let them come first", .tooMany)
      }
      let job = GenerateJob(order, isReplaceable: replacing)
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
