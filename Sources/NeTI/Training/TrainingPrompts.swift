import Diffusion

/// The words of a run, checked and tokenised once: the sentences that the concept is learned in, and the word
/// that it begins as.
struct TrainingPrompts {
  /// The templates, and after them the captions.
  let sentences: [ConceptPrompt]
  let templateCount: Int
  let category: CategoryToken
  /// Lines on captions that the model reads only a part of, or in another way than was perhaps meant.
  let notices: [String]

  /// Per image, its caption's index in `sentences`, if it has one.
  private let captions: [Int?]

  /// - Parameter vectorCount: of the concept.
  ///
  /// Refuses a placeholder that the model knows as a word, a category without a word in it, and captions
  /// that are no prompts.
  init(
    _ data: RunConfiguration.Images, _ examples: [TrainingExample], _ tokenizers: [CLIPTokenizer],
    vectorCount: Int
  ) throws {
    let tokenizer = tokenizers[0]
    let prompter = try ConceptPrompter(
      tokenizers,
      [
        .init(token: data.placeholderToken, category: data.superCategoryToken, vectorCount: vectorCount)
      ])
    var sentences = try data.learnableProperty.templates.map { try prompter($0) }
    templateCount = sentences.count
    var read: [ConceptPrompt] = []
    captions = try examples.map { example in
      guard let caption = example.caption else { return nil }
      read.append(try prompter(caption, kind: "caption of \(example.name)"))
      return sentences.count + read.count - 1
    }
    sentences += read
    notices =
      read.compactMap { $0.cutOffWarning(tokenizer.modelMaxLength) }
      + PromptOddities(read.map(\.oddities)).lines("in a caption", .init())
    self.sentences = sentences
    var known = tokenizer
    _ = try known.add(data.placeholderToken)
    category = try CategoryToken(data.superCategoryToken, tokenizers)
  }

  /// The index of an image's sentence: its caption, or where it has none the template.
  func sentence(image: Int, template: Int) -> Int { captions[image] ?? template }
}
