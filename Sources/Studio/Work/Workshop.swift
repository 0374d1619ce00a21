import Diffusion
import Files
import Foundation
import NeTI

/// The one thread that computes, with the one model in memory, and what waits for it.
///
/// Learning goes from one concept to the next. Generating comes between two training steps, one image at a time, and
/// does not change what is learned: the trainer's random numbers are keyed by what they are for.
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
    /// What an earlier studio was generating when it ended.
    var brokenOff: [Waiting.Unfinished] = []
    /// Why the last generation failed.
    var problem: String?
    /// Why what waits could not be written down.
    var notKept: String?
    /// What the last generation said.
    var warnings: [String] = []
    /// What will be tried, to say how long learning takes.
    var trial: Trial?
    var isTrying = false
    /// Why it could not be.
    var trialProblem: String?
    /// Why the studio ends.
    var closing: String?
    /// Whether the thread is within a part of what is generated.
    var isDrawing = false
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
      var isTurnOfLearning = false
      while true {
        let task = next(isTurnOfLearning)
        isTurnOfLearning = if case .generate = task { true } else { false }
        work(task)
        keepWaiting()
      }
    }
    thread.name = "studio work"
    thread.stackSize = 16 << 20
    thread.start()
  }

  // MARK: What waits

  private enum Task {
    case learn(LearnJob)
    case generate(GenerateJob)
    case tryOut(ID)
  }

  private func work(_ task: Task) {
    switch task {
    case .learn(let job): learn(job)
    case .generate(let job): generate(job)
    case .tryOut(let id): tryOut(id)
    }
  }

  /// Waits for something to do. What is generated comes first, and when a part of it is done, what is learned: the
  /// rest is generated beside that.
  private func next(_ isTurnOfLearning: Bool) -> Task {
    let task = nextTask(isTurnOfLearning)
    changes.mark(.work)
    keepWaiting()
    return task
  }

  private func nextTask(_ isTurnOfLearning: Bool) -> Task {
    condition.lock()
    defer { condition.unlock() }
    while true {
      if state.toLearn.isEmpty || !isTurnOfLearning, let job = Self.takeGeneration(&state) {
        return .generate(job)
      }
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

  /// What is being generated, or the first that waits.
  private static func takeGeneration(_ state: inout State) -> GenerateJob? {
    if state.generating == nil {
      guard !state.toGenerate.isEmpty else { return nil }
      state.generating = state.toGenerate.removeFirst()
    }
    state.isDrawing = true
    return state.generating
  }

  /// Generates one image of what waits, between two training steps, so that learning goes on, too.
  func generateOne(beside learning: LearnJob) {
    guard let job = locked({ Self.takeGeneration(&$0) }) else { return }
    keepWaiting()
    generate(job, beside: learning)
    keepWaiting()
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

  // MARK: What is asked for

  /// Puts a concept at the end of the queue; false where it is in it already, or is being learned.
  func learn(_ id: ID) -> Bool {
    let isNew = enqueue(id)
    announce()
    return isNew
  }

  private func enqueue(_ id: ID) -> Bool {
    locked { state in
      guard state.learning?.id != id, !state.toLearn.contains(id) else { return false }
      // Before the thread can begin with it.
      library.setProgress(id) {
        $0.state = .waiting
        $0.problem = nil
      }
      state.toLearn.append(id)
      return true
    }
  }

  /// There is something new to do, or something less.
  func announce() {
    keepWaiting()
    changes.mark(.work)
    wake()
  }

  /// Ends the learning of a concept after the step at hand, or takes it out of the queue.
  func stopLearning(_ id: ID) {
    let wasWaiting = locked { state in
      defer { state.toLearn.removeAll { $0 == id } }
      if state.learning?.id == id { state.learning?.requestStop() }
      return state.toLearn.contains(id)
    }
    if wasWaiting { library.settle(id, problem: nil) }
    announce()
  }

  /// Puts a generation into the queue; a request that waits already is not added again.
  ///
  /// - Parameter replacing: whether it takes the place of what was asked for in this way before and is not finished.
  func generate(_ order: Order, replacing: Bool) throws -> ID {
    try order.check(facts.sides)
    let id = try locked { state -> ID in
      if replacing {
        state.toGenerate.removeAll(where: \.isReplaceable)
        if let job = state.generating, job.isReplaceable { Self.stop(job, &state) }
      }
      if let same = (state.toGenerate + [state.generating].compactMap { $0 }).first(where: {
        $0.order == order
      }),
        !same.isStopping
      {
        if !replacing { same.insist() }
        return same.id
      }
      let id = try Self.enqueue(GenerateJob(.init(id: ID(), order: order), isReplaceable: replacing), &state)
      // Asked for again, it is not offered beside that; all of its images are made, as some may be deleted by now.
      if !replacing { state.brokenOff.removeAll { $0.order == order } }
      return id
    }
    announce()
    return id
  }

  private static func enqueue(_ job: GenerateJob, _ state: inout State) throws -> ID {
    guard state.toGenerate.count < mostWaiting else {
      throw StudioError("\(mostWaiting) generations wait already; let them come first", .tooMany)
    }
    state.toGenerate.append(job)
    return job.id
  }

  /// Puts what was broken off into the queue: the images that are missing are made.
  func goOnGenerating(_ id: ID) throws {
    try locked { state in
      guard let found = state.brokenOff.first(where: { $0.id == id }) else {
        throw StudioError("there is nothing to go on with", .conflict)
      }
      _ = try Self.enqueue(GenerateJob(found, isReplaceable: false), &state)
      state.brokenOff.removeAll { $0.id == id }
    }
    announce()
  }

  /// Stops what is being generated, and what waits to be. Images that are done are kept.
  func stopGenerating() {
    locked { state in
      state.toGenerate.removeAll()
      if let job = state.generating { Self.stop(job, &state) }
    }
    announce()
  }

  /// One that the thread is not within ends at once.
  static func stop(_ job: GenerateJob, _ state: inout State) {
    job.requestStop()
    if !state.isDrawing { state.generating = nil }
  }

  // MARK: What outlives the studio

  private let keeping = NSLock()
  private var kept: Data?

  /// Writes down what waits, where that has changed.
  private func keepWaiting() {
    keeping.withLock {
      do {
        let now = try HTTPResponse.encoded(locked { Waiting($0) })
        guard now != kept else { return }
        try AtomicFile.write(now, to: library.folder.waiting)
        kept = now
        locked { $0.notKept = nil }
      } catch {
        update { $0.notKept = "what waits is lost when the studio ends: \(error)" }
      }
    }
  }

  /// Takes over what waited when an earlier studio ended. Before `start`.
  func takeOver() {
    let waiting = Waiting(library.folder.waiting)
    locked { state in
      // A model with other sizes may have been chosen since.
      func isForModel(_ one: Waiting.Unfinished) -> Bool { (try? one.order.check(facts.sides)) != nil }
      state.toGenerate = waiting.orders.filter(isForModel).map { GenerateJob($0, isReplaceable: false) }
      state.brokenOff = waiting.brokenOff.filter(isForModel)
    }
    for id in waiting.learn {
      guard let plan = try? library.concept(id).plan, library.progress(of: id).state == .stopped else {
        continue
      }
      do {
        try plan.check(facts, settings)
        // What is kept is written once all of it is taken over.
        _ = enqueue(id)
      } catch { library.settle(id, problem: "\(error)") }
    }
    for (concept, progress) in library.all where progress.state == .stopped && progress.step == 0 {
      library.settle(concept.id, problem: progress.problem)
    }
    announce()
  }

  /// Whether a concept is being learned or waits for it.
  func isBusy(with id: ID) -> Bool {
    locked { $0.learning?.id == id || $0.toLearn.contains(id) }
  }
}
