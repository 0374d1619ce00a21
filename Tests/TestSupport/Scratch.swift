import Files
public import Foundation
import Torch

/// A temporary folder of a test's own, removed with this object.
public final class Scratch {
  public let folder: URL

  public init() throws {
    folder = FileManager.default.temporaryDirectory.appending(path: "neti-tests-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(at: folder) }

  /// The file `name` in here.
  public func file(_ name: String) -> URL { folder.appending(path: name) }

  /// Writes `data` to the file `name` in here, over what was there.
  public func file(_ data: Data, _ name: String) throws -> URL {
    let url = folder.appending(path: name)
    try data.write(to: url)
    return url
  }

  /// The names of what lies in here, sorted.
  public var contents: [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
  }

  /// mini-sd as a folder at `path` in here whose files are symbolic links, as a snapshot's are.
  @discardableResult
  public func linkMiniSD(_ path: String) throws -> URL {
    let files = FileManager.default
    let root = folder.appending(path: path, directoryHint: .isDirectory)
    for component in ["scheduler", "text_encoder", "tokenizer", "unet", "vae"] {
      let source = Fixtures.miniSD.appending(path: component)
      let target = root.appending(path: component)
      try files.createDirectory(at: target, withIntermediateDirectories: true)
      for name in try files.contentsOfDirectory(atPath: source.path) {
        try files.createSymbolicLink(
          at: target.appending(path: name), withDestinationURL: source.appending(path: name))
      }
    }
    return root
  }

  /// mini-sd with a tensor of the U-Net's or VAE's that holds no numbers.
  public func damagedMiniSD(_ component: String, _ damaged: String) throws -> URL {
    let root = try linkMiniSD("damaged")
    let url = root.appending(path: "\(component)/diffusion_pytorch_model.safetensors")
    let file = try SafetensorsFile(url)
    let tensors = try file.entries.keys.map { name in
      let tensor = try file.tensor(name)
      return try (name, name == damaged ? Tensor.full(tensor.shape, .nan) : tensor)
    }
    try FileManager.default.removeItem(at: url)
    try Safetensors.write(tensors, to: url)
    return root
  }

  /// mini-sd as `linkMiniSD` gives it, but with the golden files' tiny random VAE of 4 latent channels, and with their
  /// U-Net that has 4 channels, or 9, as models for inpainting have.
  @discardableResult
  public func tinyModel(_ path: String, channels: Int) throws -> URL {
    let root = try linkMiniSD(path)
    let golden = try SafetensorsFile(Fixtures.url("starting_image/latents.safetensors"))
    for (component, name) in [("unet", "unet\(channels)"), ("vae", "vae")] {
      let weights = root.appending(path: "\(component)/diffusion_pytorch_model.safetensors")
      let configuration = root.appending(path: "\(component)/config.json")
      for link in [weights, configuration] { try FileManager.default.removeItem(at: link) }
      try FileManager.default.copyItem(at: Fixtures.url("starting_image/\(name).json"), to: configuration)
      let names = golden.entries.keys.filter { $0.hasPrefix("\(name).") }.sorted()
      try Safetensors.write(
        names.map { (String($0.dropFirst(name.count + 1)), try golden.tensor($0)) }, to: weights)
    }
    return root
  }
}
