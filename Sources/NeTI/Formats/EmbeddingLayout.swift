import Diffusion
import Files
import Torch

/// How the tensors of an embedding's file belong together, told by their names.
enum EmbeddingLayout {
  /// One tensor for all layers.
  case shared(String)
  /// One for each layer, in the order of `LayerNames.shortNames`: kohya's.
  case layers([String])
  /// One for each of sixteen numbers, `<toy>-0` … `<toy>-15`: prompt-plus-pytorch's, and forks of it.
  case numbered([String], token: String)

  /// Throws a line that says what the file is, and where that is known, which program wrote it and what to do.
  init(_ names: [String]) throws {
    if let line = Self.otherContent(names) { throw NeTIError(line) }
    if names.count == 1 {
      self = .shared(names[0])
    } else if names.count == LayerNames.shortNames.count, Set(names) == Set(LayerNames.shortNames) {
      self = .layers(LayerNames.shortNames)
    } else if let token = Self.numberedToken(names) {
      self = .numbered(LayerNames.shortNames.indices.map { "\(token)-\($0)" }, token: token)
    } else {
      throw NeTIError(
        "it is not a neti concept, and no embedding: it holds \(names.count) tensors; diffusers, A1111, kohya and OneTrainer "
          + "keep one, or for XTI 16, called IN01 to OUT11 (kohya) or <toy>-0 to <toy>-15 (prompt-plus-pytorch)"
          + (names.count > 1 ? "; save each of several embeddings in a file of its own" : "")
      )
    }
  }

  private static func numberedToken(_ names: [String]) -> String? {
    guard names.count == LayerNames.shortNames.count, let first = names.first,
      let end = first.lastIndex(of: "-"), end > first.startIndex
    else { return nil }
    let token = String(first[..<end])
    return Set(names) == Set(names.indices.map { "\(token)-\($0)" }) ? token : nil
  }

  /// Per layer, which of the sixteen tensors [n, d] it takes.
  ///
  /// prompt-plus-pytorch's U-Net takes one for each of its seven blocks with cross-attention (three down, the middle,
  /// three up), and trains no more: the last nine are still equal to one another. Its forks take one for each layer.
  ///
  /// Source: `prompt_plus_unet_2d_condition.py` of https://github.com/mkshing/prompt-plus-pytorch.
  static func layersOfNumbered(_ tensors: [Tensor]) throws -> [Int] {
    let untrained = try tensors.dropFirst(7).map { try $0.floats() }
    guard let first = untrained.first, untrained.allSatisfy({ $0 == first }) else {
      return Array(tensors.indices)
    }
    return [0, 0, 1, 1, 2, 2, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6]
  }

  // MARK: Files of other kinds

  /// What an embedding for several text encoders is, or for another one than the first, that is not for SDXL.
  private static func otherEncoders(_ names: [String]) -> String? {
    let (first, second) = (names.contains("clip_l"), names.contains("clip_g"))
    let hasT5 = names.contains { ["t5", "t5xxl"].contains($0) }
    guard second || first && names.count > 1 else { return nil }
    let shown = names.sorted().prefix(4).joined(separator: ", ")
    if hasT5 {
      return
        "it is an embedding for \(second ? "Stable Diffusion 3" : "FLUX") (\(shown)), which is not supported; neti reads those "
        + "for Stable Diffusion 1, 2 and XL"
    }
    if names.count == 1 {
      return
        "it is an embedding for SDXL's refiner (\(shown) alone), which is not supported; one for SDXL holds clip_l and clip_g"
    }
    return
      "it holds \(names.prefix(4).map(quoted).joined(separator: ", ")); an embedding for SDXL holds clip_l and clip_g"
  }

  /// What a file with these names is, when it is known and no embedding that is read.
  static func otherContent(_ names: [String]) -> String? {
    func has(_ name: String) -> Bool { names.contains(name) }
    func begins(_ prefixes: String...) -> Bool {
      names.contains { name in prefixes.contains { name.hasPrefix($0) } }
    }
    if let name = names.first(where: { ["emp_params_out", "clip_l_out", "clip_g_out"].contains($0) }) {
      return
        "it is an output embedding of OneTrainer (\(name)), which stands behind the text encoder, where neti has no "
        + "place for it; train it in OneTrainer without output embedding"
    }
    if let line = otherEncoders(names) { return line }
    if begins("lycoris_") {
      return
        "it is a LoRA with LyCORIS's own names (lycoris_…), which neti does not read; rename them as kohya's scripts do, "
        + "lora_unet_… or lora_te_…"
    }
    if begins("lora_unet_", "lora_te"), let kind = names.lazy.compactMap(LoRANames.otherKind).first {
      return
        "it is \(kind), which is not supported, and changes the model; of such files LoRA, LoCon and DoRA are"
    }
    if begins("lora_unet_", "lora_te") {
      return "it is a LoRA of kohya's scripts; give it to a command with `lora`"
    }
    if names.contains(where: { $0.contains(".lora") || $0.contains("lora_A.") }) {
      return "it is a LoRA of diffusers or PEFT; give it to a command with `lora`"
    }
    if begins("model.diffusion_model.", "cond_stage_model.", "first_stage_model.") {
      return "it is a whole model in one file; give it to a command with `model`"
    }
    if has("layer_structure") {
      return "it is a hypernetwork of A1111, which changes the U-Net and holds no vectors"
    }
    if has("modifier_token") {
      return "it is of Custom Diffusion, which changes the U-Net, too; only its vectors would be read"
    }
    if has("ip_adapter") || has("image_proj") || begins("ip_adapter.", "image_proj.") {
      return "it is an IP-Adapter, which changes the U-Net and holds no vectors"
    }
    return nil
  }
}
