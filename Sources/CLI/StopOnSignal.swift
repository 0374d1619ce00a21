import Dispatch
import Foundation
import NeTI
import Synchronization

/// What Ctrl-C and SIGTERM do to a training run: within two seconds the last completed step is saved
/// and the process ends, however long a step takes.
final class StopOnSignal {
  /// How long a signal waits for the step at hand before it saves the one before.
  private static let patience = 1.2

  /// What the signal's thread and the main thread share.
  private final class State: Sendable {
    let commands = Mutex<TrainingCommands?>(nil)
    let code = Mutex<Int32>(0)
    let ended = DispatchSemaphore(value: 0)
    let goOn: String

    init(goOn: String) { self.goOn = goOn }

    func message(savedStep: Int?) -> String {
      "stopped; " + (savedStep.map { "step \($0) is saved" } ?? "no step was complete")
        + ". Go on with: \(goOn)"
    }

    func stop(_ signal: Int32) {
      // A second signal while the first is being served changes nothing.
      let isFirst = code.withLock { old in
        defer { if old == 0 { old = signal } }
        return old == 0
      }
      guard isFirst else { return }
      guard let commands = commands.withLock({ $0 }) else {
        note("\nstopped before the first step. Begin again with the same command and --resume")
        _exit(signal)
      }
      commands.requestStop()
      if ended.wait(timeout: .now() + StopOnSignal.patience) == .success { return }
      do {
        note("\n" + message(savedStep: try commands.saveLastStep()?.step))
      } catch {
        note("\nneti: stopped, and the last step could not be saved: \(error)")
      }
      _exit(signal)
    }
  }

  private let state: State
  private let signals: Signals

  /// Signals end the process from now on; `goOn` is the command that continues the run.
  init(goOn: String) {
    let state = State(goOn: goOn)
    self.state = state
    signals = Signals { state.stop($0) }
  }

  /// Signals stop this trainer from now on.
  func serve(_ commands: TrainingCommands) { state.commands.withLock { $0 = commands } }

  /// Training is over; returns the exit code that a signal asked for, 0 when there was none.
  func end() -> Int32 {
    state.ended.signal()
    return state.code.withLock { $0 }
  }

  /// Says what is saved, and how to go on.
  func message(savedStep: Int?) -> String { state.message(savedStep: savedStep) }
}
