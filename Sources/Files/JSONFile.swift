public import Foundation

/// JSON configurations, read with limits and with errors that name the file and the key.
public enum JSONFile {
  /// Bytes a JSON file may have; the largest real one, a tokenizer's vocabulary, has a megabyte.
  public static let maximumSize = 64 << 20
  /// Objects and arrays inside one another; published configurations have three or four.
  public static let maximumDepth = 64

  /// The `T` that the JSON file at `url` describes. Names are taken as they are written (no
  /// conversion between snake and camel case).
  ///
  /// - Throws: `FileError`, one line that names the file and the key at fault.
  public static func decode<T: Decodable>(_ type: T.Type, from url: URL) throws -> T {
    try decode(type, from: read(url), name: displayName(url))
  }

  /// The same for bytes that are in memory already; `name` stands for them in errors.
  public static func decode<T: Decodable>(_ type: T.Type, from data: Data, name: String) throws -> T {
    guard depthIsAllowed(data) else {
      throw FileError("\(name): more than \(maximumDepth) objects or arrays inside one another")
    }
    do {
      let decoder = JSONDecoder()
      // Python writes -Infinity (diffusers does, in schedulers), which only JSON5 allows.
      decoder.allowsJSON5 = data.range(of: Data("Infinity".utf8)) != nil
      return try decoder.decode(type, from: data)
    } catch let error as DecodingError {
      throw FileError("\(name): \(explain(error, data))")
    } catch let error as any DescribedError {
      throw FileError("\(name): \(error.message)")
    } catch {
      throw FileError("\(name): not valid JSON")
    }
  }

  /// The bytes of a regular file of at most `maximumSize`.
  package static func read(_ url: URL) throws -> Data {
    try readFile(url, limit: maximumSize, name: displayName(url))
  }

  /// The last two parts of a path: every model folder has several files of the same name.
  package static func displayName(_ url: URL) -> String {
    url.pathComponents.suffix(2).filter { $0 != "/" }.joined(separator: "/")
  }

  /// Counts brackets outside strings, before any recursive parser sees the data.
  private static func depthIsAllowed(_ data: Data) -> Bool {
    var depth = 0
    var inString = false
    var escaped = false
    for byte in data {
      if inString {
        if escaped {
          escaped = false
        } else if byte == UInt8(ascii: "\\") {
          escaped = true
        } else if byte == UInt8(ascii: "\"") {
          inString = false
        }
        continue
      }
      switch byte {
      case UInt8(ascii: "\""): inString = true
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        depth += 1
        if depth > maximumDepth { return false }
      case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
      default: break
      }
    }
    return true
  }

  private static func explain(_ error: DecodingError, _ data: Data) -> String {
    switch error {
    case .keyNotFound(let key, let context):
      return "there is no “\(path(context.codingPath + [key]))”"
    case .typeMismatch(_, let context):
      return "“\(path(context.codingPath))” has the wrong type. \(context.debugDescription)"
    case .valueNotFound(_, let context):
      return "“\(path(context.codingPath))” is null, and a value is needed"
    case .dataCorrupted(let context):
      if !context.codingPath.isEmpty { return "“\(path(context.codingPath))”: \(context.debugDescription)" }
      // Foundation says this of a number that does not fit, too, and does not say which it is.
      return (try? JSONSerialization.jsonObject(with: data)) == nil
        ? "not valid JSON"
        : "a number does not fit: a fraction where a whole number is needed, or too large"
    @unknown default:
      return "not valid JSON"
    }
  }

  private static func path(_ keys: [any CodingKey]) -> String {
    let parts = keys.map { $0.intValue.map(String.init) ?? $0.stringValue }
    return parts.isEmpty ? "the whole file" : parts.joined(separator: ".")
  }
}
