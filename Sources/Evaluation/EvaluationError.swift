public import Files

/// Something that went wrong here, in words for the person who can mend it: what, where, what to do.
public struct EvaluationError: DescribedError {
  public let message: String
  public init(_ message: String) { self.message = message }
}
