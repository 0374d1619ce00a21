public import Diffusion
public import Torch

/// Space-time conditioning: from prompts, timesteps and concepts to what each cross-attention layer
/// of the U-Net sees. Of two text encoders, each does the same with its part of the embedding, and their sequences
/// stand side by side.
///
/// For every sample and layer, the concept's embedding v_base(t, l) replaces the placeholder's token
/// embedding, or its n vectors those of n positions; the text encoder runs; before its final LayerNorm the textual bypass (`TextualBypass`) is added
/// at the placeholder. Keys come from the sequence without the bypass, values from the one with it. NeTI,
/// sections 3.1 and 3.3 (https://arxiv.org/abs/2305.15391).
///
/// The representations themselves compute on the CPU in fp32, wherever the model runs: they are tiny,
/// and so are the same to the last bit on every device.
///
/// All layers and samples go through the encoder as one batch. Tokens before the first placeholder
/// are the same for every (t, l), because the encoder is causal: they are run once per prompt.
public struct SpaceTimeConditioner {
  let encoders: TextEncoders
  /// One per placeholder of the prompts, in the same order.
  public let concepts: [any ConceptRepresentation]
  public let layerCount: Int

  /// Throws when a concept was made for another hidden size or number of layers.
  public init(_ encoders: TextEncoders, concepts: [any ConceptRepresentation], layerCount: Int) throws {
    let hiddenSize = encoders.sizes.reduce(0, +)
    for c in concepts {
      guard c.hiddenSize == hiddenSize, c.layerCount == layerCount else {
        throw NeTIError(
          "the concept is for hidden size \(c.hiddenSize) and \(c.layerCount) cross-attention layers, but this "
            + "model has \(hiddenSize) and \(layerCount); use the model it was trained on"
        )
      }
    }
    self.encoders = encoders
    self.concepts = concepts
    self.layerCount = layerCount
  }

  /// Whether anything changes with the timestep: if not, one timestep stands for all.
  public var dependsOnTime: Bool { concepts.contains { $0.dependsOnTime } }
  /// Layers that differ: L, or 1 when no concept depends on the layer.
  public var distinctLayers: Int { concepts.contains { $0.dependsOnLayer } ? layerCount : 1 }

  /// One thing to condition: a prompt at a timestep.
  public struct Sample: Sendable {
    /// Index into the prompts.
    public var prompt: Int
    /// Raw, 0…999; need not be whole.
    public var timestep: Double

    public init(prompt: Int, timestep: Double) {
      self.prompt = prompt
      self.timestep = timestep
    }
  }

  /// The sequences of all layers for `samples`, one pair per distinct layer, each [samples, S, d].
  ///
  /// `keep[c]`, when there is one, says how many hidden units of concept c each row keeps; row
  /// l · samples.count + s is layer l of sample s.
  public func callAsFunction(
    _ prompts: [ConceptPrompt], samples: [Sample], keep: [[Int?]] = []
  ) throws -> [CrossAttentionContext] {
    let sequence = try sequences(prompts, samples: samples, keep: keep)
    return try (0..<distinctLayers).map { l in
      let rows = l * samples.count..<(l + 1) * samples.count
      let keys = try sequence.keys.sliced(0, rows)
      return CrossAttentionContext(
        keys: keys, values: try sequence.values.map { try $0.sliced(0, rows) } ?? keys)
    }
  }

  /// The pooled output of the prompts, [prompts, p]; nil where the model uses none.
  ///
  /// It is added to the timestep's embedding, which all layers share, so it cannot follow the layer. A concept that
  /// depends on time or layer stands in it as its category's word, which is the same at every denoising step; those that
  /// depend on neither (`ti`) as themselves, as in other programs, unless one of the first kind stands in the same prompt.
  public func pooled(_ prompts: [ConceptPrompt]) throws -> Tensor? {
    guard let encoder = encoders.pooling else { return nil }
    let isStill = !concepts.isEmpty && !dependsOnTime && distinctLayers == 1
    guard isStill else {
      return try withoutGradients {
        try .concatenated(prompts.compactMap { try encoders.pooled($0.plainIDs) }, 0)
      }
    }
    let tokens = prompts.compactMap(\.tokens.last)
    let d = encoder.configuration.hiddenSize
    let (length, last) = (tokens[0].ids.count, encoder.tokenEmbedding.size(0) - 1)
    let device = encoder.tokenEmbedding.device
    let ids = try Tensor(tokens.flatMap { $0.ids.map { min($0, last) } }, [tokens.count, length])
    var inputs = try encoder.embed(ids).reshaped([-1, d])
    let zeros = try Tensor.zeros([tokens.count])
    for (c, concept) in concepts.enumerated() {
      let base = try concept.embeddings(timesteps: zeros, layers: zeros, mask: nil).base
      let own = try base.sliced(2, base.size(2) - d..<base.size(2)).reshaped([-1, d])
      let at = try rows(of: c, tokens, Array(tokens.indices), stride: length, offset: 0).to(device: device)
      inputs = try inputs.indexCopied(0, at, own.to(inputs.dtype, device: device))
    }
    return try encoder.pooled(
      inputs.reshaped([tokens.count, length, d]), ends: tokens.map { encoders.end(of: $0.ids) })
  }

  /// What a U-Net that takes it is told beside the timestep, one row for each of `samples`; nil for others.
  func added(_ prompts: [ConceptPrompt], _ samples: [Sample], sizes: [SizeConditioning]) throws
    -> AddedConditioning?
  {
    try pooled(prompts).map {
      let rows = try Tensor(samples.map(\.prompt)).to(device: $0.device)
      return AddedConditioning(pooled: try $0.indexSelected(0, rows), sizes: sizes)
    }
  }

  /// Keys, and values where they differ, [layers · samples, S, d], layers outermost.
  func sequences(_ prompts: [ConceptPrompt], samples: [Sample], keep: [[Int?]]) throws
    -> (keys: Tensor, values: Tensor?)
  {
    for prompt in prompts where prompt.vectorCounts != concepts.map(\.vectorCount) {
      throw NeTIError(
        "the prompt “\(prompt.text)” has \(prompt.vectorCounts) positions for its concepts, whose vectors are "
          + "\(concepts.map(\.vectorCount)); tokenise it with the concepts that it shows")
    }
    for prompt in prompts where prompt.tokens.count != encoders.members.count {
      throw NeTIError(
        "the prompt “\(prompt.text)” is tokenised for \(prompt.tokens.count) text encoders, and the model has "
          + "\(encoders.members.count)")
    }
    let layers = distinctLayers
    let t = try Tensor((0..<layers).flatMap { _ in samples.map { Float($0.timestep) } })
    let l = try Tensor((0..<layers).flatMap { l in samples.map { _ in Float(l) } })
    let embeddings = try concepts.enumerated().map { c, concept in
      let width = concept.truncationWidth ?? 0
      let mask = try c < keep.count ? Truncation.mask(keep: keep[c], width: width) : nil
      return try concept.embeddings(timesteps: t, layers: l, mask: mask)
    }
    let rowPrompts = (0..<layers).flatMap { _ in samples.map(\.prompt) }
    var start = 0
    let each = try encoders.members.enumerated().map { i, encoder in
      let part = start..<start + encoder.configuration.hiddenSize
      start = part.upperBound
      return try sequences(
        encoder, prompts.map { $0.tokens[i] }, rowPrompts,
        encoders.members.count == 1 ? embeddings : embeddings.map { try $0.sliced(part) })
    }
    guard each.count > 1 else { return each[0] }
    let keys = try Tensor.concatenated(each.map(\.keys), 2)
    guard each.contains(where: { $0.values != nil }) else { return (keys, nil) }
    return (keys, try .concatenated(each.map { $0.values ?? $0.keys }, 2))
  }

  /// Those of one text encoder.
  ///
  /// - Parameters:
  ///   - rowPrompts: the prompt of each row.
  ///   - embeddings: of each concept, one for each row.
  private func sequences(
    _ encoder: CLIPTextEncoder, _ prompts: [ConceptPrompt.Tokens], _ rowPrompts: [Int],
    _ embeddings: [ConceptEmbedding]
  ) throws -> (keys: Tensor, values: Tensor?) {
    let device = encoder.tokenEmbedding.device
    let rowIndex = try Tensor(rowPrompts).to(device: device)
    let length = prompts[0].ids.count
    // A placeholder has no row of its own; whichever it gets here is overwritten below.
    let last = encoder.tokenEmbedding.size(0) - 1
    let ids = try Tensor(prompts.flatMap { $0.ids.map { min($0, last) } }, [prompts.count, length])
      .to(device: device)

    // What comes before every placeholder is run once per prompt.
    let start = prompts.flatMap(\.positions).min() ?? length
    let prefix: CLIPPrefix? =
      try start == 0
      ? nil : withoutGradients { try encoder.prefix(encoder.embed(ids.sliced(1, 0..<start))) }
    let prefixStates = try prefix.map { p in try withoutGradients { try encoder.output(p.states) } }
    if start == length, let prefixStates {
      return (try prefixStates.indexSelected(0, rowIndex), nil)
    }

    let rest = length - start
    let d = encoder.configuration.hiddenSize
    var inputs = try encoder.embed(ids.sliced(1, start..<length)).indexSelected(0, rowIndex)
      .reshaped([-1, d])
    var bypasses: [(concept: Int, direction: Tensor)] = []
    for (c, e) in embeddings.enumerated() {
      let at = try rows(of: c, prompts, rowPrompts, stride: rest, offset: -start).to(device: device)
      inputs = try inputs.indexCopied(0, at, e.base.reshaped([-1, d]).to(inputs.dtype, device: device))
      if let direction = e.bypass {
        bypasses.append((c, try direction.reshaped([-1, d]).to(device: device)))
      }
    }

    let h = try encoder.hiddenStates(
      inputs.reshaped([rowPrompts.count, rest, d]), prefix: prefix?.rows(rowIndex))
    let normed = try encoder.output(h)
    let keys =
      try prefixStates.map { try Tensor.concatenated([$0.indexSelected(0, rowIndex), normed], 1) } ?? normed
    guard !bypasses.isEmpty else { return (keys, nil) }

    var values = try keys.reshaped([-1, d])
    for (c, direction) in bypasses {
      let at = try rows(of: c, prompts, rowPrompts, stride: rest, offset: -start).to(device: device)
      let moved = try TextualBypass.apply(
        h.reshaped([-1, d]).indexSelected(0, at), direction, encoder: encoder)
      let full = try rows(of: c, prompts, rowPrompts, stride: length, offset: 0).to(device: device)
      values = try values.indexCopied(0, full, moved)
    }
    return (keys, try values.reshaped(keys.shape))
  }

  /// Where the positions of concept c's placeholder lie in each row of a flattened [rows, stride, …].
  private func rows(
    of c: Int, _ prompts: [ConceptPrompt.Tokens], _ rowPrompts: [Int], stride: Int, offset: Int
  ) throws -> Tensor {
    let n = concepts[c].vectorCount
    return try Tensor(
      rowPrompts.enumerated().flatMap { r, p in
        (0..<n).map { r * stride + prompts[p].positions[c] + $0 + offset }
      })
  }
}

extension ConceptEmbedding {
  /// The part of one of several text encoders.
  fileprivate func sliced(_ part: Range<Int>) throws -> ConceptEmbedding {
    ConceptEmbedding(base: try base.sliced(2, part), bypass: try bypass?.sliced(2, part))
  }
}
