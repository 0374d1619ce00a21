import Diffusion
import Foundation
import NeTI
import TestSupport
import Testing

@Suite("Layer names")
struct LayerNamesTests {
  private func miniSD() throws -> LayerNames {
    LayerNames(try StableDiffusion(ModelFolder(Fixtures.miniSD.path)).unetConfiguration)
  }

  @Test("the short names are the authors', one per layer in execution order")
  func aliases() throws {
    let n = try miniSD()
    #expect(n.paths.count == 16)
    #expect(n.aliases?.first == "IN01" && n.aliases?[6] == "MID" && n.aliases?.last == "OUT11")
    #expect(try n.indices(["IN07", "IN08", "mid", "OUT03"]) == [4, 5, 6, 7])
    #expect(n.paths[7] == "up_blocks.1.attentions.0.transformer_blocks.0")
    #expect(try n.indices([n.paths[7]]) == [7])
    #expect(n.names([6, 4]) == ["IN07", "MID"])
  }

  @Test("a number is all layers of that resolution of the latents")
  func resolutions() throws {
    let n = try miniSD()
    #expect(n.resolutions == [16, 16, 8, 8, 4, 4, 2, 4, 4, 4, 8, 8, 8, 16, 16, 16])
    #expect(try n.indices(["4", "2"]) == [4, 5, 6, 7, 8, 9])
  }

  @Test("groups: the coarse and the fine layers are all, and so are the three parts")
  func presets() throws {
    let n = try miniSD()
    #expect(try n.indices(["coarse"]) == n.indices(["8", "4", "2"]))
    #expect(try n.indices(["coarse", "fine"]) == Set(0..<16))
    #expect(try n.indices(["down", "middle", "up"]) == n.indices(["all"]))
    #expect(try n.indices(["none"]).isEmpty)
  }

  @Test("on Stable Diffusion 1 the coarse layers are those of 16 and 8")
  func stableDiffusion() throws {
    var c = try StableDiffusion(ModelFolder(Fixtures.miniSD.path)).unetConfiguration
    c.sampleSize = 64
    let n = LayerNames(c)
    #expect(n.names(try n.indices(["coarse"])) == ["IN07", "IN08", "MID", "OUT03", "OUT04", "OUT05"])
    // SD 2.1 draws 96 × 96 latents with the same layers.
    c.sampleSize = 96
    #expect(try LayerNames(c).indices(["coarse"]) == n.indices(["coarse"]))
  }

  @Test(
    "an unknown name is an error that lists what there is",
    arguments: ["IN03", "5", "", "down_blocks.9", "OUT12", "-4"])
  func unknown(_ name: String) throws {
    let n = try miniSD()
    let e = #expect(throws: NeTIError.self) { try n.indices(["IN07", name]) }
    #expect(e?.message.hasPrefix("there is no layer “\(name)” in this model. There are ") == true)
    #expect(e?.message.contains("IN01, IN02") == true)
    #expect(e?.message.contains("coarse") == true)
  }
}
