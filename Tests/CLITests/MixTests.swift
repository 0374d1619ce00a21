import Diffusion
import Foundation
import NeTI
import TestSupport
import Testing
import Torch

@Suite("neti mix and neti decompose")
struct MixTests {
  static let mix = ["mix", "--geometry", "a.safetensors", "--appearance", "b.safetensors"]
  static let decompose = ["decompose", "--concept", "a.safetensors", "--prompt", "a {}"]
  static let wrong: [([String], String)] = [

    (mix, "--prompt"), (mix + ["--prompt", "a {}", "--from", "1000"], "--from"),
    (mix + ["--prompt", "a {}", "--from", "600,600"], "--from"),
    (mix + ["--prompt", "a {}", "--truncation-geometry", "0"], "--truncation-geometry 0"),
    (mix + ["--prompt", "a {}", "--truncation-appearance", "129"], "--truncation-appearance 129"),
    (decompose + ["--count", "0"], "--count 0"), (decompose + ["--view", "melted"], "--view"),
    (decompose + ["--count", "3", "--timesteps", "5"], "--count and --timesteps"),
    (decompose + ["--timesteps", "100,500"], "write the larger first"),
    (decompose + ["--timesteps", "500,500"], "given twice"),
    (decompose + ["--timesteps", "1000"], "outside"),
    (decompose + ["--timesteps", ""], "900,500,100"),
    (decompose + ["--timesteps", "900-100"], "900,500,100"),
    (decompose + ["--view", "windows", "--timesteps", "500"], "999-700"),
    (decompose + ["--view", "windows", "--timesteps", "100-500"], "write 500-100"),
    (decompose + ["--view", "windows", "--timesteps", "999-500,600-100"], "overlap"),
    (decompose + ["--view", "windows", "--timesteps", "499-0,999-500"], "write the larger first"),
  ]

  @Test("wrong usage is exit code 64 and a line that says what", arguments: wrong)
  func usage(_ arguments: [String], _ says: String) throws {
    let r = try CommandLineTool.run(arguments, in: Fixtures.repository)
    #expect(r.code == 64, "\(r.error)")
    #expect(r.error.contains(says), "\(r.error)")
    #expect(r.output.isEmpty)
  }

  @Test("their help teaches by example")
  func help() throws {
    for (command, says) in [("mix", "--from 999,900,800,600"), ("decompose", "--timesteps 900,500,100")] {
      let r = try CommandLineTool.run([command, "--help"], in: Fixtures.repository)
      #expect(r.code == 0)
      #expect(r.output.contains(says))
    }
  }

  /// Two concepts on mini-sd: a mapper as training starts from it, and a vector.
  private func concepts(_ folder: URL) throws {
    let model = try StableDiffusion(ModelFolder(Fixtures.miniSD.path))
    var settings = NeTIMapper.Settings(hiddenSize: 128, layerCount: 16)
    settings.targetNorm = 0.4
    let vector = try model.textEncoders.members[0].tokenEmbedding.selected(0, 300).to(.float32)
    for (name, representation) in [
      ("a", try NeTIMapper(settings, keys: RandomKeys(seed: 1)) as any ConceptRepresentation),
      ("b", try TextualInversion(vectors: vector.reshaped([1, -1]), layerCount: 16)),
    ] {
      try Concept(
        representation,
        about: .init(
          token: "<\(name)>", category: "mug", base: model.baseIdentity, steps: 0, training: ""),
        placeholder: .zeros([128])
      ).write(to: folder.appending(path: "\(name).safetensors"))
    }
  }

  @Test("mix draws a column per start and each concept alone, across representations")
  func mixes() throws {
    let folder = try Scratch()
    try concepts(folder.folder)
    let r = try CommandLineTool.run(
      Self.mix + ["--prompt", "a photo of a {}", "--from", "800,never", "--layers", "IN07,2", "--parents"]
        + ["--steps", "2", "--json"], in: folder.folder)
    #expect(r.code == 0, "\(r.error)")
    let report = try #require(
      JSONSerialization.jsonObject(with: Data(r.output.utf8)) as? [String: Any])
    let images = try #require(report["images"] as? [[String: Any]])
    #expect(
      images.map { $0["file"] as? String } == [
        "outputs/a-photo-of-a-concept-geometry-s0.png", "outputs/a-photo-of-a-concept-from800-s0.png",
        "outputs/a-photo-of-a-concept-never-s0.png", "outputs/a-photo-of-a-concept-appearance-s0.png",
      ])
    #expect((report["metadata"] as? [String: String])?["geometry layers"] == "IN07 MID")
    #expect(FileManager.default.fileExists(atPath: folder.folder.appending(path: "outputs/sheet.png").path))
  }

  @Test("decompose draws the strip, the plain image last")
  func decomposes() throws {
    let folder = try Scratch()
    try concepts(folder.folder)
    let r = try CommandLineTool.run(
      Self.decompose + ["--view", "windows", "--timesteps", "999-500,499-0", "--steps", "4"],
      in: folder.folder)
    #expect(r.code == 0, "\(r.error)")
    #expect(
      r.output.split(separator: "\n") == [
        "outputs/a-concept-window999-500-s0.png", "outputs/a-concept-window499-0-s0.png",
        "outputs/a-concept-s0.png", "outputs/sheet.png",
      ])
  }

  @Test("a file that is not there is exit code 1 and one line; what the files do not have is wrong usage")
  func failures() throws {
    let folder = try Scratch()
    try concepts(folder.folder)
    let prompt = ["--prompt", "a photo of a {}"]
    for (arguments, says) in [
      (Self.mix + prompt + ["--layers", "IN07,IN99"], "no layer “IN99”"),
      (Self.mix + prompt + ["--layers", "7"], "There are the groups coarse"),
      (Self.mix + prompt + ["--truncation-appearance", "8"], "has no hidden units to keep"),
      (Self.mix + ["--prompt", "a photo"], "has no {}"),
      (["mix", "--geometry", "no.safetensors", "--appearance", "b.safetensors"] + prompt, "no.safetensors"),
      (
        Self.decompose + ["--view", "windows", "--timesteps", "700-699", "--steps", "4"], "no denoising step"
      ),
    ] {
      let r = try CommandLineTool.run(arguments, in: folder.folder)
      #expect(r.code == (says == "no.safetensors" ? 1 : 64), "\(r.error)")
      #expect(r.error.contains(says), "\(r.error)")
      #expect(r.error.split(separator: "\n").count == 1, "\(r.error)")
      #expect(!FileManager.default.fileExists(atPath: folder.folder.appending(path: "outputs").path))
    }
  }
}
