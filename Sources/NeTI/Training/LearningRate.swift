import Foundation

/// The learning rate over the updates of a run, as `diffusers.optimization.get_scheduler` computes it.
///
/// One update is one optimiser step, whatever the accumulation; update 0 is the first. (The authors'
/// code counts micro-batches in total and warm-up but updates in between, and so never decays.)
public struct LearningRate: Sendable, Equatable {
  /// The schedules, by the names of `optim.lr_scheduler`.
  public enum Schedule: String, Codable, Sendable, CaseIterable {
    /// 1 throughout: the warm-up is ignored.
    case constant
    /// 1 after a linear warm-up.
    case constantWithWarmup = "constant_with_warmup"
    /// Straight down to 0 after the warm-up.
    case linear
    /// Half a cosine down to 0 after the warm-up.
    case cosine
    /// As `cosine`: diffusers makes one cycle unless told otherwise, and neither code tells it.
    case cosineWithRestarts = "cosine_with_restarts"
    /// Straight down to a rate of 1e-7 after the warm-up (a polynomial of power 1).
    case polynomial

    /// Whether the number of updates in the run changes the rate of each.
    public var dependsOnTotal: Bool { self != .constant && self != .constantWithWarmup }
  }

  /// Where `polynomial` ends.
  public static let polynomialEnd = 1e-7

  public let schedule: Schedule
  /// The rate that the schedule multiplies.
  public let base: Double
  /// Updates of warm-up, and updates in all.
  public let warmup: Int
  public let total: Int

  public init(_ schedule: Schedule, base: Double, warmup: Int, total: Int) {
    self.schedule = schedule
    self.base = base
    self.warmup = max(warmup, 0)
    self.total = max(total, 0)
  }

  /// The rate of an update, counted from 0.
  public func callAsFunction(_ update: Int) -> Double { base * multiplier(update) }

  /// What `base` is multiplied with at an update, counted from 0.
  public func multiplier(_ update: Int) -> Double {
    let update = max(update, 0)
    guard schedule != .constant else { return 1 }
    if update < warmup { return Double(update) / Double(warmup) }
    let sinceWarmup = Double(update) - Double(warmup)
    let progress = min(max(sinceWarmup / max(Double(total) - Double(warmup), 1), 0), 1)
    switch schedule {
    case .constant, .constantWithWarmup: return 1
    case .linear: return 1 - progress
    case .cosine, .cosineWithRestarts: return 0.5 * (1 + cos(.pi * progress))
    case .polynomial: return ((base - Self.polynomialEnd) * (1 - progress) + Self.polynomialEnd) / base
    }
  }
}
