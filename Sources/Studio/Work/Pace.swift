/// How long a run still takes: what was foreseen at first, then what its own steps and pauses take.
///
/// A pause is what comes after every so many steps: pictures of how it looks, a checkpoint, the fixed loss. It may
/// take as long as many steps.
package struct Pace {
  /// Steps from one pause to the next.
  package let every: Int
  /// What is learned under which circumstances; see `ModelFacts.circumstances`.
  package var circumstances = ""
  private var step: Mean
  private var pause: Mean
  private var isFirst = true

  /// Seconds; the newest count for more.
  private struct Mean {
    private(set) var value: Double?
    private var count = 0.0
    private static let leastWeight = 0.1

    /// - Parameter foreseen: counts until something is measured.
    init(_ foreseen: Double?) { value = foreseen }

    mutating func add(_ seconds: Double) {
      count += 1
      let old = count > 1 ? value ?? seconds : seconds
      value = old + (seconds - old) * max(1 / count, Self.leastWeight)
    }
  }

  package init(every: Int, foreseen: Experience.Entry?) {
    self.every = max(1, every)
    step = Mean(foreseen?.step)
    pause = Mean(foreseen?.pause)
  }

  /// A step took so long; the first also makes caches, and does not tell.
  package mutating func stepped(_ seconds: Double) {
    if isFirst { isFirst = false } else { step.add(seconds) }
  }

  package mutating func paused(_ seconds: Double) { pause.add(seconds) }

  /// Nil before anything is known. Until there was a pause, and where none was foreseen, the steps alone.
  ///
  /// - Parameter beforePause: whether the pause after the last of the steps done is still to come.
  package func secondsLeft(after done: Int, of total: Int, beforePause: Bool = false) -> Double? {
    guard let each = step.value else { return nil }
    let over = (beforePause ? max(0, done - 1) : done) / every
    return each * Double(total - done) + (pause.value ?? 0) * Double(total / every - over)
  }

  /// What the next run can expect, when both are known.
  package func entry(memory: Double?) -> Experience.Entry? {
    guard let step = step.value, let pause = pause.value else { return nil }
    return Experience.Entry(step: step, pause: pause, memory: memory)
  }
}
