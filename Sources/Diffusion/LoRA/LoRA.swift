import Files
public import Foundation
import Torch

/// A LoRA: low-rank changes to weights of the U-Net and the text encoders, W + s · (α / r) · B A (Hu et al. 2021,
/// https://arxiv.org/abs/2106.09685), of matrices and of convolutions (LoCon); with magnitudes also (Liu et al. 2024,
/// DoRA, https://arxiv.org/abs/2402.09353).
///
/// Read from safetensors files, or those that `torch.save` wrote, with the names of kohya's scripts, of PEFT and of
/// diffusers (`LoRANames`). The changes are merged into the weights as they are read, in fp32, so that generating takes
/// no longer.
public struct LoRA: Sendable {
  /// The file.
  public let url: URL
  let layers: [Layer]
  /// The tokens of embeddings that the file holds beside it.
  let embeddings: [String]

  /// The change of one weight.
  struct Layer: Sendable {
    let component: ModelFolder.Component
    /// The path of what has the weight, with `_` for each dot.
    let module: String
    /// How the file calls it, for errors.
    let shownName: String
    /// A, [r, in] or [r, in, k, k], and B, [out, r] or [out, r, 1, 1].
    let down: Matrix
    let up: Matrix
    /// What B A is multiplied with: α / r.
    let scale: Double
    /// DoRA's m; nil for a LoRA.
    let magnitude: Magnitude?
    let file: any TensorFile

    var rank: Int { down.shape[0] }
  }

  /// A tensor of the file.
  struct Matrix: Sendable {
    let name: String
    let shape: [Int]
  }

  /// - Throws: `FileError` for a file that is neither safetensors nor `torch.save`'s, `DiffusionError` for one that is no
  ///   LoRA, one of another kind or for another family of models.
  public init(_ url: URL) throws {
    let file: any TensorFile = try TorchFile.isOne(url) ? TorchWeights(url) : SafetensorsFile(url)
    self.url = url
    embeddings = Set(file.tensorNames.compactMap { BundledTensor($0)?.token }).sorted()
    do { layers = try Self.layers(file) } catch let e as any DescribedError {
      throw DiffusionError("\(url.path): \(e.message)")
    }
  }

  /// The file's name, without its folder.
  public var name: String { url.lastPathComponent }

  /// A line for whoever uses a file that holds more.
  var embeddingsWarning: String? {
    guard let first = embeddings.first else { return nil }
    guard embeddings.count == 1 else {
      return
        "\(name) also holds the embeddings \(embeddings.prefix(4).map(quoted).joined(separator: ", ")), which are not used; "
        + "have OneTrainer save each in a file of its own"
    }
    return
      "\(name) also holds the embedding \(quoted(first)), which is not used; `convert \(name) concept.safetensors` makes a "
      + "concept of it"
  }

  private static func layers(_ file: any TensorFile) throws -> [Layer] {
    var parts: [LoRANames.Module: [LoRANames.Part: String]] = [:]
    for key in file.tensorNames.sorted() where BundledTensor(key) == nil {
      let (module, part) = try LoRANames.read(key)
      guard parts[module, default: [:]].updateValue(key, forKey: part) == nil else {
        throw DiffusionError("\(quoted(key)) names a weight that another tensor names, too")
      }
    }
    guard !parts.isEmpty else { throw DiffusionError("there is nothing in this file") }
    let alphas = try PEFTAlphas(file.metadata)
    return try parts.sorted { $0.key.path < $1.key.path }.map { try layer($0.key, $0.value, alphas, file) }
  }

  private static func layer(
    _ module: LoRANames.Module, _ keys: [LoRANames.Part: String], _ alphas: PEFTAlphas,
    _ file: any TensorFile
  ) throws -> Layer {
    guard let downKey = keys[.down], let upKey = keys[.up], let down = file.declaration(downKey),
      let up = file.declaration(upKey)
    else {
      let one = keys.values.min() ?? ""
      throw DiffusionError("\(quoted(one)) has no partner: a LoRA has two matrices for each weight")
    }
    for (entry, key) in [(down, downKey), (up, upKey)] {
      guard [2, 4].contains(entry.shape.count), !entry.shape.contains(0), entry.dtype.isFloating else {
        throw DiffusionError(
          "\(quoted(key)) is \(entry.dtype) of shape \(entry.shape), which is no LoRA's matrix")
      }
    }
    let rank = down.shape[0]
    guard up.shape[1] == rank, up.shape.dropFirst(2).allSatisfy({ $0 == 1 }) else {
      throw DiffusionError(
        "\(quoted(downKey)) of shape \(down.shape) and \(quoted(upKey)) of shape \(up.shape) do not belong together"
      )
    }
    let magnitude = try keys[.magnitude].map { key in
      guard let entry = file.declaration(key), entry.dtype.isFloating,
        let magnitude = Magnitude(key, entry.shape, outputs: up.shape[0], inputs: down.shape[1])
      else {
        throw DiffusionError(
          "\(quoted(key)) of shape \(file.declaration(key)?.shape ?? []) has no number for each output of \(quoted(upKey)), "
            + "of shape \(up.shape)")
      }
      return magnitude
    }
    var scale = alphas.scale(module, rank: rank)
    if let key = keys[.alpha] {
      let tensor = try file.tensor(key)
      guard tensor.count == 1, case let alpha = try tensor.item(), alpha.isFinite else {
        throw DiffusionError("\(quoted(key)) of shape \(tensor.shape) is not one number")
      }
      scale = alpha / Double(rank)
    }
    return Layer(
      component: module.component, module: module.path, shownName: downKey,
      down: Matrix(name: downKey, shape: down.shape), up: Matrix(name: upKey, shape: up.shape), scale: scale,
      magnitude: magnitude, file: file)
  }
}

extension LoRA.Layer {
  /// The changed weight: W + share · scale · B A, or with magnitudes that divided by its lengths and times them. In fp32.
  ///
  /// - Parameter weight: fp32, its own memory, which is written to.
  /// - Throws: `DiffusionError` when the file holds numbers that are not finite.
  func applied(to weight: Tensor, share: Double) throws -> Tensor {
    let a = try file.tensor(down.name).to(.float32).reshaped([rank, -1])
    let b = try file.tensor(up.name).to(.float32).reshaped([-1, rank])
    let change = try finite(b.matmul(a) * scale, shownName).reshaped(weight.shape)
    try weight.add(change, times: share)
    guard let magnitude else { return weight }
    return try finite(magnitude.applied(to: weight, file), magnitude.name)
  }

  private func finite(_ tensor: Tensor, _ name: String) throws -> Tensor {
    guard try tensor.isFinite().to(.float32).min().item() == 1 else {
      throw DiffusionError(
        "\(file.url.path): \(quoted(name)) has numbers that are not finite; use another copy or version of it"
      )
    }
    return tensor
  }

  /// Whether a weight of this shape can be changed by it.
  func fits(_ shape: [Int]) -> Bool {
    shape.count >= 2 && up.shape[0] == shape[0] && down.shape[1] == shape[1]
      && kernel(down.shape) == kernel(shape)
  }

  /// The size of a convolution's kernel; one of 1 × 1 is as good as a matrix, and is saved as either.
  private func kernel(_ shape: [Int]) -> [Int] {
    let kernel = Array(shape.dropFirst(2))
    return kernel.allSatisfy { $0 == 1 } ? [] : kernel
  }
}

/// A LoRA and how much of it is used.
public struct WeightedLoRA: Sendable, CustomStringConvertible {
  public let lora: LoRA
  public let weight: Double

  public init(_ lora: LoRA, weight: Double = 1) {
    self.lora = lora
    self.weight = weight
  }

  /// The file's name and the weight, `style.safetensors:0.8`.
  public var description: String { "\(lora.name):\(weight)" }
}

/// Where a LoRA lies and how much of it is used, written `FILE` or `FILE:WEIGHT`.
public struct LoRAFile: Sendable, Equatable, CustomStringConvertible {
  public var path: String
  public let weight: Double

  /// Nil when there is no file, or what stands behind the last colon is no number between −100 and 100.
  public init?(_ text: String) {
    if let colon = text.lastIndex(of: ":"), !FileManager.default.fileExists(atPath: text) {
      guard let weight = Double(text[text.index(after: colon)...]), abs(weight) <= 100 else { return nil }
      (path, self.weight) = (String(text[..<colon]), weight)
    } else {
      (path, weight) = (text, 1)
    }
    if path.isEmpty { return nil }
  }

  public var description: String { "\(path):\(weight)" }

  public func read() throws -> WeightedLoRA { WeightedLoRA(try LoRA(URL(filePath: path)), weight: weight) }
}

/// What is added to the weights of one component, by their names.
struct WeightChanges {
  private var layers: [String: [(layer: LoRA.Layer, weight: Double)]] = [:]

  /// Adds the part of a LoRA that changes this component.
  ///
  /// - Parameter shapes: those of the component's tensors, by their names.
  /// - Returns: the file's names of what fits no weight.
  /// - Throws: `DiffusionError` for a weight of another shape.
  mutating func add(
    _ used: WeightedLoRA, to component: ModelFolder.Component, shapes: [String: [Int]]
  ) throws -> [String] {
    let ending = ".weight"
    let names = Dictionary(
      shapes.keys.filter { $0.hasSuffix(ending) }
        .map { (String($0.dropLast(ending.count)).replacing(".", with: "_"), $0) }
    ) { a, _ in a }
    return try used.lora.layers.filter { $0.component == component }.compactMap { layer in
      guard let name = names[layer.module], let shape = shapes[name] else { return layer.shownName }
      guard layer.fits(shape) else {
        throw DiffusionError(
          "\(used.lora.name) is for another family of models: \(quoted(layer.shownName)) of shape \(layer.down.shape) "
            + "with \(layer.up.shape) does not change the model's \(quoted(name)), which is \(shape)")
      }
      layers[name, default: []].append((layer, used.weight))
      return nil
    }
  }

  /// The weight with its changes, in fp32; as it is where there are none.
  func applied(to weight: Tensor, _ name: String) throws -> Tensor {
    guard let layers = layers[name] else { return weight }
    return try withoutGradients {
      var sum = try weight.to(.float32, device: .cpu, copy: true)
      for (layer, share) in layers { sum = try layer.applied(to: sum, share: share) }
      return sum
    }
  }
}
