import Foundation

/// What an image is compared with.
public enum Metric: String, CaseIterable, Codable, Sendable {
  case trained = "image_trained"
  case heldOut = "image_held_out"
  case category = "text_category"
  case omitted = "text_omitted"

  /// What it is called in a table.
  public var title: String {
    switch self {
    case .trained: "image, trained on"
    case .heldOut: "image, held out"
    case .category: "text, category's word"
    case .omitted: "text, left out"
    }
  }

  func value(_ score: ImageScore) -> Double? {
    switch self {
    case .trained: score.trained
    case .heldOut: score.heldOut
    case .category: score.category
    case .omitted: score.omitted
    }
  }
}

/// The scores of an evaluation, put together: per concept and method, and per method over concepts.
public struct EvaluationSummary {
  /// Images of one concept by one method: the unit of all means.
  struct Group: Hashable {
    let token: String
    let method: String
    let steps: Int
    let truncation: Int?
  }

  /// A concept file's images: those asked for, and what there is of them.
  package struct Entry {
    package let token: String
    package let method: String
    package let steps: Int
    package let keys: [ImageScore.Key]
    package let contents: EvaluationResults.Contents

    package init(
      token: String, method: String, steps: Int, keys: [ImageScore.Key],
      contents: EvaluationResults.Contents
    ) {
      (self.token, self.method, self.steps, self.keys, self.contents) = (token, method, steps, keys, contents)
    }
  }

  /// A method's difference from another's, over the concepts that both have.
  public struct Difference: Sendable {
    public let method: String
    public let other: String
    public let estimates: [Metric: Estimate]
  }

  /// In the order in which they were given.
  public let methods: [String]
  let tokens: [String]
  /// Images that are asked for, and those there are.
  public let imagesWanted: Int
  public let imagesDone: Int
  /// All groups, by method, concept, steps and truncation.
  let groups: [Group]
  let held: [Group: [HeldOutScore]]
  private let scores: [Group: [ImageScore.Key: [ImageScore]]]
  private let bootstrap = Bootstrap()

  /// Reads what was measured until now, by whichever process.
  public init(_ evaluation: Evaluation) throws {
    self.init(
      try evaluation.subjects.map {
        Entry(
          token: $0.token, method: $0.method, steps: $0.steps, keys: evaluation.keys(of: $0),
          contents: try evaluation.contents(of: $0))
      })
  }

  package init(_ entries: [Entry]) {
    var scores: [Group: [ImageScore.Key: [ImageScore]]] = [:]
    var held: [Group: [HeldOutScore]] = [:]
    var (wanted, done) = (0, 0)
    for s in entries {
      if let score = s.contents.heldOut {
        held[Group(token: s.token, method: s.method, steps: s.steps, truncation: nil), default: []].append(
          score)
      }
      for key in s.keys {
        wanted += 1
        guard let score = s.contents.images[key] else { continue }
        done += 1
        let group = Group(token: s.token, method: s.method, steps: s.steps, truncation: key.truncation)
        scores[group, default: [:]][key, default: []].append(score)
      }
    }
    (self.scores, self.held, imagesWanted, imagesDone) = (scores, held, wanted, done)
    methods = Self.inOrder(entries.map(\.method))
    tokens = Self.inOrder(entries.map(\.token))
    let methodPlaces = Self.places(methods)
    let tokenPlaces = Self.places(tokens)
    func place(_ g: Group) -> [Int] {
      [methodPlaces[g.method] ?? 0, tokenPlaces[g.token] ?? 0, g.steps, g.truncation ?? .max]
    }
    groups = scores.keys.map { (group: $0, place: place($0)) }
      .sorted { $0.place.lexicographicallyPrecedes($1.place) }.map(\.group)
  }

  private static func inOrder(_ names: [String]) -> [String] {
    var seen: Set<String> = []
    return names.filter { seen.insert($0).inserted }
  }

  private static func places(_ names: [String]) -> [String: Int] {
    Dictionary(uniqueKeysWithValues: names.enumerated().map { ($1, $0) })
  }

  func count(_ group: Group) -> Int { scores[group]?.values.reduce(0) { $0 + $1.count } ?? 0 }

  /// The mean over a group's images; nil where there are none, or no references.
  func mean(_ metric: Metric, _ group: Group) -> Double? {
    Self.mean((scores[group] ?? [:]).values.joined().compactMap(metric.value))
  }

  /// Sorted, so that no order of work changes the last digit.
  private static func mean(_ values: [Double]) -> Double? {
    values.isEmpty ? nil : values.sorted().reduce(0, +) / Double(values.count)
  }

  /// The group that stands for a method and concept: all hidden units, the most training steps.
  func best(_ method: String, _ token: String, truncation: Int? = nil) -> Group? {
    scores.keys.filter { $0.method == method && $0.token == token && $0.truncation == truncation }
      .max { $0.steps < $1.steps }
  }

  /// A method's mean over concepts.
  public func estimate(_ metric: Metric, _ method: String) throws -> Estimate? {
    try bootstrap(tokens.compactMap { best(method, $0).flatMap { mean(metric, $0) } })
  }

  /// The held-out loss of a method relative to that of the category's word, −0.1 for 10 % less.
  public func heldOutLoss(_ method: String) throws -> Estimate? {
    try bootstrap(tokens.compactMap { best(method, $0).flatMap(relativeLoss) })
  }

  func relativeLoss(_ group: Group) -> Double? {
    let whole = Group(token: group.token, method: group.method, steps: group.steps, truncation: nil)
    return Self.mean((held[whole] ?? []).map { $0.loss / $0.wordLoss - 1 })
  }

  /// The similarity of the real images with one another, the mean over concepts.
  public func ceiling() throws -> Estimate? {
    try bootstrap(
      tokens.compactMap { token in
        Self.mean(held.filter { $0.key.token == token }.values.joined().compactMap(\.ceiling))
      })
  }

  /// Every method's differences from those before it: of the images with the same prompt and seed, per concept, then
  /// over concepts.
  public func differences() throws -> [Difference] {
    try methods.indices.flatMap { i in
      try (0..<i).map { j in try difference(methods[i], methods[j]) }
    }.filter { !$0.estimates.isEmpty }
  }

  private func difference(_ method: String, _ other: String) throws -> Difference {
    var estimates: [Metric: Estimate] = [:]
    for metric in Metric.allCases {
      let values = tokens.compactMap { token -> Double? in
        guard let a = best(method, token), let b = best(other, token) else { return nil }
        return paired(metric, a, b)
      }
      estimates[metric] = try bootstrap(values)
    }
    return Difference(method: method, other: other, estimates: estimates)
  }

  /// The mean difference of images that start from the same noise under the same prompt.
  private func paired(_ metric: Metric, _ a: Group, _ b: Group) -> Double? {
    guard let x = scores[a], let y = scores[b] else { return nil }
    return Self.mean(
      x.compactMap { key, ones in
        guard let others = y[key], let p = Self.mean(ones.compactMap(metric.value)),
          let q = Self.mean(others.compactMap(metric.value))
        else { return nil }
        return p - q
      })
  }
}
