import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

/// Stable Diffusion 1 and 2 as small random models with the names and configurations of the real ones.
@Suite(.serialized) struct FamilyTests {
  static let names = ["sd1", "sd2", "sd2-v"]

  /// What the reference made of the model, against what we make of it.
  static func compare(_ model: StableDiffusion, _ random: RandomModel) throws {
    guard random.name != "sdxl" else { return try SDXLTests.compare(model, random) }
    let golden = try random.golden
    let prompts = random.prompts.map { model.tokenizer($0).ids }
    let ids = try golden.tensor("ids")
    #expect(try ids.reshaped([-1]).doubles().map { Int($0) } == prompts.flatMap { $0 })
    let draws = try RandomSource(seed: 50)
    let latents = try draws.normal([2, 2, 4, 8, 8]).selected(0, 0)
    let images = try draws.normal([1, 3, 32, 32])
    try withoutGradients {
      let states = try model.textEncoders.members[0].encode(ids)
      #expect(try relativeError(states.sliced(1, 0..<12), golden.tensor("states")) < 1e-4)
      let noise = try model.unet(
        latents, timesteps: Tensor([41, 760] as [Float]), context: [CrossAttentionContext(states)])
      #expect(try relativeError(noise, golden.tensor("noise")) < 1e-4)
      #expect(try relativeError(model.vae.encode(images).mean, golden.tensor("mean")) < 1e-4)
      let decoded = try golden.tensor("decoded").to(.float32)
      #expect(try relativeError(model.vae.decode(latents.sliced(0, 0..<1)), decoded) < 1e-3)
    }
    var settings = GenerationSettings()
    (settings.steps, settings.guidance, settings.seeds) = (4, 5, [7])
    (settings.width, settings.height) = (64, 64)
    let image = try model.generate(random.prompts[0], settings)[0].rgb
    let differences = zip(image, try golden.tensor("image").bytes()).map { abs(Int($0) - Int($1)) }
    #expect(differences.count == 64 * 64 * 3)
    #expect(Double(differences.count { $0 <= 2 }) >= 0.995 * Double(differences.count))
  }

  @Test(
    "Ids, states, outputs (1e-4), the VAE's images (fp16) and an image (99.5 % within 2) of a folder are diffusers'",
    arguments: names)
  func folder(name: String) throws {
    let (scratch, random) = (try Scratch(), try RandomModel(name))
    try random.writeFolder(scratch.file("model"))
    let model = try StableDiffusion(ModelFolder(scratch.file("model").path))
    #expect(model.resolution == (name == "sd2-v" ? 768 : 512))
    #expect(model.predictionType == (name == "sd2-v" ? .vPrediction : .epsilon))
    #expect(model.tokenizer.padToken == (name == "sd1" ? 49407 : 0))
    try Self.compare(model, random)
  }

  @Test("In bf16, whose attention Stable Diffusion 2 asks for in fp32, outputs are near those in fp32 (5e-2)")
  func bfloat16() throws {
    let (scratch, random) = (try Scratch(), try RandomModel("sd2-v"))
    try random.writeFolder(scratch.file("model"))
    let model = try StableDiffusion(ModelFolder(scratch.file("model").path), dtype: .bfloat16)
    let latents = try RandomSource(seed: 50).normal([2, 2, 4, 8, 8]).selected(0, 0)
    try withoutGradients {
      let states = try model.textEncoders.members[0].encode(random.golden.tensor("ids"))
      let noise = try model.unet(
        latents, timesteps: Tensor([41, 760] as [Float]), context: [CrossAttentionContext(states)])
      #expect(try relativeError(noise, random.golden.tensor("noise")) < 5e-2)
    }
  }

  @Test("CLIP's vocabulary in the program is its own: 49,408 symbols, the ids of known words")
  func vocabulary() throws {
    let symbols = CLIPVocabulary.symbols
    #expect(CLIPVocabulary.merges.count == 48_894)
    #expect(symbols.count == 49_408 && Set(symbols).count == 49_408)
    #expect(symbols[0] == "!" && symbols[2368] == "cat</w>" && symbols[49_407] == "<|endoftext|>")
    let text = CLIPVocabulary.merges.joined(separator: "\n") + "\n"
    #expect(
      SHA256.hexadecimal(Array(text.utf8))
        == "d308b7377a8ceaa9707a21614fe8c831b9196e197b7aeb69833359362907af02")
  }
}
