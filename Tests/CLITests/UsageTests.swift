import Foundation
import TestSupport
import Testing
import Torch

@Suite("The command line")
struct UsageTests {
  @Test("tells its own version, libtorch's and the devices")
  func version() throws {
    let r = try CommandLineTool.run(["--version"], in: Fixtures.repository)
    #expect(r.code == 0)
    #expect(r.output.contains("libtorch \(Runtime.version)") && r.output.contains("cpu"))
  }

  /// Command lines that are wrong by themselves, and what is said of each.
  private static let wrong: [(arguments: String, words: String)] = [
    ("paint", "there is no command “paint”; there are demo, studio"),
    ("help frob", "there is no command “frob”; there are demo, studio"), ("generate", "--prompt <prompt>"),
    ("genrate --prompt x", "there is no command “genrate”; did you mean generate?"),
    ("model gte x", "there is no command “gte”; did you mean get?"),
    ("generate --promt x", "did you mean --prompt instead of --promt?"),
    ("generate --prompt x --promt=x", "Did you mean '--prompt'?"),
    ("train --images x --token <x> --category x --step 3", "did you mean --steps instead of --step?"),
    ("train --optim.sed 3 --stps 3", "did you mean --steps instead of --stps?"),
    ("generate --prompt x --seed=-1", "whole numbers from 0 to \(Int.max), such as 0,1,2 or 0-3"),
    ("generate --prompt x --seed -1", "--seed -1: it must be whole numbers from 0 to"),
    ("generate --prompt x --image i --strength -0.1", "--strength -0.1: it must be a number from 0 to 1"),
    ("generate --prompt x --negative-prompt -x", "begins with a dash; write --negative-prompt=-x"),
    ("generate --prompt x --steps 1.5", "is invalid for '--steps <number>'; it must be a whole number"),
    ("generate --prompt x --guidance x", "it must be a number from 0 to 1000"),
    ("generate --prompt x --width x", "it must be a whole number of pixels"),
    ("generate --prompt x --concept c --truncation x", "whole numbers from 1 to 128"),
    ("generate --prompt x --concept c --regions x", "a number above 0 for each concept"),
    ("generate --prompt x --image i --strength x", "a number from 0 to 1"),
    ("train --peer-timeout x", "a number of seconds"), ("train --validate-every x", "number of steps"),
    ("convert a.pt b.safetensors --timestep x", "a number from 0 to 999"),
    ("studio --port 99999", "a whole number from 0 to 65535"),
    ("mix --geometry a --appearance b --prompt x --from 5,5", "different timesteps from 999 to 0, or never"),
    ("generate --prompt x --steps 0", "--steps 0: between 1 and 1000"),
    ("generate --prompt x --guidance -1", "--guidance -1: it must be a number from 0 to 1000"),
    ("generate --prompt x --guidance 1e9", "--guidance 1000000000.0: a number between 0 and 1000"),
    ("generate --prompt x --seed x", "--seed"), ("generate --prompt x --seed 3-1", "--seed"),
    ("generate --prompt x --scheduler heun", "--scheduler"),
    ("generate --prompt x --width 99999", "--width 99999: between 1 and"),
    ("generate --prompt x --height 0", "--height 0: between 1 and"),
    ("generate --prompt x --original-size 1024", "--original-size"),
    ("generate --prompt x --original-size 0x8", "a width and a height above 0, such as 1024x768"),
    ("generate --prompt x --crop 4", "--crop"),
    ("generate --prompt x --crop 4,-1", "two whole numbers from 0 on"),
    ("generate --prompt x --device tpu", "--device tpu: there are cpu, cuda, cuda:N and mps"),
    ("generate --prompt x --clip-skip 0", "--clip-skip 0: between 1 and"),
    ("generate --prompt x --threads 0", "--threads 0: between 1 and 1024"),
    ("generate --prompt x --lora a:200", "FILE:WEIGHT with a number between -100 and 100"),
    ("generate --prompt x --truncation 4", "--truncation needs a --concept"),
    ("generate --prompt x --concept c --truncation 129", "--truncation 129: it must be between 1 and 128"),
    ("generate --prompt x --concept c --truncation 0", "--truncation 0: it must be between 1 and 128"),
    ("generate --prompt x --layout free", "--layout free needs several concepts"),
    ("generate --prompt x --concept c --regions 2,1", "--regions needs several concepts side by side"),
    ("generate --prompt x --concept c --regions 2,0", "--regions"),
    ("generate --prompt x --concept a%b=c", "letters, digits, - and _"),
    ("generate --prompt x --mask m.png", "--mask needs an --image"),
    ("generate --prompt x --strength 0.5", "--strength needs an --image"),
    ("generate --prompt x --image i --strength 1.5", "--strength 1.5: a number between 0 and 1"),
    ("generate --prompt x --image i --width 64", "--width has no place beside --image"),
    ("mix --geometry a --appearance b --prompt x --from 1000", "--from"),
    (
      "mix --geometry a --appearance b --prompt x --truncation-geometry 0", "--truncation-geometry 0: it must"
    ),
    ("mix --geometry a --appearance b --prompt x --truncation-appearance 0", "--truncation-appearance 0: it"),
    ("decompose --concept c --prompt x --count 101", "--count 101: between 1 and 100 columns"),
    ("decompose --concept c --prompt x --count 2 --timesteps 5", "--count and --timesteps both say"),
    ("decompose --concept c --prompt x --category {}", "--category “{}”: write one word for what it is"),
    ("decompose --concept c --prompt x --timesteps 1000", "--timesteps 1000: the timestep 1000 is outside"),
    ("decompose --concept c --prompt x --timesteps a", "write whole numbers, such as 900,500,100"),
    ("decompose --concept c --prompt x --timesteps 5,5", "--timesteps 5,5: 5 is given twice"),
    ("decompose --concept c --prompt x --timesteps 5,9", "write the larger first"),
    ("decompose --concept c --prompt x --view windows --timesteps 1", "windows are written 999-700,699-0"),
    ("decompose --concept c --prompt x --view windows --timesteps 1-9", "from noise to image; write 9-1"),
    ("decompose --concept c --prompt x --view windows --timesteps 9-1,3-0", "9-1 and 3-0 overlap"),
    ("convert a.pt b.pt", "b.pt: name a .safetensors file, or a folder ending in /"),
    ("convert a.pt b.safetensors --format authors", "--format authors writes two files"),
    ("convert a.pt b/ --format neti", "b/: --format neti writes one file"),
    ("convert a.pt b.safetensors --timestep 5", "--timestep and --layer are for embeddings"),
    ("export a.safetensors --for diffusers --thumbnail t.png", "--thumbnail is for --for comfyui"),
    ("evaluate --concept c --output o --seeds 0", "--seeds 0: between 1 and 1000"),
    ("evaluate --concept c --output o --model m", "--model needs a --clip"),
    ("evaluate --concept c --output o --shard 3/2", "the first number is from 1 to the second"),
    ("demo --steps 0", "--steps 0: at least 1"),
    ("train --images x --token <x>", "--category is missing"), ("train --token <x>", "--images is missing"),
    ("train --images x", "--token is missing"),
    ("train --resume", "--resume needs the run's folder: --output"),
    ("train --images x --token <x> --category x --steps 0", "--steps 0: at least 1"),
    ("train --images x --token <x> --category x --seed -1", "--seed"),
    (
      "train --images x --token <x> --category x --steps 3 --optim.max_train_steps 4",
      "--steps and --optim.max_train_steps 4 are both given; leave one of them out"
    ),
    (
      "train --images x --token <x> --category x --precision fp32 --optim.mixed_precision bf16",
      "--precision fp32 and --optim.mixed_precision bf16 are both given"
    ),
    ("train --images x --token <x> --category x --steps -1", "--steps -1: it must be a whole number above 0"),
    ("train --masks= --images x --token <x> --category x", "--masks"),
    ("convert a.pt b.safetensors --token {}", "--token “{}”: one word, without spaces and braces"),
    ("generate --prompt x --steps 1 --steps -3", "--steps -3: it must be a whole number above 0"),
    ("train --images x --token <x> --category x --vectors 17", "--vectors 17: from 1 to 16"),
    ("train --images x --token <x> --category x --validate-every 0", "--validate-every 0: at least 1"),
    ("train --images x --token <x> --category x --peer-timeout 0", "--peer-timeout 0.0: from 1 to"),
    ("train --images x --token <x> --category x word", "unexpected argument word; settings look like"),
    (
      "train --images x --token <x> --category x --train_batch_size 2",
      "unexpected argument --train_batch_size; did you mean --optim.train_batch_size?"
    ),
    ("train --max_train_steps=9 --images x", "did you mean --optim.max_train_steps?"),
    ("train --learning-rate 1e-3", "did you mean --optim.learning_rate?"),
    ("train --train_data_dir x", "unexpected argument --train_data_dir; did you mean --images?"),
    ("train --images x --token <x> --category x --shard 1/2", "--shard 1/2: a part of what?"),
    ("train --manifest m --masks x", "--masks stands in the manifest"),
    ("train --manifest m --resume", "--resume: a manifest always goes on"),
    ("train --manifest m --log.exp_name x", "--log.exp_name: with --manifest, --output is the folder"),
    ("train --manifest m --shard x", "write 2/8 for the second of eight, or auto"),
    ("train --manifest m --shard auto", "neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set"),
  ]

  @Test("answers wrong usage with exit code 64 and a line that says what, and changes nothing")
  func usage() throws {
    let place = try Workplace()
    for (line, words) in Self.wrong {
      let arguments = line.split(separator: " ").map(String.init)
      let r = try place.run(arguments)
      #expect(r.code == 64 && r.output.isEmpty, "\(line): \(r.error)")
      let said = r.error.split(separator: "\n").first { $0.hasPrefix("Error: ") } ?? ""
      #expect(said.contains(words), "\(line): \(r.error)")
    }
    #expect(try place.contents().isEmpty)
  }

  @Test("knows the model that comes with it by its name, and generates once what is asked for twice")
  func miniSD() throws {
    let place = try Workplace()
    let image = place.path("out/a-mug-s0.png")
    #expect(try place.run(Workplace.generate("a mug", ["--model", "mini-sd"])).code == 0)
    let named = try Data(contentsOf: image)
    try FileManager.default.removeItem(at: place.path("out"))
    let twice = try place.run(
      Workplace.generate("a mug", ["--prompt", "a mug", "--steps", "1", "--threads", "1"]))
    #expect(
      twice.error.contains("--steps, --threads are given several times; the last ones count"),
      "\(twice.error)")
    #expect(twice.code == 0 && twice.error.contains("given twice is generated once"), "\(twice.error)")
    #expect(try Data(contentsOf: image) == named)
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path("out").path).count == 1)
    try place.expectFailure(
      ["generate", "--prompt", "a mug", "--output", ""], ["--output is empty; name a file"], code: 64)
    try place.expectFailure(
      ["generate", "--prompt", "a mug", "--output= "], ["--output is empty; name a file"], code: 64)
    try place.expectFailure(
      ["generate", "--prompt", "a mug", "--negative-prompt", "", "--output", ""], ["--output is empty"],
      code: 64)
    try place.expectFailure(["inspect", "--json", ""], ["a path on the command line is empty"], code: 64)
    try place.expectFailure(["inspect", ""], ["a path on the command line is empty"], code: 64)
    try place.expectFailure(
      ["convert", "a.pt", ""],
      ["the output's path is empty: name a .safetensors file, or a folder ending in / for the authors'"],
      code: 64)
    try place.expectFailure(
      ["train", "--images", "x", "--token", "<x>", "--category", "x", "--masks", ""],
      ["--masks is empty: name a folder, or leave it out"], code: 64)
    try place.expectFailure(
      ["demo", "--example", "../cat"], ["--example “../cat”: there are cottage, dotbot, ginger"], code: 64)
  }

  @Test("refuses a dotted setting as it refuses a flag, and an empty one is no null")
  func dotted() throws {
    let place = try Workplace()
    try place.images()
    for (more, words) in [
      (["--optim.learning_rate", "-1"], "--optim.learning_rate is -1.0; it must be a number above 0"),
      (["--optim.learning_rate", "x"], "--optim.learning_rate must be a number, not “x”"),
      (["--optim.learning_rat", "1"], "did you mean optim.learning_rate?"),
      (["--optim.max-steps", "1"], "unknown key “optim.max-steps”"),
      (["--data.masks_dir", ""], "data.masks_dir is empty: leave it out to train without masks"),
      (["--model.pretrained_model_name_or_path="], "is empty: leave it out for the embedded model"),
      (["--model.prediction_type", " "], "--model.prediction_type must be one of epsilon"),
      (["--eval.validation_prompts", ""], "eval.validation_prompts is empty; it must be"),
      (["--category", ""], "--category is empty: name the concept's category"),
      (
        ["--eval.validation_seeds", "1,2,3"],
        "--eval.validation_seeds must be null or a list, each entry a whole number, not “1,2,3”; write '[1,2,3]'"
      ),
      (
        ["--eval.validation_seeds", "[1, x, 3]"],
        "--eval.validation_seeds must be null or a list, each entry a whole number, not “x”"
      ),
      (
        ["--optim.seed", "3", "--train_batch_size", "2"],
        "“--train_batch_size” is no option; did you mean --optim.train_batch_size?"
      ),
    ] {
      try place.expectFailure(Workplace.train(steps: 1) + more, [words], code: 64)
    }
  }

  @Test("takes the text of a flag as it stands, and a dotted setting as YAML")
  func literal() throws {
    let place = try Workplace()
    let images = try place.images()
    try FileManager.default.moveItem(at: images, to: place.path("null"))
    let (token, output) = ("<toy>", "runs/~")
    for more in [[], ["--resume", "--steps", "2"]] {
      let arguments = Workplace.train(images: "null", token: token, category: "null", output: output, more)
      let result = try place.run(arguments)
      #expect(result.code == 0 && result.error.contains("learning <toy> from 1 image"), "\(result.error)")
    }
    try place.expectFailure(
      Workplace.train(images: "null", token: "~"), ["“~” is already a word of the vocabulary"])
    try place.expectFailure(
      Workplace.train(images: "null", ["--masks", "null"]), ["null is the folder of the images"])
    try place.expectFailure(
      Workplace.train(images: "null", output: "/dev/null"),
      ["/dev/null is a file; name a folder with --output"])
    try place.file("", "empty.yaml")
    try place.expectFailure(
      ["train", "--config_path", "empty.yaml", "--data.placeholder_token", "null"],
      ["--data.placeholder_token must be text, not “null”"], code: 64)
    try place.file(
      #"{"images": "null", "token": "<null>", "category": "monster", "steps": 1}"#, "list.jsonl")
    let many = try place.run(["train", "--manifest", "list.jsonl", "--output", "many"] + Workplace.quickly)
    #expect(many.code == 0, "\(many.error)")
    #expect(FileManager.default.fileExists(atPath: place.path("many/null/concept.safetensors").path))
  }

  /// Each option with two values that are wrong for different reasons: by itself, and for the model or the concept.
  private static let options: [(name: String, line: [String], values: [String])] = [
    ("--clip-skip", ["generate", "--prompt", "x"], ["0", "9"]),
    ("--width", ["generate", "--prompt", "x"], ["0", "63"]),
    ("--height", ["generate", "--prompt", "x"], ["0", "63"]),
    ("--original-size", ["generate", "--prompt", "x"], ["0x8", "8x8"]),
    ("--crop", ["generate", "--prompt", "x"], ["x", "8,8"]),
    ("--truncation", ["generate", "--prompt", "a {}", "--concept", "c.safetensors"], ["0", "8"]),
    ("--prompt", ["generate", "--concept", "c.safetensors"], ["no braces", "{} {}"]),
    (
      "--layers", ["mix", "--geometry", "c.safetensors", "--appearance", "c.safetensors", "--prompt", "{}"],
      ["", "x"]
    ),
    (
      "--timestep", ["convert", "c.safetensors", "d.safetensors", "--format", "diffusers"],
      ["x", "5", "1000"]
    ),
    ("--layer", ["convert", "c.safetensors", "d.safetensors", "--format", "diffusers"], ["x", "IN99"]),
    ("--token", ["train", "--images", "images", "--category", "mug"], ["", "two words"]),
    (
      "--optim.seed", ["train", "--images", "images", "--category", "mug", "--token", "<x>"], ["x", "-1", ""]
    ),
    (
      "--validation-prompt", ["train", "--images", "images", "--category", "mug", "--token", "<x>"],
      ["x", "{} {}"]
    ),
  ]

  @Test("ends with the same exit code for an option that is wrong by itself, and for one that is wrong here")
  func exitCodes() throws {
    let place = try Workplace()
    try place.images()
    try place.concept("ti")
    try FileManager.default.moveItem(at: place.path("concept.safetensors"), to: place.path("c.safetensors"))
    for option in Self.options {
      for value in option.values {
        let result = try place.run(option.line + [option.name, value])
        #expect(result.code == 64, "\(option.name) \(value): \(result.error)")
      }
    }
    try place.expectFailure(
      ["inspect", "c.safetensors", "--plot", "plot.jpg"],
      ["--plot plot.jpg: the plot is a PNG; its name must end in .png"], code: 64)
  }

  #if os(Linux)
    @Test("refuses a word that is not UTF-8, and says which")
    func notUTF8() throws {
      let place = try Workplace()
      let result = try CommandLineTool.run(
        ["generate", "--prompt"], in: place.folder, setup: "",
        redirect: #""$(printf 'a caf\351 {}')" --steps 1"#)
      #expect(result.code == 64 && result.output.isEmpty)
      #expect(
        result.error.contains(
          "Error: word 3 of the command line, “a caf… {}”, is not UTF-8; write it in UTF-8\n"),
        "\(result.error)")
      #expect(try place.contents().isEmpty)
    }
  #endif

  @Test("what a command finds wrong only as it runs names that command's help")
  func help() throws {
    let place = try Workplace()
    let late = try place.run([
      "train", "--images", "x", "--token", "<x>", "--category", "x", "--steps", "3",
      "--optim.max_train_steps", "4",
    ])
    #expect(late.error.contains("\n  See 'neti train --help' for more information."), "\(late.error)")
    #expect(!late.error.contains("Usage:"), "\(late.error)")
    let frob = try place.run(["help", "model", "gte"])
    #expect(frob.code == 64 && frob.error.contains("there is no command “gte”; did you mean get?"))
    #expect(try place.run(["help", "model", "get"]).code == 0)
  }

  @Test(
    "no example of a command's help is broken by its width",
    arguments: [
      "demo", "train", "generate", "mix", "decompose", "inspect", "convert", "export", "evaluate", "model",
    ])
  func examples(_ command: String) throws {
    let help = try CommandLineTool.run(["help", command], in: Fixtures.repository).output
    let lines = help.split(separator: "\n", omittingEmptySubsequences: false)
    for (line, next) in zip(lines, lines.dropFirst())
    where line.hasPrefix("  neti ") || line.hasPrefix("  {") {
      #expect(next.isEmpty || next.hasPrefix("  "), "\(line)\n\(next)")
    }
    // A line that its text breaks is broken once more by the width, and leaves a word or two by themselves.
    for (line, (word, next)) in zip(lines, zip(lines.dropFirst(), lines.dropFirst(2)))
    where line.count > 60 && !line.hasPrefix("  ") && !word.isEmpty && !word.hasPrefix("  ") {
      #expect(word.count > 40 || next.isEmpty, "\(line)\n\(word)")
    }
  }

  @Test("shows a bar on a terminal that leaves no empty line")
  func terminal() throws {
    let place = try Workplace()
    try place.images()
    let inTerminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]) >> 8)"
    for arguments in [Workplace.train(steps: 2), Workplace.generate("a mug")] {
      let shown = try RunningTool(
        URL(filePath: "/usr/bin/env"),
        ["python3", "-c", inTerminal, CommandLineTool.executable.path] + arguments,
        in: place.folder
      ).wait()
      #expect(shown.code == 0, "\(shown.output)")
      #expect(shown.output.contains("█ \(arguments[0] == "train" ? "2/2" : "1/1")"), "\(shown.output)")
      // What train says at its end has an empty line before it.
      let most = arguments[0] == "train" ? "\r\n\r\n" : "\r\n"
      #expect(!shown.output.contains(most + "\r\n"), "\(shown.output)")
    }
  }

  @Test("says why there is no CUDA device", .enabled(if: !Device.cuda(0).isAvailable))
  func cuda() throws {
    for (device, more, words) in [
      ("cuda", [], "--device cuda: not available here ("), ("cuda:x", [], "there are cpu, cuda, cuda:N"),
      ("cpu", ["--precision", "tf32"], "only CUDA knows it"),
    ] {
      let r = try CommandLineTool.run(
        ["generate", "--prompt", "a cat", "--device", device] + more, in: Fixtures.repository)
      #expect(r.code == 64 && r.error.contains(words), "\(r.error)")
    }
  }

  @Test("the script of a check out says that a build failed, and leaves nothing of it")
  func failedBuild() throws {
    let place = try Workplace()
    try FileManager.default.copyItem(
      at: Fixtures.repository.appending(path: "neti"), to: place.path("neti"))
    try place.file("", "scripts/setup.py")
    let swift = try place.file("#!/bin/sh\nexit 1\n", "bin/swift").path
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: swift)
    let path = ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin:/bin"
    let r = try RunningTool(
      URL(filePath: "/bin/sh"), ["neti", "--version"], in: place.folder,
      environment: ["PATH": "\(place.path("bin").path):\(path)"]
    ).wait()
    #expect(r.code == 1 && r.error.contains("neti: the build failed"), "\(r.error)")
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path(".build").path).isEmpty)
  }
}
