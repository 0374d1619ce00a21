import Files
import Foundation
import NeTI
import TestSupport
import Testing

@Suite struct TensorBoardWriterTests {
  /// The payloads of an event file, each with both of its checksums verified.
  private func payloads(_ data: Data) throws -> [Data] {
    var rest = data[...]
    var found: [Data] = []
    func take(_ count: Int) throws -> Data {
      try #require(rest.count >= count)
      defer { rest = rest.dropFirst(count) }
      return Data(rest.prefix(count))
    }
    func number(_ bytes: Data) -> UInt64 {
      bytes.reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    }
    while !rest.isEmpty {
      let length = try take(8)
      #expect(number(try take(4)) == UInt64(TensorBoardRecord.maskedChecksum(length)))
      let payload = try take(Int(number(length)))
      #expect(number(try take(4)) == UInt64(TensorBoardRecord.maskedChecksum(payload)))
      found.append(payload)
    }
    return found
  }

  @Test func `the checksum of the standard check string is that of CRC-32C`() {
    #expect(TensorBoardRecord.checksum(Data("123456789".utf8)) == 0xe306_9283)
    #expect(TensorBoardRecord.checksum(Data()) == 0)
  }

  @Test func `scalars, images and the resume note have the bytes that torch writes`() throws {
    let folder = try Scratch()
    let image = try Data(contentsOf: Fixtures.url("tensorboard_events/picture.png"))
    let clock = { Date(timeIntervalSince1970: 1_700_000_000.5) }
    let writer = try TensorBoardWriter(folder: folder.folder, resumingAt: 3, now: clock)
    try writer.scalar("loss", 0.25, step: 3)
    try writer.scalar("lr", 8e-3, step: 1 << 40)
    try writer.image("samples/0", encoded: image, width: 7, height: 5, step: 4)

    let name = try #require(folder.contents.first)
    let ours = try payloads(Data(contentsOf: folder.file(name)))
    let theirs = try payloads(Data(contentsOf: Fixtures.url("tensorboard_events/golden.tfevents")))
    // torch names itself in its first event and says the version a second time.
    #expect(ours.count == theirs.count - 1)
    #expect(theirs[0].starts(with: ours[0]))
    for (a, b) in zip(ours.dropFirst(), theirs.dropFirst(2)) { #expect(a == b) }
  }

  @Test func `a resumed run writes a new file beside the old one, even within one second`() throws {
    let folder = try Scratch()
    let clock = { Date(timeIntervalSince1970: 1_700_000_000) }
    for first in [nil, 5, 9] as [Int?] {
      let writer = try TensorBoardWriter(folder: folder.folder, resumingAt: first, now: clock)
      try writer.scalar("loss", 1, step: first ?? 0)
    }
    #expect(folder.contents.count == 3)
    for name in folder.contents {
      #expect(name.contains("tfevents"))
      #expect(try payloads(Data(contentsOf: folder.file(name))).count >= 2)
    }
  }

  @Test func `files sort as they were written, whatever the clock does`() throws {
    let folder = try Scratch()
    var written: [String] = []
    let noon = 1_700_000_000.0
    for time in [noon, noon - 3e8, noon - 3e8, noon + 5, -1e9, noon, 9_999_999_999, 5e10, 0] {
      let before = Set(folder.contents)
      _ = try TensorBoardWriter(folder: folder.folder, now: { Date(timeIntervalSince1970: time) })
      written += folder.contents.filter { !before.contains($0) }
    }
    #expect(written.count == 9 && written == written.sorted(), "\(written)")
    #expect(written[0].contains(".1700000000.") && written[1].contains(".1700000001."))
  }

  @Test func `another program's file, or one with an odd name, is counted where it has a time`() throws {
    let folder = try Scratch()
    for name in [
      "events.out.tfevents.1700000009.host.1.0", "events.out.tfevents.99999999999999999999.x",
      "tfevents.2000000000",
      "events.out.tfevents.-5.x", "events.out.tfevents.",
    ] { try Data().write(to: folder.file(name)) }
    _ = try TensorBoardWriter(folder: folder.folder, now: { Date(timeIntervalSince1970: 1_700_000_000) })
    #expect(folder.contents.contains("events.out.tfevents.1700000010.neti.000"))
  }

  @Test func `a folder that is not there is an error that names it`() throws {
    let folder = try Scratch()
    let error = #expect(throws: FileError.self) {
      try TensorBoardWriter(folder: folder.file("missing"))
    }
    #expect(error?.message.contains("missing") == true)
  }
}
