import Diffusion

/// The super-category's token: its row starts the placeholder, its norm scales the mapper's output.
struct CategoryToken {
  /// In each text encoder.
  let ids: [Int]
  /// One line for the user when the category is not one token.
  let notice: String?

  /// Refuses an empty category; of several tokens the last counts, as in English the head noun comes
  /// last (the authors' code refuses such a category).
  init(_ category: String, _ tokenizers: [CLIPTokenizer]) throws {
    let all = tokenizers.map { $0.encode(category) }
    let lasts = all.compactMap(\.last)
    guard let tokenizer = tokenizers.first, let ids = all.first, let last = lasts.first,
      lasts.count == all.count
    else {
      throw NeTIError(
        "the category “\(category)” has no word in it; give one such as toy, cat or mug (`category`)")
    }
    self.ids = lasts
    notice =
      ids.count == 1
      ? nil
      : "the category “\(category)” is \(ids.count) tokens in this model's vocabulary; the last, "
        + "“\(tokenizer.decode([last]))”, gives the norm and the starting row"
  }
}
