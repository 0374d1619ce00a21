import Files
import Foundation
import TestSupport
import Testing
import Torch

/// Reads every tensor that a file mentions directly.
private func readAll(_ url: URL) throws {
  let file = try TorchFile(url)
  guard case .dictionary(let entries, _) = file.root else { return }
  for case .tensor(let tensor) in entries.map(\.value) { _ = try file.tensor(tensor).rawBytes() }
}

/// A little-endian number of two or four bytes.
private func little(_ value: Int, _ size: Int) -> [UInt8] {
  (0..<size).map { UInt8(value >> (8 * $0) & 255) }
}

/// A zip archive written byte by byte, so that each of its fields can be wrong.
private struct Zip {
  var names = ["a/x"]
  var localName: String?
  var flags = 0
  var method = 0
  var size: Int?
  var firstSize: Int?
  var packed: Int?
  var checksum = 0xD87F_7E0C  // of “test”
  var offset: Int?
  var count: Int?
  var comment: [UInt8] = []
  var directoryOffset: Int?

  var bytes: [UInt8] {
    var file: [UInt8] = []
    var directory: [UInt8] = []
    for (i, name) in names.enumerated() {
      let start = file.count
      let size = i == 0 ? firstSize ?? size ?? 4 : size ?? 4
      let fields =
        little(flags, 2) + little(method, 2) + little(0, 4) + little(checksum, 4)
        + little(packed ?? size, 4) + little(size, 4)
      let local = localName ?? name
      file += Array("PK\u{3}\u{4}".utf8) + little(20, 2) + fields + little(local.utf8.count, 2) + little(0, 2)
      file += Array(local.utf8) + Array("test".utf8)
      directory += Array("PK\u{1}\u{2}".utf8) + little(20, 2) + little(20, 2) + fields
      directory += little(name.utf8.count, 2) + little(0, 12) + little(offset ?? start, 4) + Array(name.utf8)
    }
    let start = file.count
    let number = little(count ?? names.count, 2)
    let end = Array("PK\u{5}\u{6}".utf8) + little(0, 4) + number + number + little(directory.count, 4)
    return file + directory + end + little(directoryOffset ?? start, 4) + little(comment.count, 2) + comment
  }
}

@Suite struct ZipArchiveTests {
  @Test func `Stored entries are read, with or without a comment at the end`() throws {
    for zip in [Zip(), Zip(comment: Array("PK\u{5}\u{6} not here".utf8))] {
      let archive = try ZipArchive(zip.bytes)
      #expect(archive.names == ["a/x"])
      #expect(try Array(archive.contents("a/x")) == Array("test".utf8))
      #expect(refusal { try archive.contents("a/y") }?.message == "the archive has no entry “a/y”")
    }
  }

  @Test func `What a checkpoint has no need of is refused`() {
    let cases: [(Zip, String)] = [
      (Zip(method: 8), "compressed"), (Zip(packed: 3), "compressed"), (Zip(flags: 1), "encrypted"),
      (Zip(flags: 0x40), "encrypted"), (Zip(names: ["a/x", "a/x"]), "two entries"),
      (Zip(names: ["../x"]), "odd name"), (Zip(names: ["/x"]), "odd name"),
      (Zip(names: ["a//x"]), "odd name"),
      (Zip(names: ["a\\x"]), "odd name"), (Zip(names: ["a/\u{0}"]), "odd name"),
      (Zip(names: [""]), "odd name"),
      (Zip(names: [String(repeating: "x", count: 600)]), "too long"), (Zip(localName: "b/x"), "agree"),
      (Zip(size: 5), "outside"), (Zip(size: 0x7FFF_FFFF), "outside"), (Zip(size: 0xFFFF_FFFF), "64-bit"),
      (Zip(offset: 0xFFFF_FFFF), "64-bit"), (Zip(offset: 0xFFFF_FFF0), "cut short"),
      (Zip(offset: 5), "agree"),
      (Zip(names: ["a/x", "a/y"], firstSize: 41), "overlap"), (Zip(count: 2), "its directory is none"),
      (Zip(count: 0), "wrong size"),
      (Zip(count: 0xFFFF), "limit"), (Zip(directoryOffset: 0xFFFF_FFFF), "outside"),
      (Zip(directoryOffset: 0), "its directory is none"),
    ]
    for (zip, reason) in cases {
      let error = #expect(throws: FileError.self, "\(zip)") { try ZipArchive(zip.bytes) }
      #expect(error?.message.contains(reason) == true, "\(zip): \(error?.message ?? "")")
    }
  }

  @Test func `Contents with a wrong check sum are refused`() throws {
    let archive = try ZipArchive(Zip(checksum: 1).bytes)
    let damaged =
      "the zip archive is damaged (the check sum of its entry “a/x” is wrong); fetch or save the file again"
    #expect(refusal { try archive.contents("a/x") }?.message == damaged)
  }

  /// An archive with one entry beyond 4 GiB, as those of large models have; what lies before is a hole on the disk.
  private func large(_ url: URL, field: [UInt8]? = nil) throws {
    let start = 5 << 30
    let common = little(0, 2) + little(0, 2) + little(0, 4) + little(0xD87F_7E0C, 4)
    let local =
      Array("PK\u{3}\u{4}".utf8) + little(45, 2) + common + little(4, 4) + little(4, 4) + little(3, 2)
      + little(0, 2) + Array("a/xtest".utf8)
    let extra = field ?? little(1, 2) + little(24, 2) + long(4) + long(4) + long(start)
    let none = little(0xFFFF_FFFF, 4)
    let entry =
      Array("PK\u{1}\u{2}".utf8) + little(45, 2) + little(45, 2) + common + none + none + little(3, 2)
      + little(extra.count, 2) + little(0, 10) + none + Array("a/x".utf8) + extra
    let directory = start + local.count
    let record = directory + entry.count
    let end64 =
      Array("PK\u{6}\u{6}".utf8) + long(44) + little(45, 2) + little(45, 2) + little(0, 8) + long(1) + long(1)
      + long(entry.count) + long(directory)
    let locator = Array("PK\u{6}\u{7}".utf8) + little(0, 4) + long(record) + little(1, 4)
    let end =
      Array("PK\u{5}\u{6}".utf8) + little(0, 4) + little(1, 2) + little(1, 2) + little(entry.count, 4) + none
      + little(0, 2)
    try Data().write(to: url)
    let file = try FileHandle(forWritingTo: url)
    try file.seek(toOffset: UInt64(start))
    try file.write(contentsOf: Data(local + entry + end64 + locator + end))
    try file.close()
  }

  private func long(_ value: Int) -> [UInt8] { little(value & 0xFFFF_FFFF, 4) + little(value >> 32, 4) }

  @Test func `An entry beyond 4 GiB is read, and one whose 64-bit sizes lack or are too large is refused`()
    throws
  {
    let scratch = try Scratch()
    let url = scratch.file("large.ckpt")
    try large(url)
    #expect(try ZipArchive(MappedFile(url)).contents("a/x") == Array("test".utf8))
    for field in [
      [], little(1, 2) + little(8, 2) + long(4),
      little(2, 2) + little(24, 2) + long(4) + long(4) + long(5 << 30),
      little(1, 2) + little(24, 2) + long(4) + long(4) + long(-1), little(1, 2) + little(0xFFFF, 2),
    ] {
      try large(url, field: field)
      let error = #expect(throws: FileError.self) { try ZipArchive(MappedFile(url)) }
      #expect(error?.message.contains("64-bit sizes") == true, "\(error?.message ?? "")")
    }
    try large(url, field: little(1, 2) + little(24, 2) + long(4) + long(4) + long(.max))
    #expect(throws: FileError.self) { try ZipArchive(MappedFile(url)) }
  }

  @Test func `A 64-bit directory that tells something else is refused`() throws {
    var bytes = Array(try Data(contentsOf: Fixtures.url("formats/views.pt")))
    let record = bytes.count - 22 - 20 - 56
    #expect(bytes[record...].starts(with: Array("PK\u{6}\u{6}".utf8)))
    _ = try ZipArchive(bytes)
    bytes[record + 32] += 1
    let words = "the zip archive is damaged (its 64-bit directory does not agree with its 32-bit one)"
    #expect(refusal { try ZipArchive(bytes) }?.message.hasPrefix(words) == true)
    bytes[record] = 0
    #expect(refusal { try ZipArchive(bytes) }?.message.hasPrefix(words) == true)
    var parts = Zip().bytes
    parts[parts.count - 22 + 4] = 1
    let several = refusal { try ZipArchive(parts) }?.message
    #expect(several == "the archive is split over several files, which is not supported")
  }
}

@Suite struct TorchFileTests {
  let views = Fixtures.url("formats/views.pt")

  @Test(
    "A file that grows gives what it was when it was opened, and is refused or the same when it is opened anew"
  )
  func growing() throws {
    let scratch = try Scratch()
    let url = try scratch.file(Data(contentsOf: views), "x.pt")
    func tensors(_ file: TorchFile) throws -> [[UInt8]] {
      guard case .dictionary(let entries, _) = file.root else { return [] }
      return try entries.compactMap { entry in
        guard case .tensor(let tensor) = entry.value else { return nil }
        return try file.tensor(tensor).rawBytes()
      }
    }
    let expected = try tensors(TorchFile(views))
    #expect(expected.count > 1)
    let file = try TorchFile(url)
    let handle = try FileHandle(forWritingTo: url)
    try handle.seekToEnd()
    try handle.write(contentsOf: Data(repeating: 7, count: 1 << 20))
    try handle.close()
    #expect(try tensors(file) == expected)
    let said = refusal { try TorchFile(url) }?.message ?? ""
    #expect(said.contains(url.path) && said.contains("no zip directory at its end"), "\(said)")
  }

  @Test func `Views, parameters and every element type have the values that PyTorch has`() throws {
    let file = try TorchFile(views)
    let expected = try SafetensorsFile(Fixtures.url("formats/views.safetensors"))
    #expect(expected.entries.count == 17)
    for name in expected.entries.keys.sorted() {
      guard case .tensor(let stored)? = file.root[name] else {
        Issue.record("no tensor \(name)")
        continue
      }
      let (tensor, wanted) = (try file.tensor(stored), try expected.tensor(name))
      #expect(tensor.dtype == wanted.dtype && tensor.shape == wanted.shape, "\(name)")
      #expect(try tensor.rawBytes() == wanted.rawBytes(), "\(name)")
    }
  }

  @Test func `Weights are found beside what PyTorch Lightning leaves, of which nothing is run`() throws {
    let weights = try TorchWeights(Fixtures.url("formats/lightning.ckpt"))
    #expect(weights.tensorNames.sorted() == ["betas", "logvar"])
    #expect(weights.declaration("betas") == TensorDeclaration(dtype: .float32, shape: [4]))
    #expect(try weights.tensor("betas").floats() == [1, 1, 1, 1])
    #expect(weights.declaration("epoch") == nil)
    #expect(throws: FileError.self) { try weights.tensor("epoch") }
    #expect(throws: FileError.self) { try TorchWeights(Fixtures.url("formats/views.safetensors")) }
  }

  @Test func `A tensor that leaves its storage or overflows is refused`() throws {
    let file = try TorchFile(views)
    guard case .tensor(let square)? = file.root["square"] else {
      Issue.record("no tensor")
      return
    }
    func attempt(_ offset: Int, _ shape: [Int], _ strides: [Int], count: Int = 24, key: String? = nil) throws
    {
      let storage = TorchStorage(key: key ?? square.storage.key, dtype: .float32, count: count)
      _ = try file.tensor(TorchTensor(storage: storage, offset: offset, shape: shape, strides: strides))
    }
    try attempt(0, [4, 6], [6, 1])
    try attempt(23, [1], [.max])
    try attempt(24, [0], [1])
    let wrong: [(Int, [Int], [Int])] = [
      (1, [4, 6], [6, 1]), (0, [4, 6], [7, 1]), (-1, [2], [1]), (25, [0], [1]), (.max, [1], [1]),
      (0, [-1], [1]),
      (0, [2], [-1]), (0, [2, 2], [1]), (0, [.max, .max], [0, 0]), (0, [1 << 40], [0]), (0, [25], [0]),
      (0, [2], [.max]), (0, [3, 3], [.max / 2, .max / 2]), (20, [2, 2], [3, 1]),
      (0, Array(repeating: 1, count: 65), Array(repeating: 1, count: 65)),
    ]
    for (offset, shape, strides) in wrong {
      let message = refusal { try attempt(offset, shape, strides) }?.message ?? ""
      let words =
        "a tensor of shape \(shape.prefix(8)) does not fit into its memory; fetch or save the file again"
      #expect(message == "cannot read \(views.path): \(words)")
    }
    for count in [-24, 0, 23, 25, .max] {
      let message = refusal { try attempt(0, [1], [1], count: count) }?.message ?? ""
      #expect(
        message.contains("the memory “\(square.storage.key)” of its tensors has a wrong size; fetch"),
        "\(message)")
    }
    for key in ["99", "../data.pkl", ""] {
      let message = refusal { try attempt(0, [1], [1], key: key) }?.message ?? ""
      #expect(
        message.contains("the archive has no entry “") && message.contains("/data/\(key)”"), "\(message)")
    }
  }

  /// How PyTorch's files of before 1.6 begin.
  private static let legacy: [UInt8] = [
    0x80, 2, 0x8A, 10, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19, 0x2E, 0x80, 2,
  ]

  /// What protocols from 4 on write before a value: its size.
  private static let frame: [UInt8] = [0x95, 0x0D, 0, 0, 0, 0, 0, 0, 0]

  @Test func `Files of another kind are named and told apart`() throws {
    let scratch = try Scratch()
    let cases: [(URL, String)] = [
      (try scratch.file(Data(Self.legacy), "legacy.pt"), "before 1.6"),
      (
        try scratch.file(Data([0x80, 5] + Self.frame + Array(Self.legacy.dropFirst(2))), "legacy5.pt"),
        "before 1.6"
      ),
      (try scratch.file(Data(Self.legacy.prefix(4)), "pickle.pt"), "64 bits"),
      (Fixtures.url("formats/types.safetensors"), "not a file that torch.save wrote"),
      (try scratch.file(Data("version https://git-lfs.github.com/spec/v1".utf8), "lfs.pt"), "git lfs pull"),
      (try scratch.file(Data(), "empty.pt"), "not a file that torch.save wrote"),
      (try scratch.file(Data(Zip().bytes), "other.zip"), "0 pickles"),
      (try scratch.file(try Data(contentsOf: views).dropLast(100), "short.pt"), "cut short"),
      (scratch.folder.appending(path: "missing.pt"), "there is no such file"),
    ]
    for (url, reason) in cases {
      let error = #expect(throws: FileError.self) { try TorchFile(url) }
      #expect(error?.message.contains(reason) == true, "\(error?.message ?? "")")
      #expect(error?.message.contains(url.path) == true)
    }
  }

  @Test func `Five thousand damaged files crash nothing`() throws {
    let scratch = try Scratch()
    var refused = 0
    for data in Mutations(of: try Data(contentsOf: views), count: 5000, seed: 3) {
      do { try readAll(scratch.file(data, "x.pt")) } catch is FileError { refused += 1 }
    }
    #expect(refused > 2500 && refused < 5000)
  }
}
