/// How images are generated, whatever they show.
public struct GenerationSettings: Sendable, Equatable {
  /// One image for each.
  public var seeds: [UInt64] = [0]
  /// What guidance leads away from. Nil is the plain unconditional branch: an empty text, or zeros on a model that was
  /// trained so (SDXL), where an empty text is something else.
  public var negativePrompt: String?
  public var scheduler = SchedulerKind.dpm
  /// Denoising steps; the model may be called more often (PNDM).
  public var steps = 50
  /// The scale of classifier-free guidance; without effect at 1 and below.
  public var guidance = 7.5
  /// In pixels, a multiple of the model's `vaeFactor`; its `resolution` when nil. A starting image has its own.
  public var width: Int?
  public var height: Int?
  /// What SDXL's U-Net is told of how large the image was before it was scaled, each side 1…65536; the image's own size
  /// when nil. The smaller, the more the image looks as if it was enlarged.
  public var originalSize: PixelSize?
  /// What SDXL's U-Net is told was cut off at the left and at the top, each 0…65536 pixels; nothing when nil.
  public var crop: PixelSize?
  /// What to start from; noise alone when nil.
  public var start: StartingImage?
  /// Whether the VAE decodes in tiles (`VAE.decodeInTiles`); where memory is short, when nil.
  public var vaeTiling: Bool?

  public init() {}
}

/// Where the work is: denoising steps over all images, a batch counting once for each image.
public struct GenerationProgress: Sendable {
  public let stepsDone: Int
  public let stepsTotal: Int

  public init(stepsDone: Int, stepsTotal: Int) {
    self.stepsDone = stepsDone
    self.stepsTotal = stepsTotal
  }
}
