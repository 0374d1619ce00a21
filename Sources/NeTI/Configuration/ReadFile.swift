import Foundation

/// A file's bytes, when it is a regular file of at most `limit` bytes.
///
/// Throws a `NeTIError` that says why not: a pipe or device in the place of a file would never end.
func readFile(_ url: URL, limit: Int) throws -> Data {
  let path = url.resolvingSymlinksInPath().path
  let manager = FileManager.default
  var isFolder: ObjCBool = false
  guard manager.fileExists(atPath: path, isDirectory: &isFolder) else {
    throw NeTIError("there is no file \(url.path)")
  }
  guard !isFolder.boolValue else { throw NeTIError("\(url.path) is a folder, not a file") }
  let attributes = try? manager.attributesOfItem(atPath: path)
  guard attributes?[.type] as? FileAttributeType == .typeRegular else {
    throw NeTIError("\(url.path) is not a regular file")
  }
  let tooLarge = NeTIError("\(url.path) is larger than the \(limit) bytes that such a file can have")
  guard let size = (attributes?[.size] as? NSNumber)?.intValue, size <= limit else { throw tooLarge }
  guard manager.isReadableFile(atPath: path), let data = manager.contents(atPath: path) else {
    throw NeTIError("cannot read \(url.path): no permission, or the disk failed")
  }
  guard data.count <= limit else { throw tooLarge }
  return data
}
