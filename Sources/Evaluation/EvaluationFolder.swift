import Files
import Foundation
import NeTI

/// The folder of an evaluation: `concepts/NAME/results.jsonl` with images, and the report, its own and no other's.
enum EvaluationFolder {
  static let conceptsName = "concepts"

  /// Throws when `folder` is a file, or what is called as an evaluation's parts is there, and is none's: it would be
  /// replaced. Other files do not matter.
  static func require(_ folder: URL) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder) else { return }
    guard isFolder.boolValue else {
      throw EvaluationError("\(folder.path) is a file; name a folder with `output`")
    }
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder.path) else {
      throw EvaluationError(
        "cannot look into \(folder.path): check its permissions, or choose another `output`")
    }
    let content = names.filter(([conceptsName] + EvaluationReport.fileNames).contains).sorted()
    guard !content.isEmpty, !holdsEvaluation(folder, content) else { return }
    throw EvaluationError(
      "\(folder.path) holds no evaluation, and \(content.map(quoted).joined(separator: ", ")) would be replaced: choose "
        + "another `output`")
  }

  /// Results of a concept are there; or a process has only just begun, or was killed then, and nothing else is there.
  private static func holdsEvaluation(_ folder: URL, _ content: [String]) -> Bool {
    func names(_ url: URL) -> [String]? { try? FileManager.default.contentsOfDirectory(atPath: url.path) }
    let concepts = folder.appending(path: conceptsName)
    guard let subjects = names(concepts) else { return false }
    let inside = subjects.map { names(concepts.appending(path: $0)) }
    if inside.contains(where: { $0?.contains(EvaluationResults.fileName) == true }) { return true }
    return content == [conceptsName]
      && inside.allSatisfy {
        $0?.allSatisfy { [FolderLock.fileName, ".DS_Store"].contains($0) || AtomicFile.isUnfinished($0) }
          == true
      }
  }
}
