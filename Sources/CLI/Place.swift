import Files
import Foundation
import NeTI

/// The place that a path on the command line names. Shells leave `~` and variables in `--output=~/run` and in
/// quotes as they are.
///
/// - Throws: a `NeTIError` for an empty one, which would be the folder one stands in; for a variable that is not set.
func place(_ path: String, isFolder: Bool = false) throws -> URL {
  guard !path.allSatisfy(\.isWhitespace) else {
    let option =
      UsageError.emptyOption(Array(CommandLine.arguments.dropFirst())).map { "\($0) is" }
      ?? "a path on the command line is"
    throw NeTIError(
      wrongUsage: "\(option) empty; name a file or folder, . for the one that you are in")
  }
  return URL(filePath: try expandedPath(path), directoryHint: isFolder ? .isDirectory : .inferFromPath)
}

/// The place of a new file: what is there already stays.
func newFile(_ path: String, choose option: String) throws -> URL {
  let url = try place(path)
  guard !FileManager.default.fileExists(atPath: url.path) else {
    throw NeTIError("\(path) exists already; choose another \(option), or remove it")
  }
  let folder = url.deletingLastPathComponent()
  if let file = ImageOutput.file(inTheWayOf: folder) {
    throw NeTIError("\(file.named(in: path)) is a file, not a folder; choose another \(option)")
  }
  guard FileManager.default.fileExists(atPath: folder.path) else {
    throw NeTIError("\(path): there is no folder \(folder.shownPath); make it, or choose another \(option)")
  }
  return url
}
