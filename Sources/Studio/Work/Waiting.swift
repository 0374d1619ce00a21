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

    init(id: ID, order: Order, done: Int = 0) { (self.id, self.order, self.done) = (id, order, done) }

    init(from decoder: any Decoder) throws {
      let values = try decoder.container(keyedBy: CodingKeys.self)
      id = try values.decode(ID.self, forKey: .id)
      order = try values.decode(Order.self, forKey: .order)
      done = try values.decodeIfPresent(Int.self, forKey: .done) ?? 0
    }
  }

  /// What can be read of a list: a damaged entry does not take the others with it.
  private struct Readable<Entry: Decodable>: Decodable {
    var entries: [Entry] = []

    private struct Anything: Decodable {
      let entry: Entry?
      init(from decoder: any Decoder) { entry = try? Entry(from: decoder) }
    }

    init(from decoder: any Decoder) throws {
      entries = try decoder.singleValueContainer().decode([Anything].self).compactMap(\.entry)
    }
  }

  package init(from decoder: any Decoder) throws {
    let values = try decoder.container(keyedBy: CodingKeys.self)
    func list<Entry: Decodable>(_ key: CodingKeys) -> [Entry] {
      (try? values.decode(Readable<Entry>.self, forKey: key))?.entries ?? []
    }
    (learn, orders, brokenOff) = (list(.learn), list(.orders), list(.brokenOff))
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
