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
  private let prompt: String
  private let times: [Int]

  /// `image` is of the model's training size; `prompt` says what is in it, with `{}` for the concept.
  public init(
    _ model: StableDiffusion, image: Image, prompt: String = defaultPrompt,
    noises: Int = noisesPerTimestep, seed: UInt64 = 0
  )
    throws
  {
    self.model = model
    self.prompt = prompt
    schedule = try NoiseSchedule(model.schedulerConfiguration)
    latents = try withoutGradients {
      let x = try Tensor(image.floats(), [1, 3, image.height, image.width]).to(device: model.device)
      return try model.vae.encode(x).mean.to(.float32) * model.scalingFactor
    }
    times = Self.timesteps.flatMap { [Int](repeating: $0, count: noises) }
    self.noises = try RandomSource(seed: seed).normal([times.count] + Array(latents.shape[1...])).to(
      device: model.device)
  }

  /// The loss of a learned concept.
  public func callAsFunction(_ concept: Concept) throws -> Double {
    let prompter = try ConceptPrompter(model.tokenizers, [.init(concept)])
    return try mean(prompter(prompt), concepts: [concept.representation])
  }

  /// The loss of a plain word, such as the category.
  public func callAsFunction(word: String) throws -> Double {
    let prompter = try ConceptPrompter(model.tokenizers, [])
    return try mean(prompter(prompt.replacing("{}", with: word)), concepts: [])
  }

  private func mean(_ prompt: ConceptPrompt, concepts: [any ConceptRepresentation]) throws -> Double {
    try withoutGradients {
      let conditioner = try SpaceTimeConditioner(
        model.textEncoders, concepts: concepts, layerCount: model.baseIdentity.layers.count)
      var sum = 0.0
      for start in stride(from: 0, to: times.count, by: Self.samplesPerPass) {
        let part = start..<min(start + Self.samplesPerPass, times.count)
        let samples = part.map { SpaceTimeConditioner.Sample(prompt: 0, timestep: Double(times[$0])) }
        let context = try conditioner([prompt], samples: samples)
        let size = SizeConditioning(
          height: latents.size(2) * model.vaeFactor, width: latents.size(3) * model.vaeFactor)
        let loss = try schedule.loss(
          unet: model.unet, clean: latents.expanded([part.count] + latents.shape.dropFirst()),
          noise: noises.sliced(0, part), timesteps: Array(times[part]), context: context,
          added: conditioner.added([prompt], samples, sizes: [size]), predicting: model.predictionType)
        sum += try loss.item() * Double(part.count)
      }
      return sum / Double(times.count)
    }
  }

  private static let samplesPerPass = 8
}
