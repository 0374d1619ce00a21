import Foundation

/// Addresses and what answers them. A part that begins with a colon stands for an id.
struct Routes: Sendable {
  typealias Action = @Sendable (Exchange, _ ids: [String]) throws -> HTTPResponse

  private var all: [(method: String, parts: [String], action: Action)] = []

  mutating func add(_ method: String, _ path: String, _ action: @escaping Action) {
    all.append((method, path.split(separator: "/").map(String.init), action))
  }

  func callAsFunction(_ exchange: Exchange) throws -> HTTPResponse {
    let path = exchange.request.path
    let here = all.filter { $0.parts.count == path.count && zip($0.parts, path).allSatisfy(Self.fits) }
    guard !here.isEmpty else { throw StudioError("there is nothing here", .notFound) }
    guard let route = here.first(where: { $0.method == exchange.request.method }) else {
      let methods = Set(here.map { $0.method }).sorted().joined(separator: ", ")
      throw StudioError(
        "\(exchange.request.method) is not answered here; what is: \(methods)", .methodNotAllowed)
    }
    return try route.action(exchange, zip(route.parts, path).filter { $0.0.hasPrefix(":") }.map(\.1))
  }

  private static func fits(_ part: String, _ given: String) -> Bool {
    part.hasPrefix(":") ? ID(given) != nil : part == given
  }
}

/// What the page calls a thing by: letters and digits, so that it is never a path.
struct ID: Hashable, Sendable, Codable, CustomStringConvertible {
  let description: String
  private static let letters = Array("abcdefghijkmnpqrstuvwxyz23456789")

  /// Nil for a text that cannot be one.
  init?(_ text: String) {
    guard (1...16).contains(text.utf8.count),
      text.utf8.allSatisfy({ (97...122).contains($0) || (48...57).contains($0) })
    else { return nil }
    description = text
  }

  /// A new one.
  init() { description = String((0..<12).map { _ in Self.letters.randomElement() ?? "a" }) }

  init(from decoder: any Decoder) throws {
    let container = try decoder.singleValueContainer()
    guard let id = ID(try container.decode(String.self)) else {
      throw DecodingError.dataCorruptedError(in: container, debugDescription: "not an id")
    }
    self = id
  }

  func encode(to encoder: any Encoder) throws {
    var container = encoder.singleValueContainer()
    try container.encode(description)
  }
}
