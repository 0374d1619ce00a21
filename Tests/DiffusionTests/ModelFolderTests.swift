import Diffusion
import Files
import Foundation
import TestSupport
import Testing

@Suite struct ModelFolderTests {
  private func message(_ body: () throws -> Void) -> String {
    (#expect(throws: DiffusionError.self) { try body() })?.message ?? ""
  }

  /// A Hugging Face cache that holds mini-sd as ORG/mini, of symbolic links to blobs.
  private func cache(_ scratch: Scratch, revisions: [String], main: String?) throws -> URL {
    let repository = scratch.folder.appending(path: "hub/models--ORG--mini")
    for revision in revisions {
      try scratch.linkMiniSD("hub/models--ORG--mini/snapshots/\(revision)")
    }
    if let main {
      try FileManager.default.createDirectory(
        at: repository.appending(path: "refs"), withIntermediateDirectories: true)
      try Data((main + "\n").utf8).write(to: repository.appending(path: "refs/main"))
    }
    return scratch.folder
  }

  @Test("A local folder is taken as it is, and its weights are found")
  func localFolder() throws {
    let model = try ModelFolder(Fixtures.miniSD.path, environment: [:])
    #expect(model.name == "mini-sd")
    let files = try [ModelFolder.Component.textEncoder, .unet, .vae].map {
      try model.weightFiles($0).map(\.lastPathComponent)
    }
    #expect(
      files == [
        ["model.safetensors"], ["diffusion_pytorch_model.safetensors"],
        ["diffusion_pytorch_model.safetensors"],
      ])
  }

  @Test("A repository id is found in the cache wherever the environment puts it")
  func cacheLocations() throws {
    let scratch = try Scratch()
    let root = try cache(scratch, revisions: ["aa11", "bb22"], main: "bb22")
    let places = [
      ["HF_HUB_CACHE": root.path + "/hub", "HF_HOME": "/nowhere"], ["HF_HOME": root.path],
      ["HUGGINGFACE_HUB_CACHE": root.path + "/hub"],
    ]
    for environment in places {
      let model = try ModelFolder("ORG/mini", environment: environment)
      #expect(model.name == "ORG/mini")
      #expect(model.url.lastPathComponent == "bb22")
      #expect(try model.weightFiles(.unet).count == 1)
    }
    try FileManager.default.createDirectory(
      at: root.appending(path: ".cache"), withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(
      at: root.appending(path: ".cache/huggingface"), withDestinationURL: root)
    for environment in [["HOME": root.path], ["XDG_CACHE_HOME": root.path + "/.cache"]] {
      #expect(try ModelFolder("ORG/mini", environment: environment).url.lastPathComponent == "bb22")
    }
  }

  @Test("Without a reference the only snapshot is taken, and one of several is not guessed")
  func noReference() throws {
    let one = try Scratch()
    let single = try cache(one, revisions: ["aa11"], main: nil)
    #expect(
      try ModelFolder("ORG/mini", environment: ["HF_HOME": single.path]).url.lastPathComponent == "aa11")
    let two = try Scratch()
    let several = try cache(two, revisions: ["aa11", "bb22"], main: nil)
    #expect(throws: DiffusionError.self) {
      try ModelFolder("ORG/mini", environment: ["HF_HOME": several.path])
    }
  }

  @Test("A model that is not there: the error says where it was looked for and how to get it")
  func absent() throws {
    let text = message { _ = try ModelFolder("ORG/none", environment: ["HF_HOME": "/nowhere/hf"]) }
    #expect(text.contains("/nowhere/hf/hub/models--ORG--none/snapshots"))
    #expect(text.contains("`model get ORG/none`"))
  }

  @Test(
    "What is neither a folder nor a repository id is refused",
    arguments: [
      "", "../not-there", "a/../b", "a/b/c", "ORG/", "/nowhere", "a b/c", "-x/y", "ORG/na\nme", "ORG/..x",
    ])
  func notAnID(text: String) {
    #expect(
      message { _ = try ModelFolder(text, environment: ["HF_HOME": "/nowhere/hf"]) }.contains(
        "no repository id"))
  }

  @Test("A reference that leads out of the cache is refused")
  func hostileReference() throws {
    let scratch = try Scratch()
    let root = try cache(scratch, revisions: ["aa11"], main: "../../../etc")
    #expect(
      refusal { try ModelFolder("ORG/mini", environment: ["HF_HOME": root.path]) }?.message.contains(
        "revision")
        == true)
  }

  @Test("Variants and shards are found; the plain name comes first")
  func variants() throws {
    let scratch = try Scratch()
    let model = try ModelFolder(scratch.linkMiniSD("m").path)
    let unet = model.folder(.unet)
    let plain = unet.appending(path: "diffusion_pytorch_model.safetensors")
    let half = unet.appending(path: "diffusion_pytorch_model.fp16.safetensors")
    try FileManager.default.copyItem(at: plain, to: half)
    #expect(try model.weightFiles(.unet) == [plain])
    try FileManager.default.removeItem(at: plain)
    #expect(try model.weightFiles(.unet) == [half])
    try FileManager.default.removeItem(at: half)
    let index = unet.appending(path: "diffusion_pytorch_model.safetensors.index.json")
    try Data(#"{"weight_map": {"a": "2.safetensors", "b": "1.safetensors", "c": "1.safetensors"}}"#.utf8)
      .write(to: index)
    #expect(try model.weightFiles(.unet).map(\.lastPathComponent) == ["1.safetensors", "2.safetensors"])
    try Data(#"{"weight_map": {"a": "../../x.safetensors"}}"#.utf8).write(to: index)
    #expect(message { _ = try model.weightFiles(.unet) }.contains("x.safetensors"))
    try Data(#"{"weight_map": {}}"#.utf8).write(to: index)
    #expect(message { _ = try model.weightFiles(.unet) }.hasSuffix(" names 0 files; 1…1024 are read"))
  }

  @Test("5,000 damaged indexes of shards are read or refused, and lead to no other folder")
  func mutatedIndex() throws {
    let scratch = try Scratch()
    let model = try ModelFolder(scratch.linkMiniSD("m").path)
    let unet = model.folder(.unet)
    try FileManager.default.removeItem(at: unet.appending(path: "diffusion_pytorch_model.safetensors"))
    let index = unet.appending(path: "diffusion_pytorch_model.safetensors.index.json")
    let good = """
      {"metadata": {"total_size": 7432}, "weight_map": {"conv_in.weight": "model-00001-of-00002.safetensors",
        "conv_in.bias": "model-00001-of-00002.safetensors", "conv_out.bias": "model-00002-of-00002.safetensors"}}
      """
    var read = 0
    for data in Mutations(of: Data(good.utf8), count: 5000, seed: 8) {
      try data.write(to: index)
      do {
        let files = try model.weightFiles(.unet)
        read += 1
        for file in files { #expect(file.path == unet.path + "/" + file.lastPathComponent) }
      } catch is any DescribedError {}
    }
    #expect(read > 100 && read < 5000)
  }

  @Test("Names of weights are told apart: variants, indexes and pickles, and what is none of these")
  func weightFileNames() throws {
    func told(_ name: String, _ base: String = "diffusion_pytorch_model") -> String? {
      WeightFile(name, base: base).map {
        "\($0.variant) \($0.isIndex ? "index" : "file") \($0.isPickle ? "pickle" : "")"
      }
    }
    let base = "diffusion_pytorch_model"
    for (name, what) in [
      ("\(base).safetensors", " file "), ("\(base).fp16.safetensors", "fp16 file "),
      ("\(base).fp16.non_ema.safetensors", "fp16.non_ema file "), ("\(base).bin", " file pickle"),
      ("\(base).non_ema.bin", "non_ema file pickle"), ("\(base).safetensors.index.json", " index "),
      ("\(base).safetensors.index.fp16.json", "fp16 index "),
      ("\(base).fp16.safetensors.index.json", "fp16 index "),
      ("\(base).bin.index.json", " index pickle"), ("\(base).fp16-00001-of-00002.safetensors", nil),
      ("\(base)-00001-of-00002.safetensors", nil), ("ema_\(base).safetensors", nil),
      ("\(base)..safetensors", nil),
      ("\(base)safetensors", nil), ("\(base).safetensors.json", nil), ("\(base).onnx", nil), ("", nil),
    ] {
      #expect(told(name) == what, "\(name)")
    }
    #expect(told("pytorch_model.bin", "model") == " file pickle" && told("model.bin", "model") == nil)
    #expect(told("model.safetensors", "model") == " file ")
  }

  @Test(
    "A variant is taken when it is the only one, after safetensors a pickle, and of two nothing is guessed")
  func otherVariants() throws {
    let scratch = try Scratch()
    let model = try ModelFolder(scratch.linkMiniSD("m").path)
    let unet = model.folder(.unet)
    let base = "diffusion_pytorch_model"
    func move(_ old: String, _ new: String) throws {
      try FileManager.default.moveItem(at: unet.appending(path: old), to: unet.appending(path: new))
    }
    func used() throws -> [String] { try model.weightFiles(.unet).map(\.lastPathComponent) }
    try move("\(base).safetensors", "\(base).non_ema.safetensors")
    #expect(try used() == ["\(base).non_ema.safetensors"])
    #expect(
      try StableDiffusion(model).warnings.contains {
        $0.contains("U-Net's weights are the variant “non_ema”")
      })
    try Data("other".utf8).write(to: unet.appending(path: "\(base).bin"))
    #expect(try used() == ["\(base).non_ema.safetensors"])
    try FileManager.default.removeItem(at: unet.appending(path: "\(base).bin"))
    try Data("other".utf8).write(to: unet.appending(path: "\(base).bf16.safetensors"))
    let two = message { _ = try model.weightFiles(.unet) }
    #expect(
      two.contains("“\(base).bf16.safetensors”, “\(base).non_ema.safetensors”: rename the one to use so"),
      "\(two)")
    try Data("other".utf8).write(to: unet.appending(path: "\(base).fp16.safetensors"))
    #expect(try used() == ["\(base).fp16.safetensors"])
    for name in ["bf16", "fp16", "non_ema"] {
      try FileManager.default.removeItem(at: unet.appending(path: "\(base).\(name).safetensors"))
    }
    for name in ["\(base).fp16.bin", "\(base).non_ema.bin"] {
      try Data("other".utf8).write(to: unet.appending(path: name))
      #expect(try used() == ["\(base).fp16.bin"])
    }
  }

  @Test("Weights of Flax, TensorFlow and ONNX only are said to be not read, and not to be renamed")
  func otherPrograms() throws {
    let scratch = try Scratch()
    let model = try ModelFolder(scratch.linkMiniSD("m").path)
    let unet = model.folder(.unet)
    try FileManager.default.removeItem(at: unet.appending(path: "diffusion_pytorch_model.safetensors"))
    for name in ["diffusion_flax_model.msgpack", "tf_model.h5", "model.onnx"] {
      let file = unet.appending(path: name)
      try Data("other".utf8).write(to: file)
      let said = message { _ = try model.weightFiles(.unet) }
      let words =
        "; there is “\(name)”, for Flax, TensorFlow or ONNX, which is not read: fetch the model with weights for PyTorch, "
        + "or convert it"
      #expect(said.hasSuffix(words), "\(said)")
      try FileManager.default.removeItem(at: file)
    }
  }

  @Test("Only broken pickles, a dangling link, nothing at all: each is said")
  func missingWeights() throws {
    let scratch = try Scratch()
    let model = try ModelFolder(scratch.linkMiniSD("m").path)
    let unet = model.folder(.unet)
    let plain = unet.appending(path: "diffusion_pytorch_model.safetensors")
    try FileManager.default.removeItem(at: plain)
    #expect(
      message { _ = try model.weightFiles(.unet) }.contains("there is no diffusion_pytorch_model.safetensors")
    )
    try Data().write(to: unet.appending(path: "diffusion_pytorch_model.bin"))
    let pickle = refusal { try StableDiffusion(model).unet }?.message ?? ""
    #expect(
      pickle.contains("diffusion_pytorch_model.bin: it is not a file that torch.save wrote"), "\(pickle)")
    try FileManager.default.createSymbolicLink(at: plain, withDestinationURL: URL(filePath: "/nowhere/blob"))
    #expect(message { _ = try model.weightFiles(.unet) }.contains("a link to a file that is not there"))
  }

  @Test("An empty file, an incomplete folder and another kind of model are refused")
  func otherThings() throws {
    let scratch = try Scratch()
    let file = scratch.folder.appending(path: "v1.ckpt")
    try Data().write(to: file)
    #expect(refusal { try ModelFolder(file.path) }?.message.contains("v1.ckpt") == true)
    let folder = try scratch.linkMiniSD("m")
    try FileManager.default.createDirectory(
      at: folder.appending(path: "text_encoder_2"), withIntermediateDirectories: true)
    #expect(message { _ = try ModelFolder(folder.path) }.contains("there is no tokenizer_2/"))
    try FileManager.default.createDirectory(
      at: folder.appending(path: "transformer"), withIntermediateDirectories: true)
    #expect(message { _ = try ModelFolder(folder.path) }.contains("has transformer/: it is no model"))
    try Data(#"{"_class_name": "FluxPipeline"}"#.utf8).write(to: folder.appending(path: "model_index.json"))
    #expect(
      message { _ = try ModelFolder(folder.path) }.contains("which are supported, but of “FluxPipeline”"))
    try Data(#"{"_class_name": "StableDiffusion3Pipeline"}"#.utf8)
      .write(to: folder.appending(path: "model_index.json"))
    #expect(message { _ = try ModelFolder(folder.path) }.contains("but of “StableDiffusion3Pipeline”"))
    try FileManager.default.removeItem(at: folder.appending(path: "model_index.json"))
    try FileManager.default.removeItem(at: folder.appending(path: "transformer"))
    try FileManager.default.removeItem(at: folder.appending(path: "text_encoder_2"))
    try FileManager.default.removeItem(at: folder.appending(path: "vae"))
    #expect(message { _ = try ModelFolder(folder.path) }.contains("vae/"))
    try Data(#"{"_class_name": "PixArtAlphaPipeline"}"#.utf8).write(
      to: folder.appending(path: "model_index.json"))
    let other = message { _ = try ModelFolder(folder.path) }
    #expect(
      other.contains("layout of Stable Diffusion, but of “PixArtAlphaPipeline”: there is no vae/"), "\(other)"
    )
  }

  @Test("A link that leads nowhere, an address, a file that is not there and parts of models say so")
  func nothingThere() throws {
    let scratch = try Scratch()
    let environment = ["HF_HOME": scratch.folder.path]
    func said(_ model: String) -> String {
      message { _ = try ModelFolder(model, environment: environment) }
    }
    let link = scratch.file("link.safetensors")
    try FileManager.default.createSymbolicLink(at: link, withDestinationURL: URL(filePath: "/nowhere/x"))
    #expect(said(link.path).contains("is a link to “/nowhere/x”, where nothing is"))
    #expect(said("https://huggingface.co/org/x/tree/main").contains("name the model as org/x"))
    #expect(said("https://huggingface.co/org").contains("with a browser"))
    #expect(said("http://example.org/x.safetensors").contains("with a browser"))
    #expect(
      said("https://huggingface.co/org/x/blob/main/in/sd.safetensors").hasSuffix(
        "name the model as org/x/in/sd.safetensors"))
    #expect(
      said("https://huggingface.co/org/x/resolve/v2/sd.ckpt?download=true").hasSuffix(
        "name the model as org/x@v2/sd.ckpt"))
    #expect(said("https://huggingface.co/org/x/blob/main/README.md").hasSuffix("name the model as org/x"))
    #expect(
      said("models/x.CKPT")
        == "models/x.CKPT: there is no such file; check the path. A file on the Hub is named as ORGANISATION/NAME/FILE"
    )
    #expect(said("../x.ckpt") == "../x.ckpt: there is no such file; check the path")
    #expect(said("org/x/sd.ckpt").hasSuffix("add `download`, or fetch it with: `model get org/x/sd.ckpt`"))
    #expect(said("org/x").contains("model get org/x"))

    let folder = scratch.file("folder")
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    #expect(said(folder.path).contains("it is empty"))
    try Data("x".utf8).write(to: folder.appending(path: "sd.safetensors"))
    #expect(said(folder.path).contains("if its file “sd.safetensors” is a model, name that"))
    try Data(#"{"_class_name": "UNet2DConditionModel"}"#.utf8)
      .write(to: folder.appending(path: "config.json"))
    #expect(said(folder.path).contains("one part of a model (“UNet2DConditionModel”)"))
  }

  @Test("A complete folder for another purpose is called by its pipeline")
  func otherPurpose() throws {
    let scratch = try Scratch()
    let folder = try scratch.linkMiniSD("m")
    let configuration = folder.appending(path: "unet/config.json")
    let text = try String(contentsOf: configuration, encoding: .utf8)
    try FileManager.default.removeItem(at: configuration)
    try text.replacing("\"in_channels\": 8", with: "\"in_channels\": 9")
      .write(to: configuration, atomically: true, encoding: .utf8)
    let index = folder.appending(path: "model_index.json")
    for (name, expected) in [
      ("StableDiffusionDepth2ImgPipeline", ", or are those of “StableDiffusionDepth2ImgPipeline”"),
      ("StableDiffusionPipeline", "these parts do not belong together"),
    ] {
      try? FileManager.default.removeItem(at: index)
      try Data("{\"_class_name\": \"\(name)\"}".utf8).write(to: index)
      let said = refusal { try StableDiffusion(ModelFolder(folder.path)) }?.message ?? ""
      #expect(said.contains(expected), "\(said)")
      #expect(said.contains("which is not supported") == (name != "StableDiffusionPipeline"))
    }
  }
}
