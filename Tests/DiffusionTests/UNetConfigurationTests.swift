import Diffusion
import Files
import Foundation
import TestSupport
import Testing

@Suite struct UNetConfigurationTests {
  private func decode(_ json: String) throws -> UNetConfiguration {
    try JSONFile.decode(UNetConfiguration.self, from: Data(json.utf8), name: "unet/config.json")
  }

  private func vae(_ json: String) throws -> VAEConfiguration {
    try JSONFile.decode(VAEConfiguration.self, from: Data(json.utf8), name: "vae/config.json")
  }

  @Test("Absent keys have the reference's defaults, unknown ones are left alone")
  func defaults() throws {
    let c = try decode(#"{"something_new": {"a": [1]}, "act_fn": null}"#)
    #expect(c.blockOutChannels == [320, 640, 1280, 1280])
    #expect(c.layersPerBlock == [2, 2, 2, 2])
    #expect(c.attentionHeads == [8, 8, 8, 8])
    #expect(c.midBlockType == .crossAttention)
    #expect(c.activation == .silu)
    #expect(UNet.crossAttentionLayers(c).count == 16)
    #expect(try vae("{}").scalingFactor == 0.18215)
  }

  @Test("A configuration survives being written and read")
  func roundTrip() throws {
    for name in UNetTests.cases {
      let c = try JSONFile.decode(UNetConfiguration.self, from: Fixtures.url("unet/\(name).json"))
      let data = try JSONEncoder().encode(c)
      #expect(try JSONFile.decode(UNetConfiguration.self, from: data, name: "x") == c)
    }
    for name in VAETests.cases {
      let c = try JSONFile.decode(VAEConfiguration.self, from: Fixtures.url("vae/\(name).json"))
      let data = try JSONEncoder().encode(c)
      #expect(try JSONFile.decode(VAEConfiguration.self, from: data, name: "x") == c)
    }
  }

  @Test(
    "What is not supported is refused with file, key, value and what is supported",
    arguments: [
      (
        #"{"down_block_types": ["CrossAttnDownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"]}"#,
        "down_block_types", "“AttnDownBlock2D”", "CrossAttnDownBlock2D, DownBlock2D"
      ),
      (
        #"{"mid_block_type": "UNetMidBlock2DSimpleCrossAttn"}"#,
        "mid_block_type", "“UNetMidBlock2DSimpleCrossAttn”", "UNetMidBlock2DCrossAttn, null"
      ),
      (#"{"class_embed_type": "projection"}"#, "class_embed_type", "“projection”", "null"),
      (#"{"addition_embed_type": "image"}"#, "addition_embed_type", "“image”", "text_time"),
      (#"{"only_cross_attention": [false, true]}"#, "only_cross_attention", "[false, true]", "false"),
      (#"{"dual_cross_attention": true}"#, "dual_cross_attention", "true", "false"),
      (#"{"time_embedding_type": "fourier"}"#, "time_embedding_type", "“fourier”", "“positional”"),
      (
        #"{"resnet_time_scale_shift": "scale_shift"}"#, "resnet_time_scale_shift", "“scale_shift”",
        "“default”"
      ),
      (#"{"conv_in_kernel": 5}"#, "conv_in_kernel", "5", "3"),
      (#"{"act_fn": "tanh"}"#, "act_fn", "“tanh”", "silu, swish, mish, gelu, relu"),
      (#"{"num_attention_heads": 8}"#, "num_attention_heads", "8", "null"),
      (#"{"_class_name": "UNet2DModel"}"#, "_class_name", "“UNet2DModel”", "UNet2DConditionModel"),
    ])
  func unsupported(json: String, key: String, value: String, supported: String) {
    let message = Golden.message { _ = try decode(json) } ?? ""
    #expect(message.hasPrefix("unet/config.json: “\(key)” is \(value); supported: "))
    #expect(message.contains(supported))
  }

  @Test(
    "Wrong types and values that make no sense are refused by key",
    arguments: [
      (#"{"in_channels": "four"}"#, "“in_channels” has the wrong type"),
      (#"{"in_channels": 0}"#, "“in_channels” is 0; it must be in 1…65536"),
      (#"{"in_channels": 4.5}"#, "“in_channels” holds a number that does not fit: a fraction"),
      (#"{"in_channels": 99999999999999999999}"#, "“in_channels” holds a number that does not fit"),
      (#"{"block_out_channels": 320}"#, "“block_out_channels” has the wrong type"),
      (#"{"block_out_channels": []}"#, "“block_out_channels” has 0 entries; it must have 1…16"),
      (
        #"{"block_out_channels": [320, 640, 1280, 1281]}"#,
        "“block_out_channels” 1281 is no multiple of “norm_num_groups” 32"
      ),
      (#"{"block_out_channels": [320, 640, "x", 1280]}"#, "“block_out_channels.2” has the wrong type"),
      (
        #"{"block_out_channels": [320, 640]}"#,
        "“down_block_types” has 4 entries, and “block_out_channels” has 2"
      ),
      (#"{"attention_head_dim": [5, 10]}"#, "“attention_head_dim” has 2 entries for 4 blocks"),
      (
        #"{"attention_head_dim": 7}"#,
        "“block_out_channels” 320 is no multiple of “attention_head_dim” 7, the number of heads"
      ),
      (#"{"layers_per_block": 0}"#, "“layers_per_block” is 0; it must be in 1…64"),
      (#"{"layers_per_block": 1000000}"#, "“layers_per_block” is 1000000; it must be in 1…64"),
      (
        #"{"cross_attention_dim": [768, 1024, 768, 768]}"#,
        "“cross_attention_dim” is [768, 1024, 768, 768]; one number, or equal ones, are supported"
      ),
      (#"{"downsample_padding": 2}"#, "“downsample_padding” is 2; it must be in 0…1"),
      (#"{"norm_eps": -1}"#, "“norm_eps” is -1.0; it must be in 0.0…1.0"),
      (#"{"norm_num_groups": 7}"#, "“block_out_channels” 320 is no multiple of “norm_num_groups” 7"),
      (#"{"flip_sin_to_cos": 1}"#, "“flip_sin_to_cos” has the wrong type"),
      (#"{"mid_block_scale_factor": 0}"#, "“mid_block_scale_factor” is 0.0; it must be in 1e-06…1000000.0"),
      (#"{"mid_block_type": 3}"#, "“mid_block_type”"),
      (
        #"{"block_out_channels": [2], "norm_num_groups": 1, "attention_head_dim": 1, "freq_shift": 1, "#
          + #""down_block_types": ["DownBlock2D"], "up_block_types": ["UpBlock2D"]}"#,
        "“block_out_channels” 2 is too small to embed the timestep; it must be 4 or more"
      ),
      (
        #"{"addition_embed_type": "text_time", "addition_time_embed_dim": 2, "freq_shift": 1, "#
          + #""projection_class_embeddings_input_dim": 100}"#,
        "“addition_time_embed_dim” 2 is too small to embed sizes; it must be 4 or more"
      ),
      (
        #"{"addition_embed_type": "text_time", "addition_time_embed_dim": 256, "#
          + #""projection_class_embeddings_input_dim": 1536}"#,
        "“projection_class_embeddings_input_dim” 1536 leaves nothing for the pooled text beside 6 times"
      ),
      (#"{"addition_embed_type": "text_time"}"#, "“addition_time_embed_dim” is missing"),
    ] as [(String, String)])
  func wrong(json: String, words: String) {
    let message = Golden.message { _ = try decode(json) } ?? "nothing was refused"
    #expect(message.hasPrefix("unet/config.json: \(words)"), "\(message)")
  }

  @Test("A VAE's unsupported values are refused by key")
  func unsupportedVAE() {
    for (json, key) in [
      (#"{"_class_name": "VQModel"}"#, "_class_name"), (#"{"shift_factor": 0.1}"#, "shift_factor"),
      (#"{"up_block_types": ["AttnUpDecoderBlock2D"]}"#, "up_block_types"),
      (#"{"scaling_factor": "x"}"#, "scaling_factor"),
      (#"{"latents_mean": [0.1]}"#, "latents_mean"), (#"{"layers_per_block": [1]}"#, "layers_per_block"),
      (#"{"block_out_channels": [64, 65]}"#, "block_types"), (#"{"norm_num_groups": 48}"#, "norm_num_groups"),
      ("[]", "whole file"),
    ] {
      let message = Golden.message { _ = try vae(json) } ?? "nothing was refused"
      #expect(message.hasPrefix("vae/config.json: ") && message.contains(key), "\(message)")
    }
  }

  @Test("5,000 damaged configurations of each kind are read or refused, and no model of theirs is too large")
  func mutations() throws {
    let unet = try Data(contentsOf: Fixtures.url("unet/deep.json"))
    var read = 0
    for data in Mutations(of: unet, count: 5000, seed: 1) {
      do {
        let c = try JSONFile.decode(UNetConfiguration.self, from: data, name: "x")
        read += 1
        #expect(UNet.crossAttentionLayers(c).count < 100_000)
      } catch let error as any DescribedError {
        #expect(!error.message.contains("\n"))
      }
    }
    #expect(read > 0 && read < 5000)
    for data in Mutations(of: try Data(contentsOf: Fixtures.url("vae/plain.json")), count: 5000, seed: 2) {
      do {
        #expect(try JSONFile.decode(VAEConfiguration.self, from: data, name: "x").factor > 0)
      } catch is any DescribedError {}
    }
  }
}
