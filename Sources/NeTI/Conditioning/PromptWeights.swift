import Diffusion
import Torch

/// Weights of the words of a prompt, as AUTOMATIC1111's web UI applies them.
///
/// With z the text encoder's output and w_p the weight of the token at position p (1 at its frame and padding),
///
///     z'_p = w_p · z_p · mean(z) / mean(w · z)
///
/// the means over all positions and channels of one sequence: the weights shift what the sequence says, not how
/// loud it is. Of a concept every timestep and layer has its own sequences, for keys and for values; each is
/// weighted by itself, and of two text encoders the states of each. As in the web UI, a mean(w · z) near zero, which large or negative weights can give, makes
/// the result large.
enum PromptWeights {
  /// - Parameters:
  ///   - weights: one for each position, S.
  ///   - sequences: z, [N, S, d].
  static func apply(_ weights: [Float], to sequences: Tensor) throws -> Tensor {
    let z = try sequences.to(.float32)
    let weighted = try z * Tensor(weights, [weights.count, 1]).to(device: z.device)
    let scale = try z.mean([1, 2], keep: true) / weighted.mean([1, 2], keep: true)
    return try (weighted * scale).to(sequences.dtype)
  }
}

extension CrossAttentionContext {
  /// With the weights of a prompt; itself where it has none.
  ///
  /// - Parameters:
  ///   - weights: of each text encoder's tokens.
  ///   - sizes: how the encoders' states stand side by side.
  func weighted(_ weights: [[Float]?], sizes: [Int]) throws -> CrossAttentionContext {
    guard weights.contains(where: { $0 != nil }) else { return self }
    func apply(_ sequence: Tensor) throws -> Tensor {
      var start = 0
      let parts = try zip(weights, sizes).map { weights, size in
        defer { start += size }
        let part = try sequence.sliced(2, start..<start + size)
        return try weights.map { try PromptWeights.apply($0, to: part) } ?? part
      }
      return try .concatenated(parts, 2)
    }
    let k = try apply(keys)
    return CrossAttentionContext(keys: k, values: keys === values ? k : try apply(values))
  }
}
