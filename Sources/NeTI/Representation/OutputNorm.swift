import Torch

/// The norm of the mapper's output: the whole of it, both halves together, is scaled to the L2 norm of the
/// category's token embedding,
///
///     y ← ‖e_category‖₂ · y / ‖y‖₂
///
/// and only then split into v_base and v_bypass, for each text encoder by itself. What the text encoder gets so is as long as the words that it
/// was trained on. NeTI, section 3.2 (https://arxiv.org/abs/2305.15391); `normalize_mapper_output` of the
/// authors' code, whose least norm is kept here.
enum OutputNorm {
  /// - Parameters:
  ///   - y: [N, 2d], or [N, d] without the bypass; of several vectors each is a row.
  ///   - norm: above 0; nil leaves y as it comes.
  static func apply(_ y: Tensor, norm: Double?) throws -> Tensor {
    guard let norm else { return y }
    return try y / y.norm([1], keep: true).clamped(1e-12, .infinity) * norm
  }
}
