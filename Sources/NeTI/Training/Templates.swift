/// The sentences that training puts the placeholder into: textual inversion's small sets of the
/// ImageNet templates (https://arxiv.org/abs/2208.01618), as the authors of NeTI use them.
///
/// Training samples an index into them, so their order is part of a run's result.
public enum Templates {
  /// What stands for the concept in a template or prompt.
  public static let placeholder = "{}"

  /// 27 sentences for a thing.
  public static let object = [
    "a photo of a {}", "a rendering of a {}", "a cropped photo of the {}", "the photo of a {}",
    "a photo of a clean {}", "a photo of a dirty {}", "a dark photo of the {}", "a photo of my {}",
    "a photo of the cool {}", "a close-up photo of a {}", "a bright photo of the {}",
    "a cropped photo of a {}", "a photo of the {}", "a good photo of the {}", "a photo of one {}",
    "a close-up photo of the {}", "a rendition of the {}", "a photo of the clean {}",
    "a rendition of a {}", "a photo of a nice {}", "a good photo of a {}", "a photo of the nice {}",
    "a photo of the small {}", "a photo of the weird {}", "a photo of the large {}",
    "a photo of a cool {}", "a photo of a small {}",
  ]

  /// 19 sentences for a style; two of them stand twice, as in the original, and so are sampled twice as often.
  public static let style: [String] = styleOpenings.map { $0 + " in the style of {}" }

  private static let styleOpenings = [
    "a painting", "a rendering", "a cropped painting", "the painting", "a clean painting",
    "a dirty painting", "a dark painting", "a picture", "a cool painting", "a close-up painting",
    "a bright painting", "a cropped painting", "a good painting", "a close-up painting",
    "a rendition", "a nice painting", "a small painting", "a weird painting", "a large painting",
  ]
}
