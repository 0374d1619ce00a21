import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing
import Torch

@Suite("A concept of the authors'")
struct AuthorsImagesTests {
  /// What the fixture (Tests/Fixtures/sections/neti.py) drew, and the model that it drew with.
  private struct Golden: Decodable {
    let shapes: [String: [String: [Int]]]
    let prompt: String
    let seed: UInt64
    let guidance: Double
    let truncation: Int
    let steps: Int
  }

  /// The fixture's random model: every weight from a generator seeded by the CRC-32 of its name.
  private static func makeModel(_ folder: URL, _ golden: Golden) throws {
    let json = try JSONSerialization.jsonObject(with: Data(contentsOf: Fixtures.url("neti/pictures.json")))
    let configurations = try #require(json as? [String: Any])
    for (component, shapes) in golden.shapes {
      let directory = folder.appending(path: component)
      try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
      var tensors: [(String, Tensor)] = []
      for (name, shape) in shapes {
        if shape.count > 1 {
          let fanIn = Double(shape.dropFirst().reduce(1, *))
          tensors.append(
            (name, try RandomSource(seed: UInt64(crc32(name))).normal(shape) / fanIn.squareRoot()))
        } else {
          tensors.append((name, try name.hasSuffix("weight") ? .ones(shape) : .zeros(shape)))
        }
      }
      let file = component == "text_encoder" ? "model.safetensors" : "diffusion_pytorch_model.safetensors"
      try Safetensors.write(tensors, to: directory.appending(path: file))
      try JSONSerialization.data(withJSONObject: try #require(configurations[component]))
        .write(to: directory.appending(path: "config.json"))
    }
    let scheduler = folder.appending(path: "scheduler")
    try FileManager.default.createDirectory(at: scheduler, withIntermediateDirectories: true)
    try JSONSerialization.data(withJSONObject: try #require(configurations["scheduler"]))
      .write(to: scheduler.appending(path: "scheduler_config.json"))
    try FileManager.default.copyItem(
      at: Fixtures.miniSD.appending(path: "tokenizer"), to: folder.appending(path: "tokenizer"))
  }

  private static func crc32(_ text: String) -> UInt32 {
    var crc: UInt32 = .max
    for byte in text.utf8 {
      crc ^= UInt32(byte)
      for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
    }
    return ~crc
  }

  @Test(
    "draws the image that their formulas give over diffusers: 50 steps, sigma_min, truncated, from a seed")
  func image() throws {
    let golden = try JSONDecoder().decode(
      Golden.self, from: Data(contentsOf: Fixtures.url("neti/pictures.json")))
    let scratch = try Scratch()
    try Self.makeModel(scratch.folder, golden)
    let concept = try Concept.open(
      Fixtures.repository.appending(path: "Tests/Fixtures/authors/default/mapper-steps-5.pt"))
    let model = try StableDiffusion(ModelFolder(scratch.folder.path))
    var request = ConceptGenerator.Request(prompts: [golden.prompt])
    request.seeds = [golden.seed]
    request.steps = golden.steps
    request.guidance = golden.guidance
    request.truncations = [golden.truncation]
    let drawn = try #require(try ConceptGenerator(model, concepts: [.init(concept)])(request).first)
    let expected = try SafetensorsFile(Fixtures.url("neti/pictures.safetensors")).tensor("picture")
    #expect(expected.shape == [drawn.image.height, drawn.image.width, 3])
    let differences = zip(drawn.image.pixels, try expected.bytes()).map { abs(Int($0) - Int($1)) }
    let near = Double(differences.filter { $0 <= 2 }.count) / Double(differences.count)
    #expect(
      near >= 0.995, "\(near) of the values are within 2, the largest difference is \(differences.max() ?? 0)"
    )
    #expect(Double(differences.reduce(0, +)) / Double(differences.count) < 0.5)
  }
}
