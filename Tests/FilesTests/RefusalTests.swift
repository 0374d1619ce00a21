import Files
import Foundation
import TestSupport
import Testing
import Torch

@Suite("Files that are sound and of no use")
struct RefusalTests {
  private func refusal(_ bytes: Data, _ read: (URL) throws -> Void) throws -> String {
    let scratch = try Scratch()
    let url = try scratch.file(bytes, "x.pt")
    let error = #expect(throws: FileError.self) { try read(url) }
    return error?.message.replacing(url.path, with: "FILE") ?? ""
  }

  @Test("weights of PyTorch that are no dictionary of tensors")
  func weights() throws {
    var storages = TorchStorages()
    let one = try storages.add(Tensor.ones([1]))
    let long = String(repeating: "x", count: 100_000)
    for (root, says) in [
      (PickleValue.list([one]), "cannot read FILE: it holds a list instead of a dictionary of weights"),
      (
        .dictionary([PickleEntry("model", .dictionary([], ordered: false))], ordered: false),
        "cannot read FILE: its weights lie under “model”, and are looked for at the top or under “state_dict”"
      ),
      (.dictionary([PickleEntry(long, one)], ordered: false), "a tensor's name has 100000 bytes"),
    ] {
      let said = try refusal(storages.archive("a", root)) { _ = try TorchWeights($0) }
      #expect(said.contains(says), "\(said.prefix(300))")
    }
  }

  @Test("numbers in the other byte order, and a pickle without the memory of its tensors")
  func numbers() throws {
    let sound = try ZipArchive(Array(Data(contentsOf: Fixtures.url("formats/views.pt"))))
    var zip = ZipWriter()
    for name in sound.names {
      try zip.add(name, name.hasSuffix("/byteorder") ? Data("big".utf8) : Data(sound.contents(name)))
    }
    let turned = try refusal(zip.finish()) { _ = try TorchFile($0) }
    #expect(turned.contains("not in little-endian byte order"), "\(turned)")
    var longer = ZipWriter()
    for name in sound.names {
      try longer.add(name, Data(sound.contents(name)) + Data(name.contains("/data/") ? [0] : []))
    }
    let wrong = try refusal(longer.finish()) { _ = try TorchWeights($0) }
    #expect(
      wrong.wholeMatch(
        of: /cannot read FILE: the memory “\d+” of its tensors has a wrong size; fetch or save the file again/
      )
        != nil, "\(wrong)")
    let name = try #require(sound.names.first { $0.hasSuffix("/data.pkl") })
    let alone = try refusal(Data(sound.contents(name))) { url in
      let file = try TorchFile(url)
      guard case .dictionary(let entries, _) = file.root else { return }
      for case .tensor(let tensor) in entries.map(\.value) { _ = try file.tensor(tensor) }
    }
    #expect(alone.contains("it is a pickle alone, without the memory of its tensors"), "\(alone)")
  }

  @Test("compressed data that is damaged, or becomes larger than it may")
  func compressed() throws {
    // A thousand zeros.
    let zeros: [UInt8] = [120, 156, 99, 96, 24, 5, 163, 96, 20, 12, 119, 0, 0, 3, 232, 0, 1]
    #expect(try inflated(zeros, limit: 1000) == [UInt8](repeating: 0, count: 1000))
    for (bytes, limit, says) in [
      (zeros, 999, "more than 999 bytes"), (Array(zeros.prefix(8)), 1000, "damaged or cut short"),
      ([1, 2, 3], 1000, "damaged or cut short"),
    ] {
      let error = #expect(throws: FileError.self) { try inflated(bytes, limit: limit) }
      #expect(error?.message.contains(says) == true, "\(error?.message ?? "")")
    }
  }

  @Test("a tensor that is not there")
  func missing() throws {
    let file = try SafetensorsFile(Fixtures.url("formats/types.safetensors"))
    let error = #expect(throws: FileError.self) { try file.tensor("missing") }
    #expect(error?.message == "\(file.url.path) has no tensor “missing”")
  }
}
