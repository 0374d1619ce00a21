import Foundation
import NeTI
import TestSupport
import Testing

@Suite struct RecipeTests {
  private func load(_ recipe: String, _ settings: [(key: String, value: String)] = []) throws
    -> LoadedConfiguration
  {
    let needed = [
      (key: "log.exp_name", value: "run"), (key: "data.train_data_dir", value: "pictures"),
      (key: "data.placeholder_token", value: "<toy>"),
    ]
    return try RunConfiguration.load(overrides: needed + settings) { _ in try Recipe(json: Data(recipe.utf8))
    }
  }

  private let measured = """
    {"learning_rate": 0.004, "ti_learning_rate": 0.02, "max_train_steps": 300, "train_batch_size": 8,
     "guidance": 5, "note": "measured"}
    """

  @Test func `a recipe decides what neither flags nor file name, and is reported`() throws {
    let loaded = try load(measured, [(key: "optim.train_batch_size", value: "4")])
    let c = loaded.configuration
    #expect(c.optim.learningRateSchedule()(0) == 0.004 && !c.optim.scaleLr)
    #expect(c.optim.maxTrainSteps == 300 && c.optim.trainBatchSize == 4 && c.eval.guidanceScale == 5)
    #expect(c.optim.gradientAccumulationSteps == 4)
    #expect(
      loaded.fromRecipe == [
        "optim.learning_rate 0.004", "optim.scale_lr false", "optim.max_train_steps 300",
        "eval.guidance_scale 5.0",
      ])
  }

  @Test func `a named learning rate is scaled as the authors scale it, whatever the recipe says`() throws {
    let c = try load(measured, [(key: "optim.learning_rate", value: "1e-3")]).configuration
    #expect(c.optim.scaleLr && c.optim.learningRate == 1e-3)
    let d = try load(measured, [(key: "optim.scale_lr", value: "true")]).configuration
    #expect(d.optim.learningRate == 1e-3)
  }

  @Test func `learned vectors have a rate of their own, and the authors' where it gives none`() throws {
    let ti = try load(measured, [(key: "model.representation", value: "ti")]).configuration
    #expect(ti.optim.learningRateSchedule()(0) == 0.02)
    let xti = try load(measured, [(key: "model.representation", value: "xti")]).configuration
    #expect(xti.optim.scaleLr && xti.optim.learningRate == 1e-3)
  }

  @Test func `mini-sd has a recipe, and a folder without one has none`() throws {
    #expect(try Recipe.load(fromModelFolder: Fixtures.miniSD)?.guidance == 3)
    #expect(try Recipe.load(fromModelFolder: Scratch().folder) == nil)
  }

  @Test(arguments: [
    (#"{"guidence": 5}"#, "unknown key “guidence”; did you mean guidance?"),
    (#"{"learning_rate": "fast"}"#, "learning_rate must be a number"),
    (#"{"learning_rate": -1}"#, "learning_rate is -1.0"),
    (#"{"max_train_steps": 0}"#, "max_train_steps is 0"),
    (#"{"max_train_steps": 1e300}"#, "max_train_steps must be a whole number"),
    (#"{"guidance": 1000}"#, "guidance_scale is 1000.0"),
    (#"{"note": {"a": 1}}"#, "recipe.json"),
    ("[1]", "recipe.json"), ("{", "recipe.json"), ("", "recipe.json"),
    (String(repeating: "[", count: 60_000), "recipe.json"),
  ])
  func `a bad recipe gets one line that names file and key`(json: String, part: String) {
    let error = #expect(throws: NeTIError.self) { try Recipe(json: Data(json.utf8)) }
    #expect(error?.message.contains(part) == true && error?.message.hasPrefix("recipe.json") == true)
    #expect(error?.message.contains("\n") == false)
  }

  @Test func `5,000 damaged recipes are read without a crash`() {
    for mutation in Mutations(of: Data(measured.utf8), count: 5000, seed: 5) {
      do { _ = try Recipe(json: mutation) } catch { #expect(error is NeTIError) }
    }
  }
}
