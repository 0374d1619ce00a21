/// What is wrong with a file, in words for the person who can mend it: which one, what, what to do.
public struct FileError: Error, CustomStringConvertible, Sendable {
  public let message: String
  public init(_ message: String) { self.message = message }
  public var description: String { message }
}
