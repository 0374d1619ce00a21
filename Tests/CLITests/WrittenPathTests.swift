import Foundation
import TestSupport
import Testing

@Suite("Paths that no shell expanded", .serialized)
struct WrittenPathTests {
  /// One command line for each option and argument that names a file or a folder, with a variable that is not set.
  private static let unset: [(option: String, line: [String])] = {
    let path = "$NETI_NOT_SET/x"
    let concept = ["--concept", "c.safetensors"]
    let mix = ["mix", "--prompt", "{}", "--geometry", "c.safetensors", "--appearance", "c.safetensors"]
    var lines: [(String, [String])] = [
      ("demo output", ["demo", "--output", path]),
      ("train images", Workplace.train(images: path)), ("train output", Workplace.train(output: path)),
      ("train masks", Workplace.train(["--masks", path])), ("train lora", Workplace.train(["--lora", path])),
      ("train model", Workplace.train(["--model", path])),
      ("train manifest", ["train", "--manifest", path]),
      ("train config_path", Workplace.train(["--config_path", path])),
      ("generate concept", Workplace.generate("{}", ["--concept", path])),
      ("generate concept", Workplace.generate("{toy}", ["--concept", "toy=\(path)"])),
      ("mix geometry", ["mix", "--prompt", "{}", "--geometry", path, "--appearance", "c.safetensors"]),
      ("mix appearance", ["mix", "--prompt", "{}", "--geometry", "c.safetensors", "--appearance", path]),
      ("decompose concept", ["decompose", "--prompt", "{}", "--concept", path]),
      ("export file", ["export", path, "--for", "diffusers"]),
      ("export output", ["export", "c.safetensors", "--for", "diffusers", "--output", path]),
      (
        "export thumbnail",
        [
          "export", Fixtures.url("integrations/toy.safetensors").path, "--for", "comfyui", "--thumbnail",
          path,
        ]
      ),
      ("evaluate concept", ["evaluate", "--concept", path, "--output", "out"]),
      ("evaluate concept", ["evaluate", "--concept", "toy=\(path)", "--output", "out"]),
      ("evaluate lora", ["evaluate", "--lora", path, "--images", "images", "--output", "out"] + concept),
      ("evaluate output", ["evaluate", "--images", "images", "--output", path] + concept),
      ("inspect file", ["inspect", path]), ("inspect plot", ["inspect", "c.safetensors", "--plot", path]),
      ("convert input", ["convert", path, "d.safetensors"]),
      ("convert output", ["convert", "c.safetensors", path + ".safetensors"]),
      ("convert output", ["convert", "c.safetensors", path + "/"]),
      (
        "convert model", ["convert", Fixtures.url("community/xti.pt").path, "d.safetensors", "--model", path]
      ),
    ]
    for (option, path) in [("model", path), ("lora", path + ":0.5"), ("password-file", path)] {
      lines.append(("studio \(option)", ["studio", "--folder", "s", "--\(option)", path]))
    }
    lines.append(("studio folder", ["studio", "--folder", path]))
    for option in ["images", "references", "prompts", "clip", "model", "generated"] {
      let others =
        (option == "images" ? [] : ["--images", "images"]) + (option == "model" ? ["--clip", "c"] : [])
      lines.append(
        ("evaluate \(option)", ["evaluate", "--\(option)", path, "--output", "out"] + others + concept))
    }
    for (name, line) in [
      ("generate", Workplace.generate("a cat")), ("mix", mix),
      ("decompose", ["decompose", "--prompt", "{}"] + concept),
    ] {
      let quick = line + (name == "generate" ? [] : ["--steps", "1"])
      lines.append(("\(name) model", quick + ["--model", path]))
      lines.append(("\(name) lora", quick + ["--lora", path + ":0.5"]))
      if name != "decompose" {
        lines.append(("\(name) image", quick + ["--image", path]))
        lines.append(("\(name) mask", quick + ["--image", "images/1.jpg", "--mask", path]))
      }
      lines.append(
        ("\(name) output", quick.filter { !["--output", "out"].contains($0) } + ["--output", path]))
    }
    return lines
  }()

  @Test("are refused in every option and argument when a variable is not set")
  func everyOption() throws {
    let place = try Workplace()
    try place.images()
    try place.concept()
    try FileManager.default.moveItem(at: place.path("concept.safetensors"), to: place.path("c.safetensors"))
    for (option, line) in Self.unset {
      let before = try place.contents()
      let result = try place.run(line)
      #expect(result.code == 1, "\(option): \(result.error)")
      #expect(
        Workplace.failure(in: result.error).contains("the variable NETI_NOT_SET is not set"),
        "\(option): \(result.error)")
      #expect(try place.contents() == before, "\(option)")
    }

    // Every one that there is was tried.
    struct Dump: Decodable {
      struct Argument: Decodable {
        struct Name: Decodable { let kind: String, name: String }
        let valueName: String?
        let names: [Name]?
      }
      struct Command: Decodable {
        let commandName: String
        let arguments: [Argument]?
        let subcommands: [Command]?
      }
      let command: Command
    }
    let help = try place.run(["--experimental-dump-help"])
    let dump = try JSONDecoder().decode(Dump.self, from: Data(help.output.utf8))
    let paths = ["file", "file:weight", "folder", "folder or name", "file, folder or name", "in", "out"]
    var found: Set<String> = []
    for command in dump.command.subcommands ?? [] {
      for argument in command.arguments ?? [] {
        guard let value = argument.valueName, paths.contains(value) else { continue }
        let standing = ["in": "input", "out": "output"]
        found.insert("\(command.commandName) \(argument.names?.first?.name ?? standing[value] ?? value)")
      }
    }
    #expect(found == Set(Self.unset.map(\.option)))
  }

  @Test("mean the home folder and variables, in options, YAML, a manifest and HF_HOME")
  func everywhere() throws {
    let place = try Workplace()
    try place.images()
    let home = place.path("home")
    try FileManager.default.createDirectory(at: home, withIntermediateDirectories: true)
    try FileManager.default.moveItem(at: place.path("images"), to: home.appending(path: "images"))
    try place.miniSD("home/m")
    try place.miniSD("home/hf/hub/models--a--b/snapshots/abc")
    try place.file("abc", "home/hf/hub/models--a--b/refs/main")
    let environment = ["HOME": home.path, "WHERE": home.path]
    func run(_ arguments: [String], _ more: [String: String] = [:]) throws -> CommandLineTool.Result {
      let result = try CommandLineTool.run(
        arguments, in: place.folder, environment: environment.merging(more) { $1 })
      #expect(result.code == 0, "\(arguments): \(result.error)")
      return result
    }
    func exists(_ path: String) -> Bool { FileManager.default.fileExists(atPath: place.path(path).path) }
    _ = try run(Workplace.train(images: "~/images", output: "~/run", ["--model", "$WHERE/m"]))
    #expect(exists("home/run/concept.safetensors") && !exists("~"))
    _ = try run(
      ["generate", "--prompt", "{toy}", "--steps", "1", "--concept", "toy=${WHERE}/run/concept.safetensors"]
        + ["--output", "$WHERE/out", "--model", "~/m"])
    #expect(exists("home/out"))
    for hub in ["~/hf", "$WHERE/hf"] {
      _ = try run(Workplace.generate("a cat", ["--model", "a/b"]), ["HF_HOME": hub])
    }
    try place.file(
      """
      log: {exp_name: y, exp_dir: ~/runs}
      data: {train_data_dir: $WHERE/images, placeholder_token: "<s>", super_category_token: monster}
      model: {pretrained_model_name_or_path: ~/m}
      optim: {max_train_steps: 1, gradient_accumulation_steps: 1}
      """, "home/train.yaml")
    _ = try run(["train", "--config_path", "~/train.yaml"])
    #expect(exists("home/runs/y/concept.safetensors"))
    // A run knows its images from where it lies, and goes on without the variables.
    let again = try place.run(["train", "--output", "home/runs/y", "--resume", "--steps", "2"])
    #expect(again.code == 0, "\(again.error)")
    for images in ["~/images", "$WHERE/images", "images"] {
      try place.file(
        #"{"images": "\#(images)", "token": "<s>", "category": "monster", "steps": 1}"#, "home/list.jsonl")
      _ = try run(["train", "--manifest", "~/list.jsonl", "--output", "$WHERE/list"])
    }
    #expect(exists("home/list/s/concept.safetensors"))
    try place.file(
      #"{"images": "$WHERE/../images", "token": "<s>", "category": "monster"}"#, "home/list.jsonl")
    let out = try CommandLineTool.run(
      ["train", "--manifest", "~/list.jsonl"], in: place.folder, environment: environment)
    #expect(out.code == 1 && out.error.contains("leads out of the manifest's folder"), "\(out.error)")
  }
}
