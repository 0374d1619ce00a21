import Foundation
import NeTI
import TestSupport
import Testing
import Torch

@Suite("The mapper")
struct NeTIMapperTests {
  private func mapper(_ change: (inout NeTIMapper.Settings) -> Void = { _ in }) throws -> NeTIMapper {
    var s = NeTIMapper.Settings(hiddenSize: 768, layerCount: 16)
    change(&s)
    return try NeTIMapper(s, keys: RandomKeys(seed: 3))
  }

  @Test("has the published number of parameters at Stable Diffusion's size")
  func parameterCount() throws {
    let count = try mapper().parameters.reduce(0) { $0 + $1.tensor.count }
    #expect(count == 563_616)
  }

  @Test("starts from a seed: the same twice, another for another seed")
  func seeded() throws {
    let s = NeTIMapper.Settings(hiddenSize: 32, layerCount: 16)
    let a = try NeTIMapper(s, keys: RandomKeys(seed: 1))
    let b = try NeTIMapper(s, keys: RandomKeys(seed: 1))
    let c = try NeTIMapper(s, keys: RandomKeys(seed: 2))
    for ((x, y), z) in zip(zip(a.parameters, b.parameters), c.parameters) {
      #expect(try x.tensor.floats() == y.tensor.floats())
      if x.name.hasPrefix("norm") { continue }
      #expect(try x.tensor.floats() != z.tensor.floats(), "\(x.name)")
    }
  }

  @Test("starts its first layer at the encodings of 10 timesteps × 16 layers, timesteps outermost")
  func anchors() throws {
    let m = try mapper()
    let weight = try #require(m.parameters.first { $0.name == "input.weight" }).tensor
    let encoding = try #require(m.encoding)
    let one = try encoding.encode(timesteps: Tensor([300]), layers: Tensor([5]))
    #expect(weight.shape == [160, 2048])
    // One row and 160 at a time are summed in other orders, and angles go up to some ten radians.
    #expect(try relativeError(weight.sliced(0, 3 * 16 + 5..<3 * 16 + 6), one) < 1e-5)
  }

  @Test("gives encodings of length one")
  func unitEncodings() throws {
    let e = try #require(try mapper().encoding).encode(
      timesteps: Tensor([0, 17, 999]), layers: Tensor([0, 3, 15]))
    for n in try e.norm([1]).doubles() { #expect(abs(n - 1) < 1e-6) }
  }

  @Test("gives an output of the target norm over both halves together, or leaves it alone")
  func norm() throws {
    let t = try Tensor([10, 500] as [Float])
    let l = try Tensor([0, 7] as [Float])
    for n in try mapper({ $0.targetNorm = 0.4 }).output(timesteps: t, layers: l, mask: nil).norm([1])
      .doubles()
    {
      #expect(abs(n - 0.4) < 1e-6)
    }
    for n in try mapper().output(timesteps: t, layers: l, mask: nil).norm([1]).doubles() {
      #expect(abs(n - 0.4) > 1e-3)
    }
  }

  @Test("splits its output into base and bypass, or has a base only")
  func halves() throws {
    let t = try Tensor([10] as [Float])
    let both = try mapper().embeddings(timesteps: t, layers: t, mask: nil)
    #expect(both.base.shape == [1, 1, 768])
    #expect(both.bypass?.shape == [1, 1, 768])
    #expect(
      try mapper { $0.outputBypass = false }.embeddings(timesteps: t, layers: t, mask: nil).bypass == nil)
  }

  @Test("without encoding takes (t, l) scaled to −1…1 and rounds timesteps down")
  func withoutEncoding() throws {
    let m = try mapper { $0.usesPositionalEncoding = false }
    #expect(m.parameters.first?.tensor.shape == [128, 2])
    let whole = try m.output(timesteps: Tensor([500]), layers: Tensor([3]), mask: nil)
    let fractional = try m.output(timesteps: Tensor([500.9]), layers: Tensor([3]), mask: nil)
    #expect(try whole.floats() == fractional.floats())
  }

  @Test("of time alone ignores the layer, of space alone the timestep")
  func ablations() throws {
    let time = try mapper { $0.kind = .time }
    let a = try time.output(timesteps: Tensor([40]), layers: Tensor([2]), mask: nil).floats()
    #expect(try a == time.output(timesteps: Tensor([40]), layers: Tensor([9]), mask: nil).floats())
    #expect(try a != time.output(timesteps: Tensor([41]), layers: Tensor([2]), mask: nil).floats())
    let space = try mapper { $0.kind = .space }
    let b = try space.output(timesteps: Tensor([40]), layers: Tensor([2]), mask: nil).floats()
    #expect(try b == space.output(timesteps: Tensor([900]), layers: Tensor([2]), mask: nil).floats())
  }

  @Test("refuses tensors that are missing, misshapen or unknown, by name")
  func strict() throws {
    let m = try mapper()
    var tensors = Dictionary(uniqueKeysWithValues: m.parameters.map { ($0.name, $0.tensor) })
    tensors["output.bias"] = try Tensor.zeros([3])
    #expect(throws: NeTIError.self) {
      try NeTIMapper(m.settings, tensors: tensors, frequencies: m.encoding?.frequencies)
    }
    tensors["output.bias"] = try Tensor.zeros([1536])
    tensors["more"] = try Tensor.zeros([1])
    let error = #expect(throws: NeTIError.self) {
      try NeTIMapper(m.settings, tensors: tensors, frequencies: m.encoding?.frequencies)
    }
    #expect(error?.message.contains("more") == true)
  }

  @Test("refuses a number of anchors that the spacing does not give", arguments: [0, 3, 7, 15, 1001])
  func anchorCounts(_ n: Int) {
    // 1000 // 3 = 333 gives 0, 333, 666, 999.
    #expect(throws: NeTIError.self) { try PositionalEncoding.anchorTimesteps(n) }
  }
}

@Suite("Nested dropout")
struct NestedDropoutTests {
  @Test("keeps the first units of each row")
  func mask() throws {
    let m = try #require(try Truncation.mask(keep: [0, 2, nil], width: 4))
    #expect(try m.floats() == [0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 1, 1])
    #expect(try Truncation.mask(keep: [nil, nil], width: 4) == nil)
    #expect(throws: NeTIError.self) { try Truncation.mask(keep: [5], width: 4) }
  }

  @Test("tosses one coin per layer and micro-batch and draws one index per sample")
  func distribution() throws {
    let keys = RandomKeys(seed: 5)
    var dropped = 0
    var indices: [Int] = []
    let layers = 16
    for step in 0..<200 {
      let keep = try NestedDropout.sample(
        keys: keys, step: step, samples: Array(step * 8..<step * 8 + 8), microBatch: 2, layers: layers,
        width: 128,
        probability: 0.5)
      #expect(keep.count == layers * 8)
      for l in 0..<layers {
        for pair in 0..<4 {
          let two = keep[(l * 8 + pair * 2)..<(l * 8 + pair * 2 + 2)]
          // A coin is shared: both are truncated, or neither.
          #expect(two.allSatisfy { $0 == nil } || two.allSatisfy { $0 != nil })
          if two.first != .some(nil) { dropped += 1 }
          indices += two.compactMap { $0 }
        }
      }
    }
    let share = Double(dropped) / Double(200 * layers * 4)
    #expect(abs(share - 0.5) < 0.02)
    let mean = Double(indices.reduce(0, +)) / Double(indices.count)
    #expect(abs(mean - 63.5) < 1)
    #expect(indices.min() == 0 && indices.max() == 127)
  }

  @Test("draws the same however a step is split")
  func splitting() throws {
    let keys = RandomKeys(seed: 5)
    func draw(_ first: Int, _ n: Int) throws -> [Int?] {
      try NestedDropout.sample(
        keys: keys, step: 3, samples: Array(first..<first + n), microBatch: 2, layers: 4, width: 128,
        probability: 0.5)
    }
    let whole = try draw(24, 8)
    for (first, n) in [(24, 2), (26, 4), (27, 3), (31, 1)] {
      let part = try draw(first, n)
      for l in 0..<4 {
        #expect(Array(part[l * n..<(l + 1) * n]) == Array(whole[l * 8 + first - 24..<l * 8 + first - 24 + n]))
      }
    }
  }
}
