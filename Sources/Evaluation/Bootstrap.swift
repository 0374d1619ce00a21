import Torch

/// A mean over concepts, and how sure it is.
public struct Estimate: Sendable, Equatable {
  public let mean: Double
  /// The 95 % interval; nil for less than two concepts.
  public let interval: ClosedRange<Double>?
  /// Concepts.
  public let count: Int

  /// Whether zero is outside of the interval.
  public var isBeyondNoise: Bool { interval.map { !$0.contains(0) } ?? false }
}

/// Intervals by drawing the concepts anew with replacement (Efron 1979): between the 2.5th and the 97.5th percentile
/// of the resamples' means. Concepts are what varies: images of one concept are no independent samples.
public struct Bootstrap {
  public static let resamples = 10_000
  private let seed: UInt64

  /// The same seed gives the same intervals.
  public init(seed: UInt64 = 0) { self.seed = seed }

  /// The mean of one value for each concept; nil for none.
  public func callAsFunction(_ values: [Double]) throws -> Estimate? {
    guard !values.isEmpty else { return nil }
    let n = values.count
    let mean = values.reduce(0, +) / Double(n)
    guard n > 1 else { return Estimate(mean: mean, interval: nil, count: n) }
    let chosen = try RandomSource(seed: seed).integers(in: 0..<n, [Self.resamples * n]).integers()
    let means = (0..<Self.resamples).map { r in
      chosen[r * n..<(r + 1) * n].reduce(0) { $0 + values[$1] } / Double(n)
    }.sorted()
    return Estimate(
      mean: mean, interval: Self.percentile(0.025, means)...Self.percentile(0.975, means), count: n)
  }

  /// Between the two nearest of sorted values, as NumPy's `percentile`.
  private static func percentile(_ p: Double, _ sorted: [Double]) -> Double {
    let at = p * Double(sorted.count - 1)
    let low = Int(at)
    let high = min(low + 1, sorted.count - 1)
    return sorted[low] + (at - Double(low)) * (sorted[high] - sorted[low])
  }
}
