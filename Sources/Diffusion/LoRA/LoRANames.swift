import Files
import Foundation

/// What the tensors of a LoRA's file are called:
///
/// - kohya's scripts: `lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight`, `lora_te_text_model_…`; for SDXL
///   the U-Net's original names, `lora_unet_input_blocks_4_1_proj_in…`, and `lora_te1_…`, `lora_te2_…`;
/// - PEFT: `unet.down_blocks.0.attentions.0.proj_in.lora_A.weight`, `text_encoder.…`, `text_encoder_2.…`;
///   An adapter may have a name, `….lora_A.style.weight`, and the network that it wraps, `unet.base_model.model.…`;
/// - ComfyUI: `diffusion_model.` and the U-Net's original names, or diffusers';
/// - diffusers: `….lora.down.weight`, `….processor.to_q_lora.down.weight`, `….lora_linear_layer.down.weight`.
///
/// DoRA's magnitudes are `….dora_scale` of kohya's and `….lora_magnitude_vector` of PEFT's.
package enum LoRANames {
  /// What has a weight that is changed: its path has `_` for each dot, as kohya's names have it.
  struct Module: Hashable {
    let component: ModelFolder.Component
    let path: String
  }

  enum Part { case down, up, alpha, magnitude }

  private static let endings: [(String, Part)] = [
    (".lora_down.weight", .down), (".lora_up.weight", .up), (".alpha", .alpha),
    (".lora_A.weight", .down), (".lora_B.weight", .up),
    (".lora.down.weight", .down), (".lora.up.weight", .up),
    (".lora_linear_layer.down.weight", .down), (".lora_linear_layer.up.weight", .up),
    ("_lora.down.weight", .down), ("_lora.up.weight", .up),
    (".dora_scale", .magnitude), (".lora_magnitude_vector", .magnitude),
  ]

  /// Other ways to change weights, by what tensors of theirs have in their names.
  private static let otherKinds = [
    ("hada_", "LoHa"), ("lokr_", "LoKr"), ("lora_mid", "LoCon with a third tensor (Tucker)"), ("oft_", "OFT"),
    (".on_input", "IA³"),
    (".a1.weight", "GLoRA"), ("lora_A.bias", "LoRA with biases"), ("lora_B.bias", "LoRA with biases"),
    (".diff", "full differences of weights"), (".diff_b", "full differences of weights"),
  ]

  private static let otherFamilies = [
    "lora_te3_": "Stable Diffusion 3", "text_encoder_3.": "Stable Diffusion 3",
    "transformer.": "a transformer", "diffusion_model.": "a transformer",
    "lora_transformer_": "a transformer",
  ]

  /// Another way to change weights that a tensor belongs to, which is not supported.
  package static func otherKind(_ key: String) -> String? {
    otherKinds.first { $0.0.hasPrefix(".") ? key.hasSuffix($0.0) : key.contains($0.0) }?.1
  }

  /// What a tensor is part of. Throws for what is no LoRA, or none that is supported.
  static func read(_ key: String) throws -> (Module, Part) {
    if let kind = otherKind(key) {
      throw DiffusionError("\(quoted(key)): it is \(kind), which is not supported; LoRA, LoCon and DoRA are")
    }
    guard !key.hasPrefix("lycoris_") else {
      throw DiffusionError(
        "\(quoted(key)): its names are LyCORIS's own (lycoris_…), which do not say which network they change; rename them as "
          + "kohya's scripts do, lora_unet_… or lora_te_…")
    }
    let plain = plain(key)
    if let (_, family) = otherFamilies.first(where: { plain.hasPrefix($0.key) }) {
      throw DiffusionError(
        "\(quoted(key)): it is for \(family), and the model is Stable Diffusion 1, 2 or XL")
    }
    guard let (ending, part) = endings.first(where: { plain.hasSuffix($0.0) }),
      let module = module(String(plain.dropLast(ending.count)))
    else {
      throw DiffusionError(
        "\(quoted(key)) is no tensor of a LoRA that is known here; "
          + "names are read as diffusers, PEFT and kohya's scripts write them")
    }
    return (module, part)
  }

  /// A name without what PEFT puts into it, the network that it wraps and the adapter's name, and with `unet.` for
  /// ComfyUI's `diffusion_model.`, where that is a U-Net.
  private static func plain(_ key: String) -> String {
    var name = key.replacing("base_model.model.", with: "")
    let comfyUI = "diffusion_model."
    if name.hasPrefix(comfyUI) {
      let path = String(name.dropFirst(comfyUI.count))
      if (unetParts + originalUNetParts).contains(where: path.hasPrefix) { name = "unet." + path }
    }
    for (part, ending) in [(".lora_A", ".weight"), (".lora_B", ".weight"), (".lora_magnitude_vector", "")] {
      guard let place = name.range(of: part + "."), name.hasSuffix(".weight") || ending.isEmpty else {
        continue
      }
      name = "\(name[..<place.lowerBound])\(part)\(ending)"
    }
    return name
  }

  /// How the names of a U-Net's parts begin, diffusers' and the original ones.
  private static let unetParts = ["down_blocks.", "mid_block.", "up_blocks.", "conv_", "time_embedding."]
  private static let originalUNetParts = [
    "input_blocks.", "middle_block.", "output_blocks.", "time_embed.", "label_emb.", "out.",
  ]

  private static func module(_ name: String) -> Module? {
    func rest(_ prefix: String) -> String? {
      name.hasPrefix(prefix) ? String(name.dropFirst(prefix.count)) : nil
    }
    if let path = rest("lora_unet_") ?? rest("unet.") { return unet(path) }
    if let path = rest("lora_te_") ?? rest("lora_te1_") ?? rest("text_encoder.") {
      return text(path, .textEncoder)
    }
    if let path = rest("lora_te2_") ?? rest("text_encoder_2.") { return text(path, .textEncoder2) }
    // Old files have the U-Net only, and say it nowhere.
    if name.hasPrefix("text_model.") { return text(name, .textEncoder) }
    return unetParts.contains(where: name.hasPrefix) ? unet(name) : nil
  }

  private static func unet(_ path: String) -> Module {
    let plain = path.replacing(".processor.", with: ".").replacing(".", with: "_")
    let name = OriginalNames.module(ofUNet: plain) ?? plain
    return Module(component: .unet, path: name.hasSuffix("_to_out") ? name + "_0" : name)
  }

  private static func text(_ path: String, _ component: ModelFolder.Component) -> Module {
    var name = path.replacing(".", with: "_")
    if name.hasPrefix("text_model_") { name.removeFirst("text_model_".count) }
    for (old, now) in [("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj"), ("to_out", "out_proj")]
    where name.hasSuffix("self_attn_" + old) {
      name = name.dropLast(old.count) + now
    }
    return Module(component: component, path: name)
  }
}

/// A tensor of an embedding that OneTrainer saves in a LoRA's file: `bundle_emb.TOKEN.NAME`, with NAME as in a file of its
/// own.
package struct BundledTensor {
  package let token: String
  package let name: String

  /// Nil for what is called otherwise.
  package init?(_ key: String) {
    let prefix = "bundle_emb."
    let rest = key.dropFirst(prefix.count)
    guard key.hasPrefix(prefix), let dot = rest.lastIndex(of: ".") else { return nil }
    token = String(rest[..<dot])
    name = String(rest[rest.index(after: dot)...])
  }
}

/// The α of each layer as PEFT saves them, in the file's metadata; without it α is the rank.
struct PEFTAlphas {
  private static let key = "lora_adapter_metadata"
  private var parts: [ModelFolder.Component: Settings] = [:]

  private struct Settings {
    var alpha: Double?
    /// α of layers, by the ends of their paths.
    var patterns: [(path: String, alpha: Double)] = []
    /// Whether α is divided by √r (rsLoRA).
    var dividesByRoot = false
  }

  init(_ metadata: [String: String]) throws {
    guard let text = metadata[Self.key] else { return }
    let json = try JSONFile.decode([String: Value].self, from: Data(text.utf8), name: Self.key)
    let prefixes: [(String, ModelFolder.Component)] = [
      ("unet.", .unet), ("text_encoder.", .textEncoder), ("text_encoder_2.", .textEncoder2),
    ]
    for (prefix, component) in prefixes {
      var settings = Settings()
      if case .number(let alpha) = json[prefix + "lora_alpha"] { settings.alpha = alpha }
      if case .flag(true) = json[prefix + "use_rslora"] { settings.dividesByRoot = true }
      if case .numbers(let patterns) = json[prefix + "alpha_pattern"] {
        settings.patterns = patterns.map { path, alpha in
          (String(path.trimmingPrefix("^")).replacing(".", with: "_"), alpha)
        }
      }
      parts[component] = settings
    }
  }

  /// What of the metadata counts.
  private enum Value: Decodable {
    case flag(Bool)
    case number(Double)
    case numbers([String: Double])
    case other

    init(from decoder: any Decoder) throws {
      let c = try decoder.singleValueContainer()
      if let flag = try? c.decode(Bool.self) {
        self = .flag(flag)
      } else if let number = try? c.decode(Double.self), number.isFinite {
        self = .number(number)
      } else if let numbers = try? c.decode([String: Double].self), numbers.values.allSatisfy(\.isFinite) {
        self = .numbers(numbers)
      } else {
        self = .other
      }
    }
  }

  /// α / r of a layer, or α / √r.
  func scale(_ module: LoRANames.Module, rank: Int) -> Double {
    guard let settings = parts[module.component] else { return 1 }
    let own = settings.patterns.filter { module.path == $0.path || module.path.hasSuffix("_" + $0.path) }
      .max { $0.path.count < $1.path.count }
    guard let alpha = own?.alpha ?? settings.alpha else { return 1 }
    return alpha / (settings.dividesByRoot ? Double(rank).squareRoot() : Double(rank))
  }
}
