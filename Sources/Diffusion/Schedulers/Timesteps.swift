import Foundation

/// Which of the training timesteps are used for a number of steps.
enum Timesteps {
  /// The usual rules, in falling order.
  ///
  /// - Parameters:
  ///   - end: one more than the largest timestep (the number of training timesteps, but for clipping).
  ///   - whole: whether `linspace` rounds.
  static func usual(
    _ c: SchedulerConfiguration, _ spacing: SchedulerConfiguration.Spacing, steps: Int, whole: Bool = true
  ) throws -> [Double] {
    try checkSteps(steps, c)
    let total = c.numTrainTimesteps
    switch spacing {
    case .linspace:
      let values = evenly(from: 0, to: Double(total - 1), count: steps)
      return values.reversed().map { whole ? $0.rounded(.toNearestOrEven) : Double(Float($0)) }
    case .leading:
      let ratio = total / steps
      return try checked((0..<steps).reversed().map { $0 * ratio }, offset: c.stepsOffset, total)
    case .trailing:
      return trailing(from: total, by: Double(total) / Double(steps), steps: steps)
    }
  }

  /// Those of DPM-Solver++ and UniPC, which leave room for one more step at the end.
  static func solver(
    _ c: SchedulerConfiguration, _ spacing: SchedulerConfiguration.Spacing, steps: Int, end: Int
  ) throws -> [Double] {
    try checkSteps(steps, c)
    guard end > 0 else {
      throw DiffusionError(
        "scheduler_config.json: “lambda_min_clipped” leaves no timestep; `scheduler ddim` works")
    }
    switch spacing {
    case .linspace:
      return evenly(from: 0, to: Double(end - 1), count: steps + 1).dropFirst().reversed()
        .map { $0.rounded(.toNearestOrEven) }
    case .leading:
      let ratio = end / (steps + 1)
      guard ratio > 0 else { throw tooMany(steps, end - 1) }
      return try checked(
        (1...steps).reversed().map { $0 * ratio }, offset: c.stepsOffset, c.numTrainTimesteps)
    case .trailing:
      return trailing(from: end, by: Double(c.numTrainTimesteps) / Double(steps), steps: steps)
    }
  }

  /// The reference runs past the end by one step where rounding lets it (61 steps of 1000 give 62);
  /// that timestep of −1 is left out here.
  private static func trailing(from end: Int, by ratio: Double, steps: Int) -> [Double] {
    // As NumPy's arange counts: in multiples of the first difference, which is rounded.
    let difference = (Double(end) - ratio) - Double(end)
    return (0..<steps).map { (Double(end) + Double($0) * difference).rounded(.toNearestOrEven) - 1 }
      .filter { $0 >= 0 }
  }

  private static func checked(_ timesteps: [Int], offset: Int, _ total: Int) throws -> [Double] {
    guard (0..<total).contains(offset) else {
      throw DiffusionError(
        "scheduler_config.json: “steps_offset” is \(offset); it must be in 0…\(total - 1)")
    }
    if let first = timesteps.first, first + offset >= total {
      throw DiffusionError(
        "\(timesteps.count) steps with “steps_offset” \(offset) begin at timestep \(first + offset), and the "
          + "last one is \(total - 1); choose fewer steps")
    }
    return timesteps.map { Double($0 + offset) }
  }

  static func checkSteps(_ steps: Int, _ c: SchedulerConfiguration) throws {
    guard (1...max(c.numTrainTimesteps, 1)).contains(steps) else { throw tooMany(steps, c.numTrainTimesteps) }
  }

  /// Those of LCM and TCD: evenly among the ones that the model was distilled for.
  static func distilled(_ c: SchedulerConfiguration, steps: Int) throws -> [Double] {
    let (total, own) = (c.numTrainTimesteps, c.originalInferenceSteps)
    guard (1...max(total, 1)).contains(own) else {
      throw DiffusionError(
        "scheduler_config.json: “original_inference_steps” is \(own); it must be in 1…\(total)")
    }
    guard (1...own).contains(steps) else { throw tooMany(steps, own) }
    return (0..<steps).map { i in
      let skipped = Int(Double(i) * (Double(own) / Double(steps)))
      return Double((own - skipped) * (total / own) - 1)
    }
  }

  private static func tooMany(_ steps: Int, _ most: Int) -> DiffusionError {
    DiffusionError("\(steps) steps; choose a number in 1…\(most)")
  }
}
