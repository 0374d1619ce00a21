import Files
import Foundation
import NeTI
import TestSupport
import Testing

/// A YAML file's configuration; what a run needs and the text does not name is added as flags.
private func load(_ yaml: String, _ overrides: [(key: String, value: String)] = []) throws
  -> LoadedConfiguration
{
  let folder = try Scratch()
  let url = folder.file("train.yaml")
  try Data(yaml.utf8).write(to: url)
  let needed = [
    (key: "log.exp_name", value: "run"), (key: "data.train_data_dir", value: "images"),
    (key: "data.placeholder_token", value: "<toy>"),
  ]
  return try RunConfiguration.load(yaml: url, overrides: needed + overrides)
}

private func message(_ yaml: String, _ overrides: [(key: String, value: String)] = []) -> String {
  do {
    _ = try load(yaml, overrides)
    return "no error"
  } catch {
    return (error as? NeTIError)?.message ?? "another error: \(error)"
  }
}

@Suite struct RunConfigurationTests {
  @Test func `a file in the authors' structure is read as it is`() throws {
    let yaml = """
      log:
        exp_name: colorful
        exp_dir: /experiments
        save_steps: 500
      data:
        train_data_dir: data/teapot
        placeholder_token: <colorful_teapot>
        super_category_token: teapot
        learnable_property: style
        dataloader_num_workers: 8
      model:
        pretrained_model_name_or_path: CompVis/stable-diffusion-v1-4
        use_nested_dropout: False
        normalize_mapper_output: yes
        pe_sigmas: {'sigma_t': 0.05, 'sigma_l': 3}
        num_pe_time_anchors: 20
        target_norm: null
      eval:
        validation_prompts:
          - A photo of a {}
          - "{} at night"
        num_validation_images: 2
        validation_steps: 250
      optim:
        max_train_steps: 1_000
        learning_rate: 1e-3
        lr_scheduler: cosine
        mixed_precision: no
        seed:
      """
    let folder = try Scratch()
    try Data(yaml.utf8).write(to: folder.file("train.yaml"))
    let loaded = try RunConfiguration.load(yaml: folder.file("train.yaml"))
    let c = loaded.configuration
    #expect(c.runFolder.path == "/experiments/colorful")
    #expect(c.log.saveSteps == 500)
    #expect(c.data.placeholderToken == "<colorful_teapot>")
    #expect(c.data.learnableProperty.templates.count == 19)
    #expect(c.model.pretrainedModelNameOrPath == "CompVis/stable-diffusion-v1-4")
    #expect(!c.model.useNestedDropout && c.model.normalizeMapperOutput)
    #expect(c.model.peSigmas.sigmaT == 0.05 && c.model.peSigmas.sigmaL == 3)
    #expect(c.eval.validationPrompts == ["A photo of a {}", "{} at night"])
    #expect(c.eval.seeds == [0, 1])
    #expect(c.optim.maxTrainSteps == 1000 && c.optim.learningRate == 1e-3)
    #expect(c.optim.mixedPrecision == .no && c.optim.lrScheduler == .cosine)
    #expect(c.optim.seed == 0)
    try #require(loaded.notices.count == 2)
    #expect(loaded.notices[0].hasPrefix("data.dataloader_num_workers has no effect"))
    #expect(
      loaded.notices[1].contains("0.001 is multiplied") && loaded.notices[1].contains("the rate is 0.008."))
  }

  @Test func `who names the rate is told that it is scaled, unless scale_lr is named, too, or it is not`()
    throws
  {
    func notices(_ more: [(key: String, value: String)]) throws -> [String] {
      try RunConfiguration.load(
        overrides: [
          ("log.exp_name", "run"), ("data.train_data_dir", "images"), ("data.placeholder_token", "<toy>"),
        ] + more
      ).notices
    }
    let rate = (key: "optim.learning_rate", value: "0.002")
    #expect(
      try notices([rate]) == [
        "optim.learning_rate 0.002 is multiplied by batch × accumulation, 2 × 4: the rate is 0.016. "
          + "`optim.scale_lr false` takes it as it is"
      ])
    for more in [
      [], [rate, ("optim.scale_lr", "true")], [rate, ("optim.scale_lr", "false")],
      [rate, ("optim.train_batch_size", "1"), ("optim.gradient_accumulation_steps", "1")],
    ] {
      #expect(try notices(more).isEmpty)
    }
  }

  @Test func `what is not named has the authors' defaults`() throws {
    let c = try load("").configuration
    #expect(c.log.saveSteps == 250 && c.log.checkpointsTotalLimit == nil)
    #expect(c.data.repeats == 100 && c.data.resolution == nil && !c.data.centerCrop)
    #expect(c.model.numPeTimeAnchors == 10 && c.model.outputBypass && c.model.representation == .neti)
    #expect(c.model.peSigmas.sigmaT == 0.03 && c.model.peSigmas.sigmaL == 2)
    #expect(c.eval.validationSteps == 100 && c.eval.seeds == [42, 420, 501, 5456])
    #expect(c.optim.adamBeta1 == 0.9 && c.optim.adamBeta2 == 0.999 && c.optim.adamEpsilon == 1e-8)
    // 1e-3 × batch 2 × accumulation 4
    #expect(abs(c.optim.learningRateSchedule()(0) - 8e-3) < 1e-15)
  }

  @Test func `flags go before the file, and lists are YAML or one entry`() throws {
    let c = try load(
      "optim: {max_train_steps: 5, seed: 1}",
      RunConfiguration.overrides(fromArguments: [
        "--optim.max_train_steps", "500", "--optim.learning_rate=2e-4", "--data.center_crop", "true",
        "--eval.validation_seeds=[1, 2, 3, 4]", "--eval.validation_prompts", "A {} in snow",
        "--model.pe_sigmas.sigma_t", "0.1", "--data.placeholder_token", "*",
      ])
    ).configuration
    #expect(c.optim.maxTrainSteps == 500 && c.optim.seed == 1 && c.optim.learningRate == 2e-4)
    #expect(c.data.centerCrop && c.data.placeholderToken == "*")
    #expect(c.eval.validationSeeds == [1, 2, 3, 4] && c.eval.validationPrompts == ["A {} in snow"])
    #expect(c.model.peSigmas.sigmaT == 0.1 && c.model.peSigmas.sigmaL == 2)
  }

  @Test(arguments: [
    (["optim.seed", "1"], "“optim.seed” is no option; settings look like `optim.max_train_steps 500`"),
    (["--seed", "1"], "“--seed” is no option; did you mean `optim.seed`?"),
    (["--optim.seed"], "`optim.seed` needs a value"),
    (["--optim.seed", "--optim.max_train_steps"], "`optim.seed` needs a value"),
  ])
  func `arguments that are no settings are errors`(arguments: [String], words: String) {
    let error = #expect(throws: NeTIError.self) { try RunConfiguration.overrides(fromArguments: arguments) }
    #expect(error?.message == words)
  }

  @Test(arguments: [
    (
      "optim:\n  max_train_step: 5",
      "train.yaml, line 2: unknown key “optim.max_train_step”; did you mean optim.max_train_steps?"
    ),
    ("model:\n  seed: 5", "did you mean optim.seed?"),
    ("optimizer:\n  seed: 5", "unknown key"),
    ("optm:\n  sed: 5", "did you mean optim.seed?"),
    ("zzzzzzzzzzzz: 1", "unknown key “zzzzzzzzzzzz”"),
    ("optim: 5", "optim holds keys, not a value"),
    ("optim:\n  seed: {a: 1}", "optim.seed must be a whole number or null, and has no keys in it"),
    ("optim:\n  seed: x", "line 2: optim.seed must be a whole number or null, not “x”"),
    ("optim:\n  seed: 1.5", "whole number"),
    ("optim:\n  max_train_steps: null", "optim.max_train_steps must be a whole number, not “null”"),
    ("optim:\n  learning_rate: .inf", "optim.learning_rate must be a number"),
    ("optim:\n  learning_rate: 1e999", "optim.learning_rate must be a number"),
    ("optim:\n  learning_rate: -1", "optim.learning_rate is -1.0; it must be a number above 0"),
    ("optim:\n  scale_lr: maybe", "true or false"),
    ("optim:\n  lr_scheduler: cosin", "one of constant, constant_with_warmup"),
    ("optim:\n  max_train_steps: 0", "optim.max_train_steps is 0; it must be between 1 and"),
    ("optim:\n  train_batch_size: 99999999999999999999", "whole number"),
    ("optim:\n  lr_scheduler: polynomial\n  learning_rate: 1e-9", "polynomial ends at"),
    ("model:\n  nested_dropout_prob: 1.5", "between 0 and 1"),
    ("model:\n  num_pe_time_anchors: 3", "gives 4 anchors"),
    ("model:\n  num_pe_time_anchors: 999", "gives 1000 anchors"),
    ("model:\n  pe_sigmas:\n    sigma_x: 1", "did you mean model.pe_sigmas.sigma_"),
    ("model:\n  representation: mapper", "one of neti, ti, xti, time, space"),
    ("data:\n  learnable_property: [object]", "not a list"),
    (
      "data:\n  placeholder_token: ''",
      "placeholder_token is not set: choose a word for the concept, as <toy>"
    ),
    ("log:\n  exp_name: ''", "log.exp_name is not set: name the run"),
    ("data:\n  placeholder_token: two words", "“two words” must be one word, without spaces and {}"),
    ("log:\n  exp_name: ../x", "must be the name of a folder"),
    ("eval:\n  validation_prompts: A photo of {}", "a list, each entry text"),
    (
      "eval:\n  validation_prompts: [A photo]",
      "the prompt of `eval.validation_prompts` “A photo” must have {} or <"
    ),
    (
      "eval:\n  prompt_weights: true\n  validation_prompts: [\"a ({}:1.2.3)\"]",
      "the prompt of `eval.validation_prompts` “a ({}:1.2.3)” has a weight that is no number"
    ),
    ("eval:\n  validation_seeds: [1, 2]", "has 2 seeds for eval.num_validation_images 4"),
    ("eval:\n  validation_prompts: [[a]]", "a list must hold plain values"),
    ("- a\n- b", "train.yaml: expected sections ("),
    ("optim: {seed: 1}\noptim: {seed: 2}", "more than once"),
    ("optim:\n  seed: 1\n seed: 2", "line 3"),
    ("optim: [", "line "),
    ("optim:\n  seed: !!python/object/apply:os.system [x]", "YAML tags"),
    ("optim:\n  seed: &s 1\n  lr_warmup_steps: *s", "anchors and aliases"),
    (
      "--- 1\n--- 2",
      "line 2: a second document begins with ---; a configuration is one document: take that line out"
    ),
    ("optim:\n\tseed: 1", "train.yaml, line 2: a tab stands before the key; use spaces"),
    ("optim:\n  seed: 1\n\tscale_lr: true", "line 3: a tab stands before the key; use spaces"),
    (
      "eval:\n  validation_seeds: 1,2,3,4",
      "must be null or a list, each entry a whole number, not “1,2,3,4”; write [1,2,3,4]"
    ),
  ])
  func `a bad file gets one line that says where and what`(yaml: String, part: String) {
    // The values that every run needs are flags here; these cases need them from the file.
    let text =
      yaml.contains("exp_name") || yaml.contains("placeholder_token")
      ? messageWithoutFlags(yaml) : message(yaml)
    #expect(text.contains(part), "\(text)")
    #expect(!text.contains("\n"))
  }

  private func messageWithoutFlags(_ yaml: String) -> String {
    do {
      let folder = try Scratch()
      let base = "data.train_data_dir"
      try Data(yaml.utf8).write(to: folder.file("train.yaml"))
      let extra = [(base, "x")] + (yaml.contains("exp_name") ? [] : [("log.exp_name", "x")])
      _ = try RunConfiguration.load(
        yaml: folder.file("train.yaml"), overrides: extra.map { (key: $0.0, value: $0.1) })
      return "no error"
    } catch {
      return (error as? NeTIError)?.message ?? "another error: \(error)"
    }
  }

  @Test func `a bad flag is named`() {
    #expect(
      message("", [(key: "optim.sead", value: "1")]).contains(
        "`optim.sead`: unknown key “optim.sead”; did you mean optim.seed?"))
    #expect(
      message("", [(key: "optim.seed", value: "x")])
        == "`optim.seed`: optim.seed must be a whole number or null, not “x”")
    func seeds(_ value: String) -> String { message("", [(key: "eval.validation_seeds", value: value)]) }
    #expect(seeds("[1, ").hasPrefix("`eval.validation_seeds`"))
    #expect(seeds("[1]: 2") == "`eval.validation_seeds`: expected a value or a list")
    #expect(
      seeds("[" + String(repeating: " ", count: 300_000) + "]")
        == "`eval.validation_seeds`: the value is too long; at most 262144 bytes are read")
  }

  @Test func `keys of theirs that decide nothing get one line each`() throws {
    let loaded = try load(
      """
      log: {logging_dir: logs, report_to: wandb}
      data: {dataloader_num_workers: 0}
      model: {target_norm: 0.4, revision: fp16}
      optim: {gradient_checkpointing: true}
      """)
    #expect(loaded.notices.count == 6)
    for line in loaded.notices { #expect(line.contains(" has no effect here: ") && !line.contains("\n")) }
    #expect(try load("log: {report_to: tensorboard}\noptim: {gradient_checkpointing: false}").notices.isEmpty)
  }

  @Test(arguments: [
    ("optim.mixed_precision", "fp16", ["optim.mixed_precision": "fp16"]),
    ("optim.allow_tf32", "bf16", ["optim.allow_tf32": "true", "optim.mixed_precision": "bf16"]),
    ("optim.lr_warmup_steps", "constant_with_warmup", ["optim.lr_warmup_steps": "5"]),
    (
      "optim.lr_scheduler", "constant_with_warmup is constant while optim.lr_warmup_steps is 0",
      ["optim.lr_scheduler": "constant_with_warmup"]
    ),
    (
      "eval.guidance_scale", "validation_prompts",
      ["eval.guidance_scale": "2", "eval.validation_prompts": "[]"]
    ),
    ("eval.validation_steps", "step 1000", ["eval.validation_steps": "1001"]),
    ("model.output_bypass", "xti", ["model.output_bypass": "true", "model.representation": "xti"]),
    ("model.nested_dropout_prob", "ti", ["model.nested_dropout_prob": "0.1", "model.representation": "ti"]),
    (
      "model.nested_dropout_prob", "use_nested_dropout",
      ["model.nested_dropout_prob": "0.1", "model.use_nested_dropout": "false"]
    ),
    (
      "model.pe_sigmas.sigma_t", "use_positional_encoding",
      ["model.pe_sigmas.sigma_t": "0.1", "model.use_positional_encoding": "false"]
    ),
    (
      "model.representation", "mapper_checkpoint_path",
      ["model.representation": "ti", "model.mapper_checkpoint_path": "a"]
    ),
  ])
  func `a value that another setting makes void is told by name, with the reason`(
    _ name: String, _ reason: String, _ values: [String: String]
  ) throws {
    let loaded = try load("", values.map { (key: $0.key, value: $0.value) })
    let lines = loaded.notices.filter { $0.hasPrefix("\(name) has no effect here: ") }
    #expect(lines.count == 1 && lines[0].contains(reason), "\(loaded.notices)")
  }

  @Test func `a warm-up that is as long as the run is told once`() throws {
    for (warmup, isTold) in [("1000", true), ("2000", true), ("999", false)] {
      let notices = try load("", [("optim.lr_scheduler", "linear"), ("optim.lr_warmup_steps", warmup)])
        .notices
      let line =
        "optim.lr_warmup_steps \(warmup) is not less than the run's 1000 steps: the learning rate never gets to what was "
        + "asked for; give fewer"
      #expect(notices == (isTold ? [line] : []))
    }
  }

  @Test func `values that do what they say are not told`() throws {
    for (key, value) in [
      ("optim.mixed_precision", "bf16"), ("optim.mixed_precision", "no"), ("optim.allow_tf32", "true"),
      ("optim.lr_warmup_steps", "0"), ("eval.guidance_scale", "2"), ("eval.validation_steps", "1000"),
      ("optim.lr_scheduler", "cosine"), ("model.output_bypass", "false"),
      ("model.nested_dropout_prob", "0.1"), ("model.representation", "ti"),
    ] {
      #expect(try load("", [(key: key, value: value)]).notices.isEmpty, "\(key) \(value)")
    }
  }

  @Test func `files that are missing, folders, pipes, too large or no text are errors`() throws {
    let folder = try Scratch()
    let large = folder.file("large.yaml")
    try Data(repeating: 0x20, count: 300_000).write(to: large)
    let binary = folder.file("binary.yaml")
    try Data([0xFF, 0xFE, 0x00]).write(to: binary)
    for (url, part) in [
      (folder.file("missing.yaml"), "no such file"), (folder.folder, "a folder, not a file"),
      (large, "300000 bytes; at most 262144"), (URL(filePath: "/dev/zero"), "not a file"),
    ] {
      let error = #expect(throws: FileError.self) { try RunConfiguration.load(yaml: url) }
      #expect(error?.message.contains(part) == true, "\(error?.message ?? "")")
      #expect(error?.message.contains(url.path) == true)
    }
    let error = #expect(throws: NeTIError.self) { try RunConfiguration.load(yaml: binary) }
    #expect(error?.message.contains("UTF-8") == true)
    // What a concept's file says of its training.
    let blank = String(repeating: " ", count: 300_000)
    #expect(
      refusal { try RunConfiguration(resolvedYAML: blank, name: "training") }?.message
        == "training is larger than the 262144 bytes that a configuration can have")
  }

  @Test func `YAML that no configuration needs is refused by its line`() {
    for (yaml, part) in [
      ("? [a]\n: 1", "a key must be a word"), ("optim: !x {seed: 1}", "YAML tags (“!x”) are not read"),
      ("optim: {seed: {a: {b: {c: 1}}}}", "too many levels under"),
      ("eval: {validation_prompts: [[a]]}", "a list must hold plain values"),
    ] {
      let text = message(yaml)
      #expect(text.contains(", line 1: \(part)") && !text.contains("\n"), "\(yaml): \(text)")
    }
  }

  @Test func `aliases that unfold without end and nesting without end are refused at once`() throws {
    var bomb = "a0: &a0 [x, x]\n"
    for i in 1...60 { bomb += "? &a\(i) [*a\(i - 1), *a\(i - 1)]\n: 1\n" }
    #expect(message(bomb).contains("anchors and aliases"))

    // On the smallest stack that a thread usually has.
    let deep = ["[", "{a: ", "- ", "? ", "{? [", "a:\n"].map { String(repeating: $0, count: 20_000) }
    let flows = (1...2000).map { String(repeating: " ", count: $0 / 10) + "a:" }.joined(separator: "\n")
    let messages = onSmallStack { (deep + [flows]).map { message($0) } }
    #expect(messages.count == 7)
    for text in messages {
      #expect(text != "no error" && !text.contains("another error") && !text.contains("\n"))
    }
  }

  private func onSmallStack(_ work: @escaping @Sendable () -> [String]) -> [String] {
    final class Box: @unchecked Sendable { var value: [String] = [] }
    let box = Box()
    let done = DispatchSemaphore(value: 0)
    let thread = Thread {
      box.value = work()
      done.signal()
    }
    thread.stackSize = 512 * 1024
    thread.start()
    done.wait()
    return box.value
  }

  @Test func `5,000 damaged files are read without a crash`() throws {
    let folder = try Scratch()
    let url = folder.file("train.yaml")
    let original = Data(("# ä *a &a 'q' \"\\u00e4\"\n" + (try everything()).resolvedYAML()).utf8)
    for (i, mutation) in Mutations(of: original, count: 5000, seed: 3).enumerated() {
      try mutation.write(to: url)
      do {
        let c = try RunConfiguration.load(yaml: url).configuration
        // What is accepted can be written and read again (now and then: each reading starts a thread).
        guard i % 20 == 0 else { continue }
        let again = try RunConfiguration(resolvedYAML: c.resolvedYAML())
        #expect(again == c, "mutation \(i)")
      } catch let error as NeTIError {
        #expect(!error.message.contains("\n"), "mutation \(i): \(error.message)")
      }
    }
  }

  /// A configuration in which nothing has its default.
  private func everything() throws -> RunConfiguration {
    var c = RunConfiguration()
    c.log.expName = "a: b #c"
    c.log.expDir = "true"
    c.log.checkpointsTotalLimit = 3
    c.data.trainDataDir = "./päth with \"quotes\" and \\ slashes"
    c.data.placeholderToken = "-*&!%@`"
    c.data.superCategoryToken = "null"
    c.data.learnableProperty = .style
    c.data.resolution = 64
    c.data.centerCrop = true
    c.model.pretrainedModelNameOrPath = "1e-3"
    c.model.nestedDropoutProb = 0.1 + 0.2
    c.model.targetNorm = 1e-20
    c.model.peSigmas.sigmaT = 1.0 / 3
    c.model.representation = .xti
    c.eval.validationPrompts = [
      "", "no", "{}: tab\t, line\nbreak", "\u{0}\u{7}\u{85}\u{2028}\u{FEFF}\u{FFFF}🐱",
    ]
    c.eval.validationSeeds = nil
    c.optim.seed = 4_294_967_295
    c.optim.lrScheduler = .cosineWithRestarts
    c.optim.mixedPrecision = .bf16
    c.optim.adamEpsilon = .leastNonzeroMagnitude
    return c
  }

  @Test func `the resolved YAML and the JSON read back as the same value`() throws {
    let defaults = try load("").configuration
    for c in [RunConfiguration(), defaults, try everything()] {
      #expect(try RunConfiguration(resolvedYAML: c.resolvedYAML()) == c)
      #expect(try JSONDecoder().decode(RunConfiguration.self, from: JSONEncoder().encode(c)) == c)
    }
    var none = defaults
    none.eval.validationPrompts = []
    #expect(try RunConfiguration(resolvedYAML: none.resolvedYAML()) == none)
  }

  @Test func `JSON of another version keeps what is known and refuses a wrong type`() throws {
    let json = #"{"optim": {"seed": 7, "new_key": [1, {"a": 2}]}, "future": 1, "model": null}"#
    let c = try JSONDecoder().decode(RunConfiguration.self, from: Data(json.utf8))
    #expect(c.optim.seed == 7 && c.optim.maxTrainSteps == 1000)
    #expect(throws: DecodingError.self) {
      try JSONDecoder().decode(RunConfiguration.self, from: Data(#"{"optim": {"seed": "x"}}"#.utf8))
    }
  }

  @Test func `differences name the keys that change the result, and only those`() throws {
    let a = try load("").configuration
    var b = a
    b.log.saveSteps = 10
    b.eval.numDenoisingSteps = 5
    b.optim.maxTrainSteps = 2000
    #expect(b.differences(from: a).isEmpty)
    b.optim.seed = 1
    b.model.peSigmas.sigmaL = 1
    #expect(b.differences(from: a) == ["model.pe_sigmas.sigma_l is 1.0, was 2.0", "optim.seed is 1, was 0"])
    b.optim.lrScheduler = .linear
    #expect(b.differences(from: a).contains("optim.max_train_steps is 2000, was 1000"))
  }

  @Test func `a configuration for a file that is given away has no absolute path`() throws {
    var c = try load("").configuration
    c.data.trainDataDir = "/home/someone/images/toy"
    c.log.expDir = "/tmp/out"
    c.model.pretrainedModelNameOrPath = "../../someone/models/sd"
    let d = c.withoutPaths()
    #expect(
      d.data.trainDataDir == "toy" && d.log.expDir == "outputs" && d.model.pretrainedModelNameOrPath == "sd")
    c.model.pretrainedModelNameOrPath = "CompVis/stable-diffusion-v1-4"
    #expect(c.withoutPaths().model.pretrainedModelNameOrPath == "CompVis/stable-diffusion-v1-4")
  }
}
