/// What is being done and what waits, as one list.
extension Workshop {
  /// A line of the list.
  struct Queued: Encodable, Sendable {
    enum Kind: String, Encodable { case learn, generate }
    let kind: Kind
    /// The concept's, or the order's.
    let id: ID
    let isRunning: Bool
    /// Whether the end of an earlier studio broke it off; it goes on when it is asked for.
    var isBrokenOff = false
    /// Of an order.
    var prompt: String?
  }

  /// Takes an order out of the queue, or stops it, or forgets that it was broken off.
  ///
  /// - Throws: when none of these has this id, as one that is done.
  func stopGenerating(_ id: ID) throws {
    let isFound = locked { state in
      let count = state.toGenerate.count + state.brokenOff.count
      state.toGenerate.removeAll { $0.id == id }
      state.brokenOff.removeAll { $0.id == id }
      guard count == state.toGenerate.count + state.brokenOff.count else { return true }
      guard let job = state.generating, job.id == id else { return false }
      Self.stop(job, &state)
      return true
    }
    announce()
    if !isFound { throw StudioError("no such generation waits or runs; perhaps it is done", .notFound) }
  }
}

extension Workshop.State {
  /// In the order in which it will be done, what runs first: images come between two training steps, and before the
  /// next concept. What was broken off comes last.
  var queue: [Workshop.Queued] {
    func line(
      _ one: Waiting.Unfinished, isRunning: Bool = false, isBrokenOff: Bool = false
    ) -> Workshop.Queued {
      .init(
        kind: .generate, id: one.id, isRunning: isRunning, isBrokenOff: isBrokenOff, prompt: one.order.prompt)
    }
    return (generating.map { [line($0.unfinished, isRunning: true)] } ?? [])
      + (learning.map { [.init(kind: .learn, id: $0.id, isRunning: true)] } ?? [])
      + toGenerate.map { line($0.unfinished) }
      + toLearn.map { .init(kind: .learn, id: $0, isRunning: false) }
      + brokenOff.map { line($0, isBrokenOff: true) }
  }
}
