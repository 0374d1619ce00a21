import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite("Models from the Hub")
struct ModelCommandTests {
  /// mini-sd, and what neti must leave where it is.
  private static func files(_ more: [String: Data] = [:], without: Set<String> = []) throws -> [String: Data]
  {
    var files: [String: Data] = [
      "README.md": Data("# mini".utf8), "v1.ckpt": Data("pickle".utf8),
      "safety_checker/config.json": Data("{}".utf8),
      "safety_checker/model.safetensors": Data("checker".utf8),
      "unet/diffusion_pytorch_model.bin": Data("pickle".utf8),
      "vae/diffusion_pytorch_model.fp16.safetensors": Data("half".utf8),
    ]
    for path in try FileManager.default.subpathsOfDirectory(atPath: Fixtures.miniSD.path) {
      let url = Fixtures.miniSD.appending(path: path)
      if !url.hasDirectoryPath, let data = try? Data(contentsOf: url) { files[path] = data }
    }
    return files.merging(more) { $1 }.filter { !without.contains($0.key) }
  }

  static let needed: Set<String> = [
    "model_defaults.json", "model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json",
    "text_encoder/model.safetensors", "tokenizer/merges.txt", "tokenizer/special_tokens_map.json",
    "tokenizer/tokenizer_config.json", "tokenizer/vocab.json", "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors",
  ]
  private static let weights = "unet/diffusion_pytorch_model.safetensors"

  let place: Workplace

  init() throws { place = try Workplace() }

  func start(_ hub: LoopbackHub, _ arguments: [String], _ more: [String: String] = [:]) throws
    -> RunningTool
  {
    try RunningTool(
      CommandLineTool.executable, arguments, in: place.folder,
      environment: hub.environment(place.path("home")).merging(more) { $1 })
  }

  func run(_ hub: LoopbackHub, _ arguments: [String], _ more: [String: String] = [:]) throws
    -> CommandLineTool.Result
  { try start(hub, arguments, more).wait() }

  func snapshot(_ hub: LoopbackHub) -> URL {
    place.path("home/hub/models--org--mini/snapshots/\(hub.commit)")
  }

  /// Whether everything that is needed is there, byte for byte, and no more.
  func isRight(_ hub: LoopbackHub, _ needed: Set<String> = Self.needed) throws -> Bool {
    let paths = try FileManager.default.subpathsOfDirectory(atPath: snapshot(hub).path).filter {
      hub.files[$0] != nil
    }
    let blobs = try FileManager.default.contentsOfDirectory(
      atPath: place.path("home/hub/models--org--mini/blobs").path)
    return Set(paths) == needed && Set(blobs) == Set(needed.compactMap { hub.files[$0]?.blobName })
      && paths.allSatisfy {
        (try? Data(contentsOf: snapshot(hub).appending(path: $0))) == hub.files[$0]?.data
      }
  }

  @Test("are fetched with --download, and not without it where nobody can be asked")
  func download() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    let line = Workplace.generate("a cat", ["--model", "org/mini"])
    let refused = try run(hub, line)
    #expect(refused.code == 1 && hub.requests.isEmpty)
    #expect(
      Workplace.failure(in: refused.error).contains(
        "Add --download, or fetch it with: neti model get org/mini"))
    let made = try run(hub, line + ["--download"])
    #expect(made.code == 0, "\(made.error)")
    #expect(try isRight(hub))
    #expect(made.error.contains("to fetch from 127.0.0.1:"))
    // What is here is opened without the network.
    hub.change { _, reply in reply }
    #expect(try run(hub, line + ["--download"]).code == 0)
    #expect(try run(hub, line, ["HF_HUB_OFFLINE": "1"]).code == 0)
    #expect(hub.requests.isEmpty)
  }

  /// Runs a command on a terminal, on which `answer` is typed.
  private func ask(_ hub: LoopbackHub, _ arguments: [String], _ answer: String) throws -> (
    code: Int32, shown: String
  ) {
    let program = "import os, pty, sys; sys.exit(os.WEXITSTATUS(pty.spawn(sys.argv[1:])))"
    let script = #"answer=$1; program=$2; shift 2; echo "$answer" | python3 -c "$program" "$@""#
    let words = ["-c", script, "sh", answer, program, CommandLineTool.executable.path] + arguments
    let result = try RunningTool(
      URL(filePath: "/bin/sh"), words, in: place.folder, environment: hub.environment(place.path("home"))
    ).wait()
    return (result.code, result.output)
  }

  @Test("are fetched after a question that names their size and the room, and not after a no")
  func question() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    let command = Workplace.generate("a cat", ["--model", "org/mini"])
    let no = try ask(hub, command, "n")
    #expect(no.code == 1)
    #expect(
      no.shown.contains(
        /Download [0-9.]+ MB of org\/mini from 127.0.0.1:[0-9]+ into .*hub, where [0-9.]+ [MGT]B are free\? \[y\/N\]/
      ), "\(no.shown)")
    #expect(no.shown.contains("it is not in the local Hugging Face cache"))
    #expect(!FileManager.default.fileExists(atPath: place.path("home/hub/models--org--mini").path))
    let yes = try ask(hub, command, "y")
    #expect(yes.code == 0, "\(yes.shown)")
    #expect(try isRight(hub))
    // A path with an error is no model's name, and there is nothing to ask.
    let typo = try ask(hub, Workplace.generate("a cat", ["--model", "modles/mini"]), "y")
    #expect(typo.code == 1 && !typo.shown.contains("[y/N]"))
    #expect(
      typo.shown.contains(/model modles\/mini: there is no such folder, and 127.0.0.1:[0-9]+ has no model/),
      "\(typo.shown)")
  }

  @Test("that are damaged in the cache are named and fetched again with --verify, and only those")
  func verify() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    #expect(try run(hub, ["model", "get", "org/mini"]).code == 0)
    let store = hub.store.port
    func fetched() -> Int { hub.requests.count { $0.port == store } }
    let before = fetched()
    let sound = try run(hub, ["model", "get", "org/mini", "--verify"])
    #expect(
      sound.code == 0 && sound.error.contains("what is here of org/mini is what 127.0.0.1"), "\(sound.error)")
    #expect(fetched() == before)
    func blob(_ path: String) throws -> URL {
      place.path("home/hub/models--org--mini/blobs/\(try #require(hub.files[path]).blobName)")
    }
    var weights = try Data(contentsOf: blob(Self.weights))
    weights[weights.count / 2] ^= 1
    try weights.write(to: blob(Self.weights))
    try Data("{}".utf8).write(to: blob("unet/config.json"))
    // As long as it should be, it is taken for what it is called.
    #expect(try run(hub, ["model", "get", "org/mini"]).code == 0)
    #expect(try !isRight(hub))
    try Data("{}".utf8).write(to: blob("unet/config.json"))
    let mended = try run(hub, ["model", "get", "org/mini", "--verify"])
    #expect(mended.code == 0, "\(mended.error)")
    for path in [Self.weights, "unet/config.json"] {
      #expect(mended.error.contains("“\(path)” is damaged, and is fetched again"), "\(mended.error)")
    }
    #expect(mended.error.matches(of: /is damaged/).count == 2)
    #expect(try isRight(hub) && fetched() == before + 1)
  }

  @Test(
    "have all that is here of the revision checked with --verify, also what another program or variant needs")
  func verifyAll() throws {
    let other = "safety_checker/pytorch_model.bin"
    let hub = try LoopbackHub("org/mini", Self.files([other: Data("a pickle".utf8)]))
    let nothing = try run(hub, ["model", "get", "org/mini", "--verify"])
    #expect(nothing.code == 0 && nothing.error.contains("there is nothing of org/mini here to check"))
    #expect(try run(hub, ["model", "get", "org/mini", "--variant", "fp16"]).code == 0)
    let half = "vae/diffusion_pytorch_model.fp16.safetensors"
    func blob(_ path: String) throws -> URL {
      place.path("home/hub/models--org--mini/blobs/\(try #require(hub.files[path]).blobName)")
    }
    // As diffusers would have fetched it.
    try Data("a pickle".utf8).write(to: blob(other))
    let all = Self.needed.union([half, other])
    let sound = try run(hub, ["model", "get", "org/mini", "--verify"])
    #expect(
      sound.code == 0
        && sound.error.contains("checking all that is here of org/mini, \(all.count) files of "),
      "\(sound.error)")
    for path in [half, other] {
      var data = try Data(contentsOf: blob(path))
      data[0] ^= 1
      try data.write(to: blob(path))
    }
    let mended = try run(hub, ["model", "get", "org/mini", "--verify"])
    #expect(mended.code == 0, "\(mended.error)")
    for path in [half, other] {
      #expect(mended.error.contains("“\(path)” is damaged, and is fetched again"), "\(mended.error)")
      #expect(try Data(contentsOf: blob(path)) == hub.files[path]?.data)
    }
    #expect(mended.error.matches(of: /is damaged/).count == 2)
  }

  @Test(
    "that may not be read are named with --verify", .enabled(if: Surroundings.obeyingPermissions != nil))
  func permission() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    #expect(try run(hub, ["model", "get", "org/mini"]).code == 0)
    let name = try #require(hub.files["unet/config.json"]).blobName
    let blob = place.path("home/hub/models--org--mini/blobs/\(name)").path
    try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: blob)
    let settings = hub.environment(place.path("home")).map { "export \($0)='\($1)'" }.joined(separator: "\n")
    let result = try CommandLineTool.run(
      ["model", "get", "org/mini", "--verify"], in: place.folder,
      setup: "\(settings)\n\(Surroundings.obeyingPermissions ?? "")")
    let says = "neti: cannot read \(blob): Permission denied; check its permissions"
    #expect(result.code == 1 && Workplace.failure(in: result.error) == says, "\(result.error)")
  }

  @Test("with a damaged index of shards have it named and fetched again, with --verify and without")
  func damagedIndex() throws {
    let index =
      #"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#
    let path = "unet/diffusion_pytorch_model.safetensors.index.json"
    let shards = ["unet/model-00001-of-00002.safetensors", "unet/model-00002-of-00002.safetensors"]
    let hub = try LoopbackHub(
      "org/mini",
      Self.files(
        [path: Data(index.utf8), shards[0]: Data("one".utf8), shards[1]: Data("two".utf8)],
        without: [Self.weights]))
    let all = Self.needed.subtracting([Self.weights]).union([path]).union(shards)
    #expect(try run(hub, ["model", "get", "org/mini"]).code == 0)
    func blob(_ path: String) throws -> URL {
      place.path("home/hub/models--org--mini/blobs/\(try #require(hub.files[path]).blobName)")
    }
    // As long as it should be: broken JSON, and JSON that names another shard.
    let broken = Data(repeating: 0, count: index.utf8.count)
    let other = Data(index.replacing("00002-of-00002", with: "00003-of-00002").utf8)
    for (data, more) in [(broken, ["--verify"]), (other, ["--verify"]), (broken, []), (other, [])] {
      try data.write(to: blob(path))
      let mended = try run(hub, ["model", "get", "org/mini"] + more)
      #expect(mended.code == 0, "\(mended.error)")
      #expect(mended.error.contains("“\(path)” is damaged, and is fetched again"), "\(mended.error)")
      #expect(mended.error.matches(of: /is damaged/).count == 1)
      #expect(try isRight(hub, all))
    }
  }

  @Test("are listed and removed")
  func listAndRemove() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    #expect(try run(hub, ["model", "list"]).error.contains("there is no model in"))
    let got = try run(hub, ["model", "get", "org/mini"])
    #expect(got.code == 0 && got.output.contains("org/mini is here: "), "\(got.error)")
    let list = try run(hub, ["model", "list"]).output
    #expect(list.contains("org/mini  main") && list.contains("  complete"), "\(list)")
    try FileManager.default.removeItem(at: snapshot(hub).appending(path: Self.weights))
    #expect(try run(hub, ["model", "list"]).output.contains("not complete"))
    let asked = try run(hub, ["model", "remove", "org/mini"])
    #expect(
      asked.code == 1
        && asked.error
          == "neti: org/mini is removed with --yes, or when a question on the terminal is answered\n",
      "\(asked.error)")
    let removed = try run(hub, ["model", "remove", "org/mini", "--yes"])
    #expect(removed.code == 0 && removed.output.contains("became free"), "\(removed.error)")
    #expect(try run(hub, ["model", "list", "--json"]).output == "[\n\n]\n")
    #expect(try run(hub, ["model", "remove", "org/mini", "--yes"]).code == 1)
    for name in ["../x", "a/b/c", "", "org/mini@../x"] {
      for command in [["get", name], ["remove", name, "--yes"]] {
        let result = try run(hub, ["model"] + command)
        #expect(result.code == 1 && result.error.contains("is no name on the Hub"), "\(result.error)")
      }
    }
  }

  @Test("that are killed again and again while they come are right in the end")
  func killed() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    let store = hub.store.port
    hub.change { request, reply in
      var reply = reply
      if request.port == store { reply.pause = 4 }
      return reply
    }
    var random = SplitMix64(seed: 11)
    var kills = 0
    for _ in 0..<12 {
      let before = hub.requests.count
      let tool = try start(hub, ["model", "get", "org/mini"])
      // A loaded machine takes long to start it.
      while tool.isRunning, hub.requests.count == before { usleep(1000) }
      let deadline = ContinuousClock.now + .milliseconds(Int.random(in: 30...700, using: &random))
      while tool.isRunning, ContinuousClock.now < deadline { usleep(1000) }
      tool.send(SIGKILL)
      if tool.wait().killed { kills += 1 }
      // Whatever has a blob's name is that blob.
      let blobs = place.path("home/hub/models--org--mini/blobs")
      for name in (try? FileManager.default.contentsOfDirectory(atPath: blobs.path)) ?? []
      where !name.hasSuffix(".incomplete") {
        let data = try Data(contentsOf: blobs.appending(path: name))
        #expect(hub.files.values.contains { $0.blobName == name && $0.data == data }, "\(name)")
      }
    }
    #expect(kills >= 4)
    let result = try run(hub, ["model", "get", "org/mini"])
    #expect(result.code == 0, "\(result.error)")
    #expect(try isRight(hub))
    #expect(hub.requests.contains { $0.headers["range"] != nil })
  }

  @Test("two processes fetch once, and the one that waits says so in one line")
  func together() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    let store = hub.store.port
    hub.change { request, reply in
      var reply = reply
      if request.port == store { reply.pause = 10 }
      return reply
    }
    let tools = try (0..<2).map { _ in try start(hub, ["model", "get", "org/mini"]) }
    let results = tools.map { $0.wait() }
    #expect(results.allSatisfy { $0.code == 0 }, "\(results)")
    #expect(try isRight(hub))
    let lines = results.map { $0.error.components(separatedBy: "another process fetches the same").count - 1 }
    #expect(lines.allSatisfy { $0 <= 1 } && lines.reduce(0, +) >= 1, "\(results)")
    let fetched = hub.requests.filter { $0.port == store }.map(\.path)
    #expect(fetched.count == Set(fetched).count && fetched.count == 3)
  }

  @Test("a disk that becomes full is said, and what came stays")
  func fullDisk() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    let settings = hub.environment(place.path("home")).map { "export \($0)='\($1)'" }.joined(separator: "\n")
    let result = try CommandLineTool.run(
      ["model", "get", "org/mini"], in: place.folder, setup: "\(settings)\nulimit -f 600")
    #expect(result.code == 1 && !result.killed, "\(result.error)")
    #expect(Workplace.failure(in: result.error).contains("cannot write"), "\(result.error)")
    #expect(result.error.contains("the same command goes on"))
    #expect(try run(hub, ["model", "get", "org/mini"]).code == 0)
    #expect(try isRight(hub) && hub.requests.contains { $0.headers["range"] != nil })
  }

  @Test("shards come by their index, and only those")
  func shards() throws {
    let index =
      #"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#
    let path = "unet/diffusion_pytorch_model.safetensors.index.json"
    let shards = ["unet/model-00001-of-00002.safetensors", "unet/model-00002-of-00002.safetensors"]
    let more = [
      path: Data(index.utf8), shards[0]: Data("one".utf8), shards[1]: Data("two".utf8),
      "unet/model-00003-of-00002.safetensors": Data("three".utf8),
    ]
    let hub = try LoopbackHub("org/mini", Self.files(more, without: [Self.weights]))
    let result = try run(hub, ["model", "get", "org/mini"])
    #expect(result.code == 0, "\(result.error)")
    #expect(try isRight(hub, Self.needed.subtracting([Self.weights]).union([path]).union(shards)))
    let bad = try LoopbackHub(
      "org/mini",
      Self.files(
        [path: Data(#"{"weight_map": {"a": "../../x.safetensors"}}"#.utf8)], without: [Self.weights]),
      commit: String(repeating: "d", count: 40))
    #expect(try run(bad, ["model", "get", "org/mini"]).error.contains("is no name of a safetensors file"))
    let short = try LoopbackHub(
      "org/mini", Self.files([path: Data(index.utf8), shards[0]: Data("one".utf8)], without: [Self.weights]),
      commit: String(repeating: "e", count: 40))
    let lacking = try run(short, ["model", "get", "org/mini"])
    let lost = "“\(shards[1])”, which the repository has not; try another revision"
    #expect(
      Workplace.failure(in: lacking.error) == "neti: org/mini: \(path) names \(lost)", "\(lacking.error)")
    hub.change { request, reply in
      guard request.path.contains("/tree/") else { return nil }
      let size = "\"size\": \(index.utf8.count), \"path\": \"\(path)\""
      let list = String(decoding: reply.body, as: UTF8.self)
      return .init(json: list.replacing(size, with: "\"size\": 90000000, \"path\": \"\(path)\""))
    }
    let large = try run(hub, ["model", "get", "org/mini"])
    let most = "is said to have 90 MB, which no index has; the Hub or its mirror is at fault"
    #expect(Workplace.failure(in: large.error).contains("the index “\(path)” \(most)"), "\(large.error)")
  }

  @Test("of SDXL come with both text encoders, are opened offline, and what is lost of them comes again")
  func stableDiffusionXL() throws {
    let root = place.path("source")
    try RandomModel("sdxl").writeFolder(root)
    var files: [String: Data] = [:]
    for path in try FileManager.default.subpathsOfDirectory(atPath: root.path) {
      if let data = FileManager.default.contents(atPath: root.appending(path: path).path) {
        files[path] = data
      }
    }
    let all = Set(files.keys)
    #expect(all.count == 18)
    for other in [
      "sd_xl_base_1.0.safetensors", "text_encoder_2/model.fp16.safetensors",
      "text_encoder_2/openvino_model.bin",
      "unet/model.onnx", "vae_1_0/config.json", "vae_1_0/diffusion_pytorch_model.safetensors",
      "vae_decoder/model.onnx",
    ] {
      files[other] = Data(other.utf8)
    }
    let hub = try LoopbackHub("org/mini", files)
    let got = try run(hub, ["model", "get", "org/mini"])
    #expect(got.code == 0, "\(got.error)")
    #expect(try isRight(hub, all))
    hub.change { _, reply in reply }
    let line = Workplace.generate("a cat", ["--model", "org/mini", "--width", "64", "--height", "64"])
    let made = try run(hub, line, ["HF_HUB_OFFLINE": "1"])
    #expect(made.code == 0 && hub.requests.isEmpty, "\(made.error)")
    #expect(try run(hub, ["model", "list"]).output.contains("  complete"))
    let second = "text_encoder_2/model.safetensors"
    try FileManager.default.removeItem(
      at: place.path("home/hub/models--org--mini/blobs/\(try #require(hub.files[second]).blobName)"))
    try FileManager.default.removeItem(at: snapshot(hub).appending(path: second))
    #expect(try run(hub, ["model", "list"]).output.contains("not complete"))
    hub.change { _, reply in reply }
    let again = try run(hub, line + ["--download"])
    #expect(again.code == 0, "\(again.error)")
    let store = hub.store.port
    #expect(try isRight(hub, all) && hub.requests.count { $0.port == store } == 1)
  }

  @Test("show on a terminal how much has come, how fast, and the time that is left")
  func progress() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    let store = hub.store.port
    hub.change { request, reply in
      var reply = reply
      if request.port == store { reply.pause = 30 }
      return reply
    }
    let (code, shown) = try ask(hub, ["model", "get", "org/mini"], "")
    #expect(code == 0, "\(shown)")
    let total = try Self.needed.reduce(0) { $0 + (try #require(hub.files[$1]).data.count) }
    let bars = shown.matches(
      of:
        /\r\x{1B}\[Korg\/mini [█░]{24} ([0-9]+)\/([0-9]+)  [0-9]+\.[0-9] (?:MB\/s|s\/MB)  ([0-9]+):([0-9]{2}) left/
    )
    #expect(bars.count > 3, "\(shown)")
    let done = bars.compactMap { Int($0.output.1) }
    #expect(done == done.sorted() && done.first != done.last, "\(done)")
    #expect(bars.allSatisfy { Int($0.output.2) == (total + 500_000) / 1_000_000 })
    let left = bars.compactMap { bar in
      Int(bar.output.3).flatMap { m in Int(bar.output.4).map { 60 * m + $0 } }
    }
    // The whole takes at least the server's pauses.
    #expect((left.max() ?? 0) > 0 && left.last == 0, "\(left)")
    #expect(done.last == (total + 500_000) / 1_000_000)
  }

  @Test("come in the variant that is asked for, and it is said when other weights are used instead")
  func variant() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    let half = "vae/diffusion_pytorch_model.fp16.safetensors"
    let fetched = try run(hub, ["model", "get", "org/mini", "--variant", "fp16"])
    #expect(fetched.code == 0 && !fetched.error.contains("warning"), "\(fetched.error)")
    #expect(
      try isRight(hub, Self.needed.subtracting(["vae/diffusion_pytorch_model.safetensors"]).union([half])))
    #expect(try run(hub, ["model", "list"]).output.contains("  complete"))
    #expect(try run(hub, ["model", "get", "org/mini"]).code == 0)
    #expect(try isRight(hub, Self.needed.union([half])))
    let other = try run(hub, ["model", "get", "org/mini", "--variant", "fp16"])
    #expect(other.code == 0 && other.error.contains("used instead of the variant “fp16”"), "\(other.error)")
    let none = try run(hub, ["model", "get", "org/mini", "--variant", "bf16"])
    #expect(none.code == 1)
    #expect(Workplace.failure(in: none.error).contains("no weights of the variant “bf16”; there is “fp16”"))
  }

  @Test("are fetched for an embedding that is converted; where none is needed, that is said")
  func convert() throws {
    let hub = try LoopbackHub("org/mini", Self.files())
    try Safetensors.write([("emb_params", .ones([1, 128]))], to: place.path("toy.safetensors"))
    let refused = try run(hub, ["convert", "toy.safetensors", "made.safetensors", "--model", "org/mini"])
    #expect(refused.code == 1 && refused.error.contains("Add --download"), "\(refused.error)")
    let line = ["convert", "toy.safetensors", "made.safetensors", "--model", "org/mini", "--download"]
    let made = try run(hub, line)
    #expect(made.code == 0 && !made.error.contains("warning"), "\(made.error)")
    let again = try run(
      hub, ["convert", "made.safetensors", "again.safetensors", "--token", "<a>", "--model", "org/mini"])
    #expect(again.code == 0 && again.error.contains("--model has no effect"), "\(again.error)")
  }

  @Test("what is no model for neti is refused before anything is fetched")
  func others() throws {
    for (more, without, words) in [
      (["transformer/config.json": Data()], [], "has transformer/"),
      ([:], ["vae/config.json"], "no vae/config.json"),
      ([:], [Self.weights], "pickles are not fetched"),
      (["unet/diffusion_pytorch_model.fp16.safetensors": Data("x".utf8)], [Self.weights], ""),
    ] as [([String: Data], Set<String>, String)] {
      let hub = try LoopbackHub("org/mini", Self.files(more, without: without))
      let result = try run(hub, ["model", "get", "org/mini"])
      if words.isEmpty {
        #expect(result.code == 0, "\(result.error)")
      } else {
        #expect(result.code == 1 && Workplace.failure(in: result.error).contains(words), "\(result.error)")
        #expect(!FileManager.default.fileExists(atPath: place.path("home").path))
      }
    }
    try place.expectFailure(
      ["model", "get", "mini-sd"],
      ["mini-sd comes with neti: there is nothing to fetch, list or remove"])
    let address = try run(LoopbackHub("org/mini", [:]), ["model", "get", "https://huggingface.co/org/mini"])
    #expect(address.code == 1 && address.error.contains("is an address; name the model as org/mini"))
    let single = try LoopbackHub("org/one", ["model.safetensors": Data("x".utf8)])
    let refused = try run(single, ["model", "get", "org/one"]).error
    #expect(refused.contains("There are models in one file: name one as org/one/model.safetensors"))
  }
}
