#if os(Linux)
  import CTurboJPEG
  import Foundation
  import Imaging
  import TestSupport
  import Testing

  /// The most memory that decoding takes. Other tests allocate beside this one, so the measurement runs in a process of
  /// its own: this test binary, asked for the one test that measures.
  @Suite(.serialized) struct JPEGMemoryTests {
    private static let marker = "decoding took "
    private static let file = ProcessInfo.processInfo.environment["NETI_MEASURE_JPEG"]

    /// The most resident bytes of this process so far.
    private static func peak() throws -> Int {
      let text = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
      let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
      return try #require(Int(line.split(separator: " ").dropFirst()[1])) * 1024
    }

    @Test("Measures, in the child", .enabled(if: file != nil))
    func measure() throws {
      let url = URL(filePath: try #require(Self.file))
      _ = try Image.load(Fixtures.url("imaging/progressive.jpg"))
      let before = try Self.peak()
      let image = try Image.load(url)
      print(Self.marker + "\(try Self.peak() - before) \(image.width) \(image.height)")
    }

    /// (bytes, width, height) of decoding a file in a process of its own.
    private func decoded(_ url: URL) throws -> [Int] {
      let child = Process()
      child.executableURL = URL(filePath: "/proc/self/exe")
      child.arguments = ["--testing-library", "swift-testing", "--filter", "JPEGMemoryTests"]
      child.environment = ProcessInfo.processInfo.environment.merging(["NETI_MEASURE_JPEG": url.path]) { $1 }
      let output = Pipe()
      child.standardOutput = output
      child.standardError = output
      try child.run()
      let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
      child.waitUntilExit()
      let line = text.split(separator: "\n").first { $0.hasPrefix(Self.marker) }
      return try #require(line, "\(text)").dropFirst(Self.marker.count).split(separator: " ").compactMap {
        Int($0)
      }
    }

    /// A colour JPEG of libjpeg-turbo's: a gradient with a pattern on it.
    private func jpeg(_ width: Int, _ height: Int, _ sampling: TJSAMP, progressive: Bool) throws -> Data {
      var pixels = [UInt8](repeating: 0, count: width * height * 3)
      pixels.withUnsafeMutableBufferPointer { p in
        for y in 0..<height {
          for x in 0..<width {
            let i = (y * width + x) * 3
            p[i] = UInt8(truncatingIfNeeded: x >> 5)
            p[i + 1] = UInt8(truncatingIfNeeded: y >> 5)
            p[i + 2] = UInt8(truncatingIfNeeded: (x ^ y) >> 4)
          }
        }
      }
      let encoder = try #require(tjInitCompress())
      defer { tjDestroy(encoder) }
      var out: UnsafeMutablePointer<UInt8>?
      defer { tjFree(out) }
      var size: UInt = 0
      let status = tjCompress2(
        encoder, pixels, Int32(width), 0, Int32(height), Int32(TJPF_RGB.rawValue), &out, &size,
        Int32(sampling.rawValue), 75, progressive ? TJFLAG_PROGRESSIVE : 0)
      #expect(status == 0)
      return Data(bytes: try #require(out), count: Int(size))
    }

    /// Progressive ones keep two bytes of each coefficient; others do not.
    @Test(
      "A decoded JPEG takes its pixels, its coefficients where they are kept, the file, and little more",
      .enabled(if: file == nil), arguments: [true, false])
    func bounded(_ progressive: Bool) throws {
      let scratch = try Scratch()
      let url = scratch.file("large.jpg")
      for (width, height, sampling, samples) in [(8000, 4000, TJSAMP_444, 6), (11_600, 8800, TJSAMP_420, 3)] {
        let data = try jpeg(width, height, sampling, progressive: progressive)
        try data.write(to: url)
        let isHalved = width * height > ImageLimits.pixels
        let result = try decoded(url)
        #expect(result.count == 3)
        #expect(result[1] == (isHalved ? width / 2 : width) && result[2] == (isHalved ? height / 2 : height))
        let pixels = result[1] * result[2] * 3
        let coefficients = progressive ? width * height * samples : 0
        // The file lies there twice; the decoder has some rows of everything.
        let most = pixels + coefficients + 2 * data.count + (24 << 20)
        #expect(result[0] < most, "\(result[0] >> 20) MiB of \(most >> 20)")
        #expect(result[0] > pixels + coefficients * 9 / 10, "\(result[0] >> 20) MiB are too few to be true")
      }
    }

    /// Real files whose headers are changed to claim more, padded to a length that could be true.
    @Test(
      "One whose coefficients would take more than the limit is refused in one line",
      .enabled(if: file == nil))
    func refused() throws {
      func claiming(_ width: Int, _ height: Int, _ marker: UInt8, _ data: Data) throws -> [UInt8] {
        var bytes = [UInt8](data)
        let at = try #require(bytes.indices.dropLast().first { bytes[$0] == 0xFF && bytes[$0 + 1] == marker })
        bytes.replaceSubrange(
          at + 5..<at + 9,
          with: [UInt8(height >> 8), UInt8(height & 255), UInt8(width >> 8), UInt8(width & 255)])
        return bytes + [UInt8](repeating: 0, count: width * height / 512)
      }
      let progressive = try claiming(20_000, 10_000, 0xC2, jpeg(64, 64, TJSAMP_444, progressive: true))
      #expect(
        message { _ = try Image.decode(progressive, name: "a.jpg") }
          == "a.jpg: this JPEG of 20000×10000 pixels is stored in several scans and takes 1144 MiB to decode, and 640 "
          + "are accepted; save it without “progressive”, or make it smaller")
      // The same colour by colour, which a decoder has to keep, too: its first scan has one component of three.
      var apart = try claiming(20_000, 10_000, 0xC0, jpeg(64, 64, TJSAMP_444, progressive: false))
      let scan = try #require(apart.indices.dropLast().first { apart[$0] == 0xFF && apart[$0 + 1] == 0xDA })
      #expect(apart[scan + 4] == 3)
      apart.replaceSubrange(scan + 2..<scan + 14, with: [0, 8, 1, 1, 0, 0, 63, 0])
      #expect(message { _ = try Image.decode(apart, name: "b.jpg") }?.contains("640 are accepted") == true)
      // What can be decoded is not refused for its size, but for what is missing.
      let fits = try claiming(20_000, 10_000, 0xC2, jpeg(64, 64, TJSAMP_GRAY, progressive: true))
      #expect(message { _ = try Image.decode(fits, name: "c.jpg") }?.contains("accepted") != true)
    }
  }
#endif
