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
      (#"{"in_channels": "four"}"#, "in_channels"), (#"{"in_channels": 0}"#, "in_channels"),
      (#"{"in_channels": 4.5}"#, "in_channels"), (#"{"in_channels": 99999999999999999999}"#, "in_channels"),
      (#"{"block_out_channels": 320}"#, "block_out_channels"),
      (#"{"block_out_channels": []}"#, "block_out_channels"),
      (#"{"block_out_channels": [320, 640, 1280, 1281]}"#, "block_out_channels"),
      (#"{"block_out_channels": [320, 640, "x", 1280]}"#, "block_out_channels.2"),
      (#"{"block_out_channels": [320, 640]}"#, "down_block_types"),
      (#"{"attention_head_dim": [5, 10]}"#, "attention_head_dim"),
      (#"{"attention_head_dim": 7}"#, "attention_head_dim"),
      (#"{"layers_per_block": 0}"#, "layers_per_block"),
      (#"{"layers_per_block": 1000000}"#, "layers_per_block"),
      (#"{"cross_attention_dim": [768, 1024, 768, 768]}"#, "cross_attention_dim"),
      (#"{"downsample_padding": 2}"#, "downsample_padding"), (#"{"norm_eps": -1}"#, "norm_eps"),
      (#"{"norm_num_groups": 7}"#, "norm_num_groups"), (#"{"flip_sin_to_cos": 1}"#, "flip_sin_to_cos"),
      (#"{"mid_block_scale_factor": 0}"#, "mid_block_scale_factor"),
      (#"{"mid_block_type": 3}"#, "mid_block_type"),
    ])
  func wrong(json: String, key: String) {
    let message = Golden.message { _ = try decode(json) } ?? "nothing was refused"
    #expect(message.hasPrefix("unet/config.json: ") && message.contains("“\(key)”"), "\(message)")
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
