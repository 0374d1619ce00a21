public import Files

/// Something that went wrong here, in words for the person who can mend it: what, where, what to do.
public struct DiffusionError: DescribedError {
  public let message: String
  /// Whether what was asked for cannot be, so that it is to be asked differently.
  public let isWrongUsage: Bool

  public init(_ message: String) {
    self.message = message
    isWrongUsage = false
  }

  public init(wrongUsage message: String) {
    self.message = message
    isWrongUsage = true
  }
}
