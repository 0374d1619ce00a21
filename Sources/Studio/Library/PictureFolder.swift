import Files
import Foundation
import Imaging
import NeTI

/// The copies of a concept's pictures, what is learned from them, and what the trainer sees of that.
///
///     originals/1.jpg    the file as it came
///     images/1.jpg       what the trainer reads: the same, or 1.png, the part of it that was chosen
///     images/1.txt       its caption, and 1-masklabel.png, its mask
///     squares/1.png      what the trainer makes of it
struct PictureFolder {
  private let place: URL
  var images: URL { folder(Self.names[0]) }
  private var squares: URL { folder(Self.names[1]) }
  private var originals: URL { folder(Self.names[2]) }

  /// The folders beside a concept's run.
  static let names = ["images", "squares", "originals"]
  /// Pictures of one concept.
  static let mostPictures = 40
  /// Bytes of a picture's file.
  static let mostBytes = 48 << 20

  /// - Parameter place: the concept's folder.
  init(_ place: URL) { self.place = place }

  private func folder(_ name: String) -> URL { place.appending(path: name, directoryHint: .isDirectory) }

  func make() throws { for name in Self.names { try StudioFolder.make(folder(name)) } }

  /// Keeps a picture, all of it.
  ///
  /// - Parameters:
  ///   - number: what it will be called here.
  ///   - side: of the squares that are learned from, in pixels.
  func add(_ prepared: PreparedPicture, number: Int, side: Int) throws -> StudioConcept.Picture {
    // Concepts of earlier studios have no originals.
    try make()
    var picture = StudioConcept.Picture(
      number: number, ending: prepared.ending, name: prepared.name, width: prepared.width,
      height: prepared.height, note: nil)
    try AtomicFile.write(prepared.data, to: original(picture))
    try write(nil, prepared, of: &picture, side: side)
    return picture
  }

  /// A part of a picture, with what shows how it will be learned; nothing is written.
  func cut(_ picture: StudioConcept.Picture, _ part: PicturePart, side: Int) throws -> CutPicture {
    try PreparedPicture.decoding.withLock { try CutPicture(load(picture), part, side: side) }
  }

  /// Makes a part, or without one the whole, what is learned; `keepOnly` then removes what was.
  func write(_ cut: CutPicture?, of picture: inout StudioConcept.Picture, part: PicturePart?, side: Int)
    throws
  {
    let original = original(picture)
    if !FileManager.default.fileExists(atPath: original.path) {
      try make()
      try AtomicFile.write(load(data: picture), to: original)
    }
    let whole = try cut == nil ? PreparedPicture(load(data: picture), name: picture.name, side: side) : nil
    picture.part = part
    picture.version = (picture.version ?? 0) + 1
    try write(cut, whole, of: &picture, side: side)
  }

  private func write(
    _ cut: CutPicture?, _ whole: PreparedPicture?, of picture: inout StudioConcept.Picture, side: Int
  ) throws {
    if let cut {
      try AtomicFile.write(Data(cut.image.png()), to: image(picture))
      if let mask = cut.mask { try AtomicFile.write(Data(mask.png()), to: maskFile(picture.number)) }
    } else if let whole {
      try AtomicFile.write(whole.data, to: image(picture))
    }
    guard let square = cut?.square ?? whole?.square else { return }
    try AtomicFile.write(Data(square.png()), to: squareFile(picture.number))
    let least = cut.map { min($0.image.width, $0.image.height) } ?? min(picture.width, picture.height)
    picture.note = square.note(from: least, side: side)
    let small = StudioConcept.Picture.glanceSide
    picture.glance = try Data(square.resized(width: small, height: small).pixels)
  }

  // MARK: Files

  private func original(_ picture: StudioConcept.Picture) -> URL {
    originals.appending(path: "\(picture.number).\(picture.ending)")
  }

  /// What the trainer reads.
  private func image(_ picture: StudioConcept.Picture) -> URL {
    images.appending(path: "\(picture.number).\(picture.part == nil ? picture.ending : "png")")
  }

  func squareFile(_ number: Int) -> URL { squares.appending(path: "\(number).png") }
  private func captionFile(_ number: Int) -> URL { images.appending(path: "\(number).txt") }
  private func maskFile(_ number: Int) -> URL { images.appending(path: "\(number)-masklabel.png") }

  private func load(data picture: StudioConcept.Picture) throws -> Data {
    let file = original(picture)
    let isThere = FileManager.default.fileExists(atPath: file.path)
    return try readFile(isThere ? file : image(picture), limit: Self.mostBytes, name: picture.name)
  }

  private func load(_ picture: StudioConcept.Picture) throws -> Image {
    try Image.decode(load(data: picture), name: picture.name)
  }

  /// A picture as it came, upright, no larger than a page shows it.
  func shown(_ picture: StudioConcept.Picture, turned quarters: Int, side: Int) throws -> Data {
    try PreparedPicture.decoding.withLock {
      let image = try load(picture).turned(quarters: quarters)
      let size = image.size(fitting: min(side, max(image.width, image.height)))
      return Data(try image.resized(width: size.width, height: size.height).png())
    }
  }

  /// Writes a caption where the trainer looks for it; an empty one is none.
  func write(caption: String, of number: Int) throws {
    let file = captionFile(number)
    guard caption.isEmpty else { return try AtomicFile.write(Data((caption + "\n").utf8), to: file) }
    try? FileManager.default.removeItem(at: file)
  }

  /// Removes what belongs to no picture of a list, and writes the captions anew: files can be there that a crash
  /// left between two writes.
  ///
  /// - Throws: when something that would be learned cannot be removed.
  func keepOnly(_ pictures: [StudioConcept.Picture]) throws {
    var wanted: Set<String> = []
    for picture in pictures {
      wanted.formUnion(
        [image(picture), squareFile(picture.number), original(picture)].map { $0.path })
      if !picture.caption.isEmpty { wanted.insert(captionFile(picture.number).path) }
      if picture.part?.mask != nil { wanted.insert(maskFile(picture.number).path) }
    }
    for folder in [images, squares, originals] {
      for name in (try? FileManager.default.contentsOfDirectory(atPath: folder.path)) ?? [] {
        let file = folder.appending(path: name)
        guard !wanted.contains(file.path) else { continue }
        do { try FileManager.default.removeItem(at: file) } catch {
          throw FileError("\(name) cannot be removed; check the permissions of the studio's folder")
        }
      }
    }
    for picture in pictures where !picture.caption.isEmpty {
      try write(caption: picture.caption, of: picture.number)
    }
  }

  /// The number of a picture of which the trainer would see exactly this.
  func twin(of prepared: PreparedPicture, among pictures: [StudioConcept.Picture]) -> Int? {
    guard let square = try? Data(prepared.square.png()) else { return nil }
    return pictures.map(\.number).first { (try? Data(contentsOf: squareFile($0))) == square }
  }
}
