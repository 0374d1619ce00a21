import Files
import Foundation
import TestSupport
import Testing
import Torch

extension ModelCommandTests {
  @Test("in one file are fetched by its name, with --download too, and lie where every revision's files lie")
  func oneFile() throws {
    let file = place.path("sd.safetensors")
    try Safetensors.write(Array(RandomModel("sd1").originals()), to: file)
    let data = try Data(contentsOf: file)
    try FileManager.default.removeItem(at: file)
    let path = "sd.safetensors"
    let hub = try LoopbackHub(
      "org/mini", [path: data, "in/other.ckpt": Data("other".utf8), "README.md": Data("one".utf8)])
    let name = "org/mini/\(path)"
    let line = Workplace.generate("a cat", ["--model", name, "--width", "64", "--height", "64"])
    let refused = try run(hub, line)
    #expect(refused.code == 1 && hub.requests.isEmpty)
    #expect(
      Workplace.failure(in: refused.error).contains(
        "If it is a file of org/mini on the Hub, add --download, or fetch it with: neti model get \(name)"),
      "\(refused.error)")
    let made = try run(hub, line + ["--download"])
    #expect(
      made.code == 0 && made.error.contains("“sd.safetensors” is Stable Diffusion 1.x"), "\(made.error)")
    #expect(try isRight(hub, [path]))
    hub.change { _, reply in reply }
    #expect(try run(hub, line + ["--download"]).code == 0 && hub.requests.isEmpty)
    #expect(try run(hub, ["model", "get", name, "--verify"], ["HF_HUB_OFFLINE": "1"]).code == 1)
    var blob = try Data(contentsOf: snapshot(hub).appending(path: path))
    blob[blob.count / 2] ^= 1
    try blob.write(
      to: place.path("home/hub/models--org--mini/blobs/\(try #require(hub.files[path]).blobName)"))
    let mended = try run(hub, ["model", "get", name, "--verify"])
    #expect(
      mended.code == 0 && mended.output.contains("\(name) is here: ") && mended.error.contains("is damaged"),
      "\(mended.error)")
    #expect(try isRight(hub, [path]))
    let list = try run(hub, ["model", "list"]).output
    #expect(list.contains("one file, sd.safetensors  complete"), "\(list)")
    // What is learned on it finds it again.
    try place.images()
    let learned = try run(
      hub, Workplace.train(["--model", name, "--data.resolution", "64"]), ["HF_HUB_OFFLINE": "1"])
    #expect(learned.code == 0, "\(learned.error)")
    let resumed = try run(
      hub, ["train", "--resume", "--output", "run", "--steps", "2", "--threads", "1"], ["HF_HUB_OFFLINE": "1"]
    )
    #expect(resumed.code == 0, "\(resumed.error)")
    #expect(try run(hub, ["model", "get", "org/mini/in/other.ckpt"]).code == 0)
    #expect(try isRight(hub, [path, "in/other.ckpt"]))
    for (command, code, words) in [
      (
        ["get", "org/mini/none.safetensors"], 1,
        "has no file “none.safetensors”; there is org/mini/sd.safetensors"
      ),
      (["get", "org/mini"], 1, "name one as org/mini/sd.safetensors"),
      (["get", name, "--variant", "fp16"], 64, "--variant has no place beside the name of a file"),
      (["get", "org/mini/../sd.safetensors"], 1, "is no name on the Hub"),
      (["remove", name, "--yes"], 1, "is no name on the Hub"),
    ] as [([String], Int32, String)] {
      let result = try run(hub, ["model"] + command)
      #expect(result.code == code && result.error.contains(words), "\(result.error)")
    }
  }

  /// Files of the size of 32 MB and more, that are no base model.
  private static func strangers() throws -> [String: Data] {
    func file(_ name: String) throws -> Data {
      try Safetensors.encode([
        (name, try .ones([4096, 2048])), ("other." + name, try .ones([8])),
      ])
    }
    return [
      "flux.safetensors": try file("double_blocks.0.img_attn.qkv.weight"),
      "sd3.safetensors": try file("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight"),
      "lora.safetensors": try file("lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"),
      "named.ckpt": try file("control_model.time_embed.0.weight"),
    ]
  }

  @Test(
    "in one file of another family are refused before they are fetched, in the words of a file on the disk")
  func strangersAreRefused() throws {
    let files = try Self.strangers()
    let hub = try LoopbackHub("org/mini", files)
    for (path, words) in [
      ("flux.safetensors", "it is FLUX"), ("sd3.safetensors", "it is Stable Diffusion 3"),
      ("lora.safetensors", "it is a LoRA"), ("named.ckpt", "it is a ControlNet"),
    ] {
      let name = "org/mini/\(path)"
      try #require(files[path]).write(to: place.path(path))
      let local = try run(hub, Workplace.generate("a cat", ["--model", path]))
      let said = Workplace.failure(in: local.error)
        .replacing(place.path(path).path, with: name)
        .trimmingCharacters(in: .whitespacesAndNewlines)
      #expect(said.contains(words), "\(said)")
      for line in [["model", "get", name], Workplace.generate("a cat", ["--model", name, "--download"])] {
        hub.change { _, reply in reply }
        let sent = hub.store.sent
        let refused = try run(hub, line)
        #expect(refused.code == 1)
        #expect(
          Workplace.failure(in: refused.error).contains(said + "; it was not downloaded"), "\(refused.error)"
        )
        #expect(hub.store.sent - sent < 4096, "\(hub.store.sent - sent)")
        #expect(
          hub.requests.filter { $0.port == hub.store.port }.map { $0.headers["range"]?.prefix(8) } == [
            "bytes=0-", "bytes=0-",
          ])
        #expect(!FileManager.default.fileExists(atPath: place.path("home/hub").path))
      }
    }
  }

  @Test(
    "in one file are fetched as a whole where a server sends no parts of files, or a broken beginning of them"
  )
  func noParts() throws {
    let path = "flux.safetensors"
    let data = try #require(Self.strangers()[path])
    let hub = try LoopbackHub("org/mini", [path: data])
    let store = hub.store.port
    let answers: [@Sendable (LoopbackHub.Reply) -> LoopbackHub.Reply] = [
      { _ in .init(200, [:], data) }, { _ in .init(416) }, { _ in .init(403) },
      { reply in .init(206, reply.headers, Data(reply.body.reversed())) },
      { reply in .init(206, reply.headers, data) },
    ]
    for answer in answers {
      hub.change { request, reply in
        request.port == store && request.headers["range"]?.hasPrefix("bytes=0-") == true ? answer(reply) : nil
      }
      let sent = hub.store.sent
      let got = try run(hub, ["model", "get", "org/mini/\(path)"])
      #expect(got.code == 0, "\(got.error)")
      #expect(try isRight(hub, [path]))
      // The file once, and of the answer to the question what a connection takes in advance.
      #expect(hub.store.sent - sent < data.count + 16 << 20, "\(hub.store.sent - sent)")
      try FileManager.default.removeItem(at: place.path("home"))
    }
  }
}
