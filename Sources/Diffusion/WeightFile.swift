import Files
package import Foundation

/// A file of a component's weights, or an index of several, told by its name: `BASE.safetensors`, with a variant
/// `BASE.fp16.safetensors`, as an index `BASE.safetensors.index.json`, `BASE.safetensors.index.fp16.json` or
/// `BASE.fp16.safetensors.index.json`. Older folders have `.bin` instead: pickles, which are read as data.
package struct WeightFile: Equatable {
  package let name: String
  /// Empty for the plain file.
  package let variant: String
  /// Whether it is a list of shards.
  package let isIndex: Bool
  package let isPickle: Bool

  /// - Parameter base: `diffusion_pytorch_model`, or transformers' `model`, whose pickles are called `pytorch_model`.
  package init?(_ name: String, base: String) {
    for isPickle in [false, true] {
      let start = isPickle && base == "model" ? "pytorch_model" : base
      let ending = Self.ending(isPickle: isPickle)
      guard name.hasPrefix(start), name.contains(ending) else { continue }
      let rest = name.dropFirst(start.count)
      let variant: Substring
      if rest.hasSuffix(ending) {
        variant = rest.dropLast(ending.count)
      } else if rest.hasSuffix("\(ending).index.json") {
        variant = rest.dropLast("\(ending).index.json".count)
      } else if rest.hasPrefix("\(ending).index."), rest.hasSuffix(".json") {
        variant = rest.dropFirst("\(ending).index".count).dropLast(".json".count)
      } else {
        continue
      }
      // What has a hyphen is a shard.
      guard
        variant.isEmpty
          || variant.count > 1 && variant.first == "."
            && variant.allSatisfy({ $0.isLetter || $0.isNumber || "._".contains($0) })
      else { continue }
      (self.name, self.variant) = (name, String(variant.dropFirst()))
      (self.isIndex, self.isPickle) = (name.hasSuffix(".json"), isPickle)
      return
    }
    return nil
  }

  private static func ending(isPickle: Bool) -> String { isPickle ? ".bin" : ".safetensors" }

  /// Which of the files there are is to be read: none of `.bin` where there is one of safetensors; of these the variant
  /// that is wanted, else the plain one, else `fp16`, else the only variant.
  ///
  /// - Returns: nil where there is none, or no reason to choose.
  static func choice(
    of names: some Sequence<String>, base: String, variant: String? = nil, pickles: Bool = true
  ) -> WeightFile? {
    let all = names.sorted().compactMap { WeightFile($0, base: base) }
    for kind in [all.filter { !$0.isPickle }, pickles ? all.filter(\.isPickle) : []] {
      let variants = Set(kind.map(\.variant))
      let others = variants.subtracting(["", "fp16"])
      for variant in [variant, "", "fp16", others.count == 1 ? others.first : nil].compactMap(\.self) {
        let found = kind.filter { $0.variant == variant }
        if let best = found.first(where: { !$0.isIndex }) ?? found.first { return best }
      }
    }
    return nil
  }

  /// The file of a component's weights in its folder, or the index of them.
  ///
  /// - Throws: `DiffusionError` that names what is there when none is to be read.
  static func choice(in folder: URL, base: String) throws -> WeightFile {
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
    let (there, lost) = names.reduce(into: ([] as [String], [] as [String])) {
      if FileManager.default.fileExists(atPath: folder.appending(path: $1).path) {
        $0.0.append($1)
      } else {
        $0.1.append($1)
      }
    }
    if let file = choice(of: there, base: base, pickles: false) { return file }
    if let link = lost.first(where: { $0.contains(".safetensors") }) {
      throw DiffusionError(
        "\(folder.path): \(link) is a link to a file that is not there; download the model again")
    }
    if let file = choice(of: there, base: base) { return file }
    func shown(_ endings: [String]) -> String? {
      let files = there.filter { endings.contains(where: $0.hasSuffix) }
      return files.isEmpty ? nil : "; there is \(files.prefix(4).map(quoted).joined(separator: ", "))"
    }
    let advice =
      shown([".safetensors", ".bin", ".ckpt", ".pt"]).map { "\($0): rename the one to use so" }
      ?? shown([".msgpack", ".h5", ".onnx"]).map {
        "\($0), for Flax, TensorFlow or ONNX, which is not read: fetch the model with weights for PyTorch, or convert it"
      }
    throw DiffusionError(
      "\(folder.path): there is no \(base).safetensors, nor only one variant, a .bin or an index of shards of that name"
        + (advice ?? ""))
  }

  /// The files of a component's weights in its folder: one, or the shards of an index.
  ///
  /// - Throws: `DiffusionError` that names what is there when none is to be read; that or `FileError` for a bad index.
  package static func files(in folder: URL, base: String) throws -> [URL] {
    let file = try choice(in: folder, base: base)
    let url = folder.appending(path: file.name)
    return file.isIndex ? try shards(url) : [url]
  }

  /// The files that a sharded model's index names, each once.
  static func shards(_ index: URL) throws -> [URL] {
    struct Index: Decodable {
      let weightMap: [String: String]
      enum CodingKeys: String, CodingKey { case weightMap = "weight_map" }
    }
    let names = Set(try JSONFile.decode(Index.self, from: index).weightMap.values).sorted()
    guard (1...1024).contains(names.count) else {
      throw DiffusionError("\(JSONFile.displayName(index)) names \(names.count) files; 1…1024 are read")
    }
    let isPickle = index.lastPathComponent.contains("\(ending(isPickle: true)).index.")
    // A name with a slash could lead out of the model's folder.
    if let bad = names.first(where: { !$0.hasSuffix(ending(isPickle: isPickle)) || $0.hasSlash }) {
      throw DiffusionError(
        "\(JSONFile.displayName(index)): \(bad.debugDescription) is no name of a \(isPickle ? ".bin" : "safetensors") file"
      )
    }
    return names.map { index.deletingLastPathComponent().appending(path: $0) }
  }

  /// Opens a file of weights, of either kind.
  ///
  /// - Throws: `FileError` for a file that is missing or broken.
  static func open(_ url: URL) throws -> any TensorFile {
    url.pathExtension == "bin" ? try TorchWeights(url) : try SafetensorsFile(url)
  }
}
