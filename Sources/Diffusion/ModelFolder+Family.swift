import Files
public import Foundation
import Hub

extension ModelFolder {
  /// What kind of model a folder holds, for a list: told by the width of the U-Net's cross-attention, else by what the
  /// folder calls itself. Nothing but small JSON files is read.
  public static func family(of folder: URL) -> String {
    struct UNet: Decodable {
      let width: Int
      enum CodingKeys: String, CodingKey { case width = "cross_attention_dim" }
    }
    struct Model: Decodable {
      let kind: String
      enum CodingKeys: String, CodingKey { case kind = "model_type" }
    }
    switch read(UNet.self, "unet/config.json", of: folder)?.width {
    case 768: return "Stable Diffusion 1"
    case 1024: return "Stable Diffusion 2"
    case 2048: return "SDXL"
    default: break
    }
    if let name = read(Pipeline.self, "model_index.json", of: folder)?.name { return name }
    let kind = read(Model.self, "config.json", of: folder)?.kind
    return kind == "clip" ? "CLIP" : kind ?? "unknown"
  }

  /// The name of the first model in one file that a folder of the cache holds, where it holds no model in the diffusers
  /// layout.
  public static func onlyFile(in folder: URL) -> String? {
    let paths = ((try? FileManager.default.subpathsOfDirectory(atPath: folder.path)) ?? []).sorted()
    guard !paths.contains(where: { $0.hasSuffix("config.json") || $0 == "model_index.json" }) else {
      return nil
    }
    return paths.first { RepositoryFileName("a/b/\($0)") != nil }
  }

  /// What a folder's `model_index.json` calls itself, where that is no pipeline of Stable Diffusion 1, 2 or XL.
  static func foreignPipeline(_ folder: URL) -> String? {
    guard let name = read(Pipeline.self, "model_index.json", of: folder)?.name else { return nil }
    let isForeign = !name.hasPrefix("StableDiffusion") || name.hasPrefix("StableDiffusion3")
    return isForeign && name != "LatentConsistencyModelPipeline" ? name : nil
  }

  private static let usualPipelines = ["", "XL"].flatMap { family in
    ["", "Img2Img", "Inpaint"].map { "StableDiffusion\(family)\($0)Pipeline" }
  }

  /// What a folder's `model_index.json` calls itself, where that is no pipeline for a text, an image or a mask.
  var unusualPipeline: String? {
    Self.read(Pipeline.self, "model_index.json", of: url).map(\.name).flatMap {
      Self.usualPipelines.contains($0) ? nil : $0
    }
  }

  /// What a folder that is one part of a model calls itself in its `config.json`.
  static func className(of folder: URL) -> String? { read(Pipeline.self, "config.json", of: folder)?.name }

  private struct Pipeline: Decodable {
    let name: String
    enum CodingKeys: String, CodingKey { case name = "_class_name" }
  }

  private static func read<T: Decodable>(_ type: T.Type, _ path: String, of folder: URL) -> T? {
    try? JSONFile.decode(type, from: folder.appending(path: path))
  }
}
