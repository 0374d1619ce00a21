import Files

/// The colour profile in a file of RGB, where it is another than sRGB: colours are what it says of the numbers, and
/// numbers are what is read.
///
/// ICC.1:2022, https://www.color.org/specification/ICC.1-2022-05.pdf
package struct ColourProfile: Sendable {
  /// What the profile calls itself, as it can be shown; empty where it says nothing.
  let name: String

  /// Bytes of a profile that are looked at, those of its description, and what is shown of that.
  private static let (largestSize, longestText, shownLength) = (4 << 20, 400, 40)
  /// Profiles of sRGB that are so small that they do not say so.
  private static let small: Set = ["c2", "c2ci", "nRGB", "uRGB"]

  /// Nil where the file has none, or that of sRGB, or one that cannot be read.
  init?(_ file: [UInt8]) {
    let profile: [UInt8]? =
      switch Image.format(file) {
      case .jpeg: Self.ofJPEG(file)
      case .png: Self.ofPNG(file)
      case .webp: webPChunk("ICCP", in: file).map { Array(file[$0].prefix(Self.largestSize)) }
      case nil: nil
      }
    guard let profile, profile.has("RGB ", at: 16) else { return nil }
    let text = Self.description(profile)
    guard !text.lowercased().contains("srgb"), !Self.small.contains(text) else { return nil }
    name = String(text.prefix(Self.shownLength))
  }

  /// What to tell of files with such profiles.
  package static func warning(_ files: [(name: String, profile: ColourProfile)]) -> String {
    var names: [String] = []
    for name in files.map({ $0.profile.name }) where !name.isEmpty && !names.contains(name) {
      names.append(name)
    }
    let profile = names.isEmpty ? "a colour profile without a name" : ImageFolder.listed(names.map(quoted))
    return
      "\(ImageFolder.listed(files.map { $0.name })): made for \(profile) and read as sRGB: the numbers are taken as they "
      + "are, so that colours come out a little different; convert to sRGB"
  }

  // MARK: In files

  private static func ofJPEG(_ file: [UInt8]) -> [UInt8]? {
    guard let parts = try? JPEGHeader(file, name: "").profile else { return nil }
    var profile: [UInt8] = []
    for part in parts.sorted(by: { $0.number < $1.number }) where profile.count < largestSize {
      profile += file[part.range]
    }
    return profile
  }

  private static func ofPNG(_ file: [UInt8]) -> [UInt8]? {
    var compressed: [UInt8]?
    try? PNGChunk.forEach(in: file, before: .data, name: "") { chunk in
      guard chunk.kind == .profile, chunk.data.count <= largestSize else { return true }
      // A name, which is seldom the profile's, a zero, and another for how it is compressed.
      compressed = Array(file[chunk.data].drop { $0 != 0 }.dropFirst(2))
      return false
    }
    return compressed.flatMap { try? inflated($0, limit: largestSize) }
  }

  // MARK: The description

  private static func description(_ profile: [UInt8]) -> String {
    let tags = min(profile.number(4, at: 128) ?? 0, 100)
    for tag in 0..<tags {
      let at = 132 + 12 * tag
      guard profile.has("desc", at: at), let place = profile.number(4, at: at + 4) else { continue }
      if profile.has("desc", at: place) {
        return text(profile, place + 12, profile.number(4, at: place + 8)) {
          String(decoding: $0, as: UTF8.self)
        }
      }
      // The first of its languages.
      guard profile.has("mluc", at: place), let start = profile.number(4, at: place + 24) else { continue }
      return text(profile, place + start, profile.number(4, at: place + 20)) { bytes in
        let units = stride(from: 0, to: bytes.count - 1, by: 2).map {
          UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1])
        }
        return String(decoding: units, as: UTF16.self)
      }
    }
    return ""
  }

  /// What can be shown of text in a profile.
  private static func text(
    _ profile: [UInt8], _ start: Int, _ length: Int?, _ decoded: ([UInt8]) -> String
  ) -> String {
    guard let length, start <= profile.count else { return "" }
    let text = decoded(Array(profile[start...].prefix(min(length, longestText))))
    let shown = text.unicodeScalars.filter {
      switch $0.properties.generalCategory {
      case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .surrogate, .unassigned: false
      default: $0 != "\u{FFFD}"
      }
    }
    return String(String(String.UnicodeScalarView(shown)).trimmingPrefix { $0.isWhitespace })
  }
}
