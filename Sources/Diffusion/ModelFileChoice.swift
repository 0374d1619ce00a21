import Files
public import Foundation
public import Hub

/// Which files of a repository neti needs: one variant of each part's weights, its configuration, and no more. Never
/// pickles, and never the safety checker.
public struct ModelFileChoice: Sendable {
  /// What to fetch, but for shards; weights come last, so that a model with weights has the rest, too.
  public let files: [RepositoryFile]
  /// Those of `files` that say which shards there are.
  public let indexes: [RepositoryFile]

  /// - Parameter list: of a repository in the diffusers layout, or of a CLIP in that of transformers.
  /// - Throws: `DiffusionError` that says what the repository is instead, or lacks.
  public init(_ list: RepositoryList, name: RepositoryName) throws {
    let needs = try Needs(Set(list.files.map(\.path)), of: "\(name)")
    files = (needs.small + needs.weights.map(\.path)).compactMap { list.file($0) }
    indexes = needs.weights.filter(\.isIndex).compactMap { list.file($0.path) }
  }

  /// Whether a folder of the cache has all that neti needs of a model.
  public static func isComplete(_ folder: URL) -> Bool {
    let files = FileManager.default
    func exists(_ path: String) -> Bool { files.fileExists(atPath: folder.appending(path: path).path) }
    let paths = ((try? files.subpathsOfDirectory(atPath: folder.path)) ?? []).filter(exists)
    guard let needs = try? Needs(Set(paths), of: folder.path) else { return false }
    return needs.weights.filter(\.isIndex).allSatisfy { index in
      let shards = try? ModelFolder.shards(folder.appending(path: index.path))
      return shards?.allSatisfy { files.fileExists(atPath: $0.path) } ?? false
    }
  }

  /// The names of a component's weights in the order of preference; an index is a list of shards.
  static func weightNames(_ base: String) -> [(name: String, isIndex: Bool)] {
    ["", ".fp16"].flatMap { variant in
      [
        ("\(base)\(variant).safetensors", false), ("\(base).safetensors.index\(variant).json", true),
        ("\(base)\(variant).safetensors.index.json", true),
      ]
    }
  }
}

/// What is needed of the files that there are, by their paths.
private struct Needs {
  var small: [String] = []
  var weights: [(path: String, isIndex: Bool)] = []
  private let paths: Set<String>
  private let place: String

  init(_ paths: Set<String>, of place: String) throws {
    self.paths = paths
    self.place = place
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
    guard let found = ModelFileChoice.weightNames(base).first(where: { paths.contains(folder + $0.name) })
    else {
      throw DiffusionError(
        "\(place): there is no \(folder)\(base).safetensors, nor its fp16 variant, nor an index of shards; pickles are not "
          + "fetched, as they can run code. Look for another repository of the model")
    }
    weights.append((folder + found.name, found.isIndex))
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
      let single = paths.sorted().first { !$0.contains("/") && $0.hasSuffix(".safetensors") }
      throw DiffusionError(
        "\(place) is no model in the diffusers layout: there is no \(missing.map { $0 + "/" }.joined(separator: ", "))"
          + (single.map { "; fetch its file \(quoted($0)) with a browser, and name that with `model`" } ?? "")
      )
    }
  }
}
