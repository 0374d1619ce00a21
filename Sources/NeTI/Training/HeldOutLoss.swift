public import Diffusion
public import Imaging
import Torch

/// How well a concept explains an image that it was not trained on: the mean denoising loss over a
/// fixed grid of timesteps and noises.
///
/// The same grid for every concept and word, so that differences are theirs. Ours; the paper
/// measures generated images with CLIP.
public struct HeldOutLoss {
  /// The grid: timesteps 40, 120, … 920 and so many noises for each.
  public static let timesteps = Array(stride(from: 40, to: 1000, by: 80))
  public static let noisesPerTimestep = 4
  /// What an image is called where nothing else is known of it.
  public static let defaultPrompt = "a photo of a {}"

  private let model: StableDiffusion
  private let latents: Tensor
  private let noises: Tensor
  private let schedule: NoiseSchedule
  /// Those of the grid take turns.
  private let prompts: [String]
  private let times: [Int]
  private let size: SizeConditioning
  /// Where the loss counts, [1, 1, h, w]; nil everywhere.
  private let weights: Tensor?

  /// `image` is of the model's training size; `prompt` says what is in it, with `{}` for the concept.
  public init(
    _ model: StableDiffusion, image: Image, prompt: String = defaultPrompt,
    noises: Int = noisesPerTimestep, seed: UInt64 = 0
  )
    throws
  {
    try self.init(
      model, TrainingExample(image, caption: prompt), templates: [], noises: noises, seed: seed)
  }

  /// The loss as training has it: where the example's mask is, in its caption, or where it has none in the templates.
  public init(
    _ model: StableDiffusion, _ example: TrainingExample, templates: [String],
    noises: Int = noisesPerTimestep, seed: UInt64 = 0
  ) throws {
    self.model = model
    let image = example.image
    size = example.size
    schedule = try NoiseSchedule(model.schedulerConfiguration)
    latents = try withoutGradients {
      let x = try Tensor(image.floats(), [1, 3, image.height, image.width]).to(device: model.device)
      return try model.vae.encode(x).mean.to(.float32) * model.scalingFactor
    }
    let shape = latents.shape
    weights = try LossWeights([example], sizes: [(shape[2], shape[3])], device: model.device)?
      .weights(image: 0, flipped: false).unsqueezed(0)
    times = Self.timesteps.flatMap { [Int](repeating: $0, count: noises) }
    let sentences = example.caption.map { [$0] } ?? templates
    prompts = sentences.isEmpty ? [Self.defaultPrompt] : Array(sentences.prefix(times.count))
    self.noises = try RandomSource(seed: seed).normal([times.count] + Array(latents.shape[1...])).to(
      device: model.device)
  }

  /// The loss of a learned concept.
  public func callAsFunction(_ concept: Concept) throws -> Double {
    let prompter = try ConceptPrompter(model.tokenizers, [.init(concept)])
    return try mean(prompts.map { try prompter($0) }, concepts: [concept.representation])
  }

  /// The loss of a plain word, such as the category.
  public func callAsFunction(word: String) throws -> Double {
    let prompter = try ConceptPrompter(model.tokenizers, [])
    return try mean(prompts.map { try prompter($0.replacing("{}", with: word)) }, concepts: [])
  }

  private func mean(_ prompts: [ConceptPrompt], concepts: [any ConceptRepresentation]) throws -> Double {
    try withoutGradients {
      let conditioner = try SpaceTimeConditioner(
        model.textEncoders, concepts: concepts, layerCount: model.baseIdentity.layers.count)
      var sum = 0.0
      for start in stride(from: 0, to: times.count, by: Self.samplesPerPass) {
        let part = start..<min(start + Self.samplesPerPass, times.count)
        let samples = part.map {
          SpaceTimeConditioner.Sample(prompt: $0 % prompts.count, timestep: Double(times[$0]))
        }
        let context = try conditioner(prompts, samples: samples)
        let loss = try schedule.loss(
          unet: model.unet, clean: latents.expanded([part.count] + latents.shape.dropFirst()),
          noise: noises.sliced(0, part), timesteps: Array(times[part]), context: context,
          added: conditioner.added(prompts, samples, sizes: [size]), predicting: model.predictionType,
          weights: weights.map { try $0.expanded([part.count] + $0.shape.dropFirst()) })
        sum += try loss.item() * Double(part.count)
      }
      return sum / Double(times.count)
    }
  }

  private static let samplesPerPass = 8
}
