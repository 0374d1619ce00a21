import Dispatch
import Foundation

/// Ctrl-C and SIGTERM: something is saved before the process ends.
///
/// The handler runs on a queue of its own while the main thread works, so that it can act within two
/// seconds although a training step may take minutes.
final class Signals {
  private let sources: [any DispatchSourceSignal]

  /// Calls `handler` with the exit code that the signal asks for, 130 or 143.
  init(_ handler: @escaping @Sendable (_ exitCode: Int32) -> Void) {
    let queue = DispatchQueue(label: "signals")
    sources = [SIGINT, SIGTERM].map { number in
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler { handler(128 + number) }
      source.resume()
      return source
    }
  }

  deinit {
    for s in sources { s.cancel() }
    signal(SIGINT, SIG_DFL)
    signal(SIGTERM, SIG_DFL)
  }
}
