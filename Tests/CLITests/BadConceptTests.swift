import Diffusion
import Foundation
import NeTI
import TestSupport
import Testing

@Suite("A concept that cannot be used gets one clear line:", .serialized)
struct BadConceptTests {
  private static let drawing = Workplace.generate("a {}", ["--concept", "concept.safetensors"])

  /// Changes what the file says of the concept.
  private static func about(_ metadata: inout [String: String], _ change: (inout Concept.About) -> Void)
    throws
  {
    var about = try JSONDecoder().decode(
      Concept.About.self, from: Data(try #require(metadata["neti.about"]).utf8))
    change(&about)
    metadata["neti.about"] = String(decoding: try JSONEncoder().encode(about), as: UTF8.self)
  }

  @Test("one that is not there, is cut short, is no concept, or is empty")
  func unreadable() throws {
    let place = try Workplace()
    try place.expectFailure(Self.drawing, ["concept.safetensors", "there is no such file; check the path"])
    try place.concept()
    let whole = try Data(contentsOf: place.path("concept.safetensors"))
    for data in [Data(), whole.prefix(1000), whole.prefix(whole.count - 1), Data("PNG".utf8)] {
      try place.file(data, "concept.safetensors")
      try place.expectFailure(Self.drawing, ["concept.safetensors"])
      try place.expectFailure(["inspect", "concept.safetensors"], ["concept.safetensors"])
      try place.expectFailure(["convert", "concept.safetensors", "theirs/"], ["concept.safetensors"])
    }
    let weights = Fixtures.miniSD.appending(path: "unet/diffusion_pytorch_model.safetensors").path
    try place.expectFailure(["inspect", weights], ["not a neti concept"])
    try place.expectFailure(["inspect", "."], ["is a folder, not a file; name the file in it"])
  }

  @Test("downloads that went wrong: pointers of Git LFS and web pages, wherever weights are read")
  func otherContent() throws {
    let place = try Workplace()
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 4265146304\n"
    for (text, words) in [
      (pointer, "is a pointer of Git LFS, not the file itself; fetch that with: git lfs pull"),
      (
        "<!DOCTYPE html><html>", "is a web page, not the file itself: the download went wrong; fetch it again"
      ),
    ] {
      try place.file(text, "concept.safetensors")
      try place.file(text, "old.pt")
      try place.expectFailure(Self.drawing, ["concept.safetensors " + words])
      try place.expectFailure(Workplace.generate("a cat", ["--lora", "concept.safetensors"]), [words])
      try place.expectFailure(Workplace.generate("a cat", ["--model", "concept.safetensors"]), [words])
      try place.expectFailure(["convert", "old.pt", "new.safetensors"], ["old.pt " + words])
    }
    try place.concept()
    try place.expectFailure(
      Workplace.generate("a cat", ["--lora", "concept.safetensors"]),
      ["is a concept, not a LoRA", "--concept"])
    try place.file("some words\n", "words.txt")
    try FileManager.default.copyItem(
      at: Fixtures.examples.appending(path: "spotty/1.jpg"), to: place.path("photo.safetensors"))
    for (file, words) in [
      ("words.txt", "words.txt is a text, not a safetensors file (“some words”)"),
      ("photo.safetensors", "photo.safetensors is an image, not a safetensors file"),
    ] {
      try place.expectFailure(Workplace.generate("a cat", ["--lora", file]), [words])
    }
    try place.expectFailure(["inspect", "words.txt"], ["words.txt is a text, not a safetensors file"])
    try place.expectFailure(["inspect", "photo.safetensors"], ["it is a picture"])
    let file = "unet/diffusion_pytorch_model.safetensors"
    try place.model(file, Data(pointer.utf8))
    try place.expectFailure(Workplace.generate("a cat", ["--model", "model"]), [file, "git lfs pull"])
  }

  @Test("one of another hidden size")
  func hiddenSize() throws {
    let place = try Workplace()
    let mapper = Fixtures.repository.appending(path: "Tests/Fixtures/authors/default/mapper-steps-5.pt")
    try place.expectFailure(
      Workplace.generate("a {}", ["--concept", mapper.path]), ["768", "128", "--model"])
  }

  @Test("one for other layers, or for another number of them")
  func layers() throws {
    let place = try Workplace()
    try place.concept { try Self.about(&$0) { $0.base.layers[3] += ".other" } }
    try place.expectFailure(Self.drawing, ["<toy>", "cross-attention layers", "--model"])
    try place.concept("ti") { try Self.about(&$0) { $0.base.layers.removeLast(4) } }
    try place.expectFailure(Self.drawing, ["12 cross-attention layers", "has 16", "--model"])
    try place.concept { try Self.about(&$0) { $0.base.hiddenSize = 64 } }
    try place.expectFailure(Self.drawing, ["concept.safetensors", "sizes"])
  }

  @Test("other weights of the same shape, as a fine-tune has, are a warning, and it still draws")
  func otherHash() throws {
    let place = try Workplace()
    try place.concept { try Self.about(&$0) { $0.base.tokenTableHash = "0123" } }
    let result = try place.run(Self.drawing)
    #expect(result.code == 0, "\(result.error)")
    #expect(result.error.contains("warning: ") && result.error.contains("other weights"))
    #expect(FileManager.default.fileExists(atPath: place.path("out/a-concept-s0.png").path))
  }

  @Test("a newer major version; a newer minor one is read")
  func version() throws {
    let place = try Workplace()
    try place.concept { $0["neti.version"] = "3.0" }
    try place.expectFailure(Self.drawing, ["3.0", "newer", "update neti"])
    try place.concept {
      $0["neti.version"] = "1.9"
      $0["neti.invention"] = "of tomorrow"
    }
    #expect(try place.run(["inspect", "concept.safetensors"]).code == 0)
  }

  /// A checkpoint of the authors' kind whose pickle asks for `os.system("touch pwned")`.
  static let hostile = Data(
    base64Encoded: """
      UEsDBBQAAAAAANpkeF1BPOPzIAAAACAAAAAQAAAAYXJjaGl2ZS9kYXRhLnBrbIACY29zCnN5c3RlbQpYCwAAAHRvdWNoIHB3bmVk\
      hVIuUEsDBBQAAAAAANpkeF3RnmdVAgAAAAIAAAAPAAAAYXJjaGl2ZS92ZXJzaW9uMwpQSwECFAMUAAAAAADaZHhdQTzj8yAAAAAg\
      AAAAEAAAAAAAAAAAAAAAgAEAAAAAYXJjaGl2ZS9kYXRhLnBrbFBLAQIUAxQAAAAAANpkeF3RnmdVAgAAAAIAAAAPAAAAAAAAAAAA\
      AACAAU4AAABhcmNoaXZlL3ZlcnNpb25QSwUGAAAAAAIAAgB7AAAAfQAAAAAA
      """)

  @Test("a pickle that would run a program is refused by name, and runs none")
  func hostilePickle() throws {
    let place = try Workplace()
    let data = try #require(Self.hostile)
    try place.file(data, "mapper-steps-1.pt")
    try place.file(data, "learned_embeds-steps-1.bin")
    try place.file("precious", "toy.safetensors")
    for command in [
      ["convert", "mapper-steps-1.pt", "new.safetensors"], ["inspect", "mapper-steps-1.pt"],
      Workplace.generate("a {}", ["--concept", "mapper-steps-1.pt"]),
    ] {
      try place.expectFailure(command, ["mapper-steps-1.pt", "os.system"])
    }
    try place.file("not a zip", "mapper-steps-1.pt")
    try place.expectFailure(["convert", "mapper-steps-1.pt", "new.safetensors"], ["mapper-steps-1.pt"])
    try place.expectFailure(["convert", "nothing.pt", "new.safetensors"], ["nothing.pt"])
    try place.concept()
    let renamed = try place.run(
      ["convert", "concept.safetensors", "renamed.safetensors", "--category", "dragon"])
    #expect(renamed.code == 0, "\(renamed.error)")
    #expect(try Concept.open(place.path("renamed.safetensors")).about.category == "dragon")
    try place.expectFailure(
      ["convert", "concept.safetensors", "toy.safetensors"], ["toy.safetensors", "exists"])
    try place.expectFailure(["convert", "concept.safetensors", "theirs/"], ["768"])
    try place.expectFailure(["convert", "concept.safetensors", "toy.png"], ["toy.png"], code: 64)
  }

  @Test("a truncation for a concept that was trained without nested dropout")
  func noDial() throws {
    let place = try Workplace()
    try place.concept("neti", ["--model.use_nested_dropout", "false"])
    try place.expectFailure(
      Self.drawing + ["--truncation", "8"], ["<toy>", "nested dropout", "leave the truncation out"],
      code: 64)
    try place.concept("ti")
    try place.expectFailure(
      Self.drawing + ["--truncation", "8"], ["of the kind ti, which has no hidden units"], code: 64)
  }
}
