import Diffusion
import Foundation
import NeTI
import TestSupport
import Testing
import Torch

@Suite("What does not fit into the memory")
struct MemoryEstimateTests {
  private static let mebibyte = 1_048_576.0

  private func model(_ dtype: DType = .float32) throws -> StableDiffusion {
    try StableDiffusion(ModelFolder(Fixtures.miniSD.path), dtype: dtype)
  }

  @Test("is refused before anything is loaded, with what is needed, what is free and settings that fit")
  func training() throws {
    let model = try model()
    var c = RunConfiguration()
    c.optim.trainBatchSize = 64
    func estimate(_ batch: Int) throws -> MemoryEstimate {
      try MemoryEstimate(c, on: model, batch: batch, side: model.resolution, dtype: model.dtype)
    }
    let (all, one) = (try estimate(64), try estimate(1))
    #expect(one.bytes < all.bytes)
    func message(_ available: Double?) -> String {
      do {
        try MemoryEstimate.require(
          all, available: available, alternatives: [("`optim.train_batch_size 1`", one)])
        return ""
      } catch { return String(describing: error) }
    }
    #expect(message(all.bytes) == "" && message(nil) == "")
    let fits = message(one.bytes)
    #expect(
      fits == "this run needs about \(MemoryEstimate.text(all.bytes)), and \(MemoryEstimate.text(one.bytes)) "
        + "are free; it would fit with `optim.train_batch_size 1` (about \(MemoryEstimate.text(one.bytes)))")
    let none = message(Self.mebibyte)
    #expect(
      none.contains("no setting makes it fit") && none.contains("a machine with more memory"), "\(none)")
  }

  @Test("is warned of before images are generated")
  func generating() throws {
    #expect(try MemoryEstimate.warning(generatingOn: model(), available: 1e12) == nil)
    let line = try #require(try MemoryEstimate.warning(generatingOn: model(), available: 100 * Self.mebibyte))
    #expect(line.hasPrefix("mini-sd needs more than ") && line.contains("100.0 MiB are free"), "\(line)")
    #expect(line.contains("`precision bf16` needs "), "\(line)")
    let half = try #require(
      try MemoryEstimate.warning(generatingOn: model(.bfloat16), available: Self.mebibyte))
    #expect(!half.contains("`precision"), "\(half)")
  }
}
