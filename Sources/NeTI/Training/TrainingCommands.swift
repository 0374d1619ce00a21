public import Foundation

/// What others may ask of a trainer while it works; safe from any thread.
public final class TrainingCommands: @unchecked Sendable {
  // All state is behind the lock.
  private let lock = NSLock()
  private var stop = false
  private var lastStep: (step: Int, write: () throws -> URL)?

  public init() {}

  /// Ends the run after the step at hand, with a checkpoint.
  public func requestStop() { lock.withLock { stop = true } }

  public var stopRequested: Bool { lock.withLock { stop } }

  /// A step is complete, and `write` writes it, whenever that is.
  func completed(step: Int, write: @escaping () throws -> URL) {
    lock.withLock { lastStep = (step, write) }
  }

  /// Writes the last completed step as a checkpoint now, from any thread, while a step may still be
  /// running: nil when no step is complete.
  ///
  /// The trainer cannot complete another step meanwhile, so what is written is whole.
  @discardableResult
  public func saveLastStep() throws -> (step: Int, file: URL)? { try lock.withLock { try writeLastStep() } }

  /// Does the same for a process that ends: `body` gets the step that was written, and the trainer can begin
  /// no other checkpoint before it returns.
  public func saveLastStep(before body: (Result<Int?, any Error>) -> Void) {
    lock.withLock { body(Result { try writeLastStep()?.step }) }
  }

  private func writeLastStep() throws -> (step: Int, file: URL)? {
    guard let last = lastStep else { return nil }
    return (last.step, try last.write())
  }
}
