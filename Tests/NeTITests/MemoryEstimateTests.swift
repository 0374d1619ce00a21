import Diffusion
import NeTI
import TestSupport
import Testing
import Torch

@Suite("What does not fit into the memory")
struct MemoryEstimateTests {
  private func model(_ dtype: DType = .float32) throws -> StableDiffusion {
    try StableDiffusion(ModelFolder(Fixtures.miniSD.path), dtype: dtype)
  }

  private func message(_ available: Double, _ change: (inout RunConfiguration) -> Void = { _ in }) throws
    -> String
  {
    let model = try model()
    var c = RunConfiguration()
    c.optim.trainBatchSize = 8
    change(&c)
    func estimate(_ batch: Int) throws -> MemoryEstimate {
      try MemoryEstimate(c, on: model, batch: batch, side: model.resolution, dtype: model.dtype)
    }
    do {
      try MemoryEstimate.require(
        estimate(8), available: available, alternatives: [("`optim.train_batch_size 1`", estimate(1))])
      return ""
    } catch let e as NeTIError {
      return e.message
    }
  }

  @Test("is refused before anything is loaded, with what is needed, what is free and settings that fit")
  func training() throws {
    #expect(try message(1e12) == "")
    let fits = try message(320 << 20)
    #expect(fits.contains("this run needs about "), "\(fits)")
    #expect(
      fits.contains("320.0 MiB are free; it would fit with `optim.train_batch_size 1` (about"), "\(fits)")
    let none = try message(1 << 20)
    #expect(
      none.contains("no setting makes it fit") && none.contains("a machine with more memory"), "\(none)")
  }

  @Test("is warned of before images are generated")
  func generating() throws {
    #expect(try MemoryEstimate.warning(generatingOn: model(), available: 1e12) == nil)
    let line = try #require(try MemoryEstimate.warning(generatingOn: model(), available: 100 << 20))
    #expect(line.hasPrefix("mini-sd needs more than ") && line.contains("100.0 MiB are free"), "\(line)")
    #expect(line.contains("`precision bf16` needs "), "\(line)")
    let half = try #require(try MemoryEstimate.warning(generatingOn: model(.bfloat16), available: 1 << 20))
    #expect(!half.contains("`precision"), "\(half)")
  }
}
