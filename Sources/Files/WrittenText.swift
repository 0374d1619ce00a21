package import Foundation

/// The text of a file that a person wrote: UTF-8, or the UTF-16 that a byte-order mark tells, without the mark.
///
/// - Parameter name: what errors call the file.
/// - Throws: `FileError` for any other encoding, with how to save it.
package func decodedText(_ data: Data, name: String) throws -> String {
  let marks: [([UInt8], String.Encoding)] = [
    ([0xFF, 0xFE], .utf16LittleEndian), ([0xFE, 0xFF], .utf16BigEndian),
  ]
  let unmarked = FileError("\(name) is UTF-16 text without a byte-order mark, or no text; save it as UTF-8")
  let text: String
  if let (mark, encoding) = marks.first(where: { data.starts(with: $0.0) }) {
    guard data.count % 2 == 0, let decoded = String(data: data.dropFirst(mark.count), encoding: encoding)
    else { throw FileError("\(name) is damaged UTF-16 text; save it again, as UTF-8") }
    text = decoded
  } else {
    guard !data.contains(0) else { throw unmarked }
    guard let decoded = String(data: data, encoding: .utf8) else { throw notUTF8(data, name) }
    text = String(decoded.trimmingPrefix("\u{FEFF}"))
  }
  guard !text.utf8.contains(0) else { throw unmarked }
  return text
}

/// Says where the first byte is that is none of UTF-8.
private func notUTF8(_ data: Data, _ name: String) -> FileError {
  let start = String(decoding: data, as: UTF8.self).prefix { $0 != "\u{FFFD}" }
  let byte = data.dropFirst(start.utf8.count).first.map { String($0, radix: 16, uppercase: true) } ?? "?"
  return FileError(
    "\(name) is not UTF-8 text (byte \(byte) after \(quoted(String(start.suffix(20))))); save it as UTF-8 in an "
      + "editor, or convert it, if it is Windows' encoding with: iconv -f WINDOWS-1252 -t UTF-8")
}
