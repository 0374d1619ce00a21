public import Torch

/// The autoencoder between images and latents (Kingma & Welling 2014; Rombach et al. 2022), as
/// diffusers' `AutoencoderKL` computes it. The weights are frozen.
public final class VAE {
  public let configuration: VAEConfiguration
  private let encoder: VAEEncoder
  private let quantize: Convolution?
  private let unquantize: Convolution?
  private let decoder: VAEDecoder

  /// - Parameter weights: the whole file of the VAE, renamed by `currentName`.
  /// - Throws: `DiffusionError` naming the first tensor that is missing or misshapen, or those that
  ///   are left over.
  public init(_ configuration: VAEConfiguration, weights: Weights) throws {
    let c = configuration
    self.configuration = c
    encoder = try VAEEncoder(c, weights / "encoder")
    let moments = 2 * c.latentChannels
    quantize =
      try c.useQuantConvolution ? Convolution(moments, moments, kernel: 1, weights / "quant_conv") : nil
    unquantize =
      try c.usePostQuantConvolution
      ? Convolution(c.latentChannels, c.latentChannels, kernel: 1, weights / "post_quant_conv") : nil
    decoder = try VAEDecoder(c, weights / "decoder")
    try weights.finish()
  }

  /// The dtype of the weights, and of what is computed.
  var weightType: DType { encoder.inputWeight.dtype }

  /// The current name of a tensor in a file of any age: the attention's layers were once called
  /// `query`, `key`, `value` and `proj_attn`.
  public static func currentName(_ name: String) -> String? {
    var parts = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
    guard parts.count >= 2, parts.contains("attentions"), let now = olderNames[parts[parts.count - 2]] else {
      return name
    }
    parts[parts.count - 2] = now
    return parts.joined(separator: ".")
  }

  private static let olderNames = [
    "query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0",
  ]

  /// The distribution of latents for an image, not yet multiplied with `scalingFactor`.
  ///
  /// - Parameter images: [B, 3, H, W] in −1…1; converted to the weights' dtype.
  /// - Returns: mean and logarithm of the variance, clamped to −30…20, both [B, C, H/f, W/f].
  public func encode(_ images: Tensor) throws -> (mean: Tensor, logVariance: Tensor) {
    let x = try converted(images, channels: configuration.inChannels, name: "images")
    let h = try encoder(x)
    let moments = try quantize?(h) ?? h
    let n = configuration.latentChannels
    return (
      mean: try moments.sliced(1, 0..<n),
      logVariance: try moments.sliced(1, n..<2 * n).clamped(-30, 20)
    )
  }

  /// Images in −1…1 (not clamped), [B, 3, h·f, w·f], for latents [B, C, h, w] that were divided by
  /// `scalingFactor`.
  public func decode(_ latents: Tensor) throws -> Tensor {
    let z = try converted(latents, channels: configuration.latentChannels, name: "latents")
    return try decoder(unquantize?(z) ?? z)
  }

  private func converted(_ x: Tensor, channels: Int, name: String) throws -> Tensor {
    guard x.rank == 4, x.size(1) == channels, x.count > 0 else {
      throw DiffusionError("VAE: \(name) of shape \(x.shape), expected [B, \(channels), h, w]")
    }
    return try x.to(encoder.inputWeight.dtype, device: encoder.inputWeight.device)
  }
}
