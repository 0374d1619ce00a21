import Foundation

/// What pages wait for: each part of what they show has a number that grows when it changes.
final class Changes: @unchecked Sendable {
  /// A part of what a page shows; its name is the event's.
  enum Part: String, CaseIterable {
    /// The concepts with their pictures.
    case concepts
    /// The images that were generated.
    case images
    /// What is being computed, and what waits.
    case work
  }

  // Behind the condition's lock.
  private var versions = Dictionary(uniqueKeysWithValues: Part.allCases.map { ($0, 1) })
  private let condition = NSCondition()

  func mark(_ part: Part) {
    condition.lock()
    versions[part, default: 0] += 1
    condition.broadcast()
    condition.unlock()
  }

  /// The numbers as soon as one differs from those that were `seen`, or after some seconds.
  func next(after seen: [Part: Int], patience: TimeInterval) -> [Part: Int] {
    condition.lock()
    defer { condition.unlock() }
    let end = Date(timeIntervalSinceNow: patience)
    while versions == seen, condition.wait(until: end) {}
    return versions
  }
}

/// What pages are told of each part, so that several pages cost no more than one.
final class Told: @unchecked Sendable {
  // Behind the lock, which is held while a part is encoded: the others want the same.
  private var newest: [Changes.Part: (version: Int, data: Data)] = [:]
  private let lock = NSLock()

  /// A part as it was at a version or later.
  func callAsFunction(_ part: Changes.Part, _ version: Int?, _ encode: () throws -> Data) rethrows -> Data {
    lock.lock()
    defer { lock.unlock() }
    if let version, let known = newest[part], known.version >= version { return known.data }
    let data = try encode()
    if let version { newest[part] = (version, data) }
    return data
  }
}
