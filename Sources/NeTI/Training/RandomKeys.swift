public import Torch

/// Random numbers that depend on what they are for, not on when they are sampled.
///
/// Each comes from a generator of its own, seeded by a hash of (run seed, purpose, step, index). How a
/// batch is split, how many processes share it, the device and a resume so change no sample, and no
/// generator's state has to be saved.
public struct RandomKeys: Sendable, Equatable {
  public let seed: UInt64

  public init(seed: UInt64) { self.seed = seed }

  /// What a number is for. Raw values are part of a run's identity: never renumber them.
  public enum Purpose: UInt64, Sendable {
    case frequencies = 1
    case initialisation = 2
    case order = 3
    case flip = 4
    case template = 5
    case timestep = 6
    case posterior = 7
    case noise = 8
    case dropoutCoin = 9
    case dropoutIndex = 10
  }

  /// The generator for one purpose, of one step and sample.
  public func source(_ purpose: Purpose, step: Int = 0, index: Int = 0) throws -> RandomSource {
    var h: UInt64 = 0x9E37_79B9_7F4A_7C15
    for word in [seed, purpose.rawValue, UInt64(step), UInt64(index)] {
      h = Self.mix(h ^ word)
    }
    return try RandomSource(seed: h >> 32)  // libtorch's generator keeps 32 bits of a seed
  }

  /// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
  private static func mix(_ x: UInt64) -> UInt64 {
    var z = x &+ 0x9E37_79B9_7F4A_7C15
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
