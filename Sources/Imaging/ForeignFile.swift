/// What a file is that lies among images and is not read as one, and what its owner can do.
struct ForeignFile: Hashable {
  /// “HEIC”, “a video”
  let title: String
  let remedy: String

  /// Bytes from a file's start that tell its format.
  static let signatureBytes = 64

  /// What the first bytes tell, and among formats that begin alike the name's ending (in lower case).
  init?(_ head: some Collection<UInt8>, ending: String = "") {
    let head = [UInt8](head.prefix(Self.signatureBytes))
    guard let kind = Self.container(head) ?? Self.signatures.first(where: { head.has($0.0, at: 0) })?.1 else {
      return nil
    }
    self = kind == .tiff && Self.rawEndings.contains(ending) ? .raw : kind
  }

  private init(_ title: String, _ remedy: String) {
    self.title = title
    self.remedy = remedy
  }

  private static func image(_ title: String, to format: String, with program: String) -> Self {
    Self(title, "convert to \(format), for example with \(program)")
  }

  private static let heic = image("HEIC", to: "JPEG", with: "heif-convert, or let the phone take JPEGs")
  private static let avif = image("AVIF", to: "PNG", with: "avifdec")
  private static let tiff = image("TIFF", to: "PNG", with: "ImageMagick")
  private static let raw = image("a camera's raw data", to: "JPEG", with: "darktable")
  private static let jpegXL = image("JPEG XL", to: "PNG", with: "djxl")
  private static let jpeg2000 = image("JPEG 2000", to: "PNG", with: "ImageMagick")
  private static let gif = image("GIF", to: "PNG", with: "ImageMagick")
  private static let bmp = image("BMP", to: "PNG", with: "ImageMagick")
  private static let drawing = Self("a drawing program's file", "export it as PNG")
  private static let vector = Self("a document or vector drawing", "export it as PNG")
  private static let video = Self("a video", "save some of its frames as images, for example with ffmpeg")
  private static let webPage = Self("a web page", "download the image itself")
  private static let lfs = Self("a pointer of Git LFS", "fetch the files with: git lfs pull")

  private static let archive = Self("an archive", "unpack it")

  static let empty = Self("an empty file", "copy it again")
  static let brokenLink = Self("a link to a file that is not there", "put the file back")
  static let noPermission = Self("no permission to read it", "change that with chmod")
  static let notUTF8 = Self("a name that is not UTF-8", "rename it")
  static let cloud = Self("still in iCloud", "download it")
  static let descriptions = Self(
    "descriptions", "captions are read from .txt and .caption files beside the images")
  static let unknown = Self("not a JPEG, PNG or WebP image", "save it as one")
  static let folder = Self("a folder", "folders inside are not searched")

  static func folder(images: Int) -> Self {
    Self(
      "a folder with \(images) image\(images == 1 ? "" : "s")",
      "folders inside are not searched: name one with `images`, or with `masks` if it holds masks")
  }

  /// Files that begin with these bytes.
  private static let signatures: [(String, Self)] = [
    ("II*\0", tiff), ("MM\0*", tiff), ("II+\0", tiff), ("MM\0+", tiff), ("FUJIFILMCCD-RAW", raw),
    ("IIU\0", raw), ("IIRO", raw), ("IIRS", raw), ("MMOR", raw), ("FOVb", raw), ("\0MRM", raw),
    ("GIF87a", gif), ("GIF89a", gif), ("BM", bmp), ("8BPS", drawing), ("gimp xcf", drawing),
    ("%PDF", vector), ("<svg", vector), ("<?xml", vector), ("<!DOCTYPE html", webPage),
    ("<!doctype html", webPage), ("<html", webPage), ("version https://git-lfs", lfs),
    ("PK\u{3}\u{4}", archive), ("Rar!", archive), ("7z", archive),
  ]

  private static let rawEndings: Set = [
    "3fr", "arw", "cr2", "dcr", "dng", "erf", "iiq", "kdc", "mef", "mos", "nef", "nrw", "pef", "rwl", "sr2",
    "srf", "srw",
  ]

  /// Formats that are told by more than how they begin.
  private static func container(_ head: [UInt8]) -> Self? {
    if head.starts(with: [0xFF, 0x0A]) || head.has("JXL ", at: 4) { return jpegXL }
    if head.starts(with: [0xFF, 0x4F, 0xFF, 0x51]) || head.has("jP  ", at: 4) { return jpeg2000 }
    if head.starts(with: [0x1A, 0x45, 0xDF, 0xA3]) { return video }
    if head.has("RIFF", at: 0), head.has("AVI ", at: 8) { return video }
    guard head.has("ftyp", at: 4) else { return nil }
    // The first name is what the file is made for, those after the version what else reads it.
    let brands = stride(from: 8, to: min(head.count - 3, head.number(4, at: 0) ?? 0), by: 4)
      .map { String(decoding: head[$0..<$0 + 4], as: UTF8.self) }
    if brands.contains("avif") || brands.contains("avis") { return avif }
    if brands.first == "crx " { return raw }
    let isHEIC = brands.contains { ["mif1", "msf1"].contains($0) || ($0.hasPrefix("he") && $0 != "hev1") }
    return isHEIC ? heic : video
  }
}
