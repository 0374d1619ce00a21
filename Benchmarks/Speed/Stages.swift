import Diffusion
import Foundation
import NeTI
import Torch

/// One training sample and one denoising step, taken apart: the parts that `Trainer` and `Denoising` are
/// made of, each run by itself.
struct Stages {
  let model: StableDiffusion
  let batch: Int
  let side: Int
  let mapper: NeTIMapper
  let conditioner: SpaceTimeConditioner
  let prompt: ConceptPrompt
  private let schedule: NoiseSchedule
  private let optimizer: AdamW

  init(_ model: StableDiffusion, batch: Int) throws {
    self.model = model
    self.batch = batch
    side = model.unetConfiguration.sampleSize
    let layers = UNet.crossAttentionLayers(model.unetConfiguration).count
    mapper = try NeTIMapper(
      .init(hiddenSize: model.hiddenSize, layerCount: layers), keys: RandomKeys(seed: 0))
    for p in mapper.parameters { try p.tensor.requireGradient() }
    optimizer = try AdamW(mapper.parameters.map(\.tensor))
    conditioner = try SpaceTimeConditioner(model.textEncoders, concepts: [mapper], layerCount: layers)
    prompt = try ConceptPrompter(model.tokenizer, [.init(token: "<concept>")])("a photo of a {}")
    schedule = try NoiseSchedule(model.schedulerConfiguration)
  }

  /// Tokens that come before the placeholder, and so run once.
  var prefix: Int { prompt.positions[0] }

  /// Seconds of one step on `batch` samples, by stage, with the latents known.
  func trainingStep() throws -> [(stage: Stage, seconds: Double)] {
    var clock = Stopwatch()
    let timesteps = (0..<batch).map { 100 + 700 * $0 / batch }
    let context = try conditioner(
      [prompt], samples: timesteps.map { .init(prompt: 0, timestep: Double($0)) })
    let text = clock.lap()

    // The graph is cut here, so that each half of the backward pass can be timed.
    let leaves = try context.map { c in
      let keys = try c.keys.detached().requireGradient()
      return try CrossAttentionContext(
        keys: keys, values: c.values === c.keys ? keys : c.values.detached().requireGradient())
    }
    let shape = [batch, model.unetConfiguration.inChannels, side, side]
    let random = try RandomSource(seed: 1)
    let (clean, noise) = (try random.normal(shape), try random.normal(shape))
    let noisy = try schedule.addNoise(clean, noise, timesteps: timesteps)
    let t = try Tensor(timesteps.map { Float($0) })
    let unet = try model.unet
    clock.start()
    let prediction = try unet(noisy, timesteps: t, context: leaves).to(.float32)
    let loss = try meanSquaredError(prediction, noise)
    let forward = clock.lap()
    let sequences = leaves.flatMap { $0.keys === $0.values ? [$0.keys] : [$0.keys, $0.values] }
    let seeds = try gradients(of: [loss], for: sequences)
    let backward = clock.lap()
    let outputs = context.flatMap { $0.keys === $0.values ? [$0.keys] : [$0.keys, $0.values] }
    // Σ seed · output has the gradients of the loss.
    var sum = try Tensor.zeros([])
    for (o, s) in zip(outputs, seeds) { sum = try sum + (o * s).sum().to(.float32) }
    try sum.backward()
    let textBackward = clock.lap()
    try optimizer.step(learningRate: 1e-3)
    optimizer.clearGradients()
    let update = clock.lap()
    return [
      (.text, text), (.unet, forward), (.unetBackward, backward), (.textBackward, textBackward),
      (.optimizer, update),
    ]
  }

  /// Seconds to encode one image.
  func encoding() throws -> Double {
    let pixels = side * model.vaeFactor
    let image = try RandomSource(seed: 2).uniform([1, 3, pixels, pixels]) * 2 - 1
    let vae = try model.vae
    var clock = Stopwatch()
    _ = try withoutGradients { try vae.encode(image) }
    return clock.lap()
  }

  /// Seconds to decode one image.
  func decoding() throws -> Double {
    let latents = try RandomSource(seed: 3).normal([1, model.vaeConfiguration.latentChannels, side, side])
    let vae = try model.vae
    var clock = Stopwatch()
    _ = try withoutGradients { try vae.decode(latents) }
    return clock.lap()
  }

  /// Seconds for the conditioning of one prompt at a timestep, of `steps` that run together.
  func conditioning(steps: Int) throws -> Double {
    let times = (0..<steps).map { Double(999 - 999 * $0 / steps) }
    var clock = Stopwatch()
    _ = try ConditioningTable(conditioner, prompt, timesteps: times)
    return clock.lap() / Double(steps)
  }

  /// Seconds of the U-Net on both branches of guidance.
  func denoisingStep() throws -> Double {
    let tokens = model.textConfigurations[0].maxPositions
    let random = try RandomSource(seed: 4)
    let context = try (0..<conditioner.layerCount).map { _ in
      try CrossAttentionContext(
        keys: random.normal([2, tokens, model.hiddenSize]),
        values: random.normal([2, tokens, model.hiddenSize]))
    }
    let latents = try random.normal([2, model.unetConfiguration.inChannels, side, side])
    let unet = try model.unet
    var clock = Stopwatch()
    _ = try withoutGradients { try unet(latents, timesteps: Tensor([500 as Float]), context: context) }
    return clock.lap()
  }
}

/// What is timed, as the table names it.
enum Stage: String, Codable, CaseIterable {
  case encode = "VAE encoding, one image"
  case text = "text encoder, forward"
  case unet = "U-Net, forward"
  case unetBackward = "U-Net, backward"
  case textBackward = "text encoder, backward"
  case optimizer = "optimiser"
  case conditioning = "conditioning of a prompt, per timestep"
  case denoising = "denoising step, both branches"
  case decode = "VAE decoding, one image"
}

/// Seconds between laps.
struct Stopwatch {
  /// What is counted; set once, before the first measurement.
  nonisolated(unsafe) static var clock = CLOCK_MONOTONIC

  private var last = now()

  private static func now() -> Double {
    var t = timespec()
    clock_gettime(clock, &t)
    return Double(t.tv_sec) + Double(t.tv_nsec) * 1e-9
  }

  mutating func start() { last = Self.now() }

  mutating func lap() -> Double {
    let now = Self.now()
    defer { last = now }
    return now - last
  }
}
