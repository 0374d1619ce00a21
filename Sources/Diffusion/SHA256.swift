/// The hash function of FIPS 180-4; CryptoKit is on Apple's systems only.
package enum SHA256 {
  /// The hash of `bytes`, as 64 hexadecimal digits.
  package static func hexadecimal(_ bytes: some Collection<UInt8>) -> String {
    let all = Array(bytes)
    var state = initial
    all.withUnsafeBytes { whole in
      let full = whole.count / 64 * 64
      for start in stride(from: 0, to: full, by: 64) {
        compress(&state, UnsafeRawBufferPointer(rebasing: whole[start..<start + 64]))
      }
      // The rest, a one bit, zeros, and the length in bits.
      var end = Array(whole[full...]) + [0x80]
      end += Array(repeating: 0, count: (120 - end.count % 64) % 64)
      withUnsafeBytes(of: (UInt64(whole.count) * 8).bigEndian) { end += $0 }
      end.withUnsafeBytes { tail in
        for start in stride(from: 0, to: tail.count, by: 64) {
          compress(&state, UnsafeRawBufferPointer(rebasing: tail[start..<start + 64]))
        }
      }
    }
    return state.map { word in
      let digits = String(word, radix: 16)
      return String(repeating: "0", count: 8 - digits.count) + digits
    }.joined()
  }

  /// FIPS 180-4, section 6.2.2, for one block of 64 bytes.
  private static func compress(_ state: inout [UInt32], _ block: UnsafeRawBufferPointer) {
    withUnsafeTemporaryAllocation(of: UInt32.self, capacity: 64) { w in
      for i in 0..<16 {
        w[i] = UInt32(bigEndian: block.loadUnaligned(fromByteOffset: 4 * i, as: UInt32.self))
      }
      for i in 16..<64 {
        let (x, y) = (w[i - 15], w[i - 2])
        let s0 = rotate(x, 7) ^ rotate(x, 18) ^ (x >> 3)
        let s1 = rotate(y, 17) ^ rotate(y, 19) ^ (y >> 10)
        w[i] = w[i - 16] &+ s0 &+ w[i - 7] &+ s1
      }
      var (a, b, c, d) = (state[0], state[1], state[2], state[3])
      var (e, f, g, h) = (state[4], state[5], state[6], state[7])
      constants.withUnsafeBufferPointer { k in
        for i in 0..<64 {
          let s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)
          let t1 = h &+ s1 &+ ((e & f) ^ (~e & g)) &+ k[i] &+ w[i]
          let s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)
          let t2 = s0 &+ ((a & b) ^ (a & c) ^ (b & c))
          (h, g, f, e, d, c, b, a) = (g, f, e, d &+ t1, c, b, a, t1 &+ t2)
        }
      }
      for (i, x) in [a, b, c, d, e, f, g, h].enumerated() { state[i] &+= x }
    }
  }

  private static func rotate(_ x: UInt32, _ n: UInt32) -> UInt32 { x >> n | x << (32 - n) }

  /// The first 32 bits of the fractional part of √p (or ∛p) for the first primes.
  private static func fractions(_ count: Int, _ root: (Double) -> Double) -> [UInt32] {
    var primes: [Int] = []
    var n = 2
    while primes.count < count {
      if primes.allSatisfy({ n % $0 != 0 }) { primes.append(n) }
      n += 1
    }
    return primes.map { p in
      let x = root(Double(p))
      return UInt32((x - x.rounded(.down)) * 4_294_967_296)
    }
  }

  private static let initial = fractions(8) { $0.squareRoot() }
  private static let constants = fractions(64) { cubeRoot($0) }

  /// Newton's iteration, to the last bits of a Double: 53 of them hold the 3 + 32 that are needed.
  private static func cubeRoot(_ x: Double) -> Double {
    var y = x / 2
    for _ in 0..<100 { y -= (y - x / (y * y)) / 3 }
    return y
  }
}
