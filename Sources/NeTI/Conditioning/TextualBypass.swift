import Diffusion
import Torch

/// The textual bypass: a residual at the text encoder's output, beside the embedding at its input.
///
/// With h_p the state at the placeholder before the final LayerNorm, in SDXL of the last layer but one, behind which
/// there is none,
///
///     h_p' = h_p + 0.2 · ‖h_p‖ · v_bypass / ‖v_bypass‖
///
/// Keys of the cross-attention come from the sequence without it, values from the one with it. NeTI, section
/// 3.3 (https://arxiv.org/abs/2305.15391). The final LayerNorm works position by position, so the two
/// sequences differ at the placeholder only.
enum TextualBypass {
  /// The weight of the bypass in the authors' code.
  static let scale = 0.2

  /// The placeholder's final states with the bypass, [N, d].
  ///
  /// - Parameters:
  ///   - states: h_p, [N, d].
  ///   - direction: v_bypass, [N, d].
  static func apply(_ states: Tensor, _ direction: Tensor, encoder: CLIPTextEncoder) throws -> Tensor {
    let h = try states.to(.float32)
    // A direction of nothing stays nothing.
    let length = try direction.norm([1], keep: true).clamped(1e-12, .infinity)
    let residual = try direction / length * h.norm([1], keep: true)
    return try encoder.output((h + residual * scale).to(states.dtype).unsqueezed(1)).squeezed(1)
  }
}
