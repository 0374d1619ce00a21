/// An error whose message is one line for the user: what was wrong, where, and what to do.
public protocol DescribedError: Error, CustomStringConvertible, Sendable {
  var message: String { get }
}

extension DescribedError {
  public var description: String { message }
}

/// What is wrong with a file, in words for the person who can mend it: which one, what, what to do.
public struct FileError: DescribedError {
  public let message: String
  public init(_ message: String) { self.message = message }
}
