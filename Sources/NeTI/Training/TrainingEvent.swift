public import Foundation
public import Imaging

/// What a trainer tells those who listen: the progress bar, the logs, the run folder.
public enum TrainingEvent {
  /// Work begins: `from` steps are done already, `to` is the last.
  case started(from: Int, to: Int)
  case step(TrainingStep)
  /// A checkpoint was written.
  case checkpoint(step: Int, file: URL)
  /// Validation pictures: one per prompt and seed.
  case samples(step: Int, pictures: [(prompt: String, seed: UInt64, picture: Picture)])
}

/// One update of the mapper.
public struct TrainingStep: Codable, Sendable, Equatable {
  /// Updates made, this one included.
  public var step: Int
  /// The mean of the denoising loss over the step's samples.
  public var loss: Double
  public var learningRate: Double
  /// Wall time of this step.
  public var seconds: Double
}

/// What others may ask of a trainer while it works; safe from any thread.
public final class TrainingCommands: @unchecked Sendable {
  // All state is behind the lock.
  private let lock = NSLock()
  private var stop = false
  private var save = false
  private var sample = false
  private var lastStep: (step: Int, write: () throws -> URL)?

  public init() {}

  /// Ends the run after the step at hand, with a checkpoint.
  public func requestStop() { lock.withLock { stop = true } }
  /// Writes a checkpoint after the step at hand.
  public func requestCheckpoint() { lock.withLock { save = true } }
  /// Draws the validation pictures after the step at hand.
  public func requestSamples() { lock.withLock { sample = true } }

  public var stopRequested: Bool { lock.withLock { stop } }
  func takeCheckpoint() -> Bool {
    lock.withLock {
      defer { save = false }; return save
    }
  }
  func takeSamples() -> Bool {
    lock.withLock {
      defer { sample = false }; return sample
    }
  }

  func completed(step: Int, write: @escaping () throws -> URL) {
    lock.withLock { lastStep = (step, write) }
  }

  /// Writes the last completed step as a checkpoint now, from any thread, while a step may still be
  /// running: nil when no step is complete.
  ///
  /// The trainer cannot complete another step meanwhile, so what is written is whole.
  public func saveLastStep() throws -> (step: Int, file: URL)? {
    try lock.withLock {
      guard let last = lastStep else { return nil }
      return (last.step, try last.write())
    }
  }
}
