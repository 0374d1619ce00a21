import Foundation

/// Progress of long work on standard error: a bar with rate and time left on a terminal, plain lines
/// now and then otherwise.
final class ProgressBar {
  private let title: String
  private let unit: String
  private let total: Int
  private let first: Int
  private let isTerminal = isatty(STDERR_FILENO) == 1
  private let start = ContinuousClock.now
  private var lastDrawn: ContinuousClock.Instant?
  /// Whether a terminal's cursor stands behind the bar.
  private var isLineOpen = false

  /// `first` units are done already; rates count from there.
  init(_ title: String, total: Int, first: Int = 0, unit: String = "step") {
    self.title = title
    self.total = total
    self.first = first
    self.unit = unit
  }

  func update(_ done: Int, detail: String = "") {
    let now = ContinuousClock.now
    let pause: Duration = isTerminal ? .milliseconds(100) : .seconds(10)
    if let lastDrawn, now - lastDrawn < pause, done < total { return }
    lastDrawn = now
    let elapsed = (now - start).seconds
    let rate = elapsed > 0 ? Double(done - first) / elapsed : 0
    let left = rate > 0 ? Self.clock(Double(total - done) / rate) : "–"
    let counts = "\(done)/\(total)"
    let speed =
      rate >= 1 || rate == 0
      ? String(format: "%.1f %@/s", rate, unit) : String(format: "%.1f s/%@", 1 / rate, unit)
    let tail = detail.isEmpty ? "" : "  \(detail)"
    if isTerminal {
      let width = 24
      let filled = total > 0 ? min(width, width * done / total) : width
      let bar = String(repeating: "█", count: filled) + String(repeating: "░", count: width - filled)
      isLineOpen = done < total
      writeStandardError(
        "\r\u{1B}[K\(title) \(bar) \(counts)  \(speed)  \(left) left\(tail)" + (isLineOpen ? "" : "\n"))
    } else {
      note("\(title) \(counts)  \(speed)  \(left) left\(tail)")
    }
  }

  /// Ends the bar's line where it did not reach its total. What is written next stands below; an update begins another.
  func finish() {
    if isLineOpen { note("") }
    isLineOpen = false
  }

  /// 1:05 or 2:03:09.
  static func clock(_ seconds: Double) -> String {
    guard seconds.isFinite, seconds < 1e7 else { return "–" }
    let s = Int(seconds.rounded())
    return s >= 3600
      ? String(format: "%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60)
      : String(format: "%d:%02d", s / 60, s % 60)
  }
}

extension Duration {
  var seconds: Double { Double(components.seconds) + Double(components.attoseconds) * 1e-18 }
}
