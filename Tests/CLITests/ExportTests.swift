import Foundation
import NeTI
import TestSupport
import Testing

@Suite("neti export")
struct ExportTests {
  private static let concept = Fixtures.url("integrations/toy.safetensors").path

  @Test(
    "puts the concept and the program's module into one folder",
    arguments: [
      ("diffusers", "toy.safetensors", ["neti_concept.py", "neti_diffusers.py", "pyproject.toml"]),
      ("comfyui", "concepts/toy.safetensors", ["neti_concept.py", "neti_patch.py", "__init__.py"]),
    ])
  func export(_ program: String, _ file: String, _ modules: [String]) throws {
    let scratch = try Scratch()
    let folder = scratch.folder
    let r = try CommandLineTool.run(["export", Self.concept, "--for", program], in: folder)
    #expect(r.code == 0, "\(r.error)")
    let made = folder.appending(path: "toy-\(program)")
    let source = Fixtures.repository.appending(path: "Integrations/\(program)")
    for name in modules {
      let copy = made.appending(path: name)
      #expect(try Data(contentsOf: copy) == Data(contentsOf: source.appending(path: name)))
      let kind = try FileManager.default.attributesOfItem(atPath: copy.path)[.type] as? FileAttributeType
      #expect(kind == .typeRegular)
    }
    let readme = try String(contentsOf: made.appending(path: "README.md"), encoding: .utf8)
    #expect(readme.split(separator: "\n").count == 5 && readme.contains("toy.safetensors"))
    let (a, b) = (
      try Concept(contentsOf: made.appending(path: file)),
      try Concept(contentsOf: URL(filePath: Self.concept))
    )
    #expect(a.about == b.about)
    #expect(!FileManager.default.fileExists(atPath: made.appending(path: "check.py").path))
    #expect(scratch.contents == ["toy-\(program)"])
  }

  @Test("leaves a folder that is there as it is, and says which programs there are")
  func refusals() throws {
    let scratch = try Scratch()
    let folder = scratch.folder
    try FileManager.default.createDirectory(
      at: folder.appending(path: "there"), withIntermediateDirectories: false)
    let taken = try CommandLineTool.run(
      ["export", Self.concept, "--for", "diffusers", "--output", "there"], in: folder)
    #expect(
      taken.code == 1 && taken.error.contains("there exists already; choose another folder with --output"))
    let unknown = try CommandLineTool.run(["export", Self.concept, "--for", "paint"], in: folder)
    #expect(unknown.code == 64 && unknown.error.contains("diffusers"))
    try Data().write(to: folder.appending(path: "file"))
    let inFile = try CommandLineTool.run(
      ["export", Self.concept, "--for", "diffusers", "--output", "file/x"], in: folder)
    #expect(inFile.code == 1 && inFile.error.contains("cannot be made"))
    #expect(scratch.contents == ["file", "there"])
  }
}
