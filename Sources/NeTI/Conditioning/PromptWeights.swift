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
/// weighted by itself. As in the web UI, a mean(w · z) near zero, which large or negative weights can give, makes
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
  func weighted(_ weights: [Float]?) throws -> CrossAttentionContext {
    guard let weights else { return self }
    let k = try PromptWeights.apply(weights, to: keys)
    return CrossAttentionContext(
      keys: k, values: keys === values ? k : try PromptWeights.apply(weights, to: values))
  }
}
