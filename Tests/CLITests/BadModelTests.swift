import Files
import Foundation
import TestSupport
import Testing
import Torch

/// Broken base models: mini-sd with one file replaced.
@Suite("A broken model gets one clear line:", .serialized)
struct BadModelTests {
  private static let weights = "unet/diffusion_pytorch_model.safetensors"

  private func expect(_ file: String, _ data: Data?, _ words: [String]) throws {
    let place = try Workplace()
    try place.model(file, data)
    try place.expectFailure(
      Workplace.generate("a cat", ["--model", "model"]), words, mayAdd: "out")
  }

  @Test("weights that are missing")
  func missing() throws { try expect(Self.weights, nil, ["unet", "diffusion_pytorch_model.safetensors"]) }

  @Test("weights that are cut short", arguments: [0, 5, 2_000, 100_000])
  func truncated(_ length: Int) throws {
    let whole = try Data(contentsOf: Fixtures.miniSD.appending(path: Self.weights), options: .mappedIfSafe)
    try expect(Self.weights, whole.prefix(length), ["diffusion_pytorch_model.safetensors"])
  }

  /// A safetensors file from its header's text.
  private func safetensors(_ header: String, claimed: UInt64? = nil, bytes: Int = 16) -> Data {
    let text = Data(header.utf8)
    let length = withUnsafeBytes(of: (claimed ?? UInt64(text.count)).littleEndian) { Data($0) }
    return length + text + Data(count: bytes)
  }

  @Test(
    "offsets that overlap, leave gaps, run out of range or overflow, and unknown types",
    arguments: [
      (
        #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[3],"data_offsets":[4,16]}}"#,
        "“b” at 4 overlaps the tensor before it, which ends at 8"
      ),
      (
        #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}"#,
        "“b” at 8 leaves a gap before it, which ends at 4"
      ),
      (
        #"{"a":{"dtype":"F32","shape":[8],"data_offsets":[0,32]}}"#,
        "“a” lies at 0…32, outside the 16 bytes of data; the file may be cut short"
      ),
      (#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[16,0]}}"#, "“a” lies at 16…0, outside the 16 bytes"),
      (
        #"{"a":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,16]}}"#,
        "“a” has the shape [9223372036854775807, 4], which overflows"
      ),
      (
        #"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,18446744073709551615]}}"#, "a number is too large"
      ),
      (
        #"{"a":{"dtype":"F32","shape":[4],"data_offsets":[-16,16]}}"#,
        "expected a whole number that is not negative"
      ),
      (
        #"{"a":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}}"#,
        "“a” has the element type “F33”, which is not supported; take the file in fp16, bf16 or fp32"
      ),
      (#"{"a":{"dtype":"F32","shape":"four","data_offsets":[0,16]}}"#, "expected [ (near byte"),
      (
        #"{"a":{"dtype":"F32","shape":[4],"data_offsets":[16]}}"#,
        "“a” lacks one of dtype, shape, and two data_offsets"
      ),
      (
        #"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16],"size":16}}"#,
        "“a” has a field “size” that is unknown or comes twice"
      ),
      (#"{"__metadata__":{},"__metadata__":{}}"#, "__metadata__ comes twice"),
      (#"{"__metadata__":{"a":"1","a":"2"}}"#, "the metadata key “a” comes twice"),
      (#"{"a":"#, "expected {"), (#"{} {}"#, "something follows the header's last brace"),
      (
        #"{"a":{"dtype":"F32","shape":[\#(Array(repeating: "1", count: 65).joined(separator: ","))],"data_offsets":[0,4]}}"#,
        "“a” has 65 dimensions, more than 64"
      ),
    ])
  func header(_ header: String, _ words: String) throws {
    try expect(Self.weights, safetensors(header), ["model/\(Self.weights)", words])
  }

  @Test(
    "a header that is longer than the file",
    arguments: [
      (1_000, "it declares a header of 1000 bytes but has only 26 bytes in all; it may be cut short"),
      (1 << 40, "that would be a header of 1099511627776 bytes, and at most 100000000 are read"),
      (UInt64.max, "it does not begin as one: that would be a header of 18446744073709551615 bytes"),
    ])
  func headerLength(_ claimed: UInt64, _ words: String) throws {
    try expect(
      Self.weights, safetensors("{}", claimed: claimed), ["diffusion_pytorch_model.safetensors", words])
  }

  @Test("a key of a file keeps its name, and does not become an option")
  func keys() throws {
    try expect(
      "tokenizer/tokenizer_config.json", Data(#"{"model_max_length": "x"}"#.utf8), ["“model_max_length”"])
    let place = try Workplace()
    try place.concept { metadata in
      let about = try #require(metadata["neti.about"])
      metadata["neti.about"] = about.replacing(#""steps":"#, with: #""stepz":"#)
    }
    try place.expectFailure(["inspect", "concept.safetensors"], ["there is no “steps”, and it is needed"])
  }

  @Test("weights that lack what the model needs, by name")
  func lacking() throws {
    let header = #"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#
    try expect("vae/diffusion_pytorch_model.safetensors", safetensors(header), ["vae", ".weight"])
  }

  @Test("pickled weights that are none")
  func pickle() throws {
    let place = try Workplace()
    try place.model(Self.weights, nil)
    try place.file("x", "model/unet/diffusion_pytorch_model.bin")
    try place.expectFailure(
      Workplace.generate("a cat", ["--model", "model"]), ["diffusion_pytorch_model.bin", "torch.save"],
      mayAdd: "out")
  }

  /// mini-sd's JSON file with one value replaced.
  private func json(_ file: String, _ key: String, _ value: Any) throws -> Data {
    let url = Fixtures.miniSD.appending(path: file)
    var object = try #require(
      try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
    object[key] = value
    return try JSONSerialization.data(withJSONObject: object)
  }

  @Test("a value of the wrong type in a JSON configuration, with its key")
  func wrongType() throws {
    for (file, key) in [
      ("unet/config.json", "block_out_channels"), ("vae/config.json", "latent_channels"),
      ("text_encoder/config.json", "hidden_size"), ("scheduler/scheduler_config.json", "beta_start"),
    ] {
      try expect(
        file, json(file, key, "many"), [key, file.split(separator: "/").last.map(String.init) ?? ""])
    }
  }

  @Test("sizes that no model has, with their key")
  func absurd() throws {
    for (file, key, value) in [
      ("text_encoder/config.json", "max_position_embeddings", 4097),
      ("text_encoder/config.json", "hidden_size", 1 << 20),
      ("text_encoder/config.json", "num_hidden_layers", 1 << 40),
      ("unet/config.json", "sample_size", 1 << 17),
      ("unet/config.json", "cross_attention_dim", 1 << 20), ("vae/config.json", "latent_channels", 1 << 20),
    ] {
      try expect(file, json(file, key, value), [key, "must be in 1…"])
    }
  }

  @Test("a scheduler's file that leaves no timestep")
  func noTimestep() throws {
    try expect(
      "scheduler/scheduler_config.json",
      json("scheduler/scheduler_config.json", "lambda_min_clipped", 1000),
      ["scheduler_config.json: “lambda_min_clipped” leaves no timestep; --scheduler ddim works"])
  }

  @Test("a model's defaults of the wrong type, with their key")
  func defaults() throws {
    for (text, words) in [
      (#"{"guidance": "much"}"#, "model_defaults.json: guidance must be a number, not “much”"),
      (#"{"max_train_steps": 1.5}"#, "model_defaults.json: max_train_steps must be a whole number, not 1.5"),
      (#"{"guidanc": 3}"#, "model_defaults.json: unknown key “guidanc”; did you mean guidance?"),
    ] {
      let place = try Workplace()
      try place.miniSD("model")
      try place.file(text, "model/model_defaults.json")
      try place.expectFailure(Workplace.generate("a cat", ["--model", "model"]), [words])
    }
  }

  @Test("a block that is not supported, with its name")
  func unsupported() throws {
    let blocks = ["CrossAttnDownBlock2D", "AttnSkipDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"]
    try expect(
      "unet/config.json", json("unet/config.json", "down_block_types", blocks), ["AttnSkipDownBlock2D"])
  }

  @Test("JSON that is none, or is empty", arguments: ["", "{", "[]", "null", "\u{0}"])
  func notJSON(_ text: String) throws {
    try expect("unet/config.json", Data(text.utf8), ["config.json"])
  }

  @Test("a model that is nowhere, with where it was looked for and how to get it")
  func nowhere() throws {
    let place = try Workplace()
    try place.expectFailure(
      Workplace.generate("a cat", ["--model", "nobody/nothing"]),
      ["nobody/nothing", "model get nobody/nothing"])
    try place.expectFailure(Workplace.generate("a cat", ["--model", "./not here"]), ["not here"])
    try place.file("x", "model.ckpt")
    try place.expectFailure(Workplace.generate("a cat", ["--model", "model.ckpt"]), ["model.ckpt"])
    try Safetensors.write([("lora_unet_x.lora_up.weight", .ones([8, 4]))], to: place.path("toy.safetensors"))
    try place.expectFailure(
      Workplace.generate("a cat", ["--model", "toy.safetensors"]), ["toy.safetensors", "a LoRA"])
    try place.images()
    try place.expectFailure(Workplace.train(["--model", "nobody/nothing"]), ["model get nobody/nothing"])
  }

  @Test("training on a broken model, too, and it leaves no run that stands in the way")
  func training() throws {
    let place = try Workplace()
    try place.images()
    try place.model(Self.weights, Data(count: 100))
    try place.expectFailure(
      Workplace.train(["--model", "model"]), ["diffusion_pytorch_model.safetensors"], mayAdd: "run")
    let again = try place.run(Workplace.train())
    #expect(again.code == 0, "\(again.error)")
  }
}
