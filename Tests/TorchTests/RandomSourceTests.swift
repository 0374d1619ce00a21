import Diffusion
import Files
import TestSupport
import Testing
import Torch

@Suite struct RandomSourceTests {
  private func golden() throws -> SafetensorsFile {
    try SafetensorsFile(Fixtures.url("torch_ops/random.safetensors"))
  }

  @Test(
    "A seed gives PyTorch's numbers: uniform and whole ones exactly, normal ones to 1e-6",
    arguments: [0, 7, 4_294_967_295])
  func golden(seed: UInt64) throws {
    let file = try golden()
    let random = try RandomSource(seed: seed)
    // The order in which the fixture drew them.
    let few = try random.normal([7])
    let many = try random.normal([2, 4, 5])
    let double = try random.normal([3], dtype: .float64)
    #expect(try relativeError(few, file.tensor("\(seed).normal_few")) < 1e-6)
    #expect(try relativeError(many, file.tensor("\(seed).normal_many")) < 1e-6)
    #expect(try relativeError(double, file.tensor("\(seed).normal_float64")) < 1e-12)
    #expect(try random.uniform([3, 11]).floats() == file.tensor("\(seed).uniform").floats())
    #expect(try random.integers(in: 0..<1000, [20]).integers() == file.tensor("\(seed).integers").integers())
    #expect(try random.permutation(19).integers() == file.tensor("\(seed).permutation").integers())
  }

  @Test("Two sources with one seed do not disturb each other")
  func independent() throws {
    let (a, b) = try (RandomSource(seed: 3), RandomSource(seed: 3))
    let first = try a.normal([5]).floats()
    _ = try RandomSource(seed: 4).normal([100])
    #expect(try b.normal([5]).floats() == first)
    #expect(try a.normal([5]).floats() != first)
  }
}

@Suite struct AdamWTests {
  @Test("Twelve steps equal torch.optim.AdamW's to 1e-6, one of them without one gradient")
  func golden() throws {
    let file = try SafetensorsFile(Fixtures.url("torch_ops/adamw.safetensors"))
    let w = try file.tensor("w").clone().requireGradient()
    let b = try file.tensor("b").clone().requireGradient()
    let (x, y) = try (file.tensor("x"), file.tensor("y"))
    let optimiser = try AdamW([w, b])
    for i in 0..<12 {
      optimiser.clearGradients()
      let out = try x.selected(0, i).linear(w, i == 5 ? nil : b)
      try meanSquaredError(out, y.selected(0, i)).backward()
      try optimiser.step(learningRate: 8e-3 / Double(1 + i))
      guard [0, 5, 11].contains(i) else { continue }
      #expect(try relativeError(w, file.tensor("\(i).w")) < 1e-6, "step \(i)")
      #expect(try relativeError(b, file.tensor("\(i).b")) < 1e-6, "step \(i)")
    }
    #expect(try optimiser.stepCount() == 12)
  }

  @Test("A saved state goes on exactly as if it had never stopped")
  func resume() throws {
    let gradientOf = { (p: Tensor, i: Int) in try (p * Double(i + 1)).sin().sum().backward() }
    func run(_ p: Tensor, _ optimiser: AdamW, _ steps: Range<Int>) throws {
      for i in steps {
        optimiser.clearGradients()
        try gradientOf(p, i)
        try optimiser.step(learningRate: 0.1)
      }
    }
    let start = try RandomSource(seed: 1).normal([10])
    let whole = try start.clone().requireGradient()
    try run(whole, AdamW([whole]), 0..<6)
    let first = try start.clone().requireGradient()
    let before = try AdamW([first])
    try run(first, before, 0..<3)
    let second = try first.detached().clone().requireGradient()
    let after = try AdamW([second])
    try after.averages[0].copy(from: before.averages[0])
    try after.squareAverages[0].copy(from: before.squareAverages[0])
    try after.setStepCount(before.stepCount())
    try run(second, after, 3..<6)
    #expect(try second.floats() == whole.floats())
  }

  @Test("A step without any gradient changes nothing")
  func noGradient() throws {
    let p = try Tensor([1, 2] as [Float]).requireGradient()
    let optimiser = try AdamW([p])
    try optimiser.step(learningRate: 1)
    #expect(try p.floats() == [1, 2])
    #expect(try optimiser.stepCount() == 0)
  }
}
