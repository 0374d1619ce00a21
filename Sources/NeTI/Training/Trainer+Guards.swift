public import Files
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

  private struct NonFiniteLoss: Error {
    let loss: Double
    /// Whether the loss was finite, and the step that was taken from it is not.
    var isOfUpdate = false
  }

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
      guard try p.detached().norm().item().isFinite else {
        throw NonFiniteLoss(loss: .infinity, isOfUpdate: true)
      }
    }
  }

  /// Saves the last completed step when `error` ends the run, and says so where the error is for a user.
  func ending(_ error: any Error, _ saved: Saved, _ rate: Double) -> any Error {
    let why = reason(error)
    let (kept, isSaved) = keep(saved, why)
    switch error {
    case let e as NonFiniteLoss:
      // No rate has had a part in the first loss.
      if completedSteps == 0, !e.isOfUpdate {
        let precision =
          configuration.optim.mixedPrecision == .bf16
          ? "try `optim.mixed_precision no`, and where that does not help, " : ""
        return NeTIError(
          "the first loss, or its gradient, is \(e.loss), before anything is learned: the model's weights are damaged, or too large for "
            + "the precision; \(precision)use another copy of the model")
      }
      return NeTIError(
        "the loss or the mapper became \(e.loss) in step \(completedSteps + 1), so that step was not taken\(kept). "
          + "Try a smaller learning rate (this step's was \(rate))"
          + (configuration.optim.mixedPrecision == .bf16 ? " or `optim.mixed_precision no`" : ""))
    case let e as LostProcess:
      return InterruptedRun(
        "another process of this run was lost in step \(completedSteps + 1) (\(e.reason))\(kept)",
        isSaved: isSaved)
    case is any DescribedError where processes.isFirst, is TorchError where processes.isFirst:
      return InterruptedRun("\(why)\(kept)", isSaved: isSaved)
    default: return error
    }
  }

  /// Writes the last completed step where it is not written yet; “; step 5 is saved”, and whether any step is.
  private func keep(_ saved: Saved, _ why: String) -> (line: String, isSaved: Bool) {
    guard processes.isFirst else { return ("", true) }
    let isSaved = saved.step > 0
    let last = isSaved ? "; step \(saved.step) is saved" : "; no step is saved"
    guard saved.step < completedSteps else { return (last, isSaved) }
    do {
      guard let now = try commands.saveLastStep() else { return (last, isSaved) }
      return ("; step \(now.step) is saved", true)
    } catch {
      let reason = reason(error)
      return (
        "; step \(completedSteps) could not be saved\(reason == why ? "" : " (\(reason))")\(last)", isSaved
      )
    }
  }
}

/// A run that ended before its last step and can go on: why, and which step is saved.
public struct InterruptedRun: DescribedError {
  public let message: String
  /// Whether there is a step to go on from; else the run begins again.
  public let isSaved: Bool

  init(_ message: String, isSaved: Bool) { (self.message, self.isSaved) = (message, isSaved) }
}

/// Does what training can do without; where it fails, that is a warning with its reason, and nil.
func attempt<T>(_ otherwise: String, _ warn: (String) throws -> Void, _ work: () throws -> T) throws -> T? {
  do { return try work() } catch {
    try warn("\(otherwise): \(reason(error))")
    return nil
  }
}

/// Why a part of a run failed. That nothing was changed is said of a file, and would be read of the run.
func reason(_ error: any Error) -> String { "\(error)".replacing("; nothing was changed", with: "") }
