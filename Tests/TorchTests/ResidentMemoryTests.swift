#if os(Linux)
  import Foundation
  import Testing
  import Torch

  /// Resident memory over many training steps. Other tests allocate beside this one, so the measurement
  /// runs in a process of its own: this test binary, asked for the one test that measures.
  @Suite struct ResidentMemoryTests {
    static let steps = 2000
    static let marker = "resident memory grew by "

    private static var isChild: Bool { ProcessInfo.processInfo.environment["NETI_MEASURE_MEMORY"] == "1" }

    /// Resident bytes of this process.
    private static func resident() throws -> Int {
      let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
      return (Int(text.split(separator: " ")[1]) ?? 0) * sysconf(Int32(_SC_PAGESIZE))
    }

    /// A small network's forward pass, backward pass, update, and an error now and then.
    private static func train(_ steps: Int) throws {
      let random = try RandomSource(seed: 1)
      let w = try random.normal([64, 64]).requireGradient()
      let k = try random.normal([8, 4, 3, 3]).requireGradient()
      let optimiser = try AdamW([w, k])
      for i in 0..<steps {
        let x = try random.normal([2, 4, 8, 8]).conv2d(k, padding: 1).silu()
        let y = try x.reshaped([16, 64]).linear(w).layerNorm(Tensor.ones([64])).leakyReLU()
        let target = try RandomSource(seed: UInt64(i)).normal([16, 64])
        optimiser.clearGradients()
        try meanSquaredError(y, target).backward()
        try optimiser.step(learningRate: 1e-3)
        _ = try withoutGradients { try scaledDotProductAttention(x, x, x).sum().item() }
        if i % 10 == 0 { #expect(throws: TorchError.self) { try x.matmul(target) } }
      }
    }

    @Test("Measures, in the child", .enabled(if: isChild))
    func measure() throws {
      try Self.train(300)
      let before = try Self.resident()
      try Self.train(Self.steps)
      print(Self.marker + "\(try Self.resident() - before)")
    }

    @Test("Resident memory stays within 4 MB over 2,000 training steps", .enabled(if: !isChild))
    func flat() throws {
      let child = Process()
      child.executableURL = URL(filePath: "/proc/self/exe")
      child.arguments = ["--testing-library", "swift-testing", "--filter", "ResidentMemoryTests"]
      child.environment = ProcessInfo.processInfo.environment.merging(
        ["NETI_MEASURE_MEMORY": "1", "OMP_NUM_THREADS": "1"]) { $1 }
      let output = Pipe()
      child.standardOutput = output
      child.standardError = output
      try child.run()
      let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      child.waitUntilExit()
      let line = text.split(separator: "\n").first { $0.hasPrefix(Self.marker) }
      let grown = try #require(
        line.flatMap { Int($0.dropFirst(Self.marker.count)) }, "the child said: \(text)")
      #expect(grown < 4 << 20, "grew by \(grown) bytes")
    }
  }
#endif
