import Foundation
import Imaging
import TestSupport

/// What the fixture script wrote about images.
struct Golden: Decodable {
  struct Stored: Decodable {
    let width: Int
    let height: Int
    let offset: Int
  }
  struct File: Decodable, CustomStringConvertible, Sendable {
    let file: String
    let width: Int
    let height: Int
    let offset: Int
    var description: String { file }
  }
  struct Resize: Decodable {
    let name: String
    let source: Stored
    let result: Stored
  }
  struct Recipe: Decodable {
    let source: Stored
    let result: Stored
  }
  let pictures: [File]
  let resizes: [Resize]
  let recipes: [Recipe]
  let scaled: Int

  static func read() throws -> Golden {
    try JSONDecoder().decode(Golden.self, from: Data(contentsOf: Fixtures.url("imaging/index.json")))
  }

  static func bytes(_ file: String) throws -> [UInt8] {
    [UInt8](try Data(contentsOf: Fixtures.url("imaging/\(file)")))
  }

  static func image(_ width: Int, _ height: Int, at offset: Int) throws -> Image {
    let all = try bytes("expected.bin")
    return try Image(
      width: width, height: height, pixels: Array(all[offset..<offset + width * height * 3]))
  }

  static func image(_ stored: Stored) throws -> Image {
    try image(stored.width, stored.height, at: stored.offset)
  }
}

/// The largest difference of two values; 999 when the sizes differ.
func difference(_ a: Image, _ b: Image) -> Int {
  guard a.width == b.width, a.height == b.height else { return 999 }
  return zip(a.pixels, b.pixels).map { abs(Int($0) - Int($1)) }.max() ?? 0
}

/// The message of the `ImagingError` that `body` throws; `nil` when it throws none.
func message(_ body: () throws -> Void) -> String? {
  do { try body() } catch let error as ImagingError { return error.message } catch { return nil }
  return nil
}

/// A seeded image of noise.
func noise(_ width: Int, _ height: Int, seed: UInt64 = 1) throws -> Image {
  var random = SplitMix64(seed: seed)
  return try Image(
    width: width, height: height,
    pixels: (0..<width * height * 3).map { _ in UInt8.random(in: 0...255, using: &random) })
}
