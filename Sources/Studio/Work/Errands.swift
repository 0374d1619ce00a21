import Foundation

/// What is quick and needs no model, such as a plot of a concept: one after another, on a thread with a deep stack.
/// What is learned or generated meanwhile goes on, and nobody waits for the end of a long step.
final class Errands: @unchecked Sendable {
  private final class Errand: Sendable {
    let body: @Sendable () -> Void
    let done = DispatchSemaphore(value: 0)
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  /// Written by one thread before the other reads.
  private final class Box<T>: @unchecked Sendable { var value: T? }

  // Behind the condition's lock.
  private let condition = NSCondition()
  private var waiting: [Errand] = []

  /// How many may wait.
  private static let most = 8

  /// Works from now on.
  func start() {
    let thread = Thread { [self] in
      while true { serveOne() }
    }
    thread.name = "studio errands"
    thread.stackSize = 16 << 20
    thread.start()
  }

  private func serveOne() {
    condition.lock()
    while waiting.isEmpty { condition.wait() }
    let errand = waiting.removeFirst()
    condition.unlock()
    errand.body()
    errand.done.signal()
  }

  /// Runs `body` when its turn comes, and gives its result.
  func callAsFunction<T: Sendable>(_ body: @escaping @Sendable () throws -> T) throws -> T {
    let result = Box<Result<T, any Error>>()
    let errand = Errand { result.value = Result { try body() } }
    condition.lock()
    let hasPlace = waiting.count < Self.most
    if hasPlace { waiting.append(errand) }
    condition.broadcast()
    condition.unlock()
    guard hasPlace else { throw StudioError("the studio is busy; try again in a moment", .tooMany) }
    errand.done.wait()
    guard let value = result.value else { throw StudioError("nothing came of it", .failed) }
    return try value.get()
  }
}
