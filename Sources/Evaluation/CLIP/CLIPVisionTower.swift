import Diffusion
import Torch

/// The vision transformer of CLIP: patches and a class token, whose last state stands for the image.
struct CLIPVisionTower {
  private let configuration: CLIPVisionConfiguration
  /// [d, 3, patch, patch]
  private let patches: Tensor
  /// [1, 1, d]
  private let classToken: Tensor
  /// [patches + 1, d]
  private let positions: Tensor
  private let firstNorm: CLIPNorm
  private let layers: [CLIPLayer]
  private let lastNorm: CLIPNorm

  init(_ c: CLIPVisionConfiguration, _ weights: Weights) throws {
    configuration = c
    let (d, side) = (c.hiddenSize, c.patchSize)
    let embeddings = weights / "embeddings"
    patches = try embeddings.tensor("patch_embedding.weight", [d, 3, side, side])
    classToken = try embeddings.tensor("class_embedding", [d]).reshaped([1, 1, d])
    positions = try embeddings.tensor("position_embedding.weight", [c.patches + 1, d])
    // The name is the reference's.
    firstNorm = try CLIPNorm(c.shape, weights / "pre_layrnorm")
    layers = try (0..<c.layers).map { try CLIPLayer(c.shape, weights / "encoder" / "layers" / $0) }
    lastNorm = try CLIPNorm(c.shape, weights / "post_layernorm")
  }

  /// Pixels [N, 3, s, s] to [N, d].
  func callAsFunction(_ pixels: Tensor) throws -> Tensor {
    let side = configuration.imageSize
    guard pixels.rank == 4, Array(pixels.shape.dropFirst()) == [3, side, side] else {
      throw EvaluationError("CLIP: images of shape \(pixels.shape), expected [N, 3, \(side), \(side)]")
    }
    let (n, d) = (pixels.size(0), configuration.hiddenSize)
    let cells = try pixels.conv2d(patches, stride: configuration.patchSize)
    let sequence = try cells.reshaped([n, d, configuration.patches]).transposed(1, 2)
    let whole = try Tensor.concatenated([classToken.expanded([n, 1, d]), sequence], 1) + positions
    let states = try layers.reduce(firstNorm(whole)) { try $1($0) }
    return try lastNorm(states.selected(1, 0))
  }
}
