import Foundation
import Torch

/// What keeps a run's work from being lost: numbers that are not finite, a process that is gone, a signal, a
/// step that takes long.
extension Trainer {
  /// The checkpoint that was written last.
  struct Saved {
    let step: Int
    let time = ContinuousClock.now
  }

  /// Checkpoints come at least this often.
  static let saveInterval: Duration = .seconds(600)

  func isCheckpointDue(_ saved: Saved) -> Bool {
    completedSteps.isMultiple(of: configuration.log.saveSteps)
      || ContinuousClock.now - saved.time > Self.saveInterval
  }

  /// Gives the commands a copy of this step, so that a signal can save it while the next one runs.
  func keepLastStep(_ save: @escaping (Int, Data) throws -> URL) throws {
    guard processes.isFirst else { return }
    let (step, encoded) = (completedSteps, try Checkpoint.copy(concept, optimizer))
    commands.completed(step: step) { try save(step, encoded()) }
  }

  private struct NonFiniteLoss: Error { let loss: Double }

  /// Refuses a loss or gradients that are not finite, before the optimiser sees them: a gradient that
  /// overflowed would spoil the concept although the loss was still finite.
  func requireFinite(_ loss: Double) throws {
    let isFinite =
      try loss.isFinite
      && optimizer.parameters.allSatisfy { p in
        try p.gradient?.norm().item().isFinite ?? false
      }
    guard isFinite else {
      optimizer.clearGradients()
      throw NonFiniteLoss(loss: loss.isFinite ? .nan : loss)
    }
  }

  /// Refuses what the optimiser made, when it is not finite.
  func requireFiniteParameters() throws {
    for p in optimizer.parameters {
      guard try p.detached().norm().item().isFinite else { throw NonFiniteLoss(loss: .infinity) }
    }
  }

  /// Takes a step; where it cannot be taken, the one before is saved, and the error says what to do.
  func guarded(_ saved: Saved, _ rate: Double, _ step: () throws -> Double) throws -> Double {
    do { return try step() } catch let e as NonFiniteLoss {
      // The step before, as it was: this one may have spoiled the mapper already.
      if saved.step < completedSteps { try commands.saveLastStep() }
      throw NeTIError(
        "the loss or the mapper became \(e.loss) in step \(completedSteps + 1), so that step was not taken"
          + (completedSteps > 0 ? " and step \(completedSteps) is saved. " : ". ")
          + "Try a smaller learning rate (this step's was \(rate))"
          + (configuration.optim.mixedPrecision == .no ? "" : " or `precision fp32`"))
    } catch let e as LostProcess {
      if saved.step < completedSteps { try commands.saveLastStep() }
      throw NeTIError(
        "another process of this run was lost in step \(completedSteps + 1) (\(e.reason))"
          + (processes.isFirst && completedSteps > 0 ? "; step \(completedSteps) is saved" : "")
          + ". Go on by starting all of them again with `resume`")
    }
  }
}
