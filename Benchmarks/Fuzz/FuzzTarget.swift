import Diffusion
import Evaluation
import Files
import Foundation
import Hub
import Imaging
import NeTI
import TestSupport
import Torch

/// A parser and the sound files that are damaged for it.
struct FuzzTarget {
  let name: String
  /// Sound files.
  let originals: [Data]
  /// The name under which a damaged file lies in the folder while it is read.
  let file: String
  /// Reads damaged bytes, which also lie in the file.
  let parse: (Data) throws -> Void

  /// Every parser of files. A new one is a line here.
  static func all(_ folder: URL) throws -> [FuzzTarget] {
    try weights(folder) + loras(folder) + modelFiles(folder) + shards(folder) + authors(folder)
      + embeddings(folder) + repositories() + configurations() + pipelines(folder) + runs(folder)
      + evaluations(folder) + tokenizer() + texts(folder) + requests() + images(folder)
  }

  private static func weights(_ folder: URL) throws -> [FuzzTarget] {
    let url = folder.appending(path: "x.safetensors")
    let files = ["formats/types.safetensors", "formats/views.safetensors"]
    return [
      FuzzTarget(name: "safetensors", originals: try files.map(fixture), file: url.lastPathComponent) { _ in
        let file = try SafetensorsFile(url)
        for name in file.entries.keys { _ = try file.tensor(name).rawBytes() }
      },
      FuzzTarget(name: "concept", originals: [try concept(folder)], file: url.lastPathComponent) { _ in
        _ = try Concept(contentsOf: url)
      },
    ]
  }

  /// LoRAs, as far as they are merged: into mini-sd, and into a random SDXL.
  private static func loras(_ folder: URL) throws -> [FuzzTarget] {
    let url = folder.appending(path: "lora.safetensors")
    let place = folder.appending(path: "sdxl")
    try? FileManager.default.removeItem(at: place)
    try RandomModel("sdxl").writeFolder(place)
    return try [
      ("LoRA", Fixtures.miniSD, ["kohya_unet", "peft_alphas", "peft_dora"]),
      ("LoRA of SDXL", place, ["sdxl_kohya", "sdxl_peft_dora"]),
    ].map { name, model, files in
      var base = try StableDiffusion(ModelFolder(model.path))
      let originals = try files.map { try fixture("lora/\($0).safetensors") }
      return FuzzTarget(name: name, originals: originals, file: url.lastPathComponent) { _ in
        // What was added stays, so now and then there is a new one.
        if base.loras.count > 200 { base = try StableDiffusion(ModelFolder(model.path)) }
        _ = try base.add([WeightedLoRA(LoRA(url))])
      }
    }
  }

  /// Models in one file, as far as they are read before a network is loaded.
  private static func modelFiles(_ folder: URL) throws -> [FuzzTarget] {
    let url = folder.appending(path: "model.safetensors")
    let names: [String: [Int]] = [
      "model.diffusion_model.input_blocks.0.0.weight": [8, 4, 3, 3],
      "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias": [8],
      "first_stage_model.decoder.conv_in.weight": [8, 4, 3, 3],
    ]
    let open = [
      "cond_stage_model.model.token_embedding.weight": [4, 64],
      "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_bias": [192],
    ]
    let both = [
      "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight": [4, 64],
      "conditioner.embedders.1.model.token_embedding.weight": [4, 64],
      "conditioner.embedders.1.model.text_projection": [64, 32],
      "model.diffusion_model.label_emb.0.0.weight": [8, 1568],
      "model.diffusion_model.time_embedding.cond_proj.weight": [8, 16],
    ]
    func ones(_ more: [String: [Int]]) throws -> [(String, Tensor)] {
      try names.merging(more) { $1 }.sorted { $0.key < $1.key }.map { ($0.key, try .ones($0.value)) }
    }
    let tensors = try ones(open)
    var storages = TorchStorages()
    let entries = try tensors.map { PickleEntry($0.0, try storages.add($0.1)) }
    let originals = [
      try Safetensors.encode(tensors, metadata: ["prediction_type": "v"]),
      try storages.archive("archive", .dictionary(entries, ordered: true)),
      try Safetensors.encode(ones(both), metadata: [:]),
    ]
    return [
      FuzzTarget(name: "model in one file", originals: originals, file: url.lastPathComponent) { _ in
        let model = try ModelFolder(url.path)
        _ = try model.configuration(UNetConfiguration.self, .unet)
        for encoder in model.textEncoders {
          _ = try model.configuration(CLIPTextConfiguration.self, encoder)
          _ = try model.weights(encoder, dtype: .float32, device: .cpu).byteCount
        }
      },
      FuzzTarget(
        name: "start of a model in one file", originals: [originals[0], originals[2]],
        file: "start.safetensors"
      ) { data in
        try ModelFileStart.check("org/name/start.safetensors", size: data.count) { Array(data.prefix($0)) }
      },
    ]
  }

  /// A small concept file.
  private static func concept(_ folder: URL) throws -> Data {
    let base = BaseIdentity(name: "model", hiddenSize: 8, layers: ["a", "b"], tokenTableHash: "")
    let row = try Tensor.ones([8])
    let url = folder.appending(path: "original.safetensors")
    try Concept(
      ExtendedTextualInversion(vectors: row.reshaped([1, -1]).repeatInterleaved(2, 0), layerCount: 2),
      about: .init(token: "<x>", category: "toy", base: base, steps: 1, training: ""), placeholder: row
    ).write(to: url)
    return try Data(contentsOf: url)
  }

  private static func shards(_ folder: URL) throws -> [FuzzTarget] {
    let root = folder.appending(path: "model")
    for component in ["scheduler", "text_encoder", "tokenizer", "unet", "vae"] {
      try FileManager.default.createDirectory(
        at: root.appending(path: component), withIntermediateDirectories: true)
    }
    let model = try ModelFolder(root.path)
    let index =
      #"{"metadata": {"total_size": 9}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}"#
    return [
      FuzzTarget(
        name: "index of shards", originals: [Data(index.utf8)],
        file: "model/unet/diffusion_pytorch_model.safetensors.index.json"
      ) { _ in _ = try model.weightFiles(.unet) }
    ]
  }

  /// What a Hub answers.
  private static func repositories() throws -> [FuzzTarget] {
    let (git, sha256) = (String(repeating: "a", count: 40), String(repeating: "b", count: 64))
    let list = """
      [{"type": "directory", "oid": "\(git)", "size": 0, "path": "unet"},
       {"type": "file", "oid": "\(git)", "size": 743, "path": "unet/config.json"},
       {"type": "file", "oid": "\(git)", "size": 3438167536, "path": "unet/a.safetensors",
        "lfs": {"oid": "\(sha256)", "size": 3438167536, "pointerSize": 135}, "xetHash": "\(sha256)"}]
      """
    return [
      FuzzTarget(name: "list of a repository", originals: [Data(list.utf8)], file: "list.json") {
        var files = RepositoryList()
        try files.add($0, name: "the list")
        _ = files.cached()
      }
    ]
  }

  private static func authors(_ folder: URL) throws -> [FuzzTarget] {
    let mapper = try Data(
      contentsOf: Fixtures.repository.appending(path: "Tests/Fixtures/authors/nope/mapper-steps-2.pt"))
    let row = "Tests/Fixtures/authors/nope/learned_embeds-steps-2.bin"
    let sound = folder.appending(path: "sound.bin")
    try Data(contentsOf: Fixtures.repository.appending(path: row)).write(to: sound)
    let archive = try ZipArchive(Array(mapper))
    let views = folder.appending(path: "views.pt")
    let whole = folder.appending(path: "mapper-steps-2.pt")
    return [
      FuzzTarget(
        name: "pickle", originals: [Data(try archive.contents("mapper-steps-2/data.pkl"))], file: "data.pkl"
      ) { _ = try Unpickler.value($0, classes: ["models.positional_encoding BasicEncoder"]) },
      FuzzTarget(
        name: "torch.save", originals: [try fixture("formats/views.pt")], file: views.lastPathComponent
      ) { _ in
        let file = try TorchFile(views)
        guard case .dictionary(let entries, _) = file.root else { return }
        for case .tensor(let tensor) in entries.map(\.value) { _ = try file.tensor(tensor).rawBytes() }
      },
      FuzzTarget(name: "authors' mapper", originals: [mapper], file: whole.lastPathComponent) { _ in
        _ = try AuthorsCheckpoint(whole, embeddings: sound)
      },
    ]
  }

  private static func embeddings(_ folder: URL) throws -> [FuzzTarget] {
    try [
      "a1111.pt", "xti.pt", "diffusers.safetensors", "xti.safetensors", "numpy-2.pkl", "numpy-4.pkl",
      "a1111.png",
      "pixels.png", "promptplus.bin",
    ].map { name in
      let url = folder.appending(path: name)
      return FuzzTarget(
        name: "embedding \(name)", originals: [try fixture("community/\(name)")], file: name
      ) { _ in _ = try CommunityEmbedding(contentsOf: url) }
    }
  }

  private static func configurations() throws -> [FuzzTarget] {
    func target<T: Decodable>(
      _ name: String, _ path: String, of model: URL = Fixtures.miniSD, _ type: T.Type
    ) throws -> FuzzTarget {
      let original = try Data(contentsOf: model.appending(path: path))
      return FuzzTarget(name: name, originals: [original], file: "config.json") {
        _ = try JSONFile.decode(type, from: $0, name: name)
      }
    }
    let miniCLIP = Fixtures.repository.appending(path: "Models/mini-clip")
    return [
      try target("U-Net configuration", "unet/config.json", UNetConfiguration.self),
      try target("VAE configuration", "vae/config.json", VAEConfiguration.self),
      try target("text encoder configuration", "text_encoder/config.json", CLIPTextConfiguration.self),
      try target("scheduler configuration", "scheduler/scheduler_config.json", SchedulerConfiguration.self),
      try target("CLIP configuration", "config.json", of: miniCLIP, CLIPConfiguration.self),
      try target("image processor", "preprocessor_config.json", of: miniCLIP, CLIPImageProcessor.self),
    ]
  }

  private static func runs(_ folder: URL) throws -> [FuzzTarget] {
    let yaml = folder.appending(path: "config.yaml")
    let log = folder.appending(path: "events.jsonl")
    try? FileManager.default.removeItem(at: log)
    let writer = try RunLog(log)
    for step in 0..<4 { try writer.append(RunEvent(.step, step: step)) }
    let events = try Data(contentsOf: log)
    let settings = """
      # As in the authors' repository.
      log: {exp_name: toy, exp_dir: ./outputs, save_steps: 250}
      data:
        train_data_dir: ./images
        placeholder_token: '<toy>'
        super_category_token: toy
      model: {use_nested_dropout: true, pe_sigmas: {sigma_t: 0.03, sigma_l: 2.0}}
      eval:
        validation_prompts: ["A photo of a {}", "A photo of a {} on a beach"]
        validation_seeds: [42, 420]
        num_validation_images: 2
      optim: {max_train_steps: 500, learning_rate: 1.0e-3, train_batch_size: 2}
      """
    let manifest = """
      {"images": "a/b", "masks": "m", "token": "<a>", "category": "cat", "output": "A", "steps": 7}
      {"images": "c", "token": "<b\\u00e9>", "category": "mug", "eval.validation_prompts": ["a {}", "b {}"]}
      """
    for images in ["a/b", "m", "c", "run"] {
      try FileManager.default.createDirectory(
        at: folder.appending(path: images), withIntermediateDirectories: true)
    }
    return [
      FuzzTarget(
        name: "YAML", originals: [Data(settings.utf8)], file: yaml.lastPathComponent
      ) { _ in _ = try RunConfiguration.load(yaml: yaml) },
      FuzzTarget(
        name: "config.yaml of a run", originals: [Data(RunConfiguration().resolvedYAML().utf8)],
        file: "run/config.yaml"
      ) { _ in _ = try RunFolder.configuration(of: folder.appending(path: "run")) },
      FuzzTarget(name: "manifest", originals: [Data(manifest.utf8)], file: "list.jsonl") {
        let list = try ConceptManifest($0, name: "list.jsonl", folder: folder)
        for entry in list.entries { _ = try list.configuration(of: entry, output: folder) { _ in nil } }
      },
      FuzzTarget(name: "run log", originals: [events], file: log.lastPathComponent) { _ in
        _ = try RunLog.read(log)
      },
      FuzzTarget(
        name: "model defaults", originals: [try miniSD("model_defaults.json")], file: "model_defaults.json"
      ) { _ in _ = try ModelDefaults.load(fromModelFolder: folder) },
    ]
  }

  /// `model_index.json`, as far as it decides anything: what a folder is, and what an empty prompt is.
  private static func pipelines(_ folder: URL) throws -> [FuzzTarget] {
    let root = folder.appending(path: "pipeline")
    for part in ["scheduler", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae"] {
      try FileManager.default.createDirectory(
        at: root.appending(path: part), withIntermediateDirectories: true)
    }
    let index = """
      {"_class_name": "StableDiffusionXLPipeline", "_diffusers_version": "0.42.1", "force_zeros_for_empty_prompt": true,
       "text_encoder": ["transformers", "CLIPTextModel"], "unet": ["diffusers", "UNet2DConditionModel"]}
      """
    return [
      FuzzTarget(
        name: "model_index.json", originals: [Data(index.utf8)], file: "pipeline/model_index.json"
      ) { _ in
        _ = ModelFolder.family(of: root)
        _ = try ModelFolder(root.path)
      }
    ]
  }

  private static func evaluations(_ folder: URL) throws -> [FuzzTarget] {
    let settings = """
      {"clip": "mini-clip", "clipIdentity": "0", "base": "mini-sd", "baseIdentity": "1", "precision": "float32",
       "scheduler": "dpm", "steps": 20, "guidance": 3, "width": 128, "height": 128}
      """
    let header = EvaluationResults.Header(
      settings: try JSONFile.decode(EvaluationProtocol.self, from: Data(settings.utf8), name: ""),
      token: "<a>", category: "cat", method: "neti", steps: 250, concept: "c", trained: "a", heldOut: "b")
    let place = folder.appending(path: "evaluation")
    try? FileManager.default.removeItem(at: place)
    let results = try EvaluationResults(place, header)
    for truncation in [nil, 16] {
      try results.add(
        ImageScore(
          key: .init(prompt: "a {}", seed: 1, truncation: truncation), trained: 0.5, heldOut: nil,
          category: 0.25, omitted: 0.125, file: "p.png"))
    }
    try results.add(HeldOutScore(loss: 0.1, wordLoss: 0.2, ceiling: 0.9))
    let file = "evaluation/results.jsonl"
    let original = try Data(contentsOf: folder.appending(path: file))
    return [
      FuzzTarget(name: "evaluation results", originals: [original], file: file) { _ in
        _ = try EvaluationResults.read(place, header)
      },
      FuzzTarget(
        name: "evaluation prompts",
        originals: [Data("A photo of a {}\n\n{} on a {{beach}}, café 中文\r\n  Oil painting of {}\n".utf8)],
        file: "prompts-list.txt"
      ) { _ in _ = try EvaluationPrompts(contentsOf: folder.appending(path: "prompts-list.txt")) },
    ]
  }

  private static func images(_ folder: URL) throws -> [FuzzTarget] {
    let files = [
      "rgb420.jpg", "progressive.jpg", "cmyk.jpg", "lossy-alpha.webp", "lossless-alpha.webp", "text.png",
      "palette8-trns.png", "rgb16-interlaced.png",
    ]
    let originals = try files.map { try fixture("imaging/\($0)") }
    return [
      FuzzTarget(name: "images", originals: originals, file: "image") {
        _ = try Image.decode($0, name: "image")
      },
      FuzzTarget(name: "masks", originals: originals, file: "mask") { _ in
        _ = try Mask.load(folder.appending(path: "mask"))
      },
    ]
  }

  static func fixture(_ path: String) throws -> Data { try Data(contentsOf: Fixtures.url(path)) }

  static func miniSD(_ path: String) throws -> Data {
    try Data(contentsOf: Fixtures.miniSD.appending(path: path))
  }
}
