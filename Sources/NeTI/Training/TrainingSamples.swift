import Torch

/// Which image, prompt, timestep and noise each global sample number gets: a pure function of the
/// run's seed.
struct TrainingSamples {
  let keys: RandomKeys
  let repeats: Int
  let templateCount: Int
  let timestepCount: Int
  /// Of each image.
  let latentShapes: [[Int]]

  struct Sample {
    let image: Int
    let flipped: Bool
    let template: Int
    let timestep: Int
    /// Standard normal, [C, h, w] each: for the VAE's posterior, and the noise to predict.
    let posterior: Tensor
    let noise: Tensor
  }

  /// Sample `number` (over the whole run), in update `step`.
  func sample(step: Int, number: Int) throws -> Sample {
    func source(_ purpose: RandomKeys.Purpose) throws -> RandomSource {
      try keys.source(purpose, step: step, index: number)
    }
    let image = try image(number)
    return Sample(
      image: image,
      flipped: try source(.flip).uniform([1]).item() < 0.5,
      template: try source(.template).integers(in: 0..<templateCount, [1]).integers()[0],
      timestep: try source(.timestep).integers(in: 0..<timestepCount, [1]).integers()[0],
      posterior: try source(.posterior).normal(latentShapes[image]),
      noise: try source(.noise).normal(latentShapes[image]))
  }

  /// The list of images × repeats is shuffled anew each pass and sampled without replacement.
  func image(_ number: Int) throws -> Int {
    let length = latentShapes.count * repeats
    let order = try keys.source(.order, index: number / length).permutation(length)
    return try order.selected(0, number % length).integers()[0] % latentShapes.count
  }
}
