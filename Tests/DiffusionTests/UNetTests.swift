import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite struct UNetTests {
  static let cases = ["sd1", "sd2", "deep", "relu", "guided"]

  private func configuration(_ name: String) throws -> UNetConfiguration {
    try JSONFile.decode(UNetConfiguration.self, from: Fixtures.url("unet/\(name).json"))
  }

  private func golden(_ name: String, dtype: DType = .float32) throws -> (UNet, SafetensorsFile) {
    let url = Fixtures.url("unet/\(name).safetensors")
    let weights = try Weights(files: [url], dtype: dtype, device: .cpu, rename: Golden.weightName)
    return (try UNet(configuration(name), weights: weights), try SafetensorsFile(url))
  }

  /// One (keys, values) pair per layer from [L, 2, B, S, d].
  private func pairs(_ contexts: Tensor) throws -> [CrossAttentionContext] {
    try (0..<contexts.size(0)).map { l in
      let pair = try contexts.selected(0, l)
      return CrossAttentionContext(keys: try pair.selected(0, 0), values: try pair.selected(0, 1))
    }
  }

  @Test("Outputs with a pair of sequences per layer equal diffusers' to 1e-4", arguments: cases)
  func output(name: String) throws {
    let (unet, file) = try golden(name)
    let output = try unet(
      file.tensor("latents"), timesteps: file.tensor("timesteps"), context: pairs(file.tensor("contexts")))
    let error = try relativeError(output, file.tensor("output"))
    #expect(error < 1e-4)
    #expect(output.dtype == .float32)
    #expect(!output.requiresGradient, "frozen weights record nothing")
  }

  @Test("A U-Net that was distilled with guidance is told its scale; the output equals diffusers' to 1e-4")
  func guidance() throws {
    let (unet, file) = try golden("guided")
    let output = try unet(
      file.tensor("latents"), timesteps: file.tensor("timesteps"), context: pairs(file.tensor("contexts")),
      guidance: 8.5)
    #expect(try relativeError(output, file.tensor("guided")) < 1e-4)
    #expect(try relativeError(output, file.tensor("output")) > 1e-3)
  }

  @Test("One pair serves all layers", arguments: cases)
  func sharedContext(name: String) throws {
    let (unet, file) = try golden(name)
    let one = try pairs(file.tensor("contexts"))[0]
    let output = try unet(file.tensor("latents"), timesteps: file.tensor("timesteps"), context: [one])
    #expect(try relativeError(output, file.tensor("output_one")) < 1e-4)
  }

  @Test("Gradients of contexts and latents equal diffusers' to 1e-4", arguments: cases)
  func gradient(name: String) throws {
    let (unet, file) = try golden(name)
    let latents = try file.tensor("latents").clone().requireGradient()
    let contexts = try file.tensor("contexts").clone().requireGradient()
    let output = try unet(latents, timesteps: file.tensor("timesteps"), context: pairs(contexts))
    let found = try gradients(of: [output], seeds: [file.tensor("seed")], for: [contexts, latents])
    #expect(try relativeError(found[0], file.tensor("gradient")) < 1e-4)
    #expect(try relativeError(found[1], file.tensor("latents_gradient")) < 1e-4)
  }

  @Test("mini-sd's output equals diffusers' to 1e-4")
  func miniSD() throws {
    let (unet, layers) = try Golden.miniUNet()
    let random = try RandomSource(seed: 40)
    let latents = try random.normal([2, 8, 16, 16])
    let d = unet.configuration.crossAttentionDim
    let contexts = try random.normal([layers, 2, 2, 8, d])
    let output = try withoutGradients {
      try unet(latents, timesteps: Tensor([41.0, 760.0] as [Float]), context: pairs(contexts))
    }
    let file = try SafetensorsFile(Fixtures.url("unet/mini_sd.safetensors"))
    #expect(try relativeError(output, file.tensor("output")) < 1e-4)
  }

  @Test("bfloat16 weights give bfloat16 outputs close to those in fp32")
  func bfloat16() throws {
    let (unet, file) = try golden("sd2", dtype: .bfloat16)
    let output = try unet(
      file.tensor("latents"), timesteps: file.tensor("timesteps"), context: pairs(file.tensor("contexts")))
    #expect(output.dtype == .bfloat16)
    #expect(try relativeError(output, file.tensor("output")) < 0.05)
  }

  @Test("upcast_attention reaches the attentions: it changes the bits in bf16, and none in fp32")
  func upcastAttention() throws {
    let url = Fixtures.url("unet/sd2.safetensors")
    let file = try SafetensorsFile(url)
    func output(_ upcast: Bool, _ dtype: DType) throws -> [UInt8] {
      var c = try configuration("sd2")
      #expect(c.upcastAttention)
      c.upcastAttention = upcast
      let weights = try Weights(files: [url], dtype: dtype, device: .cpu, rename: Golden.weightName)
      return try UNet(c, weights: weights)(
        file.tensor("latents"), timesteps: file.tensor("timesteps"), context: pairs(file.tensor("contexts"))
      ).rawBytes()
    }
    #expect(try output(true, .bfloat16) != output(false, .bfloat16))
    #expect(try output(true, .float32) == output(false, .float32))
  }

  @Test("Channels-last latents give the same numbers")
  func channelsLast() throws {
    let (unet, file) = try golden("sd1")
    let output = try unet(
      file.tensor("latents").contiguous(.channelsLast), timesteps: file.tensor("timesteps"),
      context: pairs(file.tensor("contexts")))
    #expect(try relativeError(output, file.tensor("output")) < 1e-4)
  }

  @Test("A batch gives what its samples give one by one")
  func batch() throws {
    let (unet, file) = try golden("deep")
    let contexts = try file.tensor("contexts").sliced(2, 1..<2)
    let output = try unet(
      file.tensor("latents").sliced(0, 1..<2), timesteps: file.tensor("timesteps").sliced(0, 1..<2),
      context: pairs(contexts))
    #expect(try relativeError(output, file.tensor("output").sliced(0, 1..<2)) < 1e-5)
  }

  @Test("Cross-attention layers are those that diffusers runs, in its order")
  func layers() throws {
    let data = try Data(contentsOf: Fixtures.url("unet/layers.json"))
    let expected = try JSONDecoder().decode([String: [String]].self, from: data)
    for name in Self.cases {
      #expect(UNet.crossAttentionLayers(try configuration(name)) == expected[name])
    }
    let mini = try JSONFile.decode(
      UNetConfiguration.self, from: Fixtures.miniSD.appending(path: "unet/config.json"))
    #expect(UNet.crossAttentionLayers(mini) == expected["mini_sd"])
    #expect(UNet.crossAttentionLayers(mini).count == 16)
  }

  private struct Switch: Decodable {
    let configuration: UNetConfiguration
    let shapes: [String: [Int]]
  }

  @Test("Outputs with each switch of the configuration equal diffusers' to 1e-4")
  func switches() throws {
    let switches = try JSONFile.decode(
      [String: Switch].self, from: Fixtures.url("unet/switches.json"))
    let file = try SafetensorsFile(Fixtures.url("unet/switches.safetensors"))
    let scratch = try Scratch()
    #expect(switches.count > 20)
    for (name, given) in switches {
      let url = scratch.file("\(name).safetensors")
      try Safetensors.write(
        given.shapes.map { ($0, try RandomModel.drawn("\(name)/\($0)", $1)) }, to: url)
      let unet = try UNet(
        given.configuration, weights: Weights(files: [url], dtype: .float32, device: .cpu))
      let output = try unet(
        file.tensor("latents"), timesteps: file.tensor("timesteps"), context: [.init(file.tensor("context"))])
      let error = try relativeError(output, file.tensor("output \(name)"))
      #expect(error < 1e-4, "\(name): \(error)")
    }
  }

  @Test("A missing, an unused and a misshapen tensor are named")
  func strict() throws {
    let c = try configuration("relu")
    let url = Fixtures.url("unet/relu.safetensors")
    func load(_ c: UNetConfiguration, _ rename: @escaping (String) -> String?) throws -> String {
      let weights = try Weights(files: [url], dtype: .float32, device: .cpu) { name in
        Golden.weightName(name).flatMap(rename)
      }
      return try #require(Golden.message { _ = try UNet(c, weights: weights) })
    }
    #expect(
      try load(c) { $0 == "mid_block.resnets.1.conv2.bias" ? nil : $0 }.contains(
        "“mid_block.resnets.1.conv2.bias”"))
    #expect(try load(c) { $0 == "conv_out.bias" ? "conv_out.bias2" : $0 }.contains("“conv_out.bias”"))
    var other = c
    other.midBlockType = .none
    #expect(try load(other) { $0 }.contains("“mid_block.attentions.0."))
    other = c
    other.crossAttentionDim = 7
    let message = try load(other) { $0 }
    #expect(message.contains("attn2.to_k.weight") && message.contains("[8, 6]") && message.contains("[8, 7]"))
  }

  @Test("Inputs that do not belong together are refused with their shapes")
  func inputs() throws {
    let (unet, file) = try golden("sd1")
    let latents = try file.tensor("latents")
    let t = try file.tensor("timesteps")
    let all = try pairs(file.tensor("contexts"))
    func message(_ latents: Tensor, _ t: Tensor, _ context: [CrossAttentionContext]) throws -> String {
      try #require(Golden.message { _ = try unet(latents, timesteps: t, context: context) })
    }
    #expect(try message(latents.sliced(1, 0..<3), t, all).contains("[2, 3, 8, 8]"))
    #expect(try message(latents, Tensor([1, 2, 3]), all).contains("[3]"))
    #expect(try message(latents, t, Array(all.dropLast())).contains("\(all.count - 1) contexts"))
    #expect(try message(latents, t, []).contains("0 contexts"))
    let short = CrossAttentionContext(keys: all[0].keys, values: try all[0].values.sliced(1, 0..<4))
    #expect(try message(latents, t, [short]).contains("[2, 4, 12]"))
    #expect(try message(latents, t, [.init(all[0].keys.sliced(0, 0..<1))]).contains("[1, 5, 12]"))
  }
}
