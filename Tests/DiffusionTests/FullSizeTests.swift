import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

/// Stable Diffusion 1.5, 2.1 and XL at their real sizes, as one file: names, shapes and configurations are those of the
/// golden data `full_size`, and the weights are a hole on the disk.
@Suite(.serialized) struct FullSizeTests {
  private static let names = ["sd15", "sd21", "sdxl"]

  /// A tensor of a folder, and where it is in one file.
  private struct Row {
    let original: String
    let component: String
    let name: String
    let shape: [Int]
    /// Which third of a fused tensor it is, or T for a matrix that is the other way round there.
    let part: String

    /// The file's shape of a tensor that holds this one.
    var originalShape: [Int] {
      if part == "T" { return shape.reversed() }
      if !part.isEmpty { return [3 * shape[0]] + shape.dropFirst() }
      return component == "vae" && original.contains(".attn_1.") && shape.count == 2 ? shape + [1, 1] : shape
    }
  }

  /// The rows of a table whose lines say only how they differ from the line above.
  private static func rows(_ name: String) throws -> [Row] {
    var above = ["", ""]
    return try String(contentsOf: Fixtures.url("full_size/\(name).tsv"), encoding: .utf8).split(
      separator: "\n"
    )
    .map { line in
      let cells = line.split(separator: "\t", omittingEmptySubsequences: false).map(String.init)
      try #require(cells.count == 6)
      above = try (0..<2).map { above[$0].prefix(try #require(Int(cells[2 * $0]))) + cells[2 * $0 + 1] }
      let place = above[1].split(separator: "/").map(String.init)
      return Row(
        original: above[0], component: place[0], name: place[1],
        shape: cells[4].split(separator: "x").compactMap { Int($0) }, part: cells[5])
    }
  }

  /// What the published files have beside their networks.
  private static func others(_ name: String, _ shapes: [String: [Int]]) -> [String: [Int]] {
    let constants = ["alphas_cumprod": [1000], "betas": [1000], "posterior_variance": [1000]]
    switch name {
    case "sd15":
      // The moving averages of a file that was not pruned, without the dots of their names.
      let averages = shapes.filter { $0.key.hasPrefix("model.diffusion_model.") }.map { name, shape in
        ("model_ema." + name.dropFirst("model.".count).replacing(".", with: ""), shape)
      }
      return Dictionary(uniqueKeysWithValues: averages).merging(constants) { a, _ in a }.merging([
        "model_ema.decay": [], "model_ema.num_updates": [],
        "cond_stage_model.transformer.text_model.embeddings.position_ids": [1, 77],
      ]) { a, _ in a }
    case "sd21":
      // OpenCLIP's last layer, which is not used.
      let last = shapes.filter { $0.key.contains(".resblocks.22.") }.map { name, shape in
        (name.replacing(".resblocks.22.", with: ".resblocks.23."), shape)
      }
      return Dictionary(uniqueKeysWithValues: last).merging(constants) { a, _ in a }.merging([
        "cond_stage_model.model.text_projection": [1024, 1024], "cond_stage_model.model.logit_scale": [],
        "cond_stage_model.model.attn_mask": [77, 77],
      ]) { a, _ in a }
    default:
      return [
        "conditioner.embedders.0.transformer.text_model.embeddings.position_ids": [1, 77],
        "conditioner.embedders.1.model.logit_scale": [], "denoiser.sigmas": [1000],
      ]
    }
  }

  private static let velocityBias =
    "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"

  /// The one file in bf16. Of Stable Diffusion 2.1 the bias that tells its velocity is written.
  private static func write(_ name: String, _ rows: [Row], _ url: URL) throws -> Int {
    var shapes = Dictionary(rows.map { ($0.original, $0.originalShape) }) { a, _ in a }
    shapes.merge(others(name, shapes)) { a, _ in a }
    var (offset, bias) = (0, 0)
    let members = shapes.sorted { $0.key < $1.key }.map { name, shape in
      if name == velocityBias { bias = offset }
      let end = offset + 2 * shape.reduce(1, *)
      defer { offset = end }
      let sizes = shape.map(String.init).joined(separator: ",")
      return #""\#(name)":{"dtype":"BF16","shape":[\#(sizes)],"data_offsets":[\#(offset),\#(end)]}"#
    }
    var header = "{" + members.joined(separator: ",") + "}"
    while !header.utf8.count.isMultiple(of: 8) { header += " " }
    try (withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) } + Data(header.utf8)).write(
      to: url)
    let file = try FileHandle(forWritingTo: url)
    try file.truncate(atOffset: UInt64(8 + header.utf8.count + offset))
    if name == "sd21" {
      try file.seek(toOffset: UInt64(8 + header.utf8.count + bias))
      // 1 and −1 by turns.
      try file.write(contentsOf: Data((0..<160).flatMap { _ in [0x80, 0x3F, 0x80, 0xBF] as [UInt8] }))
    }
    try file.close()
    return offset
  }

  private struct Published: Decodable {
    let unet: UNetConfiguration
    let vae: VAEConfiguration
    let textEncoder: CLIPTextConfiguration
    let textEncoder2: CLIPTextConfiguration?
    let scheduler: SchedulerConfiguration

    enum CodingKeys: String, CodingKey {
      case unet, vae, scheduler
      case textEncoder = "text_encoder"
      case textEncoder2 = "text_encoder_2"
    }
  }

  @Test(
    "Every tensor of the networks is found in the one file in its shape, and the configurations are the published ones",
    arguments: names)
  func wholeFile(name: String) throws {
    let (scratch, rows) = (try Scratch(), try Self.rows(name))
    let url = scratch.file("model.safetensors")
    let size = try Self.write(name, rows, url)
    let model = try ModelFolder(url.path)
    let title = ["sd15": "1.x, as its", "sd21": "2.x, as its", "sdxl": "XL, as it"][name] ?? ""
    #expect(model.identification?.contains("is Stable Diffusion \(title)") == true)
    #expect(
      model.identification?.hasSuffix(
        name == "sd21" ? "has the deviation 1.0, above 0.09" : "as nothing says otherwise") == true)
    #expect(model.networks.count == (name == "sdxl" ? 4 : 3))
    var numbers = 0
    for component in model.networks {
      let weights = try model.weights(component, dtype: .bfloat16, device: .cpu)
      let expected = rows.filter { $0.component == component.rawValue }.map { row in
        (
          row.name.hasPrefix("text_model.") ? String(row.name.dropFirst("text_model.".count)) : row.name,
          row.shape
        )
      }
      let found = weights.shapes
      #expect(found.count == expected.count && expected.count > 190)
      for (name, shape) in expected {
        // The VAE's matrices are 1×1 convolutions there.
        #expect(found[name]?.filter { $0 != 1 } == shape.filter { $0 != 1 }, "\(component) \(name)")
      }
      numbers += expected.reduce(0) { $0 + $1.1.reduce(1, *) }
    }
    // In billions, as the models are known.
    let known: Double = ["sd15": 1.066, "sd21": 1.290, "sdxl": 3.469][name] ?? 0
    #expect(abs(Double(numbers) / 1e9 - known) < 0.001 && size > 2 * numbers, "\(numbers)")

    let published = try JSONFile.decode(Published.self, from: Fixtures.url("full_size/\(name).json"))
    #expect(try model.configuration(UNetConfiguration.self, .unet) == published.unet)
    #expect(try model.configuration(VAEConfiguration.self, .vae) == published.vae)
    var text = try model.configuration(CLIPTextConfiguration.self, .textEncoder)
    #expect(text == published.textEncoder)
    if let second = published.textEncoder2 {
      text = try model.configuration(CLIPTextConfiguration.self, .textEncoder2)
      #expect(text == second)
    }
    #expect(try model.configuration(SchedulerConfiguration.self, .scheduler) == published.scheduler)
  }

  #if os(Linux)
    /// Memory of this process that no file has, in bytes.
    static func anonymous() throws -> Int {
      let status = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
      let line = try #require(status.split(separator: "\n").first { $0.hasPrefix("RssAnon:") })
      return try 1024 * #require(Int(line.filter(\.isNumber)))
    }

    @Test(
      "All tensors of SDXL's one file, thirds and squeezed ones too, stay in the file: 7 GB cost no memory")
    func mapped() throws {
      let (scratch, rows) = (try Scratch(), try Self.rows("sdxl"))
      let url = scratch.file("model.safetensors")
      let size = try Self.write("sdxl", rows, url)
      #expect(size > 6_900_000_000)
      let before = try Self.anonymous()
      let model = try ModelFolder(url.path)
      var held: [Tensor] = []
      for component in model.networks {
        let weights = try model.weights(component, dtype: .bfloat16, device: .cpu)
        for (name, shape) in weights.shapes { held.append(try weights.tensor(name, shape)) }
      }
      #expect(held.count == rows.count)
      // What is read of it is the file's memory, too.
      for tensor in held where tensor.shape == [1280, 1280] { #expect(try tensor.sum().item() == 0) }
      // Other tests run meanwhile and have their own memory.
      #expect(try Self.anonymous() - before < 1 << 30)
    }

    @Test("Thirds of what torch.save wrote stay in the file, too")
    func mappedPickle() throws {
      let scratch = try Scratch()
      let url = scratch.file("model.ckpt")
      try ModelFileTests.outline("sd2", scratch.file("outline.safetensors"))
      let outline = try SafetensorsFile(scratch.file("outline.safetensors"))
      let fused = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
      try {
        var storages = TorchStorages()
        var entries = try outline.entries.keys.sorted().map {
          PickleEntry($0, try storages.add(outline.tensor($0)))
        }
        entries.append(PickleEntry(fused, try storages.add(.zeros([3 << 12, 1 << 13], dtype: .float32))))
        try storages.archive("archive", .dictionary(entries, ordered: true)).write(to: url)
      }()
      let before = try Self.anonymous()
      let weights = try ModelFolder(url.path).weights(.textEncoder, dtype: .float32, device: .cpu)
      let thirds = try ["q", "k", "v"].map {
        try weights.tensor("encoder.layers.0.self_attn.\($0)_proj.weight", [1 << 12, 1 << 13])
      }
      for third in thirds { #expect(try third.sum().item() == 0) }
      // Of 400 MB.
      #expect(try Self.anonymous() - before < 100 << 20)
    }
  #endif
}
