import CTorch

/// An operation of libtorch that failed: its name, the shapes it was given, and libtorch's words.
public struct TorchError: Error, CustomStringConvertible, Sendable {
  /// One line: operation, shapes, reason.
  public let message: String
  /// An error with these words.
  public init(_ message: String) { self.message = message }
  /// `message`.
  public var description: String { message }

  /// The calling thread's last failed operation.
  static var last: TorchError {
    let words = String(cString: ct_last_error())
    // What C++ and oneDNN say of it tells nobody.
    let isMemory = ["bad_alloc", "could not create a primitive"].contains { words.contains($0) }
    return TorchError(words + (isMemory ? ": too little memory, or a limit of it (ulimit -v)" : ""))
  }
}

/// Throws when a C function's status says that it failed.
@inline(__always)
func check(_ status: Int32) throws {
  if status != 0 { throw TorchError.last }
}
