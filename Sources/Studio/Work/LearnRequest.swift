import Files
import Foundation
import NeTI

/// What the page asks to learn, and the command that says the same.
struct LearnRequest: Decodable, Sendable {
  let title: String
  let kind: String
  let quality: Quality
  /// For who knows better: training steps, a seed.
  let steps: Int?
  let seed: Int?
  let isStyle: Bool?
  /// What the model's defaults decide when nil. The rate is that of an update, whatever the batch.
  var learningRate: Double?
  var batch: Int?
  var representation: RepresentationKind?
  var vectors: Int?

  /// How much time is spent.
  enum Quality: String, Codable, Sendable, CaseIterable {
    case quick, good, best

    /// Of the steps that suit the model.
    var share: Double {
      switch self {
      case .quick: 0.4
      case .good: 1
      case .best: 2
      }
    }

    func steps(of usual: Int) -> Int { max(1, Int((share * Double(usual)).rounded())) }
  }

  static let longestTitle = 60
  private static let mostSteps = 100_000
  private static let largestSeed = Int(UInt32.max)
  /// What is generated while it learns, always from the same noise.
  private static let things = ["a photo of a {}", "a watercolor painting of a {}"]
  private static let styles = ["a house in the style of {}", "a cat in the style of {}"]
  /// How often that happens over a run, and how often a run is saved, all of which is kept to be compared; and the
  /// fewest steps between.
  static let (times, leastPause) = (10, 5)

  /// The words of `neti` for it, beginning with `train`.
  ///
  /// - Parameters:
  ///   - name: what prompts and folders call it.
  ///   - folder: the concept's folder.
  ///   - usualSteps: what suits the model.
  ///   - modelWords: options that name the model.
  func words(name: String, folder: String, usualSteps: Int, modelWords: [String]) throws -> [String] {
    let kind = try StudioConcept.checked(kind, what: "the kind", longest: 40)
    guard !kind.hasPrefix("-") else {
      throw StudioError("the kind \(quoted(kind)) must be a word such as cat")
    }
    let steps = try self.steps(usualSteps)
    let seed = seed ?? 0
    guard (0...Self.largestSeed).contains(seed) else {
      throw StudioError("the seed \(seed) must be a whole number from 0 to \(Self.largestSeed)")
    }
    var words = [
      "train", "--images", folder + "/images", "--token", "<\(name)>", "--category", kind,
      "--output", folder + "/" + name, "--steps", String(steps), "--seed", String(seed),
    ]
    if isStyle == true { words += ["--property", "style"] }
    words += own
    let pause = String(max(Self.leastPause, steps / Self.times))
    words += ["--validate-every", pause]
    for prompt in isStyle == true ? Self.styles : Self.things { words += ["--validation-prompt", prompt] }
    words += [
      "--eval.num_validation_images", "1", "--eval.num_denoising_steps", "20", "--log.save_steps", pause,
      "--log.checkpoints_total_limit", String(Self.times + 2),
    ]
    return words + modelWords
  }

  /// What differs from the model's defaults; whoever reads the command line checks it.
  private var own: [String] {
    var words: [String] = []
    if let representation { words += ["--representation", representation.rawValue] }
    if let vectors { words += ["--vectors", String(vectors)] }
    if let learningRate {
      words += ["--optim.learning_rate", String(learningRate), "--optim.scale_lr", "false"]
    }
    if let batch { words += ["--optim.train_batch_size", String(batch)] }
    return words
  }

  func steps(_ usual: Int) throws -> Int {
    let steps = steps ?? quality.steps(of: usual)
    guard (1...Self.mostSteps).contains(steps) else {
      throw StudioError("\(steps) steps: between 1 and \(Self.mostSteps)")
    }
    return steps
  }
}
