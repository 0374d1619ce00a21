import Diffusion
import Files
import Foundation
import NeTI
import TestSupport
import Testing

@Suite struct ModelDefaultsTests {
  private func load(_ json: String, _ settings: [(key: String, value: String)] = []) throws
    -> LoadedConfiguration
  {
    let needed = [
      (key: "log.exp_name", value: "run"), (key: "data.train_data_dir", value: "images"),
      (key: "data.placeholder_token", value: "<toy>"),
    ]
    return try RunConfiguration.load(overrides: needed + settings) { _ in
      try ModelDefaults(json: Data(json.utf8))
    }
  }

  private let measured = """
    {"learning_rate": 0.004, "ti_learning_rate": 0.02, "max_train_steps": 300, "train_batch_size": 8,
     "guidance": 5, "note": "measured"}
    """

  @Test func `a model's defaults decide what neither flags nor file name, and are reported`() throws {
    let loaded = try load(measured, [(key: "optim.train_batch_size", value: "4")])
    let c = loaded.configuration
    #expect(c.optim.learningRateSchedule()(0) == 0.004 && !c.optim.scaleLr)
    #expect(c.optim.maxTrainSteps == 300 && c.optim.trainBatchSize == 4 && c.eval.guidanceScale == 5)
    #expect(c.optim.gradientAccumulationSteps == 4)
    #expect(
      loaded.fromModelDefaults == [
        "optim.learning_rate 0.004", "optim.scale_lr false", "optim.max_train_steps 300",
        "eval.guidance_scale 5.0",
      ])
  }

  @Test func `a named learning rate is scaled as the authors scale it, whatever the model's defaults say`()
    throws
  {
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

  @Test func `mini-sd has defaults, a folder without the file has none, its first name is read, not both`()
    throws
  {
    #expect(try ModelDefaults.load(fromModelFolder: Fixtures.miniSD)?.guidance == 3)
    let scratch = try Scratch()
    #expect(try ModelDefaults.load(fromModelFolder: scratch.folder) == nil)
    try Data(#"{"guidance": 4}"#.utf8).write(to: scratch.file("recipe.json"))
    #expect(try ModelDefaults.load(fromModelFolder: scratch.folder)?.guidance == 4)
    try Data(#"{"guidance": 1000}"#.utf8).write(to: scratch.file("recipe.json"))
    let error = #expect(throws: NeTIError.self) { try ModelDefaults.load(fromModelFolder: scratch.folder) }
    #expect(error?.message.hasPrefix("recipe.json") == true)
    try Data(#"{"guidance": 5}"#.utf8).write(to: scratch.file("model_defaults.json"))
    let two = #expect(throws: NeTIError.self) { try ModelDefaults.load(fromModelFolder: scratch.folder) }
    #expect(two?.message.contains("recipe.json is the earlier name of model_defaults.json, and both") == true)
    try FileManager.default.removeItem(at: scratch.file("recipe.json"))
    #expect(try ModelDefaults.load(fromModelFolder: scratch.folder)?.guidance == 5)
  }

  @Test
  func `a distilled model's configurations say scheduler, steps and guidance, and its file goes before`()
    throws
  {
    let scratch = try Scratch()
    let root = try scratch.linkMiniSD("model")
    let folder = try ModelFolder(root.path)
    #expect(try ModelDefaults.load(folder)?.scheduler == nil)
    func rewrite(_ file: String, _ key: String, _ value: Any) throws {
      let url = root.appending(path: file)
      var json = try #require(
        try JSONSerialization.jsonObject(with: Data(contentsOf: url)) as? [String: Any])
      json[key] = value
      try FileManager.default.removeItem(at: url)
      try JSONSerialization.data(withJSONObject: json).write(to: url)
    }
    let file = root.appending(path: "model_defaults.json")
    try Data(#"{"guidance": 3}"#.utf8).write(to: file)
    try rewrite("scheduler/scheduler_config.json", "_class_name", "TCDScheduler")
    let measured = try #require(try ModelDefaults.load(folder))
    #expect(measured.scheduler == .tcd && measured.denoisingSteps == 4 && measured.guidance == 3)
    try FileManager.default.removeItem(at: file)
    #expect(try ModelDefaults.load(folder)?.guidance == 1)
    try rewrite("scheduler/scheduler_config.json", "_class_name", "PNDMScheduler")
    try rewrite("unet/config.json", "time_cond_proj_dim", 256)
    let guided = try #require(try ModelDefaults.load(folder))
    #expect(guided.scheduler == .lcm && guided.denoisingSteps == 4 && guided.guidance == 8.5)
    try Data(#"{"scheduler": "euler-a", "num_denoising_steps": 8}"#.utf8).write(to: file)
    let own = try #require(try ModelDefaults.load(folder))
    #expect(own.scheduler == .eulerAncestral && own.denoisingSteps == 8 && own.guidance == 8.5)
  }

  @Test
  func
    `SDXL is generated as the reference's pipeline does, from a folder and one file; what lies beside goes before`()
    throws
  {
    let (scratch, random) = (try Scratch(), try RandomModel("sdxl"))
    let (root, file) = (scratch.file("folder"), scratch.file("a.model.safetensors"))
    try random.writeFolder(root)
    try Safetensors.write(Array(random.originals()), to: file)
    // Beside one file, under its name.
    for (url, place) in [
      (root, root.appending(path: "model_defaults.json")),
      (file, scratch.file("a.model.model_defaults.json")),
    ] {
      let model = try ModelFolder(url.path)
      var expected = ModelDefaults()
      (expected.scheduler, expected.guidance) = (.euler, 5)
      #expect(try ModelDefaults.load(model) == expected)
      try Data(#"{"guidance": 7, "num_denoising_steps": 30}"#.utf8).write(to: place)
      (expected.guidance, expected.denoisingSteps) = (7, 30)
      #expect(try ModelDefaults.load(model) == expected)
      try Data(#"{"scheduler": "ddim"}"#.utf8).write(to: place)
      (expected.scheduler, expected.guidance, expected.denoisingSteps) = (.ddim, 5, nil)
      #expect(try ModelDefaults.load(model) == expected)
      try Data(#"{"guidance": "much"}"#.utf8).write(to: place)
      let said = refusal { try ModelDefaults.load(model) }?.message
      #expect(
        said?.hasPrefix("\(place.lastPathComponent): guidance must be a number") == true, "\(said ?? "")")
    }
  }

  @Test
  func `what lies beside one file of Stable Diffusion 1 suits it, and that of another file does not`() throws
  {
    let (scratch, random) = (try Scratch(), try RandomModel("sd1"))
    let file = scratch.file("one.safetensors")
    try Safetensors.write(Array(random.originals()), to: file)
    let model = try ModelFolder(file.path)
    for name in ["model_defaults.json", "two.model_defaults.json", "one.safetensors.model_defaults.json"] {
      try Data(#"{"guidance": 3}"#.utf8).write(to: scratch.file(name))
    }
    #expect(try ModelDefaults.load(model) == nil)
    try Data(#"{"guidance": 4, "scheduler": "lcm"}"#.utf8).write(to: scratch.file("one.model_defaults.json"))
    let found = try #require(try ModelDefaults.load(model))
    #expect(found.guidance == 4 && found.scheduler == .lcm && found.denoisingSteps == nil)
  }

  @Test(arguments: [
    (#"{"scheduler": "dpm"}"#, "scheduler must be one of dpm++, ddim"),
    (#"{"guidence": 5}"#, "unknown key “guidence”; did you mean guidance?"),
    (#"{"learning_rate": "fast"}"#, "learning_rate must be a number"),
    (#"{"learning_rate": -1}"#, "learning_rate is -1.0"),
    (#"{"max_train_steps": 0}"#, "max_train_steps is 0"),
    (#"{"max_train_steps": 1e300}"#, "max_train_steps must be a whole number"),
    (#"{"guidance": 1000}"#, "guidance_scale is 1000.0"),
    (#"{"note": {"a": 1}}"#, "model_defaults.json"),
    ("[1]", "model_defaults.json"), ("{", "model_defaults.json"), ("", "model_defaults.json"),
    (String(repeating: "[", count: 60_000), "model_defaults.json"),
  ])
  func `a bad file gets one line that names file and key`(json: String, part: String) {
    let error = #expect(throws: NeTIError.self) { try ModelDefaults(json: Data(json.utf8)) }
    #expect(error?.message.contains(part) == true && error?.message.hasPrefix("model_defaults.json") == true)
    #expect(error?.message.contains("\n") == false)
  }

  @Test func `5,000 damaged files are read without a crash`() {
    for mutation in Mutations(of: Data(measured.utf8), count: 5000, seed: 5) {
      do { _ = try ModelDefaults(json: mutation) } catch { #expect(error is NeTIError) }
    }
  }
}
