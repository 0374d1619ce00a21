public import Foundation

/// JSON configurations, read with limits and with errors that name the file and the key.
public enum JSONFile {
  /// Bytes a JSON file may have; the largest real one, a tokenizer's vocabulary, has a megabyte.
  public static let maximumSize = 64 << 20
  /// Objects and arrays inside one another; published configurations have three or four.
  public static let maximumDepth = 64
  /// Bytes of a key, as it is written.
  public static let maximumKeyBytes = 4096

  /// The `T` that the JSON file at `url` describes. Names are taken as they are written (no
  /// conversion between snake and camel case).
  ///
  /// - Throws: `FileError`, one line that names the file and the key at fault.
  public static func decode<T: Decodable>(_ type: T.Type, from url: URL) throws -> T {
    try decode(type, from: read(url), name: displayName(url))
  }

  /// The same for bytes that are in memory already; `name` stands for them in errors.
  public static func decode<T: Decodable>(_ type: T.Type, from data: Data, name: String) throws -> T {
    try checkShape(data, name)
    do {
      let decoder = JSONDecoder()
      // Python writes NaN and -Infinity (diffusers does, in schedulers), which JSON does not have. Foundation's JSON5
      // does, and ends the process at a key that is not UTF-8.
      decoder.nonConformingFloatDecodingStrategy = .convertFromString(
        positiveInfinity: "Infinity", negativeInfinity: "-Infinity", nan: "NaN")
      return try decoder.decode(type, from: quotingWords(data))
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

  /// Counts brackets outside strings and the bytes of keys, before any parser sees the data.
  private static func checkShape(_ data: Data, _ name: String) throws {
    var depth = 0
    var (inString, escaped) = (false, false)
    var (start, length) = (0, 0)
    for (i, byte) in data.enumerated() {
      if inString {
        if escaped {
          escaped = false
        } else if byte == UInt8(ascii: "\\") {
          escaped = true
        } else if byte == UInt8(ascii: "\"") {
          (inString, length) = (false, i - start)
        }
        continue
      }
      switch byte {
      case UInt8(ascii: "\""): (inString, start) = (true, i)
      case UInt8(ascii: ":"):
        // Swift compares keys by their normal form, which takes long for a long one of combining marks.
        guard length <= maximumKeyBytes else {
          throw FileError("\(name): a key has more than \(maximumKeyBytes) bytes")
        }
      case UInt8(ascii: "{"), UInt8(ascii: "["):
        depth += 1
        guard depth <= maximumDepth else {
          throw FileError("\(name): more than \(maximumDepth) objects or arrays inside one another")
        }
      case UInt8(ascii: "}"), UInt8(ascii: "]"): depth -= 1
      default: break
      }
    }
  }

  /// With `NaN`, `Infinity` and `-Infinity` outside strings in quotes.
  private static func quotingWords(_ data: Data) -> Data {
    let words = ["NaN", "-Infinity", "Infinity"].map { Data($0.utf8) }
    guard words.contains(where: { data.range(of: $0) != nil }) else { return data }
    var result = Data()
    var (inString, escaped) = (false, false)
    var i = data.startIndex
    while i < data.endIndex {
      let byte = data[i]
      if !inString, let word = words.first(where: { data[i...].starts(with: $0) }) {
        result += Data("\"".utf8) + word + Data("\"".utf8)
        i += word.count
        continue
      }
      if inString, escaped {
        escaped = false
      } else if inString, byte == UInt8(ascii: "\\") {
        escaped = true
      } else if byte == UInt8(ascii: "\"") {
        inString.toggle()
      }
      result.append(byte)
      i += 1
    }
    return result
  }

  private static func explain(_ error: DecodingError, _ data: Data) -> String {
    switch error {
    case .keyNotFound(let key, let context):
      return "there is no “\(path(context.codingPath + [key]))”, and it is needed"
    case .typeMismatch(_, let context):
      return "“\(path(context.codingPath))” has the wrong type. \(context.debugDescription)"
    case .valueNotFound(_, let context):
      return "“\(path(context.codingPath))” is null, and a value is needed"
    case .dataCorrupted(let context):
      // What Swift says of a word that is none of an enumeration's.
      if let match = context.debugDescription.firstMatch(
        of: /^Cannot initialize .* from invalid String value (.*)$/)
      {
        return "“\(path(context.codingPath))” is \(quoted(String(match.1))), which is unknown here"
      }
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
