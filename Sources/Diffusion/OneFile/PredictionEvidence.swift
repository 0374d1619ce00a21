import Files
import Foundation
import Torch

/// What the U-Net of a file predicts, and how that is known. The first of these that says something decides: the
/// caller, marks among the tensors, the metadata, a bias that training on velocity leaves large, and else epsilon.
struct PredictionEvidence: Sendable {
  let type: PredictionType
  let reason: String
  /// Whether it was trained up to noise without a trace of the image (Lin et al., arXiv 2305.08891).
  let hasZeroTerminalSNR: Bool

  private static let bias =
    "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
  /// Standard deviation of that bias: models that predict noise are below, those that predict velocity above.
  private static let velocityDeviation = 0.09
  private static let keys = ["prediction_type", "modelspec.prediction_type"]

  init(_ names: TensorNames, of file: any TensorFile, _ family: ModelFamily, given: PredictionType?) throws {
    hasZeroTerminalSNR = names.has("ztsnr")
    if let given {
      (type, reason) = (given, "`prediction-type` says")
    } else if let mark = ["v_pred", "ztsnr"].first(where: { names.has($0) }) {
      (type, reason) = (.vPrediction, "it has the mark \(quoted(mark))")
    } else if let key = Self.keys.first(where: { file.metadata[$0] != nil }), let word = file.metadata[key] {
      guard let named = Self.words[word.lowercased()] else {
        throw DiffusionError(
          "\(file.url.path): its metadata give \(quoted(word)) as \(quoted(key)), which is unknown; say it with "
            + "`prediction-type`")
      }
      (type, reason) = (named, "its metadata say in \(quoted(key))")
    } else if case .stableDiffusion2 = family, let deviation = try Self.deviation(names, of: file) {
      let isVelocity = deviation > Self.velocityDeviation
      type = isVelocity ? .vPrediction : .epsilon
      reason =
        "the last attention's bias has the deviation \((deviation * 1000).rounded() / 1000), "
        + "\(isVelocity ? "above" : "not above") \(Self.velocityDeviation)"
    } else {
      (type, reason) = (.epsilon, "nothing says otherwise")
    }
  }

  private static let words: [String: PredictionType] = [
    "epsilon": .epsilon, "eps": .epsilon, "v": .vPrediction, "v_prediction": .vPrediction,
    "v-prediction": .vPrediction, "sample": .sample,
  ]

  private static func deviation(_ names: TensorNames, of file: any TensorFile) throws -> Double? {
    guard let declared = names.declarations[bias], declared.dtype.isFloating, declared.shape.count == 1,
      (1...ConfigurationLimits.channels.upperBound).contains(declared.shape[0])
    else { return nil }
    let values = try file.tensor(names.originals[bias] ?? bias).doubles()
    let mean = values.reduce(0, +) / Double(values.count)
    return (values.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(values.count)).squareRoot()
  }

  var title: String {
    switch type {
    case .epsilon: "noise (epsilon)"
    case .vPrediction: "velocity (v_prediction)"
    case .sample: "the image (sample)"
    }
  }
}
