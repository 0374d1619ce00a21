import Files
import Foundation
import Imaging
import TestSupport
import Testing

@Suite struct ColourProfileTests {
  private static func big(_ value: Int, _ count: Int = 4) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * (count - 1 - $0))) }
  }
  private static func little(_ value: Int, _ count: Int = 4) -> [UInt8] { big(value, count).reversed() }

  /// A profile that has nothing but its description, in the older form or the newer.
  private static func profile(_ name: String, isOld: Bool = false, space: String = "RGB ") -> [UInt8] {
    let units = name.utf16.flatMap { big(Int($0), 2) }
    let text: [[UInt8]] =
      isOld
      ? [Array("desc".utf8), big(0), big(name.utf8.count + 1), Array(name.utf8), [0]]
      : [Array("mluc".utf8), big(0), big(1), big(12), Array("enUS".utf8), big(units.count), big(28), units]
    let size = text.joined().count
    let head: [[UInt8]] = [
      Array(repeating: 0, count: 16), Array(space.utf8), Array(repeating: 0, count: 108), big(1),
      Array("desc".utf8), big(144), big(size),
    ]
    return Array((head + text).joined())
  }

  private static func png(_ profile: [UInt8]) throws -> [UInt8] {
    var (a, b) = (1, 0)
    for byte in profile {
      a = (a + Int(byte)) % 65521
      b = (b + a) % 65521
    }
    let (length, inverse) = (little(profile.count, 2), little(~profile.count, 2))
    let parts: [[UInt8]] = [
      Array("iCCPother".utf8), [0, 0], [0x78, 0x01, 1], length, inverse, profile, big(b << 16 | a),
    ]
    let body = Array(parts.joined())
    let chunk = big(body.count - 4) + body + big(Int(crc32(body)))
    let still = try noise(3, 2).png()
    return Array(still[..<33]) + chunk + Array(still[33...])
  }

  /// In two parts, the second of which comes first.
  private static func jpeg(_ profile: [UInt8]) throws -> [UInt8] {
    func part(_ number: UInt8, _ bytes: [UInt8]) -> [UInt8] {
      let body = Array("ICC_PROFILE\0".utf8) + [number, 2] + bytes
      return [0xFF, 0xE2] + big(body.count + 2, 2) + body
    }
    let (bytes, half) = (try Golden.bytes("rgb420.jpg"), profile.count / 2)
    let parts = part(2, Array(profile[half...])) + part(1, Array(profile[..<half]))
    return Array(bytes[..<2]) + parts + Array(bytes[2...])
  }

  private static func webP(_ profile: [UInt8]) throws -> [UInt8] {
    let inner = try Array(Golden.bytes("lossless.webp")[12...])
    let image = try Image.decode(Golden.bytes("lossless.webp"), name: "lossless.webp")
    let head: [UInt8] = Array("VP8X".utf8) + little(10) + [0x20, 0, 0, 0]
    let size = little(image.width - 1, 3) + little(image.height - 1, 3)
    let parts: [[UInt8]] = [
      Array("WEBP".utf8), head, size, Array("ICCP".utf8), little(profile.count), profile,
      Array(repeating: 0, count: profile.count % 2), inner,
    ]
    let all = Array(parts.joined())
    return Array("RIFF".utf8) + little(all.count) + all
  }

  private func warning(_ files: [[UInt8]]) throws -> String? {
    let scratch = try Scratch()
    let found: [(name: String, profile: ColourProfile)] = try files.enumerated().compactMap { i, bytes in
      try Image.loadWithOpacity(scratch.file(Data(bytes), "file\(i)")).profile.map {
        (name: "\(i)", profile: $0)
      }
    }
    return found.isEmpty ? nil : ColourProfile.warning(found)
  }

  @Test func anotherProfileThanSRGBIsNamedInEveryKindOfFile() throws {
    for (make, isOld) in [(Self.png, true), (Self.jpeg, false), (Self.webP, true), (Self.png, false)] {
      let line = try warning([make(Self.profile("Display P3", isOld: isOld, space: "RGB "))])
      #expect(
        line
          == "0: made for “Display P3” and read as sRGB: the numbers are taken as they are, so that colours come "
          + "out a little different; convert to sRGB")
      #expect(try warning([make(Self.profile("sRGB IEC61966-2.1", isOld: isOld, space: "RGB "))]) == nil)
      #expect(try warning([make(Self.profile("Dot Gain 20%", isOld: isOld, space: "GRAY"))]) == nil)
    }
    #expect(try warning([Self.png(Self.profile("c2"))]) == nil)
  }

  @Test func severalFilesAreOneLineAndTheNumbersStayAsTheyAre() throws {
    let files = try ["Display P3", "Adobe RGB (1998)", "Display P3", ""].map {
      try Self.png(Self.profile($0))
    }
    let line = try warning(files) ?? ""
    #expect(
      line.hasPrefix("0, 1, 2 and 1 more: made for “Display P3”, “Adobe RGB (1998)” and read"), "\(line)")
    #expect(try warning([files[3]])?.hasPrefix("0: made for a colour profile without a name and") == true)
    #expect(try Image.decode(files[0], name: "a.png") == noise(3, 2))
  }

  @Test func aHostileProfileIsShownInPartOrNotNamed() throws {
    let long = "a\u{1B}[2J\u{202E}\n" + String(repeating: "x", count: 300)
    let line = try warning([Self.png(Self.profile(long))]) ?? ""
    #expect(line.hasPrefix("0: made for “a[2J\(String(repeating: "x", count: 36))” and"), "\(line)")
    for isOld in [true, false] {
      let whole = Self.profile("Display P3", isOld: isOld)
      for count in 0..<whole.count { _ = try warning([Self.webP(Array(whole[..<count]))]) }
      for damaged in Mutations(of: Data(whole), count: 2000, seed: 3) {
        _ = try warning([Self.png([UInt8](damaged))])
      }
    }
    for damaged in try Mutations(of: Data(Self.jpeg(Self.profile("P3"))), count: 500, seed: 4) {
      _ = try? warning([[UInt8](damaged)])
    }
  }
}
