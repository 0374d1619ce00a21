import Diffusion
import Files
public import Foundation
public import Torch

/// CLIP (Radford et al. 2021): images and texts as points of one space, as `transformers.CLIPModel` computes
/// them. Of any size; `config.json` says which. Computes in fp32.
///
/// Not `Sendable`, as tensors are not.
public final class CLIPModel {
  public let configuration: CLIPConfiguration
  private let text: CLIPTextEncoder
  private let vision: CLIPVisionTower
  /// [P, d of the text tower]
  private let textProjection: Tensor
  /// [P, d of the vision tower]
  private let visualProjection: Tensor
  private let device: Device

  /// Opens `config.json` and the weights of a folder, `model.safetensors` or what else holds them.
  ///
  /// - Throws: one line that names the file, and the key or the tensor, when they do not fit together.
  public init(_ folder: URL, device: Device = .cpu) throws {
    let c = try JSONFile.decode(CLIPConfiguration.self, from: folder.appending(path: "config.json"))
    let files = try Self.weightFiles(folder)
    configuration = c
    self.device = device
    text = try CLIPTextEncoder(
      c.text,
      weights: Weights(files: files, dtype: .float32, device: device, rename: CLIPTextEncoder.currentName))
    let rest = try Weights(files: files, dtype: .float32, device: device, rename: Self.besideText)
    textProjection = try rest.tensor("text_projection.weight", [c.projectionSize, c.text.hiddenSize])
    visualProjection = try rest.tensor("visual_projection.weight", [c.projectionSize, c.vision.hiddenSize])
    vision = try CLIPVisionTower(c.vision, rest / "vision_model")
    try rest.finish()
  }

  /// The files that hold the weights; throws when there is none that is read.
  static func weightFiles(_ folder: URL) throws -> [URL] { try WeightFile.files(in: folder, base: "model") }

  /// The names of what the text tower leaves over; nil for its own, and for constants.
  private static func besideText(_ name: String) -> String? {
    let isOurs =
      name.hasPrefix("vision_model.")
      || ["text_projection.weight", "visual_projection.weight"].contains(name)
    return isOurs && !name.hasSuffix("position_ids") ? name : nil
  }

  /// `get_image_features`: pixels [N, 3, s, s] as `CLIPImageProcessor` makes them, to [N, P].
  public func imageFeatures(_ pixels: Tensor) throws -> Tensor {
    try withoutGradients { try vision(pixels.to(device: device)).linear(visualProjection) }
  }

  /// `get_text_features`: token ids, rows of one length, each with an end of text, to [N, P].
  public func textFeatures(_ ids: [[Int]]) throws -> Tensor {
    guard let length = ids.first?.count, ids.allSatisfy({ $0.count == length }) else {
      throw EvaluationError("CLIP: texts must have tokens, all as many")
    }
    return try withoutGradients {
      let states = try text.encode(Tensor(ids.flatMap { $0 }, [ids.count, length]))
      let ends = try ids.enumerated().map { try states.selected(0, $0.offset).selected(0, end($0.element)) }
      return try Tensor.stacked(ends, 0).linear(textProjection)
    }
  }

  /// Where the state that stands for a text is: at the first end of text.
  private func end(_ ids: [Int]) throws -> Int {
    let wanted = configuration.endOfText == 2 ? ids.max() : configuration.endOfText
    guard let wanted, let at = ids.firstIndex(of: wanted) else {
      throw EvaluationError(
        "CLIP: no token of a text is the end that “eos_token_id” names, \(configuration.endOfText); tokenizer and "
          + "configuration do not belong together")
    }
    return at
  }
}

extension Tensor {
  /// Each row divided by its length.
  func normalisedRows() throws -> Tensor { try self / norm([-1], keep: true) }
}
