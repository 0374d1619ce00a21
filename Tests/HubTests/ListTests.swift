import Files
import Foundation
import Hub
import TestSupport
import Testing

@Suite("The list of a repository")
struct ListTests {
  private static let hash = String(repeating: "a", count: 40)
  private static let sha256 = String(repeating: "b", count: 64)

  private func entry(_ path: String, oid: String = hash, size: String = "7", more: String = "") throws -> Data
  {
    let name = String(decoding: try JSONEncoder().encode(path), as: UTF8.self)
    return Data(#"[{"type": "file", "oid": "\#(oid)", "size": \#(size), "path": \#(name)\#(more)}]"#.utf8)
  }

  private func refused(_ page: Data) -> String {
    var list = RepositoryList()
    return refusal { try list.add(page, name: "the list") }?.message ?? ""
  }

  @Test(
    "names no path that leads elsewhere",
    arguments: [
      "../x", "a/../../x", "/etc/passwd", "a//b", "", "a/./b", ".", "..", "a\\..\\b", "C:\\x", "a\u{0}b",
      "a\nb", "../\u{338}x", "a/..\u{0}/x",
      "\u{1B}[2J", "a/", String(repeating: "x", count: 256), String(repeating: "x/", count: 600) + "x",
    ])
  func paths(_ path: String) throws {
    #expect(refused(try entry(path)).contains("is no path below a model's folder"))
  }

  @Test("has hashes and sizes that can be")
  func values() throws {
    for oid in ["", "x", "../../x", Self.hash.uppercased(), Self.hash + "a", Self.sha256] {
      #expect(refused(try entry("a", oid: oid)).contains("has no git hash"), "\(oid)")
    }
    for size in ["-1", "9223372036854775807", "1e30", "0.5", "\"7\"", "null", "17592186044417"] {
      #expect(!refused(try entry("a", size: size)).isEmpty, "\(size)")
    }
    for (lfs, words) in [
      (#", "lfs": {"oid": "../x", "size": 7}"#, "the list: “a” has no SHA-256 but “../x”"),
      (#", "lfs": {"oid": "\#(Self.hash)", "size": 7}"#, "the list: “a” has no SHA-256 but “\(Self.hash)”"),
      (#", "lfs": {"oid": "\#(Self.sha256)", "size": -7}"#, "the list: “a” has a size that cannot be"),
    ] { #expect(refused(try entry("a", more: lfs)) == words, "\(lfs)") }
    let good = try entry("a", more: #", "lfs": {"oid": "\#(Self.sha256)", "size": 9}, "xetHash": null"#)
    var list = RepositoryList()
    try list.add(good, name: "the list")
    #expect(list.files.map(\.size) == [9] && list.files[0].blobName == Self.sha256)
    #expect(refusal { try list.add(good, name: "the list") }?.message.contains("twice") == true)
    #expect(refused(Data(#"{"error": "no"}"#.utf8)).contains("the list"))
    #expect(refused(Data("<html>".utf8)).contains("not valid JSON"))
  }

  @Test("is not endless")
  func endless() throws {
    var list = RepositoryList()
    for page in 0..<100 {
      let entries = (0..<1000).map {
        #"{"type": "file", "oid": "\#(Self.hash)", "size": 1, "path": "\#(page)-\#($0)"}"#
      }
      try list.add(Data("[\(entries.joined(separator: ","))]".utf8), name: "the list")
    }
    #expect(
      refusal { try list.add(entry("one more"), name: "the list") }?.message.contains("more than 100000")
        == true)
    let deep = Data((String(repeating: "[", count: 100_000)).utf8)
    #expect(!refused(deep).isEmpty)
  }

  @Test("5,000 damaged ones are read or refused, and no path leaves the folder")
  func mutations() throws {
    let good = """
      [{"type": "directory", "oid": "\(Self.hash)", "size": 0, "path": "unet"},
       {"type": "file", "oid": "\(Self.hash)", "size": 743, "path": "unet/config.json"},
       {"type": "file", "oid": "\(Self.hash)", "size": 3438167536, "path": "unet/a.safetensors",
        "lfs": {"oid": "\(Self.sha256)", "size": 3438167536, "pointerSize": 135}, "xetHash": "\(Self.sha256)"}]
      """
    var read = 0
    for data in Mutations(of: Data(good.utf8), count: 5000, seed: 4) {
      var list = RepositoryList()
      do {
        try list.add(data, name: "the list")
        read += 1
        for file in list.files {
          #expect((0...RepositoryList.maximumSize).contains(file.size))
          #expect(file.blobName.isHexadecimal(40) || file.blobName.isHexadecimal(64))
          let place = URL(filePath: "/a/b/" + file.path).standardizedFileURL.path
          #expect(place.hasPrefix("/a/b/"))
        }
        _ = try JSONSerialization.jsonObject(with: list.cached())
      } catch is any DescribedError {}
    }
    #expect(read > 100 && read < 5000)
  }

  @Test("as a client reads it from the network, 300 damaged answers fetch the right bytes or nothing")
  func damagedAnswers() throws {
    let desk = try Desk()
    let path = "/api/models/org/mini/tree/\(desk.commit)"
    try desk.fetch(Desk.config)
    try FileManager.default.removeItem(at: desk.repository)
    let original = desk.hub.files
    var fetched = 0
    let entries = original.keys.sorted().map { key in
      #"{"type": "file", "oid": "\#(original[key]?.gitName ?? "")", "size": \#(original[key]?.data.count ?? 0), "path": "\#(key)"}"#
    }
    for data in Mutations(of: Data("[\(entries.joined(separator: ", "))]".utf8), count: 300, seed: 5) {
      desk.hub.change { request, _ in request.path == path ? .init(200, [:], data) : nil }
      _ = refusal { try desk.fetch(Desk.config) }
      for name in desk.blobs where !name.hasSuffix(".incomplete") {
        let data = try Data(contentsOf: desk.repository.appending(path: "blobs/\(name)"))
        #expect(original.values.contains { $0.blobName == name && $0.data == data }, "\(name)")
        fetched += 1
      }
      try? FileManager.default.removeItem(at: desk.repository)
    }
    #expect(fetched > 0 && fetched < 300)
    #expect(desk.scratch.contents == ["hub"])
  }
}
