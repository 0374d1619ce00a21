package import Diffusion
package import Torch

/// The denoising loss: how well the model tells the noise in noisy latents. With z the latents of an image,
/// ε ~ N(0, I), t a timestep and c the conditioning,
///
///     z_t = √ᾱ_t z + √(1 − ᾱ_t) ε
///     L = mean (U(z_t, t, c) − target)²
///
/// where the target is what the model was made to predict: ε, or v = √ᾱ_t ε − √(1 − ᾱ_t) z, or z itself.
/// With a mask w, a sample's loss is mean(w · (U − target)²) / mean(w). NeTI, section 4
/// (https://arxiv.org/abs/2305.15391).
extension NoiseSchedule {
  /// The loss of a batch, in fp32.
  ///
  /// - Parameters:
  ///   - clean: z, [B, C, h, w].
  ///   - noise: ε, of the same shape.
  ///   - added: for a U-Net that takes a pooled text and sizes.
  ///   - weights: w, [B, 1, h, w]; nil counts everywhere.
  package func loss(
    unet: UNet, clean: Tensor, noise: Tensor, timesteps: [Int], context: [CrossAttentionContext],
    added: AddedConditioning? = nil, predicting: PredictionType, weights: Tensor? = nil
  ) throws -> Tensor {
    let noisy = try addNoise(clean, noise, timesteps: timesteps)
    let t = try Tensor(timesteps.map { Float($0) }).to(device: clean.device)
    let prediction = try unet(noisy, timesteps: t, context: context, added: added).to(.float32)
    let target =
      switch predicting {
      case .epsilon: noise
      case .vPrediction: try velocity(clean, noise, timesteps: timesteps)
      case .sample: clean
      }
    guard let weights else { return try meanSquaredError(prediction, target) }
    return try weightedSquaredError(prediction, target, weights: weights)
  }
}

/// The mean over the samples of mean(w · (a − b)²) / mean(w); a and b [B, C, h, w], w [B, 1, h, w].
///
/// Each sample counts the same, however large its mask is.
package func weightedSquaredError(_ a: Tensor, _ b: Tensor, weights: Tensor) throws -> Tensor {
  let each = try ((a - b).square() * weights).mean([1, 2, 3]) / weights.mean([1, 2, 3])
  return try each.mean()
}
