import Diffusion
import Files
import Foundation
import Hub
import TestSupport
import Testing

@Suite("Which files of a repository are fetched")
struct ModelFileChoiceTests {
  private static let model = [
    "model_index.json", "README.md", "scheduler/scheduler_config.json", "tokenizer/vocab.json",
    "tokenizer/merges.txt",
    "tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "text_encoder/config.json",
    "text_encoder/model.safetensors", "text_encoder/model.fp16.safetensors", "text_encoder/pytorch_model.bin",
    "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "vae/config.json", "vae/diffusion_pytorch_model.safetensors", "safety_checker/config.json",
    "safety_checker/model.safetensors", "feature_extractor/preprocessor_config.json",
    "v1-5-pruned.safetensors",
  ]

  /// SDXL base 1.0 as it is published.
  private static let modelXL: [String] = {
    let weights = [
      "flax_model.msgpack", "model.fp16.safetensors", "model.onnx", "model.safetensors", "openvino_model.bin",
      "openvino_model.xml",
    ]
    let exported = ["model.onnx", "openvino_model.bin", "openvino_model.xml"]
    let diffusers = ["diffusion_pytorch_model.fp16.safetensors", "diffusion_pytorch_model.safetensors"]
    let words = ["merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json"]
    let folders = [
      "scheduler": ["scheduler_config.json"], "text_encoder": ["config.json"] + weights,
      "text_encoder_2": ["config.json", "model.onnx_data"] + weights, "tokenizer": words,
      "tokenizer_2": words,
      "unet": ["config.json", "diffusion_flax_model.msgpack", "model.onnx_data"] + diffusers + exported,
      "vae": ["config.json", "diffusion_flax_model.msgpack"] + diffusers,
      "vae_1_0": ["config.json"] + diffusers,
      "vae_decoder": ["config.json"] + exported, "vae_encoder": ["config.json"] + exported,
    ]
    return [
      ".gitattributes", "01.png", "LICENSE.md", "README.md", "comparison.png", "model_index.json",
      "pipeline.png",
      "sd_xl_base_1.0.safetensors", "sd_xl_base_1.0_0.9vae.safetensors",
      "sd_xl_offset_example-lora_1.0.safetensors",
    ] + folders.flatMap { folder, names in names.map { "\(folder)/\($0)" } }
  }()

  private func choice(_ paths: [String], variant: String? = nil) throws -> ModelFileChoice {
    let hash = String(repeating: "a", count: 40)
    let entries = paths.map { #"{"type": "file", "oid": "\#(hash)", "size": 1, "path": "\#($0)"}"# }
    var list = RepositoryList()
    try list.add(Data("[\(entries.joined(separator: ","))]".utf8), name: "the list")
    return try ModelFileChoice(list, name: #require(RepositoryName("org/name")), variant: variant)
  }

  private func refused(_ paths: [String]) -> String { refusal { try choice(paths) }?.message ?? "" }

  @Test("one variant of each part, weights last, and nothing that neti does not read")
  func whole() throws {
    let paths = try choice(Self.model).files.map(\.path)
    #expect(
      Set(paths.dropLast(3)) == [
        "model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "tokenizer/merges.txt",
        "tokenizer/tokenizer_config.json", "text_encoder/config.json", "unet/config.json", "vae/config.json",
      ])
    #expect(
      Set(paths.suffix(3)) == [
        "text_encoder/model.safetensors", "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
      ])
  }

  @Test("of SDXL both text encoders and both tokenizers, and none of the other VAEs and formats beside them")
  func stableDiffusionXL() throws {
    let words = ["merges.txt", "special_tokens_map.json", "tokenizer_config.json", "vocab.json"]
    let small =
      ["model_index.json", "scheduler/scheduler_config.json"]
      + ["text_encoder", "text_encoder_2", "unet", "vae"].map { "\($0)/config.json" }
      + ["tokenizer", "tokenizer_2"].flatMap { folder in words.map { "\(folder)/\($0)" } }
    let weights = [
      "text_encoder/model", "text_encoder_2/model", "unet/diffusion_pytorch_model",
      "vae/diffusion_pytorch_model",
    ]
    for (variant, end) in [(nil, ""), ("fp16", ".fp16")] as [(String?, String)] {
      let found = try choice(Self.modelXL, variant: variant)
      let paths = found.files.map(\.path)
      #expect(paths.count == 18 && found.indexes.isEmpty)
      #expect(Set(paths.dropLast(4)) == Set(small), "\(paths)")
      #expect(Set(paths.suffix(4)) == Set(weights.map { "\($0)\(end).safetensors" }), "\(paths)")
    }
    for lost in ["text_encoder_2/model.safetensors", "text_encoder_2/config.json", "tokenizer_2/vocab.json"] {
      let left = Self.modelXL.filter { $0 != lost && $0 != lost.replacing("model.", with: "model.fp16.") }
      let said = refused(left)
      #expect(said.contains(lost.hasPrefix("tokenizer") ? "tokenizer_2/tokenizer.json" : lost), "\(said)")
    }
  }

  @Test("the fp16 variant, shards, and a tokenizer of one file, where there is nothing else")
  func variants() throws {
    let unet = "unet/diffusion_pytorch_model"
    let others = Self.model.filter { $0 != "\(unet).safetensors" && !$0.hasPrefix("tokenizer/vocab") }
    #expect(
      try choice(others + ["\(unet).fp16.safetensors"]).files.map(\.path).contains("\(unet).fp16.safetensors")
    )
    let sharded = try choice(
      others + ["\(unet).safetensors.index.json", "\(unet)-00001-of-00002.safetensors"])
    #expect(sharded.indexes.map(\.path) == ["\(unet).safetensors.index.json"])
    #expect(sharded.files.map(\.path).contains("tokenizer/tokenizer.json"))
    #expect(!sharded.files.map(\.path).contains("tokenizer/merges.txt"))
  }

  @Test(
    "the variant that is wanted where a part has it, else the plain weights; one that no part has is refused")
  func wantedVariant() throws {
    let unet = "unet/diffusion_pytorch_model"
    for (variant, weights) in [
      ("fp16", ["text_encoder/model.fp16", unet]), ("non_ema", ["text_encoder/model", "\(unet).non_ema"]),
    ] {
      let found = try choice(Self.model, variant: variant).files.suffix(3).map(\.path)
      #expect(
        Set(found) == Set((weights + ["vae/diffusion_pytorch_model"]).map { "\($0).safetensors" }), "\(found)"
      )
    }
    let error = refusal { try choice(Self.model, variant: "bf16") }?.message ?? ""
    #expect(error.contains("no weights of the variant “bf16”; there is “fp16”, “non_ema”"), "\(error)")
    let plain = Self.model.filter { !$0.contains(".fp16.") && !$0.contains(".non_ema.") }
    #expect(refusal { try choice(plain, variant: "fp16") }?.message.contains("it has no variants") == true)
    // The only weights there are.
    #expect(
      try choice(Self.model.filter { $0 != "\(unet).safetensors" }).files.map(\.path).contains(
        "\(unet).non_ema.safetensors"))
  }

  @Test("a CLIP in the layout of transformers")
  func clip() throws {
    let paths = ["config.json", "preprocessor_config.json", "vocab.json", "merges.txt", "tokenizer.json"]
    let found = try choice(paths + ["model.safetensors", "pytorch_model.bin", "tf_model.h5", "README.md"])
    #expect(
      found.files.map(\.path) == [
        "config.json", "preprocessor_config.json", "vocab.json", "merges.txt", "model.safetensors",
      ])
  }

  @Test("what is missing, or of another kind, is said")
  func refusals() {
    #expect(refused(Self.model + ["transformer/config.json"]).hasSuffix("supported; nothing was fetched"))
    #expect(refused(Self.model.filter { !$0.hasPrefix("vae/") }).contains("there is no vae/"))
    #expect(
      refused(["a.safetensors", "b.ckpt", "README.md", "unet/x.safetensors"]).hasSuffix(
        "scheduler/. There are models in one file: name one as org/name/a.safetensors, org/name/b.ckpt"))
    #expect(refused((1...9).map { "\($0).ckpt" }).hasSuffix("org/name/4.ckpt and 5 more"))
    #expect(refused([]).contains("is no model in the diffusers layout"))
    #expect(
      refused(Self.model.filter { !$0.hasPrefix("unet/diffusion_pytorch_model") }).contains(
        "there is no unet/diffusion_pytorch_model.safetensors"))
    let rest = Self.model.filter { !$0.hasPrefix("unet/diffusion_pytorch_model") }
    #expect(
      refused(rest + ["unet/diffusion_pytorch_model.fp16.bin"]).contains(
        "but “unet/diffusion_pytorch_model.fp16.bin”; pickles are not fetched"))
    #expect(
      refused(rest + ["ema", "non_ema"].map { "unet/diffusion_pytorch_model.\($0).safetensors" }).contains(
        "of unet/ there are no plain weights but the variants “ema”, “non_ema”; choose one, as with `model get org/name "
          + "--variant ema`"))
    #expect(refused(rest).hasSuffix("name one as org/name/v1-5-pruned.safetensors"))
    #expect(
      refused(Self.model.filter { $0 != "scheduler/scheduler_config.json" }).contains(
        "there is no scheduler/"))
    #expect(refused(Self.model.filter { $0 != "unet/config.json" }).contains("there is no unet/config.json"))
  }

  @Test("a folder is complete when all of it is there, shards by their index")
  func complete() throws {
    let scratch = try Scratch()
    let root = try scratch.linkMiniSD("m")
    #expect(ModelFileChoice.isComplete(root))
    let unet = root.appending(path: "unet/diffusion_pytorch_model.safetensors")
    try FileManager.default.removeItem(at: unet)
    #expect(!ModelFileChoice.isComplete(root))
    try FileManager.default.createSymbolicLink(at: unet, withDestinationURL: URL(filePath: "/nowhere/blob"))
    #expect(!ModelFileChoice.isComplete(root))
    try Data(#"{"weight_map": {"a": "1.safetensors"}}"#.utf8).write(
      to: root.appending(path: "unet/diffusion_pytorch_model.safetensors.index.json"))
    #expect(!ModelFileChoice.isComplete(root))
    try Data("x".utf8).write(to: root.appending(path: "unet/1.safetensors"))
    #expect(ModelFileChoice.isComplete(root))
    let vae = root.appending(path: "vae/diffusion_pytorch_model.safetensors")
    try FileManager.default.moveItem(at: vae, to: vae.deletingPathExtension().appendingPathExtension("bin"))
    #expect(ModelFileChoice.isComplete(root))
    #expect(ModelFileChoice.isComplete(Fixtures.repository.appending(path: "Models/mini-clip")))
    #expect(!ModelFileChoice.isComplete(scratch.file("nothing")))
  }
}
