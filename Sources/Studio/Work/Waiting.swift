import Files
package import Foundation

/// What waits, as a file: a studio that ends, or is killed, leaves it for the next.
package struct Waiting: Codable {
  /// Concepts to learn, the next first. The one that is being learned is none of them: its run goes on when asked.
  private(set) var learn: [ID] = []
  private(set) var orders: [Unfinished] = []
  /// What was being generated when a studio ended, the newest last. It does not go on by itself: perhaps it was too
  /// much for the machine.
  private(set) var brokenOff: [Unfinished] = []

  /// An order, and how many of its images are kept: the others are to be made.
  struct Unfinished: Codable, Sendable {
    let id: ID
    let order: Order
    var done = 0
  }

  /// How much it is, for tests.
  package var count: (learn: Int, orders: Int, brokenOff: Int) {
    (learn.count, orders.count, brokenOff.count)
  }

  /// Of each that was being generated, how many images are kept, for tests.
  package var imagesDone: [Int] { brokenOff.map(\.done) }

  init(_ state: Workshop.State) {
    learn = state.toLearn
    // A dial moves on.
    orders = state.toGenerate.filter { !$0.isReplaceable }.map(\.unfinished)
    brokenOff = state.brokenOff
    if let job = state.generating, !job.isReplaceable, !job.isStopping { brokenOff.append(job.unfinished) }
  }

  /// Reads a file; of one that is damaged, or not there, nothing waits.
  package init(_ file: URL) {
    guard let found = try? JSONFile.decode(Waiting.self, from: file) else { return }
    learn = found.learn.prefix(ConceptLibrary.mostConcepts).reduce(into: []) {
      if !$0.contains($1) { $0.append($1) }
    }
    var ids: Set<ID> = []
    orders = found.orders.prefix(Workshop.mostWaiting).filter { ids.insert($0.id).inserted }
    brokenOff = found.brokenOff.suffix(Workshop.mostWaiting).filter { ids.insert($0.id).inserted }
  }
}
