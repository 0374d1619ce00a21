import Diffusion
public import Files
public import Foundation
public import Torch

/// A small random model of the golden data `families`: Stable Diffusion 1, 2 or XL in the names and configurations of the
/// real ones. Every weight is drawn as Tests/Fixtures/sections/families.py draws it.
public struct RandomModel {
  /// `sd1`, `sd2` (epsilon, 512 pixels), `sd2-v` (velocity, 768 pixels) or `sdxl`.
  public let name: String
  private let about: About
  private let rows: [Row]

  private struct About: Decodable {
    let prompts: [String]
    let negative: String?
    let sizes: [[Int]]?
    /// Of each tokenizer.
    let pads: [String]
    let scales: [String: Double]
  }

  /// A tensor of the folder, and where it is in one file.
  private struct Row {
    let component: String
    let name: String
    let shape: [Int]
    let original: String
    /// Which third of a fused tensor it is.
    let part: Int?
    /// Whether one file has it the other way round.
    let isTransposed: Bool
  }

  public init(_ name: String) throws {
    self.name = name
    about = try JSONDecoder().decode(
      About.self, from: Data(contentsOf: Fixtures.url("families/\(name).json")))
    let table = try String(
      contentsOf: Fixtures.url("families/\(name.replacing("-v", with: "")).tsv"), encoding: .utf8)
    rows = table.split(separator: "\n").map { line in
      let columns = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      return Row(
        component: columns[0], name: columns[1],
        shape: columns[2].split(separator: "x").compactMap { Int($0) },
        original: columns[3], part: Int(columns[4]), isTransposed: columns[4] == "T")
    }
  }

  /// Every tensor: its component and name in the folder, its name in one file, its shape.
  public var names: [(component: String, name: String, original: String, shape: [Int])] {
    rows.map { ($0.component, $0.name, $0.original, $0.shape) }
  }

  public var prompts: [String] { about.prompts }
  public var negativePrompt: String { about.negative ?? "" }
  /// Of SDXL's two samples: original, crop and target, six numbers each.
  public var sizes: [[Int]] { about.sizes ?? [] }
  /// What the reference made of it.
  public var golden: SafetensorsFile {
    get throws { try SafetensorsFile(Fixtures.url("families/\(name).safetensors")) }
  }

  /// The tensor that a name stands for: matrices keep the size of what they multiply, norms are near one, biases
  /// near zero.
  public static func drawn(_ name: String, _ shape: [Int], scale: Double = 1) throws -> Tensor {
    let x = try RandomSource(seed: UInt64(crc32(Array(name.utf8)))).normal(shape)
    if shape.count > 1 {
      return try (x * (scale / Double(shape.dropFirst().reduce(1, *)).squareRoot())).to(.float16)
    }
    return try (x * (0.05 * scale) + (name.hasSuffix("weight") ? 1 : 0)).to(.float16)
  }

  private func tensor(_ row: Row) throws -> Tensor {
    let full = "\(row.component)/\(row.name)"
    return try Self.drawn(full, row.shape, scale: about.scales[full] ?? 1)
  }

  /// Writes it as diffusers does: a folder for each part.
  public func writeFolder(_ url: URL) throws {
    let files = FileManager.default
    try files.copyItem(at: Fixtures.url("families/\(name)"), to: url)
    for (component, rows) in Dictionary(grouping: rows, by: \.component) {
      let file = component.hasPrefix("text_encoder") ? "model" : "diffusion_pytorch_model"
      try Safetensors.write(
        rows.map { ($0.name, try tensor($0)) }, to: url.appending(path: "\(component)/\(file).safetensors"))
    }
    for (pad, name) in zip(about.pads, ["tokenizer", "tokenizer_2"]) {
      let tokenizer = url.appending(path: name)
      try files.createDirectory(at: tokenizer, withIntermediateDirectories: true)
      try writeVocabulary(tokenizer, paddedWith: pad)
    }
  }

  /// CLIP's own vocabulary, in the two files of a tokenizer's folder.
  private func writeVocabulary(_ folder: URL, paddedWith pad: String) throws {
    let special = [
      "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
      "pad_token": pad,
    ]
    let symbols = CLIPVocabulary.symbols
    let ids = Dictionary(uniqueKeysWithValues: symbols.enumerated().map { ($1, $0) })
    try JSONEncoder().encode(ids).write(to: folder.appending(path: "vocab.json"))
    try Data(("#version: 0.2\n" + CLIPVocabulary.merges.joined(separator: "\n") + "\n").utf8)
      .write(to: folder.appending(path: "merges.txt"))
    try JSONEncoder().encode(special).write(to: folder.appending(path: "special_tokens_map.json"))
    try Data(#"{"model_max_length": 77, "pad_token": "<|endoftext|>"}"#.utf8)
      .write(to: folder.appending(path: "tokenizer_config.json"))
  }

  /// The tensors of one file, with their names there.
  public func originals() throws -> [String: Tensor] {
    var tensors: [String: Tensor] = [:]
    for (original, rows) in Dictionary(grouping: rows, by: \.original) {
      var tensor = try Tensor.concatenated(
        rows.sorted { ($0.part ?? 0) < ($1.part ?? 0) }.map { try self.tensor($0) }, 0)
      if rows[0].component == "vae", original.contains(".attn_1."), tensor.rank == 2 {
        tensor = try tensor.reshaped(tensor.shape + [1, 1])
      }
      tensors[original] = try rows[0].isTransposed ? tensor.transposed(0, 1).contiguous() : tensor
    }
    return tensors
  }
}
