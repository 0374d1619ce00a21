import Files
import Foundation

/// What people have under the name of a model and no reader of tensors can name: told by a file's first bytes.
enum ForeignFormat {
  private static let again = "the download went wrong; fetch it again"
  private static let unpack = "unpack it, and name what is in it"

  /// How a file begins, what that is, and what to do.
  private static let starts: [(bytes: [UInt8], what: String, advice: String)] = [
    (Array("GGUF".utf8), "a GGUF file, whose weights are quantised", ModelFamily.advice),
    (Array("7z".utf8) + [0xBC, 0xAF, 0x27, 0x1C], "an archive (7z)", unpack),
    (Array("Rar!".utf8) + [0x1A, 0x07], "an archive (RAR)", unpack),
    ([0x1F, 0x8B], "packed (gzip)", unpack), (Array("BZh".utf8), "packed (bzip2)", unpack),
    ([0xFD] + Array("7zXZ".utf8), "packed (xz)", unpack),
    ([0x28, 0xB5, 0x2F, 0xFD], "packed (zstd)", unpack),
    ([0x89] + Array("PNG".utf8), "an image", ModelFamily.advice),
    ([0xFF, 0xD8, 0xFF], "an image", ModelFamily.advice),
  ]

  /// - Throws: `DiffusionError` that says what the file is; nothing for what may be safetensors or `torch.save`'s.
  static func refuse(_ url: URL) throws {
    let file = try MappedFile(url)
    let head = withExtendedLifetime(file) { Array(file.bytes.prefix(ForeignContent.textBytes)) }
    if let foreign = ForeignContent.found(in: head) { throw DiffusionError("\(url.path) \(foreign)") }
    guard let (what, advice) = try found(head, url) else { return }
    throw DiffusionError("\(url.path) is \(what); \(advice)")
  }

  private static func found(_ head: [UInt8], _ url: URL) throws -> (what: String, advice: String)? {
    if url.pathExtension.lowercased() == "onnx" {
      return ("an ONNX file, a program for another runtime", ModelFamily.advice)
    }
    guard !head.isEmpty else { return ("empty", again) }
    // The length of a safetensors file's header may begin as anything.
    if head.count > 8, head[8] == UInt8(ascii: "{") { return nil }
    if let start = starts.first(where: { head.starts(with: $0.bytes) }) { return (start.what, start.advice) }
    if head.dropFirst(257).starts(with: Array("ustar".utf8)) { return ("an archive (tar)", unpack) }
    if try TorchFile.isOne(url) { return nil }
    if let text = ForeignContent.text(head) { return ("a text, not a model (\(quoted(text)))", again) }
    return ("neither safetensors nor what torch.save wrote", ModelFamily.advice)
  }
}
