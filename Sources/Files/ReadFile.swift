package import Foundation

/// A file's bytes, when it is a regular file of at most `limit` bytes.
///
/// Symbolic links are followed: the Hugging Face cache is made of them. A pipe or device in the place of a
/// file would never end.
///
/// - Parameter name: what errors call the file; its path when nil.
/// - Throws: `FileError` that says why not.
package func readFile(_ url: URL, limit: Int, name: String? = nil) throws -> Data {
  let size = try regularFileSize(url, name: name)
  let name = name ?? url.path
  guard size <= limit else { throw tooLarge(name, size, limit) }
  let data: Data
  do { data = try Data(contentsOf: url.resolvingSymlinksInPath()) } catch {
    throw FileError("\(name): cannot be read; check its permissions")
  }
  guard data.count <= limit else { throw tooLarge(name, data.count, limit) }
  return data
}

/// Bytes of a regular file; anything else is refused, as by `readFile`.
package func regularFileSize(_ url: URL, name: String? = nil) throws -> Int {
  let name = name ?? url.path
  let path = url.resolvingSymlinksInPath().path
  guard let attributes = try? FileManager.default.attributesOfItem(atPath: path) else {
    throw FileError("\(name): there is no such file; check the path")
  }
  switch attributes[.type] as? FileAttributeType {
  case .typeRegular: return (attributes[.size] as? NSNumber)?.intValue ?? 0
  case .typeDirectory: throw FileError("\(name): a folder, not a file; name the file in it")
  default: throw FileError("\(name): a pipe or device, not a file")
  }
}

private func tooLarge(_ name: String, _ size: Int, _ limit: Int) -> FileError {
  FileError("\(name): \(size) bytes; at most \(limit) are read; is it the file that is meant?")
}
