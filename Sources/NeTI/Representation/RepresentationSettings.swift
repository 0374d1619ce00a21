/// What a run can choose of its representation.
public struct RepresentationSettings: Sendable, Equatable {
  /// How many vectors may stand for one concept.
  public static let vectorCounts = 1...16

  public var kind = RepresentationKind.neti
  /// Vectors that stand for the concept, in `vectorCounts`.
  public var vectorCount = 1
  /// The mapper's choices, as in `NeTIMapper.Settings`; learned vectors have none.
  public var usesPositionalEncoding = true
  public var timeAnchors = 10
  public var sigmaTime = 0.03
  public var sigmaLayer = 2.0
  public var outputBypass = true
  /// Whether the output is scaled to the norm of the category's embedding.
  public var normalizesOutput = true
  public var usesNestedDropout = true
  public var nestedDropoutProbability = 0.5

  public init() {}
}
