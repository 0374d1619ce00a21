public import Diffusion
import Files
public import Foundation

extension Concept {
  /// A concept file of any kind, told by what is in it: ours, the authors' `mapper-….pt`, or an
  /// embedding of another program (`CommunityEmbedding`).
  ///
  /// - Parameters:
  ///   - base: the model that an embedding is for, as it does not say; asked for only when needed.
  ///     Without it an embedding is refused.
  ///   - token: what an embedding's concept is called; else what the file says, else the file's name.
  ///   - category: its super-category, which such a file does not know.
  /// - Throws: one line that names the file and what is wrong with it.
  public static func open(
    _ url: URL, token: String? = nil, category: String = "", base: (() throws -> BaseIdentity)? = nil
  ) throws -> Concept {
    if RunFolder.holdsRun(url) {
      let remedy = RunFolder.result(of: url).map { "; name \($0) in it" } ?? " that has learned nothing yet"
      throw NeTIError("\(url.path) is the folder of a run\(remedy)")
    }
    let embedding: CommunityEmbedding
    if try CommunityEmbedding.isPicture(url) {
      embedding = try CommunityEmbedding(picture: url)
    } else if try TorchFile.isOne(url) {
      let file = try TorchFile(url, classes: AuthorsCheckpoint.classes.union(CommunityEmbedding.classes))
      if ["state_dict", "cfg", "encoder"].contains(where: { file.root[$0] != nil }) {
        return try Concept(authors: AuthorsCheckpoint(url))
      }
      embedding = try CommunityEmbedding(file)
    } else {
      let file = try SafetensorsFile(url)
      if isOurs(file) { return try Concept(file, name: url.lastPathComponent) }
      embedding = try CommunityEmbedding(file)
    }
    guard let base else {
      throw NeTIError(
        "\(url.lastPathComponent) is an embedding of another program; make it a concept first: "
          + "`convert \(url.path) concept.safetensors`")
    }
    return try Concept(
      community: embedding, base: base(), token: token, category: category,
      name: url.lastPathComponent)
  }

  /// Whether the file says that it is ours, whole or not.
  private static func isOurs(_ file: SafetensorsFile) -> Bool {
    file.metadata.keys.contains { ["neti.version", "neti.representation", "neti.about"].contains($0) }
  }
}
