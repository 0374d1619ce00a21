import Files
import Foundation
import Hub

/// Why there is no model where one was named, as far as more can be said than that.
extension ModelFolder {
  /// How the files of models end.
  private static let fileEndings: Set = ["safetensors", "ckpt", "pt", "pth", "gguf", "onnx"]

  /// Why nothing is at `path`, where that is no name of a model on the Hub.
  package static func absence(_ path: String) -> String? {
    if path.hasPrefix("https://") || path.hasPrefix("http://") {
      guard let name = hubName(path) else {
        return "\(quoted(path)) is an address; fetch the model's file with a browser, and name that"
      }
      return "\(quoted(path)) is an address; name the model as \(name)"
    }
    if let target = try? FileManager.default.destinationOfSymbolicLink(atPath: path),
      !FileManager.default.fileExists(atPath: path)
    {
      return "\(path) is a link to \(quoted(target)), where nothing is; name the file or folder itself"
    }
    guard fileEndings.contains(URL(filePath: path).pathExtension.lowercased()) else { return nil }
    guard let file = RepositoryFileName(path) else {
      return "\(path): there is no such file; check the path"
        + (RepositoryName(path).map { $0.id.contains("/") } == true
          ? ". A file on the Hub is named as ORGANISATION/NAME/FILE" : "")
    }
    return
      "\(path): there is no such file; check the path. If it is a file of \(file.repository) on the Hub, add `download`, or "
      + "fetch it with: `model get \(file)`"
  }

  /// What the model of an address on the Hub is called here.
  private static func hubName(_ address: String) -> String? {
    let parts = address.split(separator: "/").dropFirst().map(String.init)
    guard parts.first == "huggingface.co", parts.count >= 3 else { return nil }
    let name = "\(parts[1])/\(parts[2])"
    guard parts.count > 5, ["blob", "resolve"].contains(parts[3]) else { return name }
    let path = parts[5...].joined(separator: "/").split(separator: "?")[0]
    let file = RepositoryFileName("\(name)\(parts[4] == "main" ? "" : "@\(parts[4])")/\(path)")
    return file?.description ?? name
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
