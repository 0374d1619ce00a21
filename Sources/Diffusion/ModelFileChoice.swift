import Files
public import Foundation
public import Hub

/// Which files of a repository neti needs: one variant of each part's weights, its configuration, and no more. Never
/// pickles, and never the safety checker. Or the one file that somebody names.
public struct ModelFileChoice: Sendable {
  /// What to fetch, but for shards; weights come last, so that a model with weights has the rest, too.
  public let files: [RepositoryFile]
  /// Those of `files` that say which shards there are.
  public let indexes: [RepositoryFile]

  /// - Parameters:
  ///   - list: of a repository in the diffusers layout, or of a CLIP in that of transformers.
  ///   - variant: of the weights, such as `fp16`, where a part has it; nil prefers the plain ones.
  /// - Throws: `DiffusionError` that says what the repository is instead, or lacks.
  public init(_ list: RepositoryList, name: RepositoryName, variant: String? = nil) throws {
    let paths = Set(list.files.map(\.path))
    let needs = try Needs(paths, of: "\(name)", variant: variant, files: Self.models(in: paths, of: name))
    files = (needs.small + needs.weights.map(\.path)).compactMap { list.file($0) }
    indexes = needs.weights.filter(\.isIndex).compactMap { list.file($0.path) }
  }

  /// - Parameter path: of the one file that is wanted.
  /// - Throws: `DiffusionError` that names those there are, where it is not there.
  init(_ list: RepositoryList, name: RepositoryName, only path: String) throws {
    guard let file = list.file(path) else {
      let others = Self.models(in: list.files.map(\.path), of: name)
      throw DiffusionError(
        "\(name) has no file \(quoted(path))"
          + (others.isEmpty ? ", and no other that is a model in one file" : "; there is \(others)"))
    }
    (files, indexes) = ([file], [])
  }

  /// The first models in one file, by the names that `model` takes; empty where there is none.
  private static func models(in paths: some Sequence<String>, of name: RepositoryName) -> String {
    let files = paths.sorted().filter { path in
      !path.contains("/") && RepositoryFileName("\(name)/\(path)")?.path == path
    }
    return files.prefix(4).map { "\(name)/\($0)" }.joined(separator: ", ")
      + (files.count > 4 ? " and \(files.count - 4) more" : "")
  }

  /// Whether a folder of the cache has all that neti needs of a model.
  public static func isComplete(_ folder: URL) -> Bool {
    let files = FileManager.default
    func exists(_ path: String) -> Bool { files.fileExists(atPath: folder.appending(path: path).path) }
    let paths = ((try? files.subpathsOfDirectory(atPath: folder.path)) ?? []).filter(exists)
    guard let needs = try? Needs(Set(paths), of: folder.path, pickles: true) else { return false }
    return needs.weights.filter(\.isIndex).allSatisfy { index in
      let shards = try? WeightFile.shards(folder.appending(path: index.path))
      return shards?.allSatisfy { files.fileExists(atPath: $0.path) } ?? false
    }
  }
}

/// What is needed of the files that there are, by their paths.
private struct Needs {
  var small: [String] = []
  var weights: [(path: String, isIndex: Bool)] = []
  private let paths: Set<String>
  private let place: String
  private let variant: String?
  private let pickles: Bool
  /// What else to do where this is no model in the diffusers layout.
  private let alternative: String
  /// What weights there are, and whether any is of the variant that is wanted.
  private var variants: Set<String> = []
  private var hasVariant = false

  /// - Parameters:
  ///   - pickles: whether weights in pickles count.
  ///   - files: the models in one file that are there, for a message.
  init(
    _ paths: Set<String>, of place: String, variant: String? = nil, pickles: Bool = false, files: String = ""
  ) throws {
    self.paths = paths
    self.place = place
    self.variant = variant
    self.pickles = pickles
    alternative = files.isEmpty ? "" : ". There are models in one file: name one as \(files)"
    try addAll()
    guard let variant, !hasVariant else { return }
    let others = variants.subtracting([""]).sorted().map(quoted).joined(separator: ", ")
    throw DiffusionError(
      "\(place) has no weights of the variant \(quoted(variant)); "
        + (others.isEmpty ? "it has no variants" : "there is \(others)"))
  }

  private mutating func addAll() throws {
    let folders = Set(paths.compactMap { $0.split(separator: "/").dropLast().first.map(String.init) })
    if folders.isDisjoint(with: ["unet", "transformer"]), paths.contains("config.json") {
      try require("config.json")
      try require("preprocessor_config.json")
      try addTokenizer("")
      try addWeights("", "model")
      return
    }
    try checkParts(folders)
    allow("model_index.json")
    allow(paths.contains("model_defaults.json") ? "model_defaults.json" : "recipe.json")
    for component in ModelFolder.Component.allCases where folders.contains(component.rawValue) {
      let folder = component.rawValue + "/"
      if component.rawValue.hasPrefix("tokenizer") {
        try addTokenizer(folder)
      } else if component == .scheduler {
        try require(folder + "scheduler_config.json")
      } else {
        try require(folder + "config.json")
        try addWeights(folder, component.weightsName)
      }
    }
  }

  private mutating func allow(_ path: String) { if paths.contains(path) { small.append(path) } }

  private mutating func require(_ path: String) throws {
    guard paths.contains(path) else { throw DiffusionError("\(place): there is no \(path), which is needed") }
    small.append(path)
  }

  private mutating func addWeights(_ folder: String, _ base: String) throws {
    let names = paths.filter { $0.hasPrefix(folder) }.map { String($0.dropFirst(folder.count)) }
    guard let found = WeightFile.choice(of: names, base: base, variant: variant, pickles: pickles) else {
      throw refusal(folder, base, names)
    }
    variants.formUnion(names.compactMap { WeightFile($0, base: base) }.filter { !$0.isPickle }.map(\.variant))
    hasVariant = hasVariant || found.variant == variant
    weights.append((folder + found.name, found.isIndex))
  }

  /// Why no weights of a part are to be fetched: there are several variants, only pickles, or none.
  private func refusal(_ folder: String, _ base: String, _ names: [String]) -> DiffusionError {
    let there = names.sorted().compactMap { WeightFile($0, base: base) }
    let variants = Set(there.filter { !$0.isPickle }.map(\.variant)).sorted()
    if let first = variants.first {
      return DiffusionError(
        "\(place): of \(folder) there are no plain weights but the variants \(variants.map(quoted).joined(separator: ", ")); "
          + "choose one, as with `model get \(place) --variant \(first)`")
    }
    let missing =
      "\(place): there is no \(folder)\(base).safetensors, nor a variant or an index of shards of that name"
    guard let pickle = there.first else {
      return DiffusionError("\(missing); look for another repository of the model\(alternative)")
    }
    return DiffusionError(
      "\(missing), but \(quoted(folder + pickle.name)); pickles are not fetched, as they can run code in other programs. Look "
        + "for another repository of the model, or fetch this one with Hugging Face's own "
        + "`hf download \(place.replacing("@", with: " --revision "))`: what is in the cache or in a folder is read as data"
        + alternative)
  }

  /// A tokenizer in its old layout, or in the one of a single file.
  private mutating func addTokenizer(_ folder: String) throws {
    if paths.isSuperset(of: ["vocab.json", "merges.txt"].map { folder + $0 }) {
      for name in ["vocab.json", "merges.txt", "added_tokens.json"] { allow(folder + name) }
    } else {
      try require(folder + "tokenizer.json")
    }
    for name in ["tokenizer_config.json", "special_tokens_map.json"] { allow(folder + name) }
  }

  /// The parts that every supported model has, and none that no supported one has.
  private func checkParts(_ folders: Set<String>) throws {
    for other in ["text_encoder_2", "text_encoder_3", "transformer"]
    where folders.contains(other) && ModelFolder.Component(rawValue: other) == nil {
      throw DiffusionError(
        "\(place) has \(other)/: it is of no family that is supported; nothing was fetched")
    }
    let missing = ["tokenizer", "text_encoder", "unet", "vae", "scheduler"].filter { !folders.contains($0) }
    guard missing.isEmpty else {
      throw DiffusionError(
        "\(place) is no model in the diffusers layout: there is no \(missing.map { $0 + "/" }.joined(separator: ", "))"
          + alternative)
    }
  }
}
