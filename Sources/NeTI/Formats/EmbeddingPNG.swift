import Files
import Foundation
import Imaging
import Torch

/// An embedding inside a PNG, as A1111 (stable-diffusion-webui) saves it while it trains: in a text of the file, or in
/// the low four bits of the pixels at the left and right edge.
///
/// Both hold JSON; the text as Base64, the pixels compressed by zlib and mixed with a fixed sequence of numbers, low
/// halves of the bytes at the left, high halves at the right, beside a black column each. Source:
/// `modules/textual_inversion/image_embedding.py` of https://github.com/AUTOMATIC1111/stable-diffusion-webui.
struct EmbeddingPNG {
  let name: String?
  let steps: Int?
  let vectors: Tensor

  private static let keyword = "sd-ti-embedding"
  /// Bytes of the JSON: 16 vectors of 1024 numbers have 400 KB.
  private static let maximumBytes = 16 << 20

  /// The file's JSON, as far as it is of use.
  private struct Content: Decodable {
    struct Numbers: Decodable {
      let rows: [[Float]]

      private enum CodingKeys: String, CodingKey { case rows = "TORCHTENSOR" }
    }
    let tensors: [String: Numbers]
    let name: String?
    let step: Int?

    private enum CodingKeys: String, CodingKey {
      case tensors = "string_to_param"
      case name, step
    }
  }

  /// - Throws: a line without the file's name.
  init(_ bytes: [UInt8]) throws {
    let content = try JSONFile.decode(Content.self, from: Self.json(bytes), name: "the embedding in the PNG")
    guard content.tensors.count == 1, let rows = content.tensors.values.first?.rows, let first = rows.first,
      RepresentationSettings.vectorCounts.contains(rows.count), !first.isEmpty,
      rows.allSatisfy({ $0.count == first.count })
    else {
      throw NeTIError("the embedding in the PNG is not one of 1 to 16 vectors of one size")
    }
    name = content.name
    steps = content.step
    vectors = try Tensor(Array(rows.joined()), [rows.count, first.count])
  }

  private static func json(_ bytes: [UInt8]) throws -> Data {
    if let text = try PNGText.read(bytes, compressed: keyword).first(where: { $0.0 == keyword }) {
      guard let data = Data(base64Encoded: text.1, options: .ignoreUnknownCharacters) else {
        throw NeTIError("its text \(keyword) is not Base64; save it anew in A1111")
      }
      return data
    }
    guard let hidden = try hidden(in: Image.decode(bytes, name: "the PNG")),
      let data = try? inflated(hidden, limit: maximumBytes)
    else {
      throw NeTIError(
        "this picture holds no embedding: neither the text \(keyword) nor pixels as A1111 writes them; images that a site "
          + "made smaller or saved anew have lost it")
    }
    return Data(data)
  }

  /// The bytes in the pixels; nil where they are not laid out as A1111 does.
  static func hidden(in image: Image) -> [UInt8]? {
    let (width, pixels) = (image.width, image.pixels)
    func at(_ x: Int, _ y: Int) -> Int { (y * width + x) * 3 }
    // A border that is black is cut away.
    var (left, right, top, bottom) = (width, -1, image.height, -1)
    for y in 0..<image.height {
      for x in 0..<width where (0..<3).allSatisfy({ pixels[at(x, y) + $0] > 0 }) {
        (left, right, top, bottom) = (min(left, x), max(right, x), min(top, y), max(bottom, y))
      }
    }
    guard left <= right else { return nil }
    let black = (left...right).filter { x in
      (top...bottom).allSatisfy { y in (0..<3).allSatisfy { pixels[at(x, y) + $0] & 15 == 0 } }
    }
    guard let first = black.first, let last = black.last, first < last, first > left,
      first - left == right - last
    else { return nil }
    let columns = first - left
    var result: [UInt8] = []
    result.reserveCapacity(columns * (bottom - top + 1) * 3)
    var state: UInt32 = 0
    for y in top...bottom {
      for x in 0..<columns {
        for c in 0..<3 {
          state = state &* 1_664_525 &+ 1_013_904_223
          let mask = UInt8(state % 255) & 15
          let low = (pixels[at(left + x, y) + c] & 15) ^ mask
          let high = (pixels[at(last + 1 + x, y) + c] & 15) ^ mask
          result.append(high << 4 | low)
        }
      }
    }
    return result
  }
}
