import Diffusion
import Foundation
import NeTI
import TestSupport
import Testing
import Torch

#if os(Linux)
  @Suite("The memory that training takes", .serialized)
  struct MemoryTests {
    /// The peak of a process's resident memory so far, in bytes.
    private func peak(_ process: Int32) -> Double? {
      let status = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
      return status?.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }?
        .split(separator: " ").dropFirst().first.flatMap { Double($0) }.map { $0 * 1024 }
    }

    @Test(
      "is what was estimated within 30 %, micro-batches that run together included",
      arguments: [(1, 1, "neti"), (2, 4, "neti"), (4, 4, "ti")])
    func estimate(_ batch: Int, _ accumulation: Int, _ representation: String) throws {
      let place = try Workplace()
      try place.images()
      let settings = [
        "--optim.train_batch_size", String(batch), "--optim.gradient_accumulation_steps",
        String(accumulation), "--representation", representation,
      ]
      let tool = try CommandLineTool.start(Workplace.train(steps: 2, settings), in: place.folder)
      var bytes = 0.0
      while tool.isRunning {
        bytes = max(bytes, peak(tool.identifier) ?? 0)
        usleep(5_000)
      }
      let result = tool.wait()
      #expect(result.code == 0, "\(result.error)")
      let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
      let estimate = try MemoryEstimate(
        RunFolder.configuration(of: place.path("run")), on: model, batch: batch, side: model.resolution,
        dtype: .float32)
      #expect((0.7...1.3).contains(estimate.bytes / bytes), "\(estimate.bytes) for \(bytes)")
    }
  }
#endif
