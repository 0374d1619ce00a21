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
    let image = try Image.decode(data, name: name)
    let square = Data(try TrainingImages.prepare(image, side: side, crop: true).png())
    if let other = try twin(of: square) {
      throw StudioError("\(name) shows the same as picture \(other), which is here already", .conflict)
    }
    try AtomicFile.write(data, to: images.appending(path: "\(number).\(ending)"))
    try AtomicFile.write(square, to: squareFile(number))
    return StudioConcept.Picture(
      number: number, ending: ending, name: name, width: image.width, height: image.height,
      note: min(image.width, image.height) < side
        ? "small: \(image.width) × \(image.height), and \(side) × \(side) are learned from; it will be blurred"
        : nil)
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

  /// Makes the folder hold what is listed and nothing else. A process that was killed, or a full disk, may have left
  /// a file whose picture was never listed, or is no longer.
  ///
  /// - Throws: when a picture's file is gone, or there is something that the studio did not put there.
  func reconcile(with pictures: [StudioConcept.Picture]) throws {
    let files = FileManager.default
    let listed = Set(pictures.map { "\($0.number).\($0.ending)" })
    let captions = Set(pictures.filter { !$0.caption.isEmpty }.map { "\($0.number).txt" })
    for name in try files.contentsOfDirectory(atPath: images.path)
    where !listed.union(captions).contains(name) {
      let parts = name.split(separator: ".")
      guard AtomicFile.isUnfinished(name) || (parts.count == 2 && Int(parts[0]) != nil) else {
        throw StudioError(
          "\(quoted(name)) lies among this concept's pictures and was not added on the page; take it out of "
            + images.path)
      }
      try files.removeItem(at: images.appending(path: name))
    }
    let squareNames = Set(pictures.map { "\($0.number).png" })
    for name in try files.contentsOfDirectory(atPath: squares.path) where !squareNames.contains(name) {
      try files.removeItem(at: squares.appending(path: name))
    }
    for picture in pictures {
      guard files.fileExists(atPath: images.appending(path: "\(picture.number).\(picture.ending)").path)
      else {
        throw StudioError("the file of \(picture.name) is gone; remove the picture and add it again")
      }
      try write(caption: picture.caption, of: picture.number)
    }
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
