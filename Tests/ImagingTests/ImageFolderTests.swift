import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct ImageFolderTests {
  @Test func imagesComeInNaturalOrderAndOthersAreReported() throws {
    let scratch = try Scratch()
    let image = Data(try noise(2, 2).png())
    for name in ["10.png", "2.png", "B1.png", "a3.png", ".hidden.png", "noending", "02.jpg"] {
      try image.write(to: scratch.folder.appending(path: name))
    }
    let left = [
      "2.txt", "a3.CAPTION", "recipe.json", "movie.gif", ".DS_Store", "._2.png", "Thumbs.db", "desktop.ini",
      "2.npz", "2.tags",
    ]
    for name in left { try Data("text".utf8).write(to: scratch.folder.appending(path: name)) }
    try FileManager.default.createDirectory(
      at: scratch.folder.appending(path: "more"), withIntermediateDirectories: true)
    let list = try ImageFolder.list(scratch.folder)
    #expect(
      list.images.map(\.lastPathComponent) == ["02.jpg", "2.png", "10.png", "a3.png", "B1.png", "noending"])
    #expect(list.texts.map(\.lastPathComponent) == ["2.txt", "a3.CAPTION"])
    let place = scratch.folder.path
    #expect(
      list.warnings == [
        "\(place): left out 2.tags, recipe.json (descriptions); captions are read from .txt and .caption files beside the images",
        "\(place): left out more (a folder); folders inside are not searched",
        "\(place): left out movie.gif (not a JPEG, PNG or WebP image); save it as one",
      ])
  }

  /// What a file begins with, what it is then called, and how to go on.
  private static let foreign: [(name: String, head: [UInt8], words: [String])] = [
    ("a.heic", box("ftypheic\0\0\0\0mif1heic"), ["(HEIC)", "heif-convert"]),
    ("b.jpg", box("ftypmif1\0\0\0\0mif1heicmiaf"), ["(HEIC)"]),
    ("c.avif", box("ftypmif1\0\0\0\0avifmif1miaf"), ["(AVIF)", "avifdec"]),
    ("d.mov", box("ftypqt  \0\0\0\0qt  "), ["(a video)", "ffmpeg"]),
    ("e.mp4", box("ftypisom\0\0\0\0isomiso2avc1mp41"), ["(a video)"]),
    ("f.cr3", box("ftypcrx \0\0\0\0crx isom"), ["raw", "darktable"]),
    ("g.tif", Array("II*\0\u{8}".utf8), ["(TIFF)", "PNG"]),
    ("h.NEF", Array("MM\0*\0\0".utf8), ["raw"]),
    ("i.raf", Array("FUJIFILMCCD-RAW 0201".utf8), ["raw"]),
    ("j.jxl", [0, 0, 0, 12] + Array("JXL \r\n".utf8), ["(JPEG XL)", "djxl"]),
    ("k.jp2", [0, 0, 0, 12] + Array("jP  \r\n".utf8), ["(JPEG 2000)"]),
    ("l.gif", Array("GIF89a".utf8), ["(GIF)"]),
    ("m.bmp", Array("BM".utf8), ["(BMP)"]),
    ("n.psd", Array("8BPS".utf8), ["drawing program"]),
    ("o.jpg", Array("<!DOCTYPE html><html>".utf8), ["a web page", "download the image itself"]),
    ("p.jpg", Array("version https://git-lfs.github.com/spec/v1".utf8), ["git lfs pull"]),
    ("q.zip", Array("PK\u{3}\u{4}".utf8), ["an archive", "unpack it"]),
    ("r.jpg", [], ["an empty file"]),
    (".s.jpg.icloud", Array("bplist00".utf8), ["iCloud"]),
  ]

  /// A box of ISO's media files, which begins with its length.
  private static func box(_ text: String) -> [UInt8] {
    [0, 0, 0, UInt8(text.utf8.count + 4)] + Array(text.utf8) + [UInt8](repeating: 0, count: 40)
  }

  @Test func aFileThatIsNoImageIsNamedAsWhatItIs() throws {
    let scratch = try Scratch()
    for (name, head, words) in Self.foreign {
      let file = try scratch.file(Data(head), name)
      let error = message { _ = try ImageFolder.list(scratch.folder) } ?? ""
      for word in [name, "no JPEG, PNG or WebP image"] + words { #expect(error.contains(word), "\(error)") }
      if head.count > 1, !name.hasSuffix("icloud") {
        let error = message { _ = try Image.load(file) } ?? ""
        #expect(error.contains("not a JPEG, PNG or WebP image but "), "\(error)")
      }
      try FileManager.default.removeItem(at: file)
    }
  }

  @Test func filesOfOneKindAreOneLine() throws {
    let scratch = try Scratch()
    try Data(noise(2, 2).png()).write(to: scratch.file("1.png"))
    for i in 1...9 { _ = try scratch.file(Data(Self.foreign[0].head), "IMG_\(i).HEIC") }
    let warnings = try ImageFolder.list(scratch.folder).warnings
    #expect(warnings.count == 1)
    #expect(warnings.first?.contains("IMG_1.HEIC, IMG_2.HEIC, IMG_3.HEIC and 6 more (HEIC)") == true)
  }

  @Test func aFolderOfFoldersNamesThoseWithImages() throws {
    let scratch = try Scratch()
    let files = FileManager.default
    let image = Data(try noise(2, 2).png())
    for path in ["img/10_sks toy/1.png", "img/10_sks toy/2.png", "reg/deep/1_toy/1.png", "log/x"] {
      let url = scratch.file(path)
      try files.createDirectory(at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
      try image.write(to: url)
    }
    try files.removeItem(at: scratch.file("log/x"))
    let all = message { _ = try ImageFolder.list(scratch.folder) } ?? ""
    #expect(all.contains("“img/10_sks toy” (2), “reg/deep/1_toy” (1) inside; name one of them"), "\(all)")
    let one = message { _ = try ImageFolder.list(scratch.file("img")) } ?? ""
    #expect(one.contains("“10_sks toy” (2) inside; name that folder"), "\(one)")
    // Beside images, they are told of, but for one that is known.
    try image.write(to: scratch.file("img/1.png"))
    let line = try #require(try ImageFolder.list(scratch.file("img")).warnings.first)
    #expect(line.contains("10_sks toy (a folder with 2 images)") && line.contains("`masks`"), "\(line)")
    #expect(
      try ImageFolder.list(scratch.file("img"), except: scratch.file("img/10_sks toy")).warnings.isEmpty)
  }

  #if os(Linux)
    @Test func aNameThatIsNotUTF8IsToldOf() throws {
      let scratch = try Scratch()
      try Data(noise(2, 2).png()).write(to: scratch.file("1.png"))
      let path = Array((scratch.folder.path + "/fot").utf8) + [0xE9] + Array(".jpg".utf8) + [0]
      let file = path.withUnsafeBufferPointer { bytes in
        bytes.withMemoryRebound(to: CChar.self) { fopen($0.baseAddress, "w") }
      }
      fclose(file)
      let warnings = try ImageFolder.list(scratch.folder).warnings
      #expect(warnings.count == 1)
      #expect(warnings.first?.hasSuffix(".jpg (a name that is not UTF-8); rename it") == true, "\(warnings)")
    }
  #endif

  @Test func aFolderWithoutImagesIsAnError() throws {
    let scratch = try Scratch()
    try Data("text".utf8).write(to: scratch.folder.appending(path: "movie.gif"))
    let text = message { _ = try ImageFolder.list(scratch.folder) }
    #expect(text?.contains("no JPEG, PNG or WebP image in this folder; there is movie.gif (not a") == true)
  }

  @Test func whatIsNoFolderIsAnError() throws {
    let scratch = try Scratch()
    let file = scratch.folder.appending(path: "x")
    try Data().write(to: file)
    #expect(message { _ = try ImageFolder.list(file) }?.contains("not a folder") == true)
    let missing = scratch.folder.appending(path: "missing")
    #expect(message { _ = try ImageFolder.list(missing) }?.contains("there is no such folder") == true)
  }

  @Test func linksToImagesAreFollowed() throws {
    let scratch = try Scratch()
    try FileManager.default.createSymbolicLink(
      at: scratch.folder.appending(path: "link.png"), withDestinationURL: Fixtures.url("imaging/rgb8.png"))
    try FileManager.default.createSymbolicLink(
      at: scratch.folder.appending(path: "broken.png"), withDestinationURL: URL(filePath: "/nowhere"))
    let list = try ImageFolder.list(scratch.folder)
    #expect(list.images.map(\.lastPathComponent) == ["link.png"])
    #expect(list.warnings.count == 1)
    #expect(list.warnings.first?.contains("broken.png (a link to a file that is not there)") == true)
  }
}
