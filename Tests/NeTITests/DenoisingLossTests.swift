import Diffusion
import Files
import Foundation
import NeTI
import TestSupport
import Testing
import Torch

@Suite struct DenoisingLossTests {
  @Test(
    "The loss is PyTorch's for a model that predicts noise and for one that predicts velocity (1e-4)",
    arguments: ["sd1", "sd2", "sd2-v"])
  func loss(name: String) throws {
    let (scratch, random) = (try Scratch(), try RandomModel(name))
    try random.writeFolder(scratch.file("model"))
    let model = try StableDiffusion(ModelFolder(scratch.file("model").path))
    let draws = try RandomSource(seed: 50).normal([2, 2, 4, 8, 8])
    let schedule = try NoiseSchedule(model.schedulerConfiguration)
    let loss = try withoutGradients {
      let states = try model.textEncoders.members[0].encode(random.golden.tensor("ids"))
      return try schedule.loss(
        unet: model.unet, clean: draws.selected(0, 0), noise: draws.selected(0, 1), timesteps: [41, 760],
        context: [CrossAttentionContext(states)], predicting: model.predictionType)
    }
    #expect(try relativeError(loss, random.golden.tensor("loss")) < 1e-4)
  }
}
