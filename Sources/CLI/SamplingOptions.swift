import ArgumentParser
import Diffusion
import Foundation
import NeTI

/// How noise becomes an image, for every command that generates. What is left out is what suits the model.
struct SamplingOptions: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "Denoising steps of each image; what suits the model when left out, 50 for Stable Diffusion.",
      valueName: "number"))
  var steps: Int?

  @Option(
    help: ArgumentHelp(
      "How strongly the prompt leads (the scale of classifier-free guidance); what suits the model when left out, 7.5 for Stable Diffusion, 5 for SDXL.",
      valueName: "number"))
  var guidance: Double?

  @Option(
    help: ArgumentHelp(
      "How a denoising step is computed; what suits the model when left out, dpm++ for Stable Diffusion, euler for SDXL. lcm and tcd are for models that were distilled for them.",
      valueName: "name"))
  var scheduler: SchedulerKind?

  func validate() throws {
    if let steps, !(1...1000).contains(steps) {
      throw ValidationError("--steps \(steps): between 1 and 1000")
    }
    if let guidance, !(guidance.isFinite && guidance >= 0 && guidance <= 1000) {
      throw ValidationError("--guidance \(guidance): a number between 0 and 1000")
    }
  }

  /// Flags go before the model's defaults, which are told in one line: the `note`.
  func settings(for model: StableDiffusion) throws -> (settings: GenerationSettings, note: String?) {
    let defaults = try ModelDefaults.load(model.folder)
    var given: [String] = []
    func choose<T>(_ flag: T?, _ name: String, _ own: T?, _ text: (T) -> String) -> T? {
      if flag == nil, let own { given.append("--\(name) \(text(own))") }
      return flag ?? own
    }
    var s = GenerationSettings()
    s.steps = choose(steps, "steps", defaults?.denoisingSteps) { "\($0)" } ?? s.steps
    s.guidance = choose(guidance, "guidance", defaults?.guidance) { String(format: "%g", $0) } ?? s.guidance
    s.scheduler = choose(scheduler, "scheduler", defaults?.scheduler, \.rawValue) ?? s.scheduler
    var notes = given.isEmpty ? [] : ["the model's defaults give " + given.joined(separator: ", ")]
    let saysSteps = steps != nil || guidance != nil || defaults?.denoisingSteps != nil
    if !saysSteps, Self.isLikeTurbo(model.schedulerConfiguration) {
      notes.append(
        "\(model.folder.name) begins at the last timestep, as turbo models do; if it is one, add --steps 4 --guidance 1"
      )
    }
    return (s, notes.isEmpty ? nil : notes.joined(separator: "; "))
  }

  /// SD Turbo and the like have only this to be told by; v-prediction and rescaled βs ask for it as well.
  private static func isLikeTurbo(_ c: SchedulerConfiguration) -> Bool {
    c.timestepSpacing == .trailing && c.predictionType == .epsilon && !c.rescaleBetasZeroSNR
  }
}
