import Diffusion
import Files
import Foundation

/// Paths in what is stored: never absolute, so that a run folder can move and a shared file does not
/// tell whose machine it was made on.
extension RunConfiguration {
  /// For a run folder: paths as seen from it (“../images/toy”). The name of a repository stays.
  func storable(in folder: URL) -> RunConfiguration {
    mapPaths { path in
      let isPath = path.hasPrefix("/") || path.hasPrefix(".") || FileManager.default.fileExists(atPath: path)
      return isPath ? Self.relative(URL(filePath: path), to: folder) : path
    }
  }

  /// The opposite of `storable`: paths that stand for places again.
  func located(in folder: URL) -> RunConfiguration {
    var result = mapPaths { Self.located($0, in: folder) }
    let place = Self.canonical(folder)
    result.log.expName = place.lastPathComponent
    result.log.expDir = place.deletingLastPathComponent().path
    return result
  }

  /// A value of a run's file, as `located` reads it.
  static func located(_ value: ConfigurationValue, of name: String, in folder: URL) -> ConfigurationValue {
    guard let setting = settingsByName[name], setting.isPath else { return value }
    func located(_ text: String) -> String {
      guard name == "model.loras", var file = LoRAFile(text) else { return Self.located(text, in: folder) }
      file.path = Self.located(file.path, in: folder)
      return file.description
    }
    return switch value {
    case .text(let text): .text(located(text))
    case .word(let text): .word(located(text))
    case .list(let items): .list(items.map { Self.located($0, of: name, in: folder) })
    default: value
    }
  }

  private static func located(_ path: String, in folder: URL) -> String {
    guard path == "." || path.hasPrefix("./") || path.hasPrefix("../") || path == ".." else { return path }
    return canonical(folder.appending(path: path)).path
  }

  /// For a concept file, which is given away: of paths only the last name, whichever way they were
  /// written, so that a resumed run says what the run said, and nothing of the folder around the run's.
  /// The name of a repository stays.
  public func withoutPaths() -> RunConfiguration {
    var result = mapPaths { path in
      let isPath =
        path.utf8.first == UInt8(ascii: "/") || path.hasPrefix("~") || path.pathParts.contains("..")
        || FileManager.default.fileExists(atPath: path)
      return isPath ? Self.canonical(URL(filePath: path)).lastPathComponent : path
    }
    result.log.expDir = Log().expDir
    return result
  }

  /// The first folder (of the model: or file) that is not there, as after a typing error, or after a run was moved without it: what names
  /// it, and “PATH: no such folder” or “PATH: not a folder”.
  public var missingFolder: (setting: String, problem: String)? {
    let folders = [
      ("images", data.trainDataDir), ("masks", data.masksDir),
      // Another text than an absolute path may be the name of a repository.
      ("model", model.pretrainedModelNameOrPath.flatMap { $0.hasPrefix("/") ? $0 : nil }),
    ]
    for case (let setting, let path?) in folders {
      var isFolder: ObjCBool = false
      guard FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) else {
        return (setting, "\(path): no such folder")
      }
      guard isFolder.boolValue || setting == "model" else { return (setting, "\(path): not a folder") }
    }
    return nil
  }

  /// Paths as they compare: absolute, without links.
  var canonical: RunConfiguration {
    mapPaths { path in
      FileManager.default.fileExists(atPath: path) ? Self.canonical(URL(filePath: path)).path : path
    }
  }

  private func mapPaths(_ change: (String) -> String) -> RunConfiguration {
    var result = self
    for setting in Self.settings where setting.isPath {
      guard case .text(let path) = setting.write(self), !path.isEmpty else { continue }
      _ = setting.read(&result, .text(change(path)))
    }
    result.model.loras = model.loras.map { text in
      guard var file = LoRAFile(text) else { return text }
      file.path = change(file.path)
      return file.description
    }
    return result
  }

  private static func canonical(_ url: URL) -> URL { url.standardizedFileURL.resolvingSymlinksInPath() }

  private static func relative(_ url: URL, to folder: URL) -> String {
    let target = canonical(url).pathComponents
    let base = canonical(folder).pathComponents
    let shared = zip(target, base).prefix { $0 == $1 }.count
    let up = Array(repeating: "..", count: base.count - shared)
    let parts = up + target.dropFirst(shared)
    return (up.isEmpty ? ["."] + parts : parts).joined(separator: "/")
  }
}
