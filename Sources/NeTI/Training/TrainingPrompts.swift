import Diffusion

/// The words of a run, checked and tokenised once: the sentences that the concept is learned in, and the word
/// that it begins as.
struct TrainingPrompts {
  /// The templates, and after them the captions.
  let sentences: [ConceptPrompt]
  let templateCount: Int
  let category: CategoryToken
  /// One line for each caption that the model reads only a part of.
  let notices: [String]

  /// Per image, its caption's index in `sentences`, if it has one.
  private let captions: [Int?]

  /// Refuses a placeholder that the model knows as a word, a category without a word in it, and captions
  /// that are no prompts.
  init(_ data: RunConfiguration.Images, _ examples: [TrainingExample], _ tokenizer: CLIPTokenizer) throws {
    let prompter = try ConceptPrompter(tokenizer, [.init(token: data.placeholderToken)])
    var sentences = try data.learnableProperty.templates.map { try prompter($0) }
    templateCount = sentences.count
    var notices: [String] = []
    captions = try examples.map { example in
      guard let caption = example.caption else { return nil }
      let sentence: ConceptPrompt
      do { sentence = try prompter(caption) } catch let e as NeTIError {
        throw NeTIError("the caption of \(example.name): \(e.message)")
      }
      if !sentence.cutOff.isEmpty {
        notices.append(
          "the caption of \(example.name) is longer than the model reads; “\(sentence.cutOff)” was cut off")
      }
      sentences.append(sentence)
      return sentences.count - 1
    }
    self.sentences = sentences
    self.notices = notices
    var known = tokenizer
    _ = try known.add(data.placeholderToken)
    category = try CategoryToken(data.superCategoryToken, tokenizer)
  }

  /// The index of an image's sentence: its caption, or where it has none the template.
  func sentence(image: Int, template: Int) -> Int { captions[image] ?? template }
}
