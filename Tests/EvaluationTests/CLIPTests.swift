import Diffusion
import Evaluation
import Files
import Foundation
import Imaging
import TestSupport
import Testing
import Torch

@Suite struct CLIPTests {
  static let miniCLIP = Fixtures.repository.appending(path: "Models/mini-clip")

  @Test("Features of images and texts equal transformers' to 1e-4", arguments: ["quick_gelu", "gelu"])
  func features(name: String) throws {
    let model = try CLIPModel(Fixtures.url("clip/\(name)"))
    let golden = try SafetensorsFile(Fixtures.url("clip/\(name).safetensors"))
    let ids = try golden.tensor("ids")
    let length = ids.size(1)
    let all = try ids.integers()
    let rows = (0..<ids.size(0)).map { Array(all[$0 * length..<($0 + 1) * length]) }
    #expect(try relativeError(model.imageFeatures(golden.tensor("pixels")), golden.tensor("image")) < 1e-4)
    #expect(try relativeError(model.textFeatures(rows), golden.tensor("text")) < 1e-4)
  }

  static func image(_ file: SafetensorsFile, _ name: String) throws -> Image {
    let pixels = try file.tensor(name)
    return try Image(width: pixels.size(1), height: pixels.size(0), pixels: pixels.bytes())
  }

  @Test("mini-clip's embeddings of images and texts equal transformers' to 1e-4")
  func miniCLIP() throws {
    let clip = try CLIP(Self.miniCLIP.path)
    let golden = try SafetensorsFile(Fixtures.url("clip/mini_clip.safetensors"))
    let images = try ["image0", "image1"].map { try Self.image(golden, $0) }
    let texts = try JSONFile.decode([String].self, from: Fixtures.url("clip/mini_clip.json"))
    #expect(try relativeError(clip.embed(images), golden.tensor("image")) < 1e-4)
    #expect(try relativeError(clip.embed(texts), golden.tensor("text")) < 1e-4)
  }

  @Test(
    "The image processor equals transformers' with Pillow to 1e-4",
    arguments: ["numbers", "objects", "square"],
    ["tall", "wide", "small", "same"])
  func processor(name: String, image: String) throws {
    let processor = try JSONFile.decode(CLIPImageProcessor.self, from: Fixtures.url("clip/\(name).json"))
    let golden = try SafetensorsFile(Fixtures.url("clip/processor.safetensors"))
    let found = try processor(Self.image(golden, image))
    let shape = [3, processor.side, processor.side]
    #expect(try relativeError(Tensor(found, shape), golden.tensor("\(name).\(image)")) < 1e-4)
  }

  /// A copy of mini-clip with one text of a file replaced.
  private func damaged(_ file: String, _ old: String, _ new: String) throws -> Scratch {
    let scratch = try Scratch()
    for name in try FileManager.default.contentsOfDirectory(atPath: Self.miniCLIP.path) {
      let source = Self.miniCLIP.appending(path: name)
      guard name == file else {
        try FileManager.default.createSymbolicLink(at: scratch.file(name), withDestinationURL: source)
        continue
      }
      let text = try String(contentsOf: source, encoding: .utf8)
      let changed = text.replacing(old, with: new)
      try #require(changed != text)
      _ = try scratch.file(Data(changed.utf8), name)
    }
    return scratch
  }

  @Test(
    "A CLIP of another size than its configuration, and parts that do not belong together, are one line each",
    arguments: [
      ("config.json", "\"hidden_size\": 192", "\"hidden_size\": 96", "expected [128, 96]"),
      (
        "config.json", "\"projection_dim\": 128,\n  \"text_config\"",
        "\"projection_dim\": 64,\n  \"text_config\"", "expected [64"
      ),
      ("config.json", "\"patch_size\": 8", "\"patch_size\": 16", "patch_embedding"),
      ("config.json", "\"patch_size\": 8", "\"patch_size\": 7", "patch_size"),
      ("config.json", "\"image_size\": 64", "\"image_size\": 32", "position_embedding"),
      ("config.json", "\"vocab_size\": 927", "\"vocab_size\": 900", "token_embedding"),
      ("preprocessor_config.json", "\"crop_size\": 64", "\"crop_size\": 32", "do not belong together"),
      (
        "preprocessor_config.json", "\"resample\": 3", "\"resample\": 2",
        "“resample” is 2; only 3, the bicubic filter, is supported"
      ),
      (
        "preprocessor_config.json", "\"resample\": 3", "\"resample\": 3, \"image_mean\": [0.5]",
        "“image_mean” and “image_std” must be three numbers each, and deviations above 0"
      ),
      (
        "preprocessor_config.json", "\"do_resize\": true", "\"do_resize\": false",
        "“do_resize” is false; CLIP's images are resized, cropped and normalised"
      ),
      (
        "preprocessor_config.json", "\"size\": 64", "\"size\": 9999999",
        "“size” and “crop_size” must be squares of 1 to 4096 pixels, and the crop not the larger one"
      ),
      (
        "tokenizer_config.json", "\"errors\": \"replace\"", "\"added_tokens_decoder\": {\"927\": \"<x>\"}",
        "the tokenizer knows 928 tokens, and “vocab_size” of config.json is 927; these files do not belong together"
      ),
    ])
  func wrongSizes(file: String, old: String, new: String, says: String) throws {
    let scratch = try damaged(file, old, new)
    let error = refusal { try CLIP(scratch.folder.path) }
    #expect(error?.message.contains(says) == true, "\(String(describing: error))")
    #expect(error?.message.contains("\n") == false)
  }

  @Test("A text without the end that the configuration names is refused, with its number")
  func noEnd() throws {
    let scratch = try damaged("config.json", "\"eos_token_id\": 926", "\"eos_token_id\": 5")
    let error = refusal { try CLIP(scratch.folder.path).embed(["a cat"]) }
    let says =
      "no token of a text is the end that “eos_token_id” names, 5; tokenizer and configuration do not"
    #expect(error?.message.contains(says) == true, "\(error?.message ?? "")")
  }

  @Test("A folder without weights, or that is no CLIP, says what is missing")
  func noCLIP() throws {
    let scratch = try Scratch()
    #expect(refusal { try CLIP(scratch.folder.path) }?.message.contains("no config.json") == true)
    try FileManager.default.copyItem(
      at: Self.miniCLIP.appending(path: "config.json"), to: scratch.file("config.json"))
    #expect(refusal { try CLIP(scratch.folder.path) }?.message.contains("model.safetensors") == true)
  }

  @Test(
    "Damaged configurations are refused or read, and nothing else",
    arguments: [
      "mini-clip/config.json", "mini-clip/preprocessor_config.json",
    ])
  func mutations(path: String) throws {
    let data = try Data(contentsOf: Fixtures.repository.appending(path: "Models/\(path)"))
    for damaged in Mutations(of: data, count: 5000, seed: 11) {
      do {
        if path.hasSuffix("preprocessor_config.json") {
          _ = try JSONFile.decode(CLIPImageProcessor.self, from: damaged, name: path)
        } else {
          _ = try JSONFile.decode(CLIPConfiguration.self, from: damaged, name: path)
        }
      } catch {
        #expect(error is any DescribedError, "\(error)")
      }
    }
  }
}
