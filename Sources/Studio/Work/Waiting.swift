import Files
package import Foundation

/// What waits, as a file: a studio that ends, or is killed, leaves it for the next.
package struct Waiting: Codable {
  /// Concepts to learn, the next first. The one that is being learned is none of them: its run goes on when asked.
  private(set) var learn: [ID] = []
  private(set) var orders: [Order] = []
  /// The prompt of what was being generated. It does not come again by itself: perhaps it was too much for the machine.
  private(set) var drawing: String?

  /// How much it is, for tests.
  package var count: (learn: Int, orders: Int, drawing: Int) {
    (learn.count, orders.count, drawing == nil ? 0 : 1)
  }

  init(_ state: Workshop.State) {
    learn = state.toLearn
    // A dial moves on.
    orders = state.toGenerate.filter { !$0.isReplaceable }.map(\.order)
    if let job = state.generating, !job.isReplaceable, !job.isStopping { drawing = job.order.prompt }
  }

  /// Reads a file; of one that is damaged, or not there, nothing waits.
  package init(_ file: URL) {
    guard let found = try? JSONFile.decode(Waiting.self, from: file) else { return }
    learn = found.learn.prefix(ConceptLibrary.mostConcepts).reduce(into: []) {
      if !$0.contains($1) { $0.append($1) }
    }
    orders = Array(found.orders.prefix(Workshop.mostWaiting))
    drawing = found.drawing.map { String($0.escaped.prefix(GenerateRequest.longestPrompt)) }
  }
}
