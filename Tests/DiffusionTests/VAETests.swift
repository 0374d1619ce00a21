import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite struct VAETests {
  static let cases = ["plain", "bare"]

  private func configuration(_ name: String) throws -> VAEConfiguration {
    try JSONFile.decode(VAEConfiguration.self, from: Fixtures.url("vae/\(name).json"))
  }

  private func golden(_ name: String) throws -> (VAE, SafetensorsFile) {
    let url = Fixtures.url("vae/\(name).safetensors")
    let weights = try Weights(files: [url], dtype: .float32, device: .cpu, rename: Golden.weightName)
    return (try VAE(configuration(name), weights: weights), try SafetensorsFile(url))
  }

  @Test("Moments and images equal diffusers' to 1e-4", arguments: cases)
  func moments(name: String) throws {
    let (vae, file) = try golden(name)
    let (mean, logVariance) = try vae.encode(file.tensor("images"))
    #expect(try relativeError(mean, file.tensor("mean")) < 1e-4)
    #expect(try relativeError(logVariance, file.tensor("log_variance")) < 1e-4)
    #expect(try relativeError(vae.decode(file.tensor("latents")), file.tensor("decoded")) < 1e-4)
  }

  @Test("The golden log-variance meets both of its bounds")
  func clamped() throws {
    let (vae, file) = try golden("plain")
    let logVariance = try vae.encode(file.tensor("images")).logVariance
    #expect(try logVariance.min().item() == -30)
    #expect(try logVariance.max().item() == 20)
  }

  @Test("Channels-last images and latents give the same numbers", arguments: cases)
  func channelsLast(name: String) throws {
    let (vae, file) = try golden(name)
    let mean = try vae.encode(file.tensor("images").contiguous(.channelsLast)).mean
    #expect(try relativeError(mean, file.tensor("mean")) < 1e-4)
    let decoded = try vae.decode(file.tensor("latents").contiguous(.channelsLast))
    #expect(try relativeError(decoded, file.tensor("decoded")) < 1e-4)
  }

  @Test("mini-sd's moments and images equal diffusers' to 1e-4")
  func miniSD() throws {
    let vae = try Golden.miniVAE()
    let random = try RandomSource(seed: 70)
    let images = try random.uniform([2, 3, 128, 128]) * 2 - 1
    let latents = try random.normal([1, 8, 16, 16])
    let file = try SafetensorsFile(Fixtures.url("vae/mini_sd.safetensors"))
    let (mean, logVariance) = try vae.encode(images)
    #expect(try relativeError(mean, file.tensor("mean")) < 1e-4)
    #expect(try relativeError(logVariance, file.tensor("log_variance")) < 1e-4)
    #expect(try relativeError(vae.decode(latents), file.tensor("decoded")) < 1e-4)
    #expect(vae.configuration.factor == 8)
  }

  @Test(
    "Files with the attention's older names load, as matrices and as 1×1 convolutions", arguments: [2, 4])
  func olderNames(rank: Int) throws {
    let source = try SafetensorsFile(Fixtures.url("vae/plain.safetensors"))
    let older = [".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."]
    var tensors: [(String, Tensor)] = []
    var renamed = 0
    for key in source.entries.keys {
      guard var name = Golden.weightName(key) else { continue }
      var tensor = try source.tensor(key)
      for (now, then) in older where name.contains(now) {
        name = name.replacing(now, with: then)
        if tensor.rank == 2, rank == 4 { tensor = try tensor.reshaped(tensor.shape + [1, 1]) }
        renamed += 1
      }
      tensors.append((name, tensor))
    }
    #expect(renamed == 16)
    let scratch = try Scratch()
    let url = scratch.file("old.safetensors")
    try Safetensors.write(tensors, to: url)
    let weights = try Weights(files: [url], dtype: .float32, device: .cpu, rename: VAE.currentName)
    let vae = try VAE(configuration("plain"), weights: weights)
    #expect(try relativeError(vae.encode(source.tensor("images")).mean, source.tensor("mean")) < 1e-4)
    #expect(try relativeError(vae.decode(source.tensor("latents")), source.tensor("decoded")) < 1e-4)
  }

  @Test("Names other than the attention's older ones stay")
  func currentNames() {
    #expect(
      VAE.currentName("encoder.mid_block.attentions.0.proj_attn.bias")
        == "encoder.mid_block.attentions.0.to_out.0.bias")
    for name in [
      "encoder.conv_in.weight", "decoder.mid_block.attentions.0.to_q.weight", "query.weight", "key", "",
    ] {
      #expect(VAE.currentName(name) == name)
    }
  }

  @Test("A missing, an unused and a misshapen tensor are named")
  func strict() throws {
    let c = try configuration("plain")
    func load(_ c: VAEConfiguration, without missing: String = "") throws -> String {
      let weights = try Weights(
        files: [Fixtures.url("vae/plain.safetensors")], dtype: .float32, device: .cpu
      ) {
        Golden.weightName($0).flatMap { $0 == missing ? nil : $0 }
      }
      return try #require(Golden.message { _ = try VAE(c, weights: weights) })
    }
    let lost = "decoder.mid_block.attentions.0.to_k.bias"
    #expect(try load(c, without: lost).contains("“\(lost)”"))
    var other = c
    other.usePostQuantConvolution = false
    #expect(try load(other).contains("“post_quant_conv.bias”"))
    other = c
    other.latentChannels = 5
    let message = try load(other)
    #expect(message.contains("encoder.conv_out.weight") && message.contains("[10, 12, 3, 3]"))
  }

  @Test("Images of other channels are refused with their shape")
  func inputs() throws {
    let (vae, file) = try golden("plain")
    let images = try file.tensor("images")
    #expect(
      Golden.message { _ = try vae.encode(images.sliced(1, 0..<2)) }?.contains("[2, 2, 16, 12]") == true)
    #expect(Golden.message { _ = try vae.decode(images.selected(0, 0)) }?.contains("[3, 16, 12]") == true)
  }

  @Test(
    "One tile is the whole image; several differ from it by less than 0.1 on average, and have no seams")
  func tiles() throws {
    let vae = try Golden.miniVAE()
    let side = vae.tileSide
    let random = try RandomSource(seed: 71)
    let one = try random.normal([1, vae.configuration.latentChannels, side, side])
    #expect(try relativeError(vae.decodeInTiles(one), vae.decode(one)) < 1e-6)
    // Smooth latents, as images have: noise has no neighbourhood that a tile could share.
    let (height, width) = (side * 2 - 3, side + 5)
    let large = try random.normal([1, vae.configuration.latentChannels, 5, 4]).upsampledNearest(
      height: height, width: width)
    let (tiled, whole) = (try vae.decodeInTiles(large), try vae.decode(large))
    #expect(tiled.shape == [1, 3, height * vae.configuration.factor, width * vae.configuration.factor])
    #expect(try (tiled - whole).abs().mean().item() < 0.1)
    // Steps from one column to the next are as large as in the whole image.
    func steps(_ x: Tensor) throws -> [Double] {
      let n = x.size(3)
      return try (x.sliced(3, 1..<n) - x.sliced(3, 0..<n - 1)).abs().mean([0, 1, 2]).doubles()
    }
    for (a, b) in zip(try steps(tiled), try steps(whole)) { #expect(a < b + 0.05) }
  }

  @Test(
    "Tiles cover an image, overlap by a quarter and have one size", arguments: [3, 16, 17, 28, 29, 64, 1000])
  func places(length: Int) {
    let tiles = VAE.tiles(length, side: 16)
    #expect(tiles.first?.lowerBound == 0)
    #expect(tiles.last?.upperBound == length)
    for t in tiles { #expect(t.count == min(16, length)) }
    for (a, b) in zip(tiles, tiles.dropFirst()) {
      #expect(a.upperBound - b.lowerBound >= 4)
      #expect(a.lowerBound < b.lowerBound)
    }
  }
}
