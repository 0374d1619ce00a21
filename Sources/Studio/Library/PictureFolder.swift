import Files
import Foundation
import Imaging
import NeTI

/// The copies of a concept's pictures, and what the trainer sees of them.
struct PictureFolder {
  let images: URL
  let squares: URL

  /// Pictures of one concept.
  static let mostPictures = 40
  /// Bytes of a picture's file.
  static let mostBytes = 48 << 20
  /// One large picture at a time is taken apart: each needs memory for all its pixels.
  private static let decoding = NSLock()

  /// - Parameter place: the concept's folder.
  init(_ place: URL) {
    images = place.appending(path: "images", directoryHint: .isDirectory)
    squares = place.appending(path: "squares", directoryHint: .isDirectory)
  }

  /// Keeps a picture.
  ///
  /// - Parameters:
  ///   - name: what its file is called where it comes from.
  ///   - number: what it will be called here.
  ///   - side: of the squares that are learned from, in pixels.
  /// - Throws: when it is no picture that can be learned from, or is there already.
  func add(_ data: Data, name: String, number: Int, side: Int) throws -> StudioConcept.Picture {
    let name = Self.shown(name)
    guard let ending = Self.ending(data) else {
      _ = try Image.decode(data, name: name)
      throw StudioError("\(name): not a JPEG, PNG or WebP picture")
    }
    let (image, square) = try Self.decoding.withLock {
      let image = try Image.decode(data, name: name)
      return (
        (image.width, image.height), Data(try TrainingImages.prepare(image, side: side, crop: true).png())
      )
    }
    if let other = try twin(of: square) {
      throw StudioError("\(name) shows the same as picture \(other), which is here already", .conflict)
    }
    try AtomicFile.write(data, to: images.appending(path: "\(number).\(ending)"))
    try AtomicFile.write(square, to: squareFile(number))
    return StudioConcept.Picture(
      number: number, ending: ending, name: name, width: image.0, height: image.1,
      note: min(image.0, image.1) < side
        ? "small: \(image.0) × \(image.1), and \(side) × \(side) are learned from; it will be blurred" : nil)
  }

  func squareFile(_ number: Int) -> URL { squares.appending(path: "\(number).png") }

  func remove(_ picture: StudioConcept.Picture) {
    for file in [
      images.appending(path: "\(picture.number).\(picture.ending)"), captionFile(picture.number),
      squareFile(picture.number),
    ] { try? FileManager.default.removeItem(at: file) }
  }

  /// Writes a caption where the trainer looks for it; an empty one is none.
  func write(caption: String, of number: Int) throws {
    let file = captionFile(number)
    guard caption.isEmpty else { return try AtomicFile.write(Data((caption + "\n").utf8), to: file) }
    try? FileManager.default.removeItem(at: file)
  }

  private func captionFile(_ number: Int) -> URL { images.appending(path: "\(number).txt") }

  /// The number of a picture of which the trainer would see exactly this.
  private func twin(of square: Data) throws -> Int? {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: squares.path)) ?? []
    for number in names.compactMap({ Int($0.split(separator: ".")[0]) }).sorted()
    where (try? Data(contentsOf: squareFile(number))) == square { return number }
    return nil
  }

  /// The ending that belongs to what the bytes are.
  private static func ending(_ data: Data) -> String? {
    guard Image.isImage(data.prefix(Image.signatureBytes)) else { return nil }
    switch data.first {
    case 0xFF: return "jpg"
    case 0x89: return "png"
    default: return "webp"
    }
  }

  /// A file's name from a stranger, for messages.
  private static func shown(_ name: String) -> String {
    let last = name.split(whereSeparator: { "/\\".contains($0) }).last.map(String.init) ?? ""
    return last.isEmpty ? "the picture" : String(last.escaped.prefix(80))
  }
}
