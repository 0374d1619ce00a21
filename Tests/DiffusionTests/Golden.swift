import Diffusion
import Files
import Foundation
import TestSupport
import Torch

/// What the tests of U-Net and VAE share.
enum Golden {
  /// Golden files hold a model's weights beside its inputs and outputs, as `w.NAME`.
  static func weightName(_ name: String) -> String? {
    name.hasPrefix("w.") ? String(name.dropFirst(2)) : nil
  }

  /// The message of the error that `body` throws; nil when it throws none.
  static func message(_ body: () throws -> Void) -> String? {
    do {
      try body()
      return nil
    } catch {
      return (error as? any DescribedError)?.message
    }
  }

  static func miniUNet() throws -> (UNet, layers: Int) {
    let folder = Fixtures.miniSD.appending(path: "unet")
    let c = try JSONFile.decode(UNetConfiguration.self, from: folder.appending(path: "config.json"))
    let weights = try Weights(
      files: [folder.appending(path: "diffusion_pytorch_model.safetensors")], dtype: .float32, device: .cpu)
    let unet = try UNet(c, weights: weights)
    return (unet, unet.crossAttentionLayers.count)
  }

  static func miniVAE() throws -> VAE {
    let folder = Fixtures.miniSD.appending(path: "vae")
    let c = try JSONFile.decode(VAEConfiguration.self, from: folder.appending(path: "config.json"))
    let weights = try Weights(
      files: [folder.appending(path: "diffusion_pytorch_model.safetensors")], dtype: .float32, device: .cpu,
      rename: VAE.currentName)
    return try VAE(c, weights: weights)
  }
}
