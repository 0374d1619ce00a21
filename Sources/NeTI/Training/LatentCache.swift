import Diffusion
import Imaging
import Torch

/// The VAE's posterior of every training image, straight and mirrored, computed once.
///
/// A training step samples from it: z = (μ + σ ε) · scaling factor, as `latent_dist.sample()` does.
struct LatentCache {
  /// Of each image, [2 (straight, mirrored), C, h, w].
  private let means: [Tensor]
  private let deviations: [Tensor]
  private let scale: Double

  /// Images are already of their training sizes.
  init(_ images: [Image], vae: VAE, scalingFactor: Double, device: Device) throws {
    var means: [Tensor] = []
    var deviations: [Tensor] = []
    for image in images {
      try withoutGradients {
        let straight = try Tensor(image.floats(), [1, 3, image.height, image.width]).to(device: device)
        // One at a time: the encoder's activations are the largest thing in memory at this point.
        let moments = try [straight, straight.flipped(3)].map { try vae.encode($0) }
        means.append(try .concatenated(moments.map { try $0.mean.to(.float32) }, 0))
        deviations.append(try .concatenated(moments.map { try ($0.logVariance.to(.float32) * 0.5).exp() }, 0))
      }
    }
    self.means = means
    self.deviations = deviations
    scale = scalingFactor
  }

  /// Of each image, [C, h, w].
  var shapes: [[Int]] { means.map { Array($0.shape[1...]) } }

  /// One sample of an image's posterior, [C, h, w], scaled; `noise` is standard normal.
  func sample(image: Int, flipped: Bool, noise: Tensor) throws -> Tensor {
    let mean = try means[image].selected(0, flipped ? 1 : 0)
    let deviation = try deviations[image].selected(0, flipped ? 1 : 0)
    return try (mean + deviation * noise) * scale
  }
}
