import Dispatch
import Foundation
import Synchronization

#if canImport(Glibc)
  import Glibc
#elseif canImport(Musl)
  import Musl
#else
  import Darwin
#endif

/// Ctrl-C, SIGTERM and a terminal that closes (SIGHUP): something is saved before the process ends.
///
/// The handler runs on a queue of its own while the main thread works, so that it can act within two
/// seconds although a training step may take minutes. Of several the newest is called.
final class Signals {
  private let number: Int

  /// Calls `handler` with the exit code that the signal asks for, 130, 143 or 129.
  init(_ handler: @escaping @Sendable (_ exitCode: Int32) -> Void) {
    number = SignalWatch.shared.add(handler)
  }

  deinit { SignalWatch.shared.remove(number) }
}

/// Listens from the first handler to the end of the process: a source that takes the place of one which is just
/// being cancelled may stay deaf.
private final class SignalWatch: Sendable {
  static let shared = SignalWatch()

  private typealias Handler = @Sendable (Int32) -> Void
  private struct State {
    var handlers: [(number: Int, call: Handler)] = []
    var count = 0
  }
  private let state = Mutex(State())
  /// Set while it is made, and only kept.
  nonisolated(unsafe) private var sources: [any DispatchSourceSignal] = []

  private init() {
    let queue = DispatchQueue(label: "signals")
    // `nohup` ignores SIGHUP, so that work goes on without the terminal.
    let numbers = [SIGINT, SIGTERM] + (Self.isIgnored(SIGHUP) ? [] : [SIGHUP])
    for number in numbers {
      signal(number, SIG_IGN)
      let source = DispatchSource.makeSignalSource(signal: number, queue: queue)
      source.setEventHandler { [self] in
        guard let newest = state.withLock({ $0.handlers.last?.call }) else { _exit(128 + number) }
        newest(128 + number)
      }
      source.resume()
      sources.append(source)
    }
  }

  func add(_ handler: @escaping @Sendable (Int32) -> Void) -> Int {
    state.withLock {
      $0.count += 1
      $0.handlers.append(($0.count, handler))
      return $0.count
    }
  }

  func remove(_ number: Int) { state.withLock { $0.handlers.removeAll { $0.number == number } } }

  private static func isIgnored(_ number: Int32) -> Bool {
    var now = sigaction()
    sigaction(number, nil, &now)
    #if canImport(Darwin)
      let handler = now.__sigaction_u.__sa_handler
    #else
      let handler = now.__sigaction_handler.sa_handler
    #endif
    // Functions cannot be compared.
    return unsafeBitCast(handler, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self)
  }
}
