import Foundation
import NeTI
import TestSupport
import Testing

@Suite struct LearningRateTests {
  struct Golden: Decodable {
    struct Row: Decodable {
      let name: String
      let warmup: Int
      let total: Int
      let rates: [Double]
    }
    let base: Double
    let rows: [Row]
  }

  @Test func `every schedule gives the rates of diffusers at every update, to 1e-12 of the base`() throws {
    let golden = try JSONDecoder().decode(
      Golden.self, from: Data(contentsOf: Fixtures.url("learning_rate/schedules.json")))
    #expect(Set(golden.rows.map(\.name)) == Set(LearningRate.Schedule.allCases.map(\.rawValue)))
    for row in golden.rows {
      let schedule = try #require(LearningRate.Schedule(rawValue: row.name))
      let rate = LearningRate(schedule, base: golden.base, warmup: row.warmup, total: row.total)
      #expect(row.rates.count == row.total)
      for (update, expected) in row.rates.enumerated() {
        #expect(abs(rate(update) - expected) <= 1e-12 * golden.base, "\(row.name) at \(update)")
      }
    }
  }

  @Test func `a warm-up as long as the run, and updates past its end, are finite`() {
    for schedule in LearningRate.Schedule.allCases {
      for (warmup, total) in [(0, 0), (5, 5), (9, 5), (0, 5)] {
        let rate = LearningRate(schedule, base: 1e-3, warmup: warmup, total: total)
        for update in [-1, 0, 4, 5, 6, 100, .max] {
          #expect(
            (0...1e-3).contains(rate(update)), "\(schedule) at \(update) of \(total), warm-up \(warmup)")
        }
      }
    }
  }
}
