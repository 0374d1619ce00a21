import Foundation

/// The noise level σ = √((1−ᾱ)/ᾱ) of each denoising step, with its timestep.
///
/// Either the timesteps are chosen and have their levels, or the levels are spread between the largest and the
/// smallest and have the timesteps where training has such noise. Numbers as in diffusers'
/// `EulerDiscreteScheduler` (`init(interpolating:)`) and `DPMSolverMultistepScheduler` (`init(whole:)`).
struct SigmaTable {
  let timesteps: [Double]
  /// One for each timestep, and the one to end at; fp32 numbers.
  let sigmas: [Double]

  /// Levels between those of the first and the last timestep. The timesteps need not be whole; U-Net and concepts
  /// take them as they are (a mapper without positional encoding rounds down, as its authors' code does).
  init(interpolating c: SchedulerConfiguration, steps: Int) throws {
    let training = try Self.training(c)
    let times = try Timesteps.usual(c, c.timestepSpacing ?? .linspace, steps: steps, whole: false)
    let levels = times.map { Self.interpolated(training, at: $0) }
    let end = c.finalSigmasType == .zero ? 0 : training[0]
    guard let spread = c.sigmaSpread else {
      self.init(times, levels, end: end)
      return
    }
    let spreadLevels = try Self.levels(
      spread, from: c.sigmaMax ?? levels[0], to: c.sigmaMin ?? levels[levels.count - 1], count: steps)
    let logarithms = training.map(Self.logarithm)
    self.init(
      spreadLevels.map { Double(Float(Self.timestep(of: log($0), logarithms))) }, spreadLevels, end: end)
  }

  /// Levels of whole timesteps, or between those of all of training, for solvers that leave room for one more
  /// step at the end. A spread may name a timestep twice; its levels still fall.
  ///
  /// - Parameters:
  ///   - rounds: whether the timestep of a spread is rounded; cut off if not.
  ///   - endsAtOwn: `sigma_min` is the last level of the spread, not that of timestep 0.
  init(
    whole c: SchedulerConfiguration, steps: Int, rounds: (SchedulerConfiguration.SigmaSpread?) -> Bool,
    endsAtOwn: Bool = false
  ) throws {
    let training = try Self.training(c)
    let times: [Double]
    let levels: [Double]
    if c.sigmaSpread == nil, !c.usesLuLambdas {
      let used = try training.count - Self.clipped(training, c)
      times = try Timesteps.solver(c, c.timestepSpacing ?? .linspace, steps: steps, end: used)
      levels = times.map { training[Int($0)] }
    } else {
      try Timesteps.checkSteps(steps, c)
      let logarithms = training.map(Self.logarithm)
      let spread = c.usesLuLambdas && c.sigmaSpread != .karras ? nil : c.sigmaSpread
      levels =
        try spread.map {
          try Self.levels(
            $0, from: c.sigmaMax ?? training[training.count - 1], to: c.sigmaMin ?? training[0], count: steps)
        }
        ?? evenly(from: logarithms[logarithms.count - 1], to: logarithms[0], count: steps).map { exp($0) }
      times = levels.map {
        let t = Self.timestep(of: log($0), logarithms)
        return rounds(spread) ? t.rounded(.toNearestOrEven) : t.rounded(.down)
      }
    }
    let smallest = endsAtOwn && c.sigmaSpread != nil ? levels[levels.count - 1] : training[0]
    self.init(times, levels, end: c.finalSigmasType == .zero ? 0 : smallest)
    guard zip(sigmas, sigmas.dropFirst()).dropLast().allSatisfy(>) else {
      throw DiffusionError("\(steps) steps give a noise level twice; choose fewer steps")
    }
  }

  /// Falling levels of a spread. One step has the largest alone.
  private static func levels(
    _ spread: SchedulerConfiguration.SigmaSpread, from most: Double, to least: Double, count: Int
  ) throws -> [Double] {
    guard most > least || count == 1 else {
      throw DiffusionError(
        "scheduler_config.json: the largest noise level, “sigma_max”, would be \(Float(most)), and the smallest, "
          + "“sigma_min”, \(Float(least)); take these two keys out")
    }
    return spread.levels(from: most, to: least, count: count)
  }

  private init(_ timesteps: [Double], _ levels: [Double], end: Double) {
    self.timesteps = timesteps
    sigmas = (levels + [end]).map { Double(Float($0)) }
  }

  /// Those of all training timesteps, rising.
  private static func training(_ c: SchedulerConfiguration) throws -> [Double] {
    let schedule = try NoiseSchedule(c)
    let sigmas = (c.rescaleBetasZeroSNR ? schedule.withFloor() : schedule).sigmas
    guard sigmas.allSatisfy({ $0 > 0 && $0.isFinite }) else {
      throw DiffusionError(
        "scheduler_config.json: the βs leave nothing of the image, or no noise, at some timestep; "
          + "`scheduler ddim` works")
    }
    return sigmas
  }

  /// How many timesteps at the noisy end `lambda_min_clipped` cuts off.
  private static func clipped(_ sigmas: [Double], _ c: SchedulerConfiguration) throws -> Int {
    guard let least = c.lambdaMinClipped else { return 0 }
    return sigmas.count { NoiseLevel(sigma: $0).lambda < least }
  }

  private static func interpolated(_ values: [Double], at x: Double) -> Double {
    let low = min(Int(x), values.count - 1)
    let high = min(low + 1, values.count - 1)
    return values[low] + (values[high] - values[low]) * (x - Double(low))
  }

  /// In fp32, as the reference has it.
  private static func logarithm(_ sigma: Double) -> Double { Double(Float(log(sigma))) }

  /// Where training has this noise: interpolated in log σ, within training.
  private static func timestep(of logarithm: Double, _ logarithms: [Double]) -> Double {
    let above = logarithms.firstIndex { $0 > logarithm } ?? logarithms.count
    let low = max(min(above - 1, logarithms.count - 2), 0)
    let high = min(low + 1, logarithms.count - 1)
    guard logarithms[high] > logarithms[low] else { return Double(low) }
    let share = (logarithm - logarithms[low]) / Double(Float(logarithms[high] - logarithms[low]))
    return Double(low) + min(max(share, 0), 1)
  }
}

/// √ᾱ, √(1−ᾱ) and the logarithm λ of their ratio.
struct NoiseLevel {
  let alpha: Double
  let sigma: Double
  var lambda: Double { log(alpha) - log(sigma) }

  /// - Parameter ratio: √((1−ᾱ)/ᾱ).
  init(sigma ratio: Double) {
    alpha = 1 / (ratio * ratio + 1).squareRoot()
    sigma = ratio * alpha
  }
}

extension SchedulerConfiguration.SigmaSpread {
  /// Falling from the largest level to the smallest.
  func levels(from most: Double, to least: Double, count: Int) -> [Double] {
    switch self {
    case .karras:
      evenly(from: pow(most, 1.0 / 7), to: pow(least, 1.0 / 7), count: count).map { pow($0, 7) }
    case .exponential: evenly(from: log(most), to: log(least), count: count).map { exp($0) }
    case .beta:
      evenly(from: 1, to: 0, count: count).map { least + Self.betaQuantile($0) * (most - least) }
    }
  }

  /// The x below which a share p of the beta distribution with α = β = 0.6 lies.
  private static func betaQuantile(_ p: Double) -> Double {
    guard p <= 0.5 else { return 1 - betaQuantile(1 - p) }
    var (low, high) = (0.0, 0.5)
    for _ in 0..<60 {
      let middle = (low + high) / 2
      if betaShare(below: middle) < p { low = middle } else { high = middle }
    }
    return (low + high) / 2
  }

  /// Its incomplete integral as a power series, for x up to ½.
  private static func betaShare(below x: Double) -> Double {
    let a = 0.6
    var (term, sum) = (1.0, 1 / a)
    for n in 1..<60 {
      term *= x * (Double(n) - a) / Double(n)
      sum += term / (a + Double(n))
    }
    return pow(x, a) * sum * tgamma(2 * a) / (tgamma(a) * tgamma(a))
  }
}

/// Evenly spaced; both ends are met exactly.
func evenly(from start: Double, to end: Double, count: Int) -> [Double] {
  guard count > 1 else { return [start] }
  let step = (end - start) / Double(count - 1)
  return (0..<count).map { $0 == count - 1 ? end : start + Double($0) * step }
}
