import Files
package import Foundation

/// How long learning takes here and what memory it needs, for each model as it was opened: measured by a trial before
/// the first run, and by each run after it.
package final class Experience: @unchecked Sendable {
  package struct Entry: Codable, Sendable, Equatable {
    /// Seconds of a training step.
    package var step: Double
    /// Seconds of what comes between steps every now and then; see `Pace`.
    package var pause: Double
    /// Bytes at the peak of the process.
    package var memory: Double?

    package init(step: Double, pause: Double, memory: Double?) {
      (self.step, self.pause, self.memory) = (step, pause, memory)
    }

    package var isPlausible: Bool {
      [step, pause, memory ?? 1].allSatisfy { $0.isFinite && $0 > 0 }
    }
  }

  private let file: URL
  private let lock = NSLock()
  private var entries: [String: Entry]

  /// Entries that are kept. One more, and all are measured anew.
  private static let mostEntries = 100

  package init(_ file: URL) {
    self.file = file
    entries = (try? JSONFile.decode([String: Entry].self, from: file)) ?? [:]
    entries = entries.filter(\.value.isPlausible)
  }

  /// What is known of a model, as `ModelFacts.circumstances` tells it from others.
  package func callAsFunction(_ circumstances: String) -> Entry? { lock.withLock { entries[circumstances] } }

  func learn(_ circumstances: String, _ entry: Entry) {
    guard entry.isPlausible else { return }
    lock.withLock {
      if entries[circumstances] == nil, entries.count >= Self.mostEntries { entries = [:] }
      entries[circumstances] = entry
    }
  }

  /// Keeps it for the next start; without it, the next measures anew.
  func save() {
    guard let data = try? HTTPResponse.encoded(lock.withLock { entries }) else { return }
    try? AtomicFile.write(data, to: file)
  }
}
