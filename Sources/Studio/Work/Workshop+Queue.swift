/// What is being done and what waits, as one list.
extension Workshop {
  /// A line of the list.
  struct Queued: Encodable, Sendable {
    enum Kind: String, Encodable { case learn, generate }
    let kind: Kind
    /// The concept's, or the order's.
    let id: ID
    let isRunning: Bool
    /// Of an order.
    var prompt: String?
  }

  /// Takes an order out of the queue, or stops it.
  ///
  /// - Throws: when it is done already.
  func stopGenerating(_ id: ID) throws {
    let isFound = locked { state in
      let count = state.toGenerate.count
      state.toGenerate.removeAll { $0.id == id }
      guard count == state.toGenerate.count else { return true }
      guard let job = state.generating, job.id == id else { return false }
      Self.stop(job, &state)
      return true
    }
    announce()
    if !isFound { throw StudioError("this is done already", .notFound) }
  }
}

extension Workshop.State {
  /// In the order in which it will be done, what runs first: images come between two training steps, and before the
  /// next concept.
  var queue: [Workshop.Queued] {
    func line(_ job: GenerateJob, isRunning: Bool) -> Workshop.Queued {
      .init(kind: .generate, id: job.id, isRunning: isRunning, prompt: job.order.prompt)
    }
    return (generating.map { [line($0, isRunning: true)] } ?? [])
      + (learning.map { [.init(kind: .learn, id: $0.id, isRunning: true)] } ?? [])
      + toGenerate.map { line($0, isRunning: false) }
      + toLearn.map { .init(kind: .learn, id: $0, isRunning: false) }
  }
}
