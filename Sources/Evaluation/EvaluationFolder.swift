import Files
import Foundation
import NeTI

/// The folder of an evaluation: `concepts/NAME/results.jsonl` with images, and the report, its own and no other's.
enum EvaluationFolder {
  static let conceptsName = "concepts"

  /// Throws when `folder` is a file, or holds something and no evaluation: its report would replace what is there.
  static func require(_ folder: URL) throws {
    var isFolder: ObjCBool = false
    guard FileManager.default.fileExists(atPath: folder.path, isDirectory: &isFolder) else { return }
    guard isFolder.boolValue else {
      throw EvaluationError("\(folder.path) is a file; name a folder with `output`")
    }
    guard let names = try? FileManager.default.contentsOfDirectory(atPath: folder.path) else {
      throw EvaluationError("cannot look into \(folder.path): no permission")
    }
    let content = names.filter { $0 != ".DS_Store" && !AtomicFile.isUnfinished($0) }.sorted()
    guard !content.isEmpty, !holdsEvaluation(folder, content) else { return }
    let some = content.prefix(3).map(quoted).joined(separator: ", ") + (content.count > 3 ? ", …" : "")
    throw EvaluationError(
      "\(folder.path) is not empty (\(some)) and holds no evaluation: choose another `output`")
  }

  /// Results of a concept are there; or a process has only just begun, or was killed then, and nothing else is there.
  private static func holdsEvaluation(_ folder: URL, _ content: [String]) -> Bool {
    func names(_ url: URL) -> [String]? { try? FileManager.default.contentsOfDirectory(atPath: url.path) }
    let concepts = folder.appending(path: conceptsName)
    guard let subjects = names(concepts) else { return false }
    let inside = subjects.map { names(concepts.appending(path: $0)) }
    if inside.contains(where: { $0?.contains(EvaluationResults.fileName) == true }) { return true }
    return content == [conceptsName]
      && inside.allSatisfy { $0?.allSatisfy { $0 == FolderLock.fileName } == true }
  }
}
