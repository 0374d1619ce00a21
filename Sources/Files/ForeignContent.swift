/// What people have under the name of weights, because a download went wrong, and no reader of tensors can say.
package enum ForeignContent {
  /// Bytes from a file's start that tell it.
  package static let signatureBytes = 32

  private static let pointer = "is a pointer of Git LFS, not the file itself; fetch that with: git lfs pull"
  private static let webPage = "is a web page, not the file itself: the download went wrong; fetch it again"
  private static let signatures = [
    ("version https://git-lfs", pointer),
    ("<!doctype html", webPage), ("<html", webPage),
  ]

  /// What a file with such a start is, and what to do; nil for others.
  package static func found(in head: some Collection<UInt8>) -> String? {
    let text = String(decoding: head.prefix(signatureBytes), as: UTF8.self).lowercased()
    let start = text.drop(while: \.isWhitespace)
    return signatures.first { start.hasPrefix($0.0) }?.1
  }

  /// The same, and what else people take for a safetensors file: an image, a file of PyTorch or a text.
  package static func instead(ofSafetensors bytes: some RandomAccessCollection<UInt8>) -> String? {
    if let found = found(in: bytes) { return found }
    let head = Array(bytes.prefix(textBytes))
    // The length of a header may begin as anything.
    guard head.count <= 8 || head[8] != UInt8(ascii: "{") else { return nil }
    if images.contains(where: head.starts) { return "is an image, not a safetensors file" }
    if head.starts(with: Array("PK\u{3}\u{4}".utf8)) {
      return "is a zip archive, as PyTorch writes its files (.pt, .ckpt, .bin), not a safetensors file"
    }
    if head.starts(with: [0x93] + Array("NUMPY".utf8)) {
      return
        "is an array of NumPy's (.npy), not a safetensors file; save it as one with safetensors.numpy.save_file"
    }
    return text(head).map { "is a text, not a safetensors file (\(quoted($0)))" }
  }

  private static let images: [[UInt8]] = [
    [0x89] + Array("PNG".utf8), [0xFF, 0xD8, 0xFF], Array("RIFF".utf8),
  ]

  /// Bytes from a file's start that tell whether it is a text.
  package static let textBytes = 512

  /// The bytes as a line of text, where they are that.
  package static func text(_ head: [UInt8]) -> String? {
    var whole = head[...]
    // The last character may be cut.
    if head.count == textBytes {
      while let last = whole.last, last & 0xC0 == 0x80 { whole.removeLast() }
      if let last = whole.last, last >= 0xC0 { whole.removeLast() }
    }
    guard !whole.contains(where: { $0 < 32 && ![9, 10, 12, 13].contains($0) || $0 == 127 }),
      let text = String(validating: whole, as: UTF8.self)
    else { return nil }
    let line = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    return line.isEmpty ? nil : line
  }
}
