public import Files

/// The error in words that `body` throws; nil when it throws none, or one without words.
public func refusal<T>(_ body: () throws -> T) -> (any DescribedError)? {
  do {
    _ = try body()
    return nil
  } catch {
    return error as? any DescribedError
  }
}
