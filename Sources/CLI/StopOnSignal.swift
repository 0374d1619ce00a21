import Dispatch
import Foundation
import NeTI
import Synchronization

/// What Ctrl-C, SIGTERM and SIGHUP do while concepts are learned, one after another: within two seconds the last
/// completed step is saved and the process ends, however long a step takes.
final class StopOnSignal {
  /// How long a signal waits for the step at hand before it saves the one before.
  private static let patience = 1.2

  /// What the signal's thread and the main thread share.
  private final class State: Sendable {
    /// A run at work, and where its end is told.
    struct Run {
      let commands: TrainingCommands
      let ended = DispatchSemaphore(value: 0)
    }

    let run = Mutex<Run?>(nil)
    let code = Mutex<Int32>(0)
    let goOn: String
    let early: String
    let speaks: Bool

    init(goOn: String, early: String, speaks: Bool) {
      self.goOn = goOn
      self.early = early
      self.speaks = speaks
    }

    private func say(_ text: String) { if speaks { note("\n" + text) } }

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
      guard let run = run.withLock({ $0 }) else {
        say(early)
        _exit(signal)
      }
      run.commands.requestStop()
      if run.ended.wait(timeout: .now() + StopOnSignal.patience) == .success { return }
      run.commands.saveLastStep { saved in
        switch saved {
        case .success(let step): say(message(savedStep: step))
        case .failure(let error):
          say("neti: stopped, and the last step could not be saved: \("\(error)".oneLine)")
        }
        // Within, so that no checkpoint is cut short.
        _exit(signal)
      }
    }

    /// The step at hand cannot be completed: the one before is saved.
    func end(_ problem: String) {
      guard let run = run.withLock({ $0 }) else { return complain(problem) }
      run.commands.saveLastStep { saved in
        switch saved {
        case .success(let step?): complain("\(problem); step \(step) is saved. Go on with: \(goOn)")
        case .success(nil): complain("\(problem); no step was complete. Go on with: \(goOn)")
        case .failure(let error): complain("\(problem); the last step could not be saved: \(error)")
        }
        _exit(1)
      }
    }
  }

  private let state: State
  private let signals: Signals

  /// Signals end the process from now on.
  ///
  /// - Parameters:
  ///   - goOn: the command that continues the run.
  ///   - early: what to say while no run is at work.
  ///   - speaks: whether to say anything.
  init(goOn: String, early: String, speaks: Bool = true) {
    let state = State(goOn: goOn, early: early, speaks: speaks)
    self.state = state
    signals = Signals { state.stop($0) }
    LostFile.onLoss { state.end($0) }
  }

  /// The exit code that a signal asked for, 0 when there was none.
  var code: Int32 { state.code.withLock { $0 } }

  /// Signals stop this trainer from now on.
  func serve(_ commands: TrainingCommands) { state.run.withLock { $0 = State.Run(commands: commands) } }

  /// The trainer is done; returns `code`.
  func end() -> Int32 {
    state.run.withLock {
      $0?.ended.signal()
      $0 = nil
    }
    return code
  }

  /// Says what is saved, and how to go on.
  func message(savedStep: Int?) -> String { state.message(savedStep: savedStep) }
}
