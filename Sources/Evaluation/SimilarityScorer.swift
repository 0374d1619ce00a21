import Foundation
package import Imaging
import Torch

/// Compares images with references and with prompts, by the products of CLIP's embeddings of length 1.
package final class SimilarityScorer {
  /// Of one image.
  package struct Scores {
    package let trained: Double?
    package let heldOut: Double?
    package let category: Double
    package let omitted: Double
  }

  private let clip: CLIP
  /// Embeddings of texts, [P, 1].
  private var texts: [String: Tensor] = [:]
  /// Mean embeddings of the images of a folder, [P, 1], by what the folder holds.
  private var references: [String: Tensor] = [:]

  package init(_ clip: CLIP) { self.clip = clip }

  /// The scores of images that were generated of one prompt.
  package func scores(
    _ images: [Image], of prompt: String, category word: String, _ references: ReferenceImages
  ) throws -> [Scores] {
    let embedded = try clip.embed(images)
    let (trained, heldOut) = try means(references)
    func products(_ column: Tensor) throws -> [Double] { try embedded.matmul(column).doubles() }
    let withTrained = try trained.map(products)
    let withHeldOut = try heldOut.map(products)
    let category = try products(text(EvaluationPrompts.text(prompt, with: word)))
    let omitted = try products(text(EvaluationPrompts.text(prompt, with: "")))
    return images.indices.map {
      Scores(
        trained: withTrained?[$0], heldOut: withHeldOut?[$0], category: category[$0], omitted: omitted[$0])
    }
  }

  /// The mean similarity of held-out images and those trained on; nil where either are missing.
  package func ceiling(_ images: ReferenceImages) throws -> Double? {
    let (trained, heldOut) = try means(images)
    guard let trained, let heldOut else { return nil }
    return try (trained * heldOut).sum().item()
  }

  /// The mean over all pairs is the product of the means.
  private func means(_ images: ReferenceImages) throws -> (trained: Tensor?, heldOut: Tensor?) {
    func mean(_ images: [URL], _ identity: String?) throws -> Tensor? {
      guard let identity, !images.isEmpty else { return nil }
      if let known = references[identity] { return known }
      let rows = try images.map { try clip.embed([Image.load($0)]) }
      let made = try Tensor.concatenated(rows, 0).mean([0]).reshaped([-1, 1])
      references[identity] = made
      return made
    }
    return (
      try mean(images.trained, images.trainedIdentity), try mean(images.heldOut, images.heldOutIdentity)
    )
  }

  private func text(_ text: String) throws -> Tensor {
    if let known = texts[text] { return known }
    let made = try clip.embed([text]).reshaped([-1, 1])
    texts[text] = made
    return made
  }
}
