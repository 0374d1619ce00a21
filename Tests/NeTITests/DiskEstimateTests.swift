import Foundation
import NeTI
import Testing

@Suite struct DiskEstimateTests {
  private static func configuration(_ change: (inout RunConfiguration) -> Void = { _ in }) -> RunConfiguration
  {
    var c = RunConfiguration()
    c.optim.maxTrainSteps = 1000
    c.log.saveSteps = 300
    c.eval.validationPrompts = []
    change(&c)
    return c
  }

  @Test func `counts the checkpoints that stay and the validation images that are still to come`() {
    let plain = DiskEstimate(Self.configuration(), numbers: 1, side: 64)
    #expect(plain.checkpoints == 4 && plain.images == 0)
    let limited = Self.configuration { $0.log.checkpointsTotalLimit = 2 }
    #expect(DiskEstimate(limited, numbers: 1, side: 64).checkpoints == 3)
    #expect(DiskEstimate(limited, numbers: 1, side: 64, done: 600, kept: 2).checkpoints == 1)
    let drawing = Self.configuration {
      $0.eval.validationPrompts = ["a {}", "the {}"]
      $0.eval.validationSteps = 100
    }
    #expect(DiskEstimate(drawing, numbers: 1, side: 64).images == 80)
    let resumed = DiskEstimate(drawing, numbers: 1, side: 64, done: 900, kept: 3)
    #expect(resumed.checkpoints == 1 && resumed.images == 8)
    #expect(DiskEstimate(drawing, numbers: 1, side: 64, done: 1000).images == 0)
    #expect(DiskEstimate(Self.configuration(), numbers: 1, side: 64, done: 590).checkpoints == 3)
  }

  @Test func `refuses what does not fit, with what would help`() throws {
    let folder = URL(filePath: "/runs/toy")
    // Four checkpoints of three numbers each and a concept, 4 bytes a number: 52 MiB.
    let estimate = DiskEstimate(Self.configuration(), numbers: 1 << 20, side: 64)
    try estimate.require(52 * 1_048_576, in: folder)
    try estimate.require(nil, in: folder)
    let error = #expect(throws: NeTIError.self) { try estimate.require(10 * 1_048_576, in: folder) }
    #expect(
      error?.message
        == "this run writes about 52.0 MiB into /runs/toy (4 checkpoints, 0 validation images), and 10.0 MiB are "
        + "free there: make room, keep fewer checkpoints (`log.checkpoints_total_limit 2`) or choose another "
        + "`output`")
  }
}
