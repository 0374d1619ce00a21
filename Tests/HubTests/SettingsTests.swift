import Files
import Foundation
import Hub
import TestSupport
import Testing

@Suite("Names, addresses and the environment")
struct SettingsTests {
  @Test("a repository's name is of the Hub's letters, with a revision or without")
  func names() {
    for (text, id, revision) in [
      ("org/name", "org/name", nil), ("gpt2", "gpt2", nil), ("o.r-g/n_1", "o.r-g/n_1", nil),
      ("org/name@main", "org/name", "main"), ("org/name@refs/pr/4", "org/name", "refs/pr/4"),
      ("org/name@v1.0+a", "org/name", "v1.0+a"),
    ] as [(String, String, String?)] {
      let name = RepositoryName(text)
      #expect(name?.id == id && name?.revision == revision && name?.description == text)
    }
    for text in [
      "", "/", "a/", "/a", "a/b/c", "a b", "../a", "a/..", "a--b", "a/b--c", "-a", "a/-b", ".a", "a.git",
      "org/a\u{0}",
      "org/ü", "@main", "a@", "a@../x", "a@-x", "a@x/", "a@x//y", "a@.x", "a@x.lock", "a@x y", "a@x@y",
      String(repeating: "a", count: 97),
    ] { #expect(RepositoryName(text) == nil, "\(text)") }
    for (text, repository, path) in [
      ("org/name/a.safetensors", "org/name", "a.safetensors"),
      ("org/name@v1/in/b c.ckpt", "org/name@v1", "in/b c.ckpt"),
    ] {
      let name = RepositoryFileName(text)
      #expect(name?.repository.description == repository && name?.path == path && name?.description == text)
    }
    for text in [
      "org/a.safetensors", "org/name/a.bin", "org/name/", "org/name//a.ckpt", "org/name/../a.ckpt",
      "/a/b.ckpt",
      "org/name/a\\b.ckpt", "../x/a.ckpt", "~/models/a.ckpt", "org/name@/a.ckpt", "./x/a.ckpt",
      "org/name/a\n.ckpt",
    ] { #expect(RepositoryFileName(text) == nil, "\(text)") }
    #expect(RepositoryName("org/name")?.folderName == "models--org--name")
    #expect(RepositoryName(folderName: "models--org--name")?.id == "org/name")
    for folder in ["datasets--a--b", "models--", "models--a--b--c", "models--..--x", "models"] {
      #expect(RepositoryName(folderName: folder) == nil, "\(folder)")
    }
  }

  @Test("a timeout is a number of seconds")
  func timeout() throws {
    for seconds in ["x", "1.5", "nan"] {
      let said = refusal { try HubSettings(["HF_HUB_DOWNLOAD_TIMEOUT": seconds]) }?.message ?? ""
      #expect(said == "HF_HUB_DOWNLOAD_TIMEOUT: “\(seconds)” is no number of seconds; write 30, for example")
    }
  }

  @Test("the endpoint is https or what HF_ENDPOINT says, and nothing else")
  func endpoint() throws {
    #expect(try HubSettings([:]).endpoint.text.hasPrefix("https://huggingface.co"))
    #expect(
      try HubSettings(["HF_ENDPOINT": "http://127.0.0.1:8/hf//"]).address("/api").text
        == "http://127.0.0.1:8/hf/api")
    for address in [
      "ftp://x", "file:///x", "http://a:b@c", "x y", "http://", "https://a/?b", "https://a/#b",
      "https://a\nb",
    ] {
      let said = refusal { try HubSettings(["HF_ENDPOINT": address]) }?.message ?? ""
      #expect(said.hasPrefix("HF_ENDPOINT: ") && !said.contains("\n"), "\(address): \(said)")
    }
  }

  @Test("the token comes from HF_TOKEN, then from its file, and is never shown")
  func token() throws {
    let scratch = try Scratch()
    let home = ["HF_HOME": scratch.folder.path]
    #expect(try HubSettings(home).token == nil)
    _ = try scratch.file(Data("  hf_file\n".utf8), "token")
    #expect(try HubSettings(home).token == "hf_file")
    #expect(try HubSettings(home.merging(["HF_TOKEN": "hf_given"]) { $1 }).token == "hf_given")
    #expect(try HubSettings(home.merging(["HUGGING_FACE_HUB_TOKEN": "hf_old"]) { $1 }).token == "hf_old")
    #expect(
      try HubSettings(home.merging(["HF_TOKEN": "x", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"]) { $1 }).token
        == nil)
    let other = try scratch.file(Data("hf_other".utf8), "elsewhere")
    #expect(try HubSettings(home.merging(["HF_TOKEN_PATH": other.path]) { $1 }).token == "hf_other")
    #expect(try HubSettings(["HOME": scratch.folder.path]).token == nil)
    for bad in ["hf_a\r\nX-Injected: 1", "hf a", "hf_ü"] {
      let said = refusal { try HubSettings(["HF_TOKEN": bad]) }?.message ?? ""
      #expect(said.contains("HF_TOKEN holds no token") && !said.contains("hf"))
      _ = try scratch.file(Data(bad.utf8), "token")
      #expect(throws: HubError.self) { try HubSettings(home) }
    }
  }

  @Test("addresses have one host, and what goes into them is encoded")
  func addresses() throws {
    let base = try HubAddress("https://Huggingface.co/a/b")
    #expect(base.host == "huggingface.co" && base.port == "443")
    #expect(
      try HubAddress("/c", of: base).text == "https://huggingface.co/c"
        || HubAddress("/c", of: base).host == base.host)
    #expect(try HubAddress("//other.example/c", of: base).host == "other.example")
    #expect(try HubAddress("https://huggingface.co:443/x").isSameOrigin(base))
    #expect(try !HubAddress("https://huggingface.co:444/x").isSameOrigin(base))
    #expect(try !HubAddress("http://huggingface.co/x").isSameOrigin(base))
    #expect(try !HubAddress("https://huggingface.co.evil.example/x").isSameOrigin(base))
    for text in ["https://a b/", "https://a/\u{0}", "https://ü/", String(repeating: "a", count: 20_000)] {
      #expect(throws: HubError.self) { try HubAddress(text) }
    }
    #expect(HubAddress.encoded("refs/pr 4ü") == "refs%2Fpr%204%C3%BC")
    #expect(HubAddress.encoded("a/b?c#d%", keepingSlashes: true) == "a/b%3Fc%23d%25")
    #expect(byteText(0) == "0 bytes" && byteText(999) == "999 bytes" && byteText(1_340_616_616) == "1.3 GB")
    #expect(byteText(999_999) == "1.0 MB" && byteText(45_000_000) == "45 MB")
  }
}
