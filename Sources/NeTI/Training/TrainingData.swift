import Diffusion
import Torch

/// Everything that a training sample is made of, prepared once: the images' latents, where their loss counts,
/// the sentences, and which of all that each sample gets.
struct TrainingData {
  private let prompts: TrainingPrompts
  private let latents: LatentCache
  private let weights: LossWeights?
  private let sizes: [SizeConditioning]
  private let samples: TrainingSamples
  private let device: Device

  /// Encodes the images, and lets go of the model's VAE.
  ///
  /// - Parameter timesteps: how many there are.
  init(
    _ examples: [TrainingExample], _ prompts: TrainingPrompts, _ model: StableDiffusion, repeats: Int,
    timesteps: Int, keys: RandomKeys
  ) throws {
    self.prompts = prompts
    device = model.device
    latents = try LatentCache(
      examples.map(\.image), vae: model.vae, scalingFactor: model.scalingFactor, device: device)
    model.release(.vae)
    let shapes = latents.shapes
    weights = try LossWeights(examples, sizes: shapes.map { ($0[1], $0[2]) }, device: device)
    sizes = examples.map(\.size)
    samples = TrainingSamples(
      keys: keys, repeats: repeats, templateCount: prompts.templateCount, timestepCount: timesteps,
      latentShapes: shapes)
  }

  /// Samples, by their numbers over the whole run, in parts that can run together: of images of one size, in the order
  /// in which the sizes come. Which samples a step has does not depend on it, nor, but for rounding, what it gives.
  ///
  /// - Parameter perPass: how many run together, from the positions of their latents, h · w.
  func passes(_ numbers: Range<Int>, perPass: (_ area: Int) -> Int) throws -> [[Int]] {
    let shapes = samples.latentShapes
    let isOneSize = Set(shapes).count == 1
    var groups: [(shape: [Int], numbers: [Int])] = []
    for number in numbers {
      let shape = isOneSize ? shapes[0] : shapes[try samples.image(number)]
      if let at = groups.firstIndex(where: { $0.shape == shape }) {
        groups[at].numbers.append(number)
      } else {
        groups.append((shape, [number]))
      }
    }
    return groups.flatMap { shape, numbers in
      let count = perPass(shape[1] * shape[2])
      return stride(from: 0, to: numbers.count, by: count).map {
        Array(numbers[$0..<min($0 + count, numbers.count)])
      }
    }
  }

  /// Samples that run together.
  struct Batch {
    /// z and ε, [B, C, h, w].
    let clean: Tensor
    let noise: Tensor
    let timesteps: [Int]
    /// The sentences of the batch, and per sample which of them it has.
    let prompts: [ConceptPrompt]
    let rows: [SpaceTimeConditioner.Sample]
    /// What SDXL is told of each image. A mirrored one has as much cut off on the other side.
    let sizes: [SizeConditioning]
    /// Where the loss counts, [B, 1, h, w]; nil everywhere.
    let weights: Tensor?
  }

  /// Samples of images of one size, by their numbers over the whole run, in update `step`.
  func batch(step: Int, _ numbers: [Int]) throws -> Batch {
    let chosen = try numbers.map { try samples.sample(step: step, number: $0) }
    let sentences = chosen.map { prompts.sentence(image: $0.image, template: $0.template) }
    let used = Array(Set(sentences)).sorted()
    return Batch(
      clean: try .stacked(
        chosen.map {
          try latents.sample(image: $0.image, flipped: $0.flipped, noise: $0.posterior.to(device: device))
        }, 0),
      noise: try Tensor.stacked(chosen.map(\.noise), 0).to(device: device),
      timesteps: chosen.map(\.timestep), prompts: used.map { prompts.sentences[$0] },
      rows: zip(chosen, sentences).map { sample, sentence in
        .init(prompt: used.firstIndex(of: sentence) ?? 0, timestep: Double(sample.timestep))
      },
      sizes: chosen.map { sizes[$0.image] },
      weights: try weights.map { w in
        try .stacked(chosen.map { try w.weights(image: $0.image, flipped: $0.flipped) }, 0)
      })
  }
}
