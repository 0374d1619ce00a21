import Diffusion
import Foundation
import TestSupport
import Testing
import Torch

/// The glimpse of unfinished latents, against what the VAE gives.
@Suite("The preview of latents")
struct LatentPreviewTests {
  @Test("has the colours of the decoded image, within a tenth of their range")
  func colours() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let side = model.resolution
    // Soft patterns of many colours.
    let values = (0..<3).flatMap { image in
      (0..<3).flatMap { c in
        (0..<side * side).map { i -> Float in
          let (x, y) = (Double(i % side) / Double(side), Double(i / side) / Double(side))
          return Float(0.8 * sin(6 * x * Double(c + 1) + 2 * Double(image)) * cos(5 * y + Double(c + image)))
        }
      }
    }
    let images = try Tensor(values, [3, 3, side, side])
    let preview = try LatentPreview(model, images: images)
    try withoutGradients {
      let latents = try model.vae.encode(images).mean.to(.float32) * model.scalingFactor
      let (small, whole) = (try preview(latents), try model.decode(latents))
      let factor = model.vaeFactor
      for (s, w) in zip(small, whole) {
        #expect(s.width == side / factor && s.height == side / factor)
        var error = 0.0
        for y in 0..<s.height {
          for x in 0..<s.width {
            for c in 0..<3 {
              var mean = 0.0
              for dy in 0..<factor {
                for dx in 0..<factor {
                  mean += Double(w.rgb[3 * ((y * factor + dy) * side + x * factor + dx) + c])
                }
              }
              error += abs(mean / Double(factor * factor) - Double(s.rgb[3 * (y * s.width + x) + c]))
            }
          }
        }
        #expect(error / Double(s.rgb.count) < 25.5)
      }
    }
  }

  @Test("refuses latents of other channels, and images that tell nothing")
  func refusals() throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    let plain = try Tensor.zeros([1, 3, model.resolution, model.resolution])
    #expect(throws: (any Error).self) {
      try LatentPreview(model, images: plain.sliced(2, 0..<model.vaeFactor).sliced(3, 0..<model.vaeFactor))
    }
  }
}
