import Diffusion
import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite struct TextEncoderTests {
  /// A tiny encoder of a golden file, and the file's other tensors.
  private func golden(_ name: String) throws -> (CLIPTextEncoder, SafetensorsFile) {
    let configuration = try JSONFile.decode(
      CLIPTextConfiguration.self, from: Fixtures.url("text_encoder/\(name).json"))
    let url = Fixtures.url("text_encoder/\(name).safetensors")
    let weights = try Weights(files: [url], dtype: .float32, device: .cpu) {
      $0.hasPrefix("w.") ? String($0.dropFirst(2)) : nil
    }
    return (try CLIPTextEncoder(configuration, weights: weights), try SafetensorsFile(url))
  }

  @Test("The last hidden state equals transformers' to 1e-4", arguments: ["quick_gelu", "gelu"])
  func lastHiddenState(name: String) throws {
    let (encoder, file) = try golden(name)
    let error = try relativeError(encoder.encode(file.tensor("ids")), file.tensor("last"))
    #expect(error < 1e-4)
  }

  @Test(
    "States before the final norm, and after it, equal transformers' to 1e-4",
    arguments: ["quick_gelu", "gelu"])
  func statesFromEmbeddings(name: String) throws {
    let (encoder, file) = try golden(name)
    let states = try encoder.hiddenStates(file.tensor("embeddings"))
    #expect(try relativeError(states, file.tensor("states")) < 1e-4)
    #expect(try relativeError(encoder.output(states), file.tensor("states_last")) < 1e-4)
  }

  @Test(
    "The gradient of the input embeddings equals transformers' to 1e-4", arguments: ["quick_gelu", "gelu"])
  func gradient(name: String) throws {
    let (encoder, file) = try golden(name)
    let input = try file.tensor("embeddings").clone().requireGradient()
    let states = try encoder.hiddenStates(input)
    let found = try gradients(of: [states], seeds: [file.tensor("seed")], for: [input])
    #expect(try relativeError(found[0], file.tensor("gradient")) < 1e-4)
  }

  @Test("mini-sd's encoder equals transformers' to 1e-4")
  func miniSD() throws {
    let file = try SafetensorsFile(Fixtures.url("text_encoder/mini_sd.safetensors"))
    let encoder = try StableDiffusionParts.textEncoder()
    let last = try encoder.encode(file.tensor("ids"))
    #expect(try relativeError(last, file.tensor("last")) < 1e-4)
  }

  @Test("A prefix and the rest give what the whole sequence gives, to 1e-5", arguments: [1, 4, 8])
  func prefix(length: Int) throws {
    let (encoder, file) = try golden("gelu")
    let whole = try file.tensor("embeddings")
    let states = try encoder.hiddenStates(whole)
    let prefix = try encoder.prefix(whole.sliced(1, 0..<length))
    #expect(prefix.length == length)
    let rest = try encoder.hiddenStates(whole.sliced(1, length..<9), prefix: prefix)
    #expect(try relativeError(prefix.states, states.sliced(1, 0..<length)) < 1e-5)
    #expect(try relativeError(rest, states.sliced(1, length..<9)) < 1e-5)
  }

  @Test("Rows of a prefix serve several continuations, and one row serves all")
  func prefixRows() throws {
    let (encoder, file) = try golden("quick_gelu")
    let whole = try file.tensor("embeddings")
    let prefix = try encoder.prefix(whole.sliced(1, 0..<3))
    let order = try Tensor([2, 0, 2, 1])
    let rest = try whole.indexSelected(0, order).sliced(1, 3..<12)
    let expected = try encoder.hiddenStates(whole).indexSelected(0, order).sliced(1, 3..<12)
    #expect(try relativeError(encoder.hiddenStates(rest, prefix: prefix.rows(order)), expected) < 1e-5)

    let one = try prefix.rows(Tensor([2]))
    let shared = try encoder.hiddenStates(rest.indexSelected(0, Tensor([0, 2])), prefix: one)
    #expect(try relativeError(shared, expected.indexSelected(0, Tensor([0, 2]))) < 1e-5)
    #expect(throws: DiffusionError.self) { try encoder.hiddenStates(rest, prefix: prefix) }
  }

  @Test("A gradient goes through a prefix's continuation as through the whole sequence, to 1e-4")
  func prefixGradient() throws {
    let (encoder, file) = try golden("gelu")
    let whole = try file.tensor("embeddings")
    let prefix = try encoder.prefix(whole.sliced(1, 0..<4))
    let input = try whole.sliced(1, 4..<9).clone().requireGradient()
    let rest = try encoder.hiddenStates(input, prefix: prefix)
    let seed = try file.tensor("seed")
    let found = try gradients(of: [rest], seeds: [seed.sliced(1, 4..<9)], for: [input])

    // The constant positions' own share of the golden gradient does not reach these inputs.
    let full = try whole.clone().requireGradient()
    let states = try encoder.hiddenStates(full).sliced(1, 4..<9)
    let expected = try gradients(of: [states], seeds: [seed.sliced(1, 4..<9)], for: [full])
    #expect(try relativeError(found[0], expected[0].sliced(1, 4..<9)) < 1e-4)
    #expect(try relativeError(found[0], file.tensor("gradient").sliced(1, 4..<9)) < 1e-4)
  }

  @Test("Too long a sequence and a wrong width are errors")
  func wrongShapes() throws {
    let (encoder, _) = try golden("gelu")
    #expect(throws: DiffusionError.self) { try encoder.hiddenStates(.zeros([1, 10, 16])) }
    #expect(throws: DiffusionError.self) { try encoder.hiddenStates(.zeros([1, 4, 15])) }
    let prefix = try encoder.prefix(.zeros([1, 5, 16]))
    #expect(throws: DiffusionError.self) { try encoder.hiddenStates(.zeros([1, 5, 16]), prefix: prefix) }
  }

  @Test(
    "A configuration that makes no sense is refused by its key",
    arguments: [
      ("\"hidden_size\": 16", "\"hidden_size\": 17", "hidden_size"),
      ("\"vocab_size\": 30", "\"vocab_size\": \"30\"", "vocab_size"),
      ("\"vocab_size\": 30", "\"vocab_size\": 9223372036854775807", "vocab_size"),
      ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": -2", "num_hidden_layers"),
      ("\"hidden_act\": \"gelu\"", "\"hidden_act\": \"relu\"", "hidden_act"),
      ("\"layer_norm_eps\": 0.001", "\"layer_norm_eps\": -1", "layer_norm_eps"),
      ("\"max_position_embeddings\": 9,", "", "max_position_embeddings"),
    ])
  func badConfiguration(old: String, new: String, key: String) throws {
    let good = try String(contentsOf: Fixtures.url("text_encoder/gelu.json"), encoding: .utf8)
    let bad = good.replacingOccurrences(of: old, with: new)
    try #require(bad != good)
    let error = refusal {
      try JSONFile.decode(CLIPTextConfiguration.self, from: Data(bad.utf8), name: "text_encoder/config.json")
    }
    #expect(error?.message.contains(key) == true)
    #expect(error?.message.contains("text_encoder/config.json") == true)
  }

  @Test("The configuration of a whole CLIP is that of its text transformer; one that is none is refused")
  func wholeCLIP() throws {
    let plain = try String(contentsOf: Fixtures.url("text_encoder/gelu.json"), encoding: .utf8)
    func read(_ text: String) throws -> CLIPTextConfiguration {
      try JSONFile.decode(CLIPTextConfiguration.self, from: Data(text.utf8), name: "text_encoder/config.json")
    }
    let whole = #"{"model_type": "clip", "projection_dim": 9, "vision_config": {}, "text_config": "#
    #expect(try read(whole + plain + "}") == read(plain))
    #expect(try read(whole + plain + "}").hiddenSize == 16)
    #expect(try read(#"{"text_config": null, "# + plain.dropFirst()) == read(plain))
    for (text, words) in [
      (whole + "{}}", "“hidden_size” is missing"), (whole + "[]}", "text_config"),
      (whole + "7}", "text_config"),
    ] {
      let said = refusal { try read(text) }?.message ?? ""
      #expect(said.contains(words) && said.contains("text_encoder/config.json"), "\(said)")
    }
  }

  @Test("5,000 damaged configurations are read or refused, and no encoder of theirs is too large")
  func mutations() throws {
    var read = 0
    for data in Mutations(
      of: try Data(contentsOf: Fixtures.url("text_encoder/gelu.json")), count: 5000, seed: 3)
    {
      do {
        let c = try JSONFile.decode(CLIPTextConfiguration.self, from: data, name: "x")
        read += 1
        #expect((1...16_384).contains(c.hiddenSize) && (1...256).contains(c.layers))
        #expect(c.hiddenSize.isMultiple(of: c.heads) && (0...1).contains(c.layerNormEpsilon))
      } catch let error as any DescribedError {
        #expect(!error.message.contains("\n"))
      }
    }
    #expect(read > 0 && read < 5000)
  }
}

/// Parts of mini-sd that tests load by themselves.
enum StableDiffusionParts {
  static func textEncoder() throws -> CLIPTextEncoder {
    let folder = Fixtures.miniSD.appending(path: "text_encoder")
    let weights = try Weights(
      files: [folder.appending(path: "model.safetensors")], dtype: .float32, device: .cpu,
      rename: CLIPTextEncoder.currentName)
    let configuration = try JSONFile.decode(
      CLIPTextConfiguration.self, from: folder.appending(path: "config.json"))
    return try CLIPTextEncoder(configuration, weights: weights)
  }
}
