import Torch

/// Classifier-free guidance (Ho & Salimans 2022): the U-Net's output u + w (c − u), from one pass over the
/// unconditional branch u and the conditional branch c together. A U-Net that was distilled with guidance is told
/// the scale, and has no unconditional branch.
struct ClassifierFreeGuidance {
  let unet: UNet
  /// w; at 1 and below the unconditional branch has no effect and is left out.
  let scale: Double
  /// Pixels per latent, for a U-Net that is told the image's size.
  private let vaeFactor: Int
  private let settings: GenerationSettings

  init(unet: UNet, _ settings: GenerationSettings, vaeFactor: Int) {
    self.unet = unet
    self.settings = settings
    self.vaeFactor = vaeFactor
    scale = settings.guidance
  }

  var isUsed: Bool { Self.isUsed(scale, unet.configuration) }

  static func isUsed(_ scale: Double, _ unet: UNetConfiguration) -> Bool {
    scale > 1 && unet.guidanceChannels == nil
  }

  /// The guided output for the latents [B, C, h, w], in the shape of the latents.
  ///
  /// - Parameters:
  ///   - timestep: of the whole batch; need not be whole.
  ///   - conditional: of one row that all images share, or one per image; its place is not looked at.
  ///   - unconditional: the same; not looked at without guidance.
  func callAsFunction(
    _ latents: Tensor, timestep: Double, _ conditional: Region, unconditional: Region?
  ) throws -> Tensor {
    let n = latents.size(0)
    let t = try Tensor([Float(timestep)]).to(device: latents.device)
    let positive = try conditional.contexts.map { try $0.expanded(n) }
    guard isUsed else {
      return try unet(
        latents, timesteps: t, context: positive, added: added([conditional], latents), guidance: scale)
    }
    guard let unconditional else { throw DiffusionError("guidance: there is no unconditional branch") }
    let negative = try unconditional.contexts.map { try $0.expanded(n) }
    let both = try unet(
      .concatenated([latents, latents], 0), timesteps: t, context: Self.joined(negative, positive),
      added: added([unconditional, conditional], latents))
    let (u, c) = (try both.sliced(0, 0..<n).to(.float32), try both.sliced(0, n..<2 * n).to(.float32))
    return try u + scale * (c - u)
  }

  /// The pooled texts of the branches' rows and the sizes that the U-Net is told; nil where it takes none.
  private func added(_ branches: [Region], _ latents: Tensor) throws -> AddedConditioning? {
    guard unet.configuration.additionType != nil else { return nil }
    let n = latents.size(0)
    let pooled = try branches.map { branch in
      guard let pooled = branch.pooled, pooled.rank == 2, [1, n].contains(pooled.size(0)) else {
        throw DiffusionError("guidance: a pooled text \(branch.pooled?.shape ?? []) for \(n) images")
      }
      return try pooled.expanded([n, pooled.size(1)])
    }
    let size = SizeConditioning(
      height: latents.size(2) * vaeFactor, width: latents.size(3) * vaeFactor, settings)
    return AddedConditioning(pooled: try .concatenated(pooled, 0), sizes: [size])
  }

  /// Both branches' rows, layer by layer; one context stands for all layers.
  private static func joined(_ a: [CrossAttentionContext], _ b: [CrossAttentionContext]) throws
    -> [CrossAttentionContext]
  {
    guard let first = a.first, let second = b.first, a.count == b.count || a.count == 1 || b.count == 1
    else {
      throw DiffusionError("guidance: contexts for \(a.count) and for \(b.count) layers")
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
  /// One row for each of `n` images, from one row or `n`.
  fileprivate func expanded(_ n: Int) throws -> CrossAttentionContext {
    guard keys.rank == 3, values.rank == 3, [1, n].contains(keys.size(0)), [1, n].contains(values.size(0))
    else {
      throw DiffusionError("guidance: contexts \(keys.shape) and \(values.shape) for \(n) images")
    }
    if keys.size(0) == n && values.size(0) == n { return self }
    let shape = [n] + keys.shape.dropFirst()
    let k = try keys.expanded(shape)
    if keys === values { return CrossAttentionContext(k) }
    return try CrossAttentionContext(keys: k, values: values.expanded([n] + values.shape.dropFirst()))
  }
}
