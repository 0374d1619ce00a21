import Diffusion
import Foundation
import NeTI

let model = try StableDiffusion(ModelFolder("path/to/a/model"))
let concept = try Concept.open(URL(filePath: "toy.safetensors"))
var request = ConceptGenerator.Request(prompts: ["a photo of a {} on a beach"])
request.seeds = [0, 1]
for made in try ConceptGenerator(model, concepts: [.init(concept)])(request) {
  try Data(made.image.png()).write(to: URL(filePath: "toy-\(made.seed).png"))
}
