import Files

/// Reads a published JSON configuration key by key, as the reference does: a key that is absent or
/// null has its default, keys that are not asked for are left alone. Every refusal names the key.
package struct ConfigurationReader {
  private let container: KeyedDecodingContainer<Key>

  struct Key: CodingKey {
    let stringValue: String
    let intValue: Int? = nil
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }

  package init(_ decoder: any Decoder) throws { container = try decoder.container(keyedBy: Key.self) }

  private init(_ container: KeyedDecodingContainer<Key>) { self.container = container }

  /// The configuration under a key; nil when the key is absent or null.
  func nested(_ name: String) throws -> ConfigurationReader? {
    let key = Key(stringValue: name)
    guard container.contains(key), try !container.decodeNil(forKey: key) else { return nil }
    return ConfigurationReader(try container.nestedContainer(keyedBy: Key.self, forKey: key))
  }

  /// The value of a key; without a default it must be there.
  func value<T: Decodable>(_ name: String, default standard: T?) throws -> T {
    do {
      let found = try container.decodeIfPresent(T.self, forKey: Key(stringValue: name)) ?? standard
      guard let found else { throw DiffusionError("“\(name)” is missing") }
      return found
    } catch let error where !(error is DecodingError || error is DiffusionError) {
      // Foundation's own error for such a number does not say where it stands.
      throw DiffusionError(
        "“\(name)” holds a number that does not fit: a fraction where a whole number is needed, or too large")
    }
  }

  /// Whether a key is there, be it null.
  func has(_ name: String) -> Bool { container.contains(Key(stringValue: name)) }

  /// The keys that are there and not null.
  var presentKeys: [String] {
    container.allKeys.filter { (try? container.decodeNil(forKey: $0)) == false }.map(\.stringValue)
  }

  /// A whole number in `range`; without a default it must be there.
  package func integer(_ name: String, default standard: Int? = nil, in range: ClosedRange<Int>) throws -> Int
  {
    try Self.check(name, value(name, default: standard), range)
  }

  /// A finite number in `range`.
  func number(_ name: String, default standard: Double, in range: ClosedRange<Double>) throws -> Double {
    let found = try value(name, default: standard)
    guard found.isFinite, range.contains(found) else {
      throw DiffusionError("“\(name)” is \(found); it must be in \(range.lowerBound)…\(range.upperBound)")
    }
    return found
  }

  /// A list of whole numbers in `range`; `limit` bounds its length.
  func integers(_ name: String, default standard: [Int], in range: ClosedRange<Int>, limit: Int) throws
    -> [Int]
  {
    let found = try value(name, default: standard)
    guard (1...limit).contains(found.count) else {
      throw DiffusionError("“\(name)” has \(found.count) entries; it must have 1…\(limit)")
    }
    return try found.map { try Self.check(name, $0, range) }
  }

  /// One whole number for all `count` blocks, or a list with one for each.
  func perBlock(_ name: String, default standard: Int, in range: ClosedRange<Int>, count: Int) throws
    -> [Int]
  {
    let found = try value(name, default: OneOrMany.one(standard))
    switch found {
    case .one(let n): return Array(repeating: try Self.check(name, n, range), count: count)
    case .many(let list):
      guard list.count == count else {
        throw DiffusionError("“\(name)” has \(list.count) entries for \(count) blocks")
      }
      return try list.map { try Self.check(name, $0, range) }
    }
  }

  /// One whole number, or a list that says the same one again and again (height and width, blocks).
  func uniform(_ name: String, default standard: Int, in range: ClosedRange<Int>) throws -> Int {
    switch try value(name, default: OneOrMany.one(standard)) {
    case .one(let n): return try Self.check(name, n, range)
    case .many(let list):
      guard let first = list.first, list.allSatisfy({ $0 == first }) else {
        throw DiffusionError("“\(name)” is \(list); one number, or equal ones, are supported")
      }
      return try Self.check(name, first, range)
    }
  }

  /// Block types, one for each of `count` blocks, each one of `supported`.
  func blockTypes<T: RawRepresentable & CaseIterable>(
    _ name: String, default standard: [T], count: Int
  ) throws -> [T] where T.RawValue == String {
    let found = try value(name, default: standard.map(\.rawValue))
    guard found.count == count else {
      throw DiffusionError(
        "“\(name)” has \(found.count) entries, and “block_out_channels” has \(count)")
    }
    return try found.map { try choice(name, $0) }
  }

  /// One of the names that `T` knows.
  func choice<T: RawRepresentable & CaseIterable>(_ name: String, _ found: String) throws -> T
  where T.RawValue == String {
    guard let known = T(rawValue: found) else {
      let supported = T.allCases.map(\.rawValue).joined(separator: ", ")
      throw DiffusionError("“\(name)” is \(JSONValue.string(found)); supported: \(supported)")
    }
    return known
  }

  /// For the keys where null is a value of its own: the default only when the key is absent.
  func present<T: Decodable>(_ name: String, default standard: T) throws -> T {
    let key = Key(stringValue: name)
    return container.contains(key) ? try container.decode(T.self, forKey: key) : standard
  }

  /// Refuses a switch that is read by the reference and not implemented here, unless it has one of
  /// the values with which it does nothing. A list counts as its entries.
  func require(_ name: String, _ supported: [JSONValue]) throws {
    guard let found = try present(name, default: JSONValue?.none) else { return }
    let entries = if case .list(let list) = found { list } else { [found] }
    guard entries.allSatisfy(supported.contains) else {
      let names = supported.map(\.description).joined(separator: ", ")
      throw DiffusionError("“\(name)” is \(found); supported: \(names)")
    }
  }

  private static func check(_ name: String, _ n: Int, _ range: ClosedRange<Int>) throws -> Int {
    guard range.contains(n) else {
      throw DiffusionError("“\(name)” is \(n); it must be in \(range.lowerBound)…\(range.upperBound)")
    }
    return n
  }
}

/// `8` or `[5, 10, 20, 20]`.
private enum OneOrMany: Decodable {
  case one(Int)
  case many([Int])

  init(from decoder: any Decoder) throws {
    let c = try decoder.singleValueContainer()
    if let list = try? c.decode([Int].self) {
      self = .many(list)
    } else {
      self = .one(try c.decode(Int.self))
    }
  }
}

/// Any JSON value, to compare with and to show in an error.
enum JSONValue: Decodable, Equatable, Sendable, CustomStringConvertible {
  case null
  case bool(Bool)
  case number(Double)
  case string(String)
  case list([JSONValue])
  case object

  init(from decoder: any Decoder) throws {
    let c = try decoder.singleValueContainer()
    if c.decodeNil() {
      self = .null
    } else if let b = try? c.decode(Bool.self) {
      self = .bool(b)
    } else if let n = try? c.decode(Double.self) {
      self = .number(n)
    } else if let s = try? c.decode(String.self) {
      self = .string(s)
    } else if let list = try? c.decode([JSONValue].self) {
      self = .list(list)
    } else {
      self = .object
    }
  }

  /// Short, and without control characters: the file may come from anybody.
  var description: String {
    switch self {
    case .null: "null"
    case .bool(let b): "\(b)"
    case .number(let n): n == n.rounded() && abs(n) < 1e15 ? "\(Int(n))" : "\(n)"
    case .string(let s): quoted(s)
    case .list(let list):
      "[" + list.prefix(8).map(\.description).joined(separator: ", ") + (list.count > 8 ? ", …]" : "]")
    case .object: "an object"
    }
  }
}
