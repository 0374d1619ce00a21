public import Torch

/// How pictures are drawn.
public struct SamplerSettings: Sendable, Equatable {
  public var scheduler = SchedulerKind.dpm
  public var steps = 50
  /// The scale w of classifier-free guidance, u + w (c − u); the unconditional branch is left out
  /// where it has no effect, at 1 and below.
  public var guidance = 7.5
  /// One picture for each.
  public var seeds: [UInt64] = [0]
  /// Runs conditional and unconditional branch as one batch: faster where memory allows.
  public var branchesTogether = true

  public var usesGuidance: Bool { guidance > 1 }

  public init() {}
}

/// Denoising as a sequence of steps, with classifier-free guidance (Ho & Salimans 2022), as diffusers'
/// `StableDiffusionPipeline` computes it.
///
/// Every picture of the batch has its own generator, seeded with its own seed, and its own scheduler:
/// a picture is the same alone and in company. The latents stay in fp32.
public final class Sampler {
  /// The timestep of each step, from noise to picture; they need not be whole.
  public let timesteps: [Double]
  public let settings: SamplerSettings
  /// The next step, 0…timesteps.count.
  public private(set) var index = 0

  private let unet: UNet
  private let device: Device
  private var pictures: [Picture]

  private struct Picture {
    var scheduler: any Scheduler
    let random: RandomSource
    /// [1, C, h, w]
    var latents: Tensor
  }

  /// Starts from noise.
  ///
  /// - Parameters:
  ///   - height: of the latents.
  ///   - width: of the latents.
  /// - Throws: `DiffusionError` when the scheduler refuses its settings or there is no seed.
  public init(
    _ unet: UNet, _ configuration: SchedulerConfiguration, _ settings: SamplerSettings, height: Int,
    width: Int, device: Device = .cpu
  ) throws {
    guard !settings.seeds.isEmpty else { throw DiffusionError("no seed: there is one picture for each") }
    guard settings.guidance.isFinite else {
      throw DiffusionError("guidance is \(settings.guidance); it must be a number such as 7.5")
    }
    let scheduler = try makeScheduler(settings.scheduler, configuration, steps: settings.steps)
    self.unet = unet
    self.settings = settings
    self.device = device
    timesteps = scheduler.timesteps
    pictures = try settings.seeds.map { seed in
      let random = try RandomSource(seed: seed)
      let noise = try random.normal([1, unet.configuration.inChannels, height, width])
      let start = try noise.to(device: device) * scheduler.initialNoiseSigma
      return Picture(scheduler: scheduler, random: random, latents: start)
    }
  }

  /// [B, C, h, w] in fp32.
  public var latents: Tensor {
    get throws { try .concatenated(pictures.map(\.latents), 0) }
  }

  public var isDone: Bool { index == timesteps.count }

  /// One step for the whole batch.
  ///
  /// - Parameters:
  ///   - regions: what is drawn, and where; most often one region, the whole picture.
  ///   - unconditional: as a region's contexts; not looked at without guidance.
  public func step(_ regions: [Region], unconditional: [CrossAttentionContext]) throws {
    guard !isDone else { throw DiffusionError("sampler: all \(timesteps.count) steps are done") }
    try withoutGradients {
      let input = try Tensor.concatenated(
        pictures.map { try $0.scheduler.scaledInput($0.latents, at: index) }, 0)
      let output = try predicted(input, regions, unconditional)
      for i in pictures.indices {
        pictures[i].latents = try pictures[i].scheduler.step(
          output.sliced(0, i..<i + 1), at: index, pictures[i].latents, random: pictures[i].random)
      }
    }
    index += 1
  }

  /// The steps that are left.
  ///
  /// - Parameters:
  ///   - check: called with the index of each step before it; throws to stop.
  ///   - regions: what a step draws, from its index.
  /// - Returns: the latents, [B, C, h, w].
  /// - Throws: what `check` and `regions` throw; `DiffusionError` when numbers leave the range of
  ///   the dtype.
  public func run(
    unconditional: [CrossAttentionContext], check: (Int) throws -> Void = { _ in },
    regions: (Int) throws -> [Region]
  ) throws -> Tensor {
    while !isDone {
      try check(index)
      try step(regions(index), unconditional: unconditional)
    }
    let result = try latents
    guard try result.isFinite().to(.float32).min().item() == 1 else {
      throw DiffusionError(
        "sampling gave numbers that are not finite; try a lower guidance or precision fp32")
    }
    return result
  }

  /// The guided output of all regions, blended, in fp32.
  private func predicted(
    _ input: Tensor, _ regions: [Region], _ unconditional: [CrossAttentionContext]
  ) throws -> Tensor {
    if regions.count == 1, regions[0].place == nil {
      return try guided(input, regions[0].contexts, unconditional).to(.float32)
    }
    let sum = try Tensor.zeros(input.shape, device: device)
    let width = input.size(3)
    for region in regions {
      guard let place = region.place, 0 <= place.columns.lowerBound, place.columns.upperBound <= width,
        place.columns.count == place.shares.count
      else {
        throw DiffusionError("sampler: a region that has no place in latents \(input.shape)")
      }
      let part = try guided(input.sliced(3, place.columns), region.contexts, unconditional).to(.float32)
      let shared = try part * Tensor(place.shares).to(device: device)
      try sum.add(shared.padded([place.columns.lowerBound, width - place.columns.upperBound]))
    }
    return sum
  }

  /// The U-Net's output, with guidance.
  private func guided(
    _ input: Tensor, _ conditional: [CrossAttentionContext], _ unconditional: [CrossAttentionContext]
  ) throws -> Tensor {
    let n = pictures.count
    let t = try Tensor([Float(timesteps[index])]).to(device: device)
    let positive = try conditional.map { try $0.expanded(n) }
    guard settings.usesGuidance else { return try unet(input, timesteps: t, context: positive) }
    let negative = try unconditional.map { try $0.expanded(n) }
    let (u, c): (Tensor, Tensor)
    if settings.branchesTogether {
      let both = try unet(
        .concatenated([input, input], 0), timesteps: t, context: Self.joined(negative, positive))
      (u, c) = (try both.sliced(0, 0..<n), try both.sliced(0, n..<2 * n))
    } else {
      u = try unet(input, timesteps: t, context: negative)
      c = try unet(input, timesteps: t, context: positive)
    }
    let base = try u.to(.float32)
    return try base + settings.guidance * (c.to(.float32) - base)
  }

  /// Both branches' rows, layer by layer; one context stands for all layers.
  private static func joined(_ a: [CrossAttentionContext], _ b: [CrossAttentionContext]) throws
    -> [CrossAttentionContext]
  {
    guard let first = a.first, let second = b.first, a.count == b.count || a.count == 1 || b.count == 1
    else {
      throw DiffusionError("sampler: contexts for \(a.count) and for \(b.count) layers")
    }
    return try (0..<max(a.count, b.count)).map { layer in
      let (x, y) = (a.count == 1 ? first : a[layer], b.count == 1 ? second : b[layer])
      let keys = try Tensor.concatenated([x.keys, y.keys], 0)
      if x.keys === x.values && y.keys === y.values { return CrossAttentionContext(keys) }
      return try CrossAttentionContext(keys: keys, values: .concatenated([x.values, y.values], 0))
    }
  }
}

extension CrossAttentionContext {
  /// One row for each of `n` pictures, from one row or `n`.
  fileprivate func expanded(_ n: Int) throws -> CrossAttentionContext {
    guard keys.rank == 3, values.rank == 3, [1, n].contains(keys.size(0)), [1, n].contains(values.size(0))
    else {
      throw DiffusionError("sampler: contexts \(keys.shape) and \(values.shape) for \(n) pictures")
    }
    if keys.size(0) == n && values.size(0) == n { return self }
    let shape = [n] + keys.shape.dropFirst()
    let k = try keys.expanded(shape)
    if keys === values { return CrossAttentionContext(k) }
    return try CrossAttentionContext(keys: k, values: values.expanded([n] + values.shape.dropFirst()))
  }
}
