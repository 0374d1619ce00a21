/// A prompt as ids, ready for the text encoder.
public struct TokenizedPrompt: Sendable, Equatable {
  /// BOS, the text, EOS, padding: as many as the model has positions.
  public let ids: [Int]
  /// Ids before the padding, BOS and EOS included.
  public let count: Int
  /// Ids for which there was no room.
  public let truncated: [Int]
  /// What was cut off, for a warning; empty when nothing was.
  public let truncatedText: String

  /// Where `id` stands in `ids`, padding aside.
  public func positions(of id: Int) -> [Int] {
    (0..<count).filter { ids[$0] == id }
  }
}
