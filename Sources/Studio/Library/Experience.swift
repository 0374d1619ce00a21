import Files
import Foundation

/// How long a training step took here and what memory it needed, for each base model, to say it before the next.
final class Experience: @unchecked Sendable {
  struct Entry: Codable, Sendable {
    var secondsEach: Double
    /// Bytes at the peak of the process.
    var memory: Double?
  }

  private let file: URL
  private let lock = NSLock()
  private var entries: [String: Entry]

  /// Entries that are kept: bases of one studio.
  private static let mostEntries = 100

  init(_ file: URL) {
    self.file = file
    entries = (try? JSONFile.decode([String: Entry].self, from: file)) ?? [:]
    entries = entries.filter { $0.value.secondsEach.isFinite && $0.value.secondsEach > 0 }
  }

  /// What is known of a base.
  func callAsFunction(_ base: String) -> Entry? { lock.withLock { entries[base] } }

  func learn(_ base: String, secondsEach: Double, memory: Double?) {
    lock.withLock { entries[base] = Entry(secondsEach: secondsEach, memory: memory) }
  }

  /// Keeps it for the next start; without it, the next run measures anew.
  func save() {
    let all = lock.withLock { entries }
    guard all.count <= Self.mostEntries, let data = try? HTTPResponse.encoded(all) else { return }
    try? AtomicFile.write(data, to: file)
  }
}
