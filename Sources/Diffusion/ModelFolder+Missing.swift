import Files
import Foundation

/// Why there is no model where one was named, as far as more can be said than that.
extension ModelFolder {
  /// How the files of models end.
  private static let fileEndings: Set = ["safetensors", "ckpt", "pt", "pth", "gguf", "onnx"]

  /// Why nothing is at `path`, where that is no name of a model on the Hub.
  package static func absence(_ path: String) -> String? {
    if path.hasPrefix("https://") || path.hasPrefix("http://") {
      let parts = path.split(separator: "/").dropFirst()
      return parts.first == "huggingface.co" && parts.count >= 3
        ? "\(quoted(path)) is an address; name the model as \(parts.dropFirst().prefix(2).joined(separator: "/"))"
        : "\(quoted(path)) is an address; fetch the model's file with a browser, and name that"
    }
    if let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path),
      !FileManager.default.fileExists(atPath: path)
    {
      return "\(path) is a link to \(quoted(target)), where nothing is; name the file or folder itself"
    }
    guard fileEndings.contains(URL(filePath: path).pathExtension.lowercased()) else { return nil }
    return "\(path): there is no such file; check the path"
  }

  /// What a folder holds in which no part of a model is.
  static func content(_ folder: URL) -> String? {
    let names = ((try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? []).sorted()
    if let kind = className(of: folder) {
      return
        "it holds one part of a model (\(quoted(kind))); name the folder in which that and the others lie"
    }
    if let file = names.first(where: { fileEndings.contains(URL(filePath: $0).pathExtension.lowercased()) }) {
      return "if its file \(quoted(file)) is a model, name that"
    }
    return names.isEmpty ? "it is empty" : nil
  }
}
