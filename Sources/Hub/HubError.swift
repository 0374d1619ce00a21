public import Files

/// What keeps a model from being fetched, kept or found, in words: which, what, what to do.
public struct HubError: DescribedError {
  public let message: String
  public init(_ message: String) { self.message = message }
}
