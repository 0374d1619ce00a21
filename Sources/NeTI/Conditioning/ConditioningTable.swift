public import Diffusion
public import Torch

/// The conditioning of one prompt for a list of timesteps, computed once and kept.
///
/// It depends on the concepts, the prompt, the timesteps, the truncation and the precision, never on
/// the seed.
public struct ConditioningTable {
  /// Rows of the text encoder that run together: bounds memory, and is past what speeds it up.
  static let rowsPerBatch = 128

  /// Per timestep (one for all when nothing depends on time), per distinct layer, [1, S, d].
  private let steps: [[CrossAttentionContext]]
  /// The pooled output of the text encoder, [1, p], at every timestep; nil where the U-Net takes none.
  public let pooled: Tensor?

  /// `truncations` says how many hidden units each concept keeps; empty keeps all.
  public init(
    _ conditioner: SpaceTimeConditioner, _ prompt: ConceptPrompt, timesteps: [Double],
    truncations: [Int?] = []
  ) throws {
    self = try Self.tables(conditioner, prompt, timesteps: timesteps, truncations: [truncations])[0]
  }

  private init(steps: [[CrossAttentionContext]], pooled: Tensor?) {
    self.steps = steps
    self.pooled = pooled
  }

  /// A table for each truncation, computed together in batches.
  ///
  /// - Parameter truncations: per table, how many hidden units each concept keeps.
  public static func tables(
    _ conditioner: SpaceTimeConditioner, _ prompt: ConceptPrompt, timesteps: [Double],
    truncations: [[Int?]]
  ) throws -> [ConditioningTable] {
    let times = conditioner.dependsOnTime ? timesteps : Array(timesteps.prefix(1))
    let layers = conditioner.distinctLayers
    let rows = truncations.flatMap { keep in times.map { (keep: keep, timestep: $0) } }
    var steps: [[CrossAttentionContext]] = []
    for part in rows.chunked(max(1, rowsPerBatch / layers)) {
      let samples = part.map { SpaceTimeConditioner.Sample(prompt: 0, timestep: $0.timestep) }
      let keep = conditioner.concepts.indices.map { c in
        (0..<layers).flatMap { _ in part.map { c < $0.keep.count ? $0.keep[c] : nil } }
      }
      let pairs = try withoutGradients {
        try conditioner([prompt], samples: samples, keep: keep).map {
          try $0.weighted(prompt.tokens.map(\.weights), sizes: conditioner.encoders.sizes)
        }
      }
      for i in samples.indices {
        steps.append(
          try pairs.map {
            let keys = try $0.keys.sliced(0, i..<i + 1)
            return CrossAttentionContext(
              keys: keys, values: $0.keys === $0.values ? keys : try $0.values.sliced(0, i..<i + 1))
          })
      }
    }
    let pooled = try withoutGradients { try conditioner.pooled([prompt]) }
    return truncations.indices.map {
      ConditioningTable(steps: Array(steps[$0 * times.count..<($0 + 1) * times.count]), pooled: pooled)
    }
  }

  /// The pairs at the `index`-th timestep: one for all layers, or one per layer.
  public subscript(index: Int) -> [CrossAttentionContext] { steps[min(index, steps.count - 1)] }

  /// The pair of one layer at the `index`-th timestep.
  public subscript(index: Int, layer layer: Int) -> CrossAttentionContext {
    let pairs = self[index]
    return pairs.count == 1 ? pairs[0] : pairs[layer]
  }
}

extension Array {
  /// Slices of at most `size` elements.
  fileprivate func chunked(_ size: Int) -> [ArraySlice<Element>] {
    stride(from: 0, to: count, by: size).map { self[$0..<Swift.min($0 + size, count)] }
  }
}
