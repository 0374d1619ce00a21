import Evaluation
import Foundation
import TestSupport
import Testing
import Torch

@Suite struct SummaryTests {
  @Test("The bootstrap's interval of two values are their ends; the same seed gives the same")
  func twoValues() throws {
    // Of the resamples' means, a quarter is 0 and a quarter is 1.
    let estimate = try #require(try Bootstrap()([0, 1]))
    #expect(estimate.mean == 0.5 && estimate.interval == 0...1 && !estimate.isBeyondNoise)
    #expect(try Bootstrap()([0, 1]) == estimate)
    #expect(try Bootstrap()([0.3])?.interval == nil)
    #expect(try Bootstrap()([]) == nil)
    #expect(try Bootstrap()([0.2, 0.2, 0.2])?.isBeyondNoise == true)
  }

  @Test("Of many values the bootstrap's interval is that of the standard error, to 10 %")
  func manyValues() throws {
    let values = try RandomSource(seed: 3).normal([200], dtype: .float64).doubles()
    let estimate = try #require(try Bootstrap(seed: 1)(values))
    let mean = values.reduce(0, +) / 200
    let deviation = (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / 199).squareRoot()
    let width = 2 * 1.96 * deviation / 200.0.squareRoot()
    let interval = try #require(estimate.interval)
    #expect(abs((interval.upperBound - interval.lowerBound) / width - 1) < 0.1)
    #expect(abs(estimate.mean - mean) < 1e-12)
  }

  private static func key(_ prompt: String, _ seed: UInt64, _ k: Int? = nil) -> ImageScore.Key {
    .init(prompt: prompt, seed: seed, truncation: k)
  }

  /// Scores that are `value` of a prompt's number and seed.
  private static func entry(
    _ token: String, _ method: String, steps: Int = 250, missing: Set<ImageScore.Key> = [],
    value: (Int, UInt64) -> Double
  ) -> EvaluationSummary.Entry {
    var keys: [ImageScore.Key] = []
    var contents = EvaluationResults.Contents()
    for prompt in 0..<3 {
      for seed in UInt64(0)..<2 {
        let key = key("p\(prompt) {}", seed)
        keys.append(key)
        guard !missing.contains(key) else { continue }
        let v = value(prompt, seed)
        contents.images[key] = ImageScore(
          key: key, trained: v, heldOut: nil, category: v / 2, omitted: v / 4, file: "a.png")
      }
    }
    return .init(token: token, method: method, steps: steps, keys: keys, contents: contents)
  }

  @Test("Differences are of images with the same prompt and seed, missing ones aside")
  func paired() throws {
    // Prompts differ by much, methods by 0.1 in every image: only the pairing shows it.
    let base = { (p: Int, s: UInt64) in Double(p) * 10 + Double(s) }
    let lost = Self.key("p2 {}", 1)
    let summary = EvaluationSummary([
      Self.entry("<a>", "ti", value: base),
      Self.entry("<a>", "neti", missing: [lost]) { base($0, $1) + 0.1 },
      Self.entry("<b>", "ti", value: base),
      Self.entry("<b>", "neti") { base($0, $1) + 0.3 },
      Self.entry("<c>", "ti", value: base),
    ])
    #expect(summary.imagesWanted == 30 && summary.imagesDone == 29)
    let differences = try summary.differences()
    let d = try #require(differences.first)
    #expect(differences.count == 1 && d.method == "neti" && d.other == "ti")
    let trained = try #require(d.estimates[.trained])
    #expect(abs(trained.mean - 0.2) < 1e-9 && trained.count == 2 && trained.isBeyondNoise)
    #expect(try abs(#require(d.estimates[.category]).mean - 0.1) < 1e-9)
    #expect(d.estimates[.heldOut] == nil)
    #expect(try summary.estimate(.trained, "ti")?.count == 3)
  }

  @Test("The checkpoint with the most steps stands for a method, and files of one method are averaged")
  func checkpoints() throws {
    let summary = EvaluationSummary([
      Self.entry("<a>", "neti", steps: 50) { _, _ in 0.1 },
      Self.entry("<a>", "neti", steps: 250) { _, _ in 0.4 },
      Self.entry("<a>", "neti", steps: 250) { _, _ in 0.6 },
    ])
    let estimate = try summary.estimate(.trained, "neti")
    #expect(abs((estimate?.mean ?? 9) - 0.5) < 1e-12 && estimate?.count == 1)
  }
}
