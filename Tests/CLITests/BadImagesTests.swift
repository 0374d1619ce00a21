import Foundation
import TestSupport
import Testing

@Suite("Images and settings that cannot be read get one clear line:", .serialized)
struct BadImagesTests {
  @Test("a folder that is missing, is a file, or holds no image")
  func folders() throws {
    let place = try Workplace()
    try place.expectFailure(Workplace.train(images: "nowhere"), ["nowhere", "no such folder"])
    try place.file("hello", "file")
    try place.expectFailure(Workplace.train(images: "file"), ["file", "not a folder"])
    try place.file("hello", "texts/caption.txt")
    try place.expectFailure(Workplace.train(images: "texts"), ["texts", "JPEG, PNG or WebP"])
    try place.images()
    try FileManager.default.createDirectory(at: place.path("empty"), withIntermediateDirectories: true)
    try place.expectFailure(
      Workplace.train(["--masks", "empty"]), ["empty: no JPEG", "put the masks there", "leave --masks out"])
    try place.file("hello", "texts/movie.mov")
    try place.expectFailure(Workplace.train(images: "texts"), ["texts", "JPEG, PNG or WebP"])
  }

  @Test("a folder without permission", .enabled(if: Surroundings.obeyingPermissions != nil))
  func permission() throws {
    let place = try Workplace()
    let folder = try place.images()
    try FileManager.default.setAttributes([.posixPermissions: 0], ofItemAtPath: folder.path)
    defer { try? FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder.path) }
    let setup = Surroundings.obeyingPermissions ?? ""
    let result = try CommandLineTool.run(Workplace.train(), in: place.folder, setup: setup)
    #expect(result.code == 1 && Workplace.failure(in: result.error).contains("ermission"))
    #expect(Workplace.failure(in: result.error).contains("images"))
  }

  /// A PNG that says it has 40,000 × 25,000 pixels.
  private static let billion: Data = {
    func bigEndian(_ v: UInt32) -> Data { withUnsafeBytes(of: v.bigEndian) { Data($0) } }
    func chunk(_ name: String, _ body: Data) -> Data {
      let content = Data(name.utf8) + body
      var crc: UInt32 = .max
      for byte in content {
        crc ^= UInt32(byte)
        for _ in 0..<8 { crc = crc & 1 == 1 ? crc >> 1 ^ 0xEDB8_8320 : crc >> 1 }
      }
      return bigEndian(UInt32(body.count)) + content + bigEndian(~crc)
    }
    return Data([0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A])
      + chunk("IHDR", bigEndian(40_000) + bigEndian(25_000) + Data([8, 2, 0, 0, 0]))
      + chunk("IDAT", Data([0x78, 0x9C, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01])) + chunk("IEND", Data())
  }()

  @Test("an image of a thousand million pixels; beside a good one it is left out with a warning")
  func huge() throws {
    let place = try Workplace()
    try place.file(Self.billion, "images/huge.png")
    try place.expectFailure(Workplace.train(), ["huge.png", "40000×25000", "megapixels"])
    try place.images()
    let result = try place.run(Workplace.train())
    #expect(result.code == 0, "\(result.error)")
    #expect(result.error.contains("warning: ") && result.error.contains("huge.png"))
    #expect(result.error.contains("from 1 image at"))
  }

  @Test("images that are broken or are none are left out, each with a warning")
  func broken() throws {
    let place = try Workplace()
    try place.images()
    let whole = try Data(contentsOf: Fixtures.examples.appending(path: "spotty/2.jpg"))
    try place.file(whole.prefix(300), "images/cut.jpg")
    try place.file(Data([0xFF, 0xD8, 0xFF, 0xE0]) + Data(count: 50), "images/zeros.jpg")
    try place.file("RIFF", "images/short.webp")
    try place.file("", "images/empty.png")
    let result = try place.run(Workplace.train())
    #expect(result.code == 0, "\(result.error)")
    for name in ["cut.jpg", "zeros.jpg", "short.webp", "empty.png"] {
      #expect(
        result.error.split(separator: "\n").contains { $0.hasPrefix("warning: ") && $0.contains(name) },
        "\(name): \(result.error)")
    }
  }

  // MARK: YAML

  private func expectYAML(_ text: String, _ words: [String]) throws {
    let place = try Workplace()
    try place.images()
    try place.file(text, "train.yaml")
    try place.expectFailure(["train", "--config_path", "train.yaml", "--output", "run"], words)
  }

  @Test("an unknown key suggests the nearest")
  func unknownKey() throws {
    try expectYAML(
      "optim:\n  max_train_step: 3\n", ["train.yaml, line 2", "did you mean optim.max_train_steps?"])
    let place = try Workplace()
    try place.images()
    try place.expectFailure(
      Workplace.train(["--optim.learning_rte", "1"]),
      ["optim.learning_rte", "did you mean optim.learning_rate?"], code: 64)
  }

  @Test("YAML that is none, of wrong types, or with what is not read")
  func yaml() throws {
    try expectYAML("optim: [1, 2\n", ["train.yaml, line"])
    try expectYAML("- a\n- b\n", ["train.yaml", "sections"])
    try expectYAML("optim:\n  max_train_steps: many\n", ["line 2", "optim.max_train_steps", "many"])
    try expectYAML("a: &a [x]\nb: *a\n", ["anchors"])
    try expectYAML("optim: !!python/object:os.system {}\n", ["tags"])
    try expectYAML(String(repeating: "[", count: 5_000), ["train.yaml"])
    try expectYAML("optim:\n  seed: 1\n  seed: 2\n", ["line", "more than once"])
    try expectYAML("data:\n  placeholder_token: <toy>\n", ["data.train_data_dir"])
    let place = try Workplace()
    try place.expectFailure(["train", "--config_path", "no.yaml"], ["no.yaml"])
    try place.file(Data([0xFF, 0xFE, 0x00, 0xC3]), "binary.yaml")
    try place.expectFailure(["train", "--config_path", "binary.yaml"], ["binary.yaml"])
  }
}
