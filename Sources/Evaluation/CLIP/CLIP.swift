import Diffusion
import Files
import Foundation
public import Imaging
public import Torch

/// A CLIP with its tokenizer and image processor: from a folder in the transformers layout to points of length 1,
/// whose products are the cosine similarities that evaluations report.
///
/// Not `Sendable`, as tensors are not.
public final class CLIP {
  /// The folder's or the repository's name.
  public let name: String
  /// A short hash of its weights, its configuration, image processor and tokenizer.
  public let identity: String
  public let model: CLIPModel
  private let processor: CLIPImageProcessor
  private let tokenizer: CLIPTokenizer
  private let folder: URL

  private static let imagesPerPass = 16
  private static let promptsName = "evaluation_prompts.txt"

  /// Opens a folder, or a repository of the local Hugging Face cache by its name.
  ///
  /// - Throws: one line that names the file at fault.
  public init(_ folderOrName: String, device: Device = .cpu) throws {
    (folder, name) = try ModelFolder.locate(folderOrName)
    let config = folder.appending(path: "config.json")
    guard FileManager.default.fileExists(atPath: config.path) else {
      throw EvaluationError(
        "\(folder.path) is no CLIP: there is no config.json; name a folder in the layout of transformers' CLIPModel, "
          + "such as that of openai/clip-vit-large-patch14")
    }
    model = try CLIPModel(folder, device: device)
    processor = try JSONFile.decode(
      CLIPImageProcessor.self, from: folder.appending(path: "preprocessor_config.json"))
    guard processor.side == model.configuration.vision.imageSize else {
      throw EvaluationError(
        "\(folder.path): preprocessor_config.json makes images of \(processor.side) pixels, config.json wants "
          + "\(model.configuration.vision.imageSize); these files do not belong together")
    }
    tokenizer = try CLIPTokenizer(folder: folder, maxLength: model.configuration.text.maxPositions)
    guard tokenizer.vocabularySize <= model.configuration.text.vocabularySize else {
      throw EvaluationError(
        "\(folder.path): the tokenizer knows \(tokenizer.vocabularySize) tokens, and “vocab_size” of config.json is "
          + "\(model.configuration.text.vocabularySize); these files do not belong together")
    }
    let place = folder
    let rest = ["config.json", "preprocessor_config.json", "tokenizer.json", "vocab.json", "merges.txt"]
      .map { place.appending(path: $0) }.filter { FileManager.default.fileExists(atPath: $0.path) }
    identity = try fingerprint(of: CLIPModel.weightFiles(place) + rest)
  }

  /// The prompts that suit it, where its folder says: a CLIP of a small world does not know the paper's words.
  func ownPrompts() throws -> EvaluationPrompts? {
    let file = folder.appending(path: Self.promptsName)
    return FileManager.default.fileExists(atPath: file.path) ? try EvaluationPrompts(contentsOf: file) : nil
  }

  /// Images as rows of length 1, [N, P].
  public func embed(_ images: [Image]) throws -> Tensor {
    let side = processor.side
    let parts = try stride(from: 0, to: images.count, by: Self.imagesPerPass).map { start in
      let pixels = try images[start..<min(start + Self.imagesPerPass, images.count)].map { try processor($0) }
      return try model.imageFeatures(Tensor(pixels.flatMap { $0 }, [pixels.count, 3, side, side]))
        .normalisedRows()
    }
    return try .concatenated(parts, 0)
  }

  /// Texts as rows of length 1, [N, P]; what is longer than the model's length is cut off.
  public func embed(_ texts: [String]) throws -> Tensor {
    try model.textFeatures(texts.map { tokenizer($0).ids }).normalisedRows()
  }
}
