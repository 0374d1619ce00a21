public import Foundation

/// Makes damaged versions of a file, the same ones for the same seed, to feed to a parser.
public struct Mutations: Sequence, IteratorProtocol {
  private let original: [UInt8]
  private var left: Int
  private var random: SplitMix64

  /// `count` mutations of `original`.
  public init(of original: Data, count: Int, seed: UInt64) {
    self.original = Array(original)
    self.left = count
    self.random = SplitMix64(seed: seed)
  }

  public mutating func next() -> Data? {
    guard left > 0 else { return nil }
    left -= 1
    var bytes = original
    for _ in 0..<Int.random(in: 1...3, using: &random) { mutate(&bytes) }
    return Data(bytes)
  }

  private mutating func mutate(_ bytes: inout [UInt8]) {
    guard !bytes.isEmpty else { return bytes = [UInt8.random(in: 0...255, using: &random)] }
    switch Int.random(in: 0..<8, using: &random) {
    case 0: bytes[place(bytes)] ^= 1 << UInt8.random(in: 0..<8, using: &random)
    case 1: bytes[place(bytes)] = [0, 1, 0x7F, 0x80, 0xFE, 0xFF].randomElement(using: &random) ?? 0
    case 2: bytes.removeLast(bytes.count - place(bytes))
    case 3: bytes.removeSubrange(piece(bytes))
    case 4: bytes.insert(contentsOf: Array(bytes[piece(bytes)]), at: place(bytes))
    case 5:
      let source = Array(bytes[piece(bytes)])
      let start = place(bytes)
      bytes.replaceSubrange(start..<Swift.min(start + source.count, bytes.count), with: source)
    case 6: replaceNumber(&bytes)
    default: replaceInteger(&bytes)
    }
  }

  /// Most damage goes to the first and the last kilobyte, where formats keep their structure.
  private mutating func place(_ bytes: [UInt8]) -> Int {
    switch Int.random(in: 0..<3, using: &random) {
    case 0: Int.random(in: 0..<Swift.min(bytes.count, 1024), using: &random)
    case 1: bytes.count - 1 - Int.random(in: 0..<Swift.min(bytes.count, 1024), using: &random)
    default: Int.random(in: 0..<bytes.count, using: &random)
    }
  }

  private mutating func piece(_ bytes: [UInt8]) -> Range<Int> {
    let start = place(bytes)
    return start..<Swift.min(start + Int.random(in: 1...64, using: &random), bytes.count)
  }

  /// Puts an extreme number where decimal digits stand.
  private mutating func replaceNumber(_ bytes: inout [UInt8]) {
    let isDigit = { (b: UInt8) in (0x30...0x39).contains(b) }
    guard let start = bytes[place(bytes)...].prefix(4096).firstIndex(where: isDigit) else { return }
    let end = bytes[start...].firstIndex { !isDigit($0) } ?? bytes.count
    let numbers = [
      "0", "1", "-1", "7", "255", "65536", "2147483648", "4294967296", "9223372036854775807",
      "9223372036854775808", "18446744073709551616", "1e309", "0.5", "00", "NaN",
    ]
    bytes.replaceSubrange(start..<end, with: Array((numbers.randomElement(using: &random) ?? "0").utf8))
  }

  /// Overwrites 2, 4 or 8 bytes with an extreme little-endian integer.
  private mutating func replaceInteger(_ bytes: inout [UInt8]) {
    let width = [2, 4, 8].randomElement(using: &random) ?? 4
    let values: [UInt64] = [
      0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 0x1_0000_0000,
      .max >> 1, .max >> 1 + 1, .max,
    ]
    let value = values.randomElement(using: &random) ?? 0
    let start = place(bytes)
    for i in 0..<width where start + i < bytes.count {
      bytes[start + i] = UInt8(truncatingIfNeeded: value >> (8 * UInt64(i)))
    }
  }
}

/// A small generator with a seed (splitmix64, Steele et al. 2014); not for anything but tests.
public struct SplitMix64: RandomNumberGenerator {
  private var state: UInt64

  public init(seed: UInt64) { state = seed }

  public mutating func next() -> UInt64 {
    state &+= 0x9E37_79B9_7F4A_7C15
    var z = state
    z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
    z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
    return z ^ (z >> 31)
  }
}
