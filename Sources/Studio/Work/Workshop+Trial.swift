import Diffusion
import Files
import Foundation
import NeTI
import Torch

/// Before anything was learned here, a few steps are tried, to say how long it will take. What they learn is thrown
/// away. The trial waits until nobody wants anything else, and gives way between two steps.
extension Workshop {
  /// What is to be tried, and from when on: pictures come one after another.
  struct Trial {
    let id: ID
    let due: Date
    static let patience: TimeInterval = 1.5
  }

  /// Tries how long learning from a concept's pictures takes, unless that is known.
  func foresee(_ id: ID) {
    guard library.folder.experience(facts.circumstances) == nil else { return }
    update {
      $0.trial = Trial(id: id, due: Date(timeIntervalSinceNow: Trial.patience))
      $0.trialProblem = nil
    }
    wake()
  }

  private struct GivesWay: Error {}

  /// Measures, and keeps what it measured; what fails is told where it would have stood.
  func tryOut(_ id: ID) {
    do {
      if let entry = try measured(id) {
        library.folder.experience.learn(facts.circumstances, entry)
        library.folder.experience.save()
      }
      update { $0.isTrying = false }
    } catch is GivesWay {
      update {
        $0.isTrying = false
        // Unless there are newer pictures.
        $0.trial = $0.trial ?? Trial(id: id, due: Date(timeIntervalSinceNow: Trial.patience))
      }
    } catch {
      // What was deleted meanwhile is nobody's problem.
      let isThere = (try? library.concept(id)) != nil
      update {
        $0.isTrying = false
        $0.trialProblem = isThere ? "\(error)" : nil
      }
    }
  }

  /// Whether someone waits for the thread.
  private var isWanted: Bool { locked { !$0.toGenerate.isEmpty || !$0.toLearn.isEmpty } }

  private func giveWay(_ must: Bool = false) throws { if must || isWanted { throw GivesWay() } }

  /// Steps that are measured, after one that makes caches; and seconds after which they are enough.
  private static let (mostSteps, enough) = (4, 2.0)

  /// Nil where there is nothing to try it with any more.
  private func measured(_ id: ID) throws -> Experience.Entry? {
    guard let concept = try? library.concept(id), concept.plan == nil, !concept.pictures.isEmpty else {
      return nil
    }
    let request = LearnRequest(
      title: "trial", kind: "thing", quality: .good, steps: nil, seed: nil, isStyle: nil)
    var c = try settings.configuration(
      request.words(
        name: "trial", folder: library.place(of: id).path, usualSteps: facts.usualSteps,
        modelWords: settings.modelWords))
    try MemoryEstimate.require(c, on: model)
    let images = try TrainingImages(c.data, on: model).examples
    c.optim.maxTrainSteps = 1 + Self.mostSteps
    let trainer = try Trainer(model: model, examples: images, configuration: c)
    var steps: [Double] = []
    // Nothing is written: what would be saved is thrown away.
    let learned = try trainer.run(save: { _, _ in URL(filePath: "/dev/null") }) { event in
      guard case .step(let step) = event else { return }
      if step.step > 1 { steps.append(step.seconds) }
      if isWanted || steps.reduce(0, +) > Self.enough { trainer.commands.requestStop() }
    }
    // Without a step it was stopped for someone, who may be gone by now.
    try giveWay(steps.isEmpty)
    let (each, rest) = try measuredImage(learned, c)
    let pictures = Double(c.eval.validationPrompts.count * c.eval.numValidationImages)
    // A denoising step passes the U-Net twice.
    let pause =
      pictures * (Double(c.eval.numDenoisingSteps) * each + rest)
      + Double(FixedLoss.passes(pictures: images.count)) * each / 2
    return .init(step: steps.reduce(0, +) / Double(steps.count), pause: pause, memory: SystemMemory.peak())
  }

  /// Seconds of a denoising step of an image of how a concept looks, and of all else of the image.
  private func measuredImage(_ concept: Concept, _ c: RunConfiguration) throws -> (each: Double, rest: Double)
  {
    var request = ConceptGenerator.Request(prompts: ["a photo of a {}"])
    request.steps = 3
    request.guidance = c.eval.guidanceScale
    request.scheduler = facts.defaults?.scheduler ?? request.scheduler
    // As a run chooses the one for its validation images.
    func works(_ kind: SchedulerKind) -> Bool {
      (try? makeScheduler(kind, model.schedulerConfiguration, steps: request.steps)) != nil
    }
    if !works(request.scheduler), let other = SchedulerKind.allCases.first(where: works) {
      request.scheduler = other
    }
    let clock = ContinuousClock()
    let start = clock.now
    var times: [ContinuousClock.Instant] = []
    _ = try ConceptGenerator(model, concepts: [.init(concept)]).prepare(request)(
      progress: { _ in
        try giveWay()
        times.append(clock.now)
      },
      // A GPU has done the step when a number of it is here.
      watching: { _ = try $0.latents.min().item() })
    // Before each step, and at the end.
    guard times.count > 3 else { return (0, (clock.now - start) / .seconds(1)) }
    let each = (times[2] - times[1]) / .seconds(1)
    return (each, max(0, (clock.now - start) / .seconds(1) - 3 * each))
  }
}
