import Files
import Foundation
import Imaging
import NeTI
import TestSupport
import Testing

@Suite("neti export")
struct ExportTests {
  private static let concept = path("toy")

  private static func path(_ concept: String) -> String {
    Fixtures.url("integrations/\(concept).safetensors").path
  }

  private static let modules = [
    "diffusers": ["neti_concept.py", "neti_diffusers.py", "pyproject.toml"],
    "comfyui": ["neti_concept.py", "neti_patch.py", "neti_nodes.py", "__init__.py", "web/thumbnails.js"],
  ]

  @Test(
    "puts the concept and the program's module into one folder", arguments: ["diffusers", "comfyui"],
    ["toy", "ti"])
  func export(_ program: String, _ name: String) throws {
    let scratch = try Scratch()
    let folder = scratch.folder
    let r = try CommandLineTool.run(["export", Self.path(name), "--for", program], in: folder)
    #expect(r.code == 0, "\(r.error)")
    let made = folder.appending(path: "\(name)-\(program)")
    let source = Fixtures.repository.appending(path: "Integrations/\(program)")
    for name in try #require(Self.modules[program]) {
      let copy = made.appending(path: name)
      #expect(try Data(contentsOf: copy) == Data(contentsOf: source.appending(path: name)))
      let kind = try FileManager.default.attributesOfItem(atPath: copy.path)[.type] as? FileAttributeType
      #expect(kind == .typeRegular)
    }
    let readme = try String(contentsOf: made.appending(path: "README.md"), encoding: .utf8)
    let isTruncated = name == "toy"
    let lines = (program == "diffusers" ? 5 : 4) + (isTruncated ? 1 : 0)
    #expect(readme.split(separator: "\n").count == lines)
    #expect(readme.contains("pipe = StableDiffusionPipeline.from_") == (program == "diffusers"))
    #expect(readme.contains("\(name).safetensors"))
    #expect(readme.lowercased().contains("truncation") == isTruncated)
    let file = (program == "comfyui" ? "concepts/" : "") + "\(name).safetensors"
    let (a, b) = (
      try Concept(contentsOf: made.appending(path: file)),
      try Concept(contentsOf: URL(filePath: Self.path(name)))
    )
    #expect(a.about == b.about)
    let names = try FileManager.default.contentsOfDirectory(atPath: made.path)
    #expect(
      Set(names.filter { $0.hasSuffix(".py") })
        == Set((Self.modules[program] ?? []).filter { $0.hasSuffix(".py") }))
    #expect(scratch.contents == ["\(name)-\(program)"])
  }

  @Test("puts a thumbnail into the concept: the image that is given, else the run's last validation image")
  func thumbnail() throws {
    let place = try Workplace()
    let file = try place.file(Data(contentsOf: URL(filePath: Self.concept)), "run/concept.safetensors")
    func thumbnail(_ options: [String]) throws -> String? {
      try? FileManager.default.removeItem(at: place.path("made"))
      let line = ["export", file.path, "--for", "comfyui", "--output", "made"] + options
      let result = try place.run(line)
      #expect(result.code == 0, "\(result.error)")
      return try SafetensorsFile(place.path("made/concepts/toy.safetensors")).metadata["modelspec.thumbnail"]
    }
    #expect(try thumbnail([]) == nil)
    for (step, level) in [("000050", 9), ("000100", 200)] {
      let image = try Image(
        width: 256, height: 64, pixels: Array(repeating: UInt8(level), count: 3 * 256 * 64))
      try place.file(Data(image.png()), "run/samples/step-\(step)-0.png")
    }
    func shown(_ text: String?) throws -> Image {
      let start = "data:image/png;base64,"
      let text = try #require(text)
      #expect(text.hasPrefix(start))
      let data = try #require(Data(base64Encoded: String(text.dropFirst(start.count))))
      return try Image.load(place.file(data, "shown.png"))
    }
    let last = try shown(thumbnail([]))
    #expect(last.width == 128 && last.height == 32 && last.pixels[0] == 200)
    #expect(try shown(thumbnail(["--thumbnail", "run/samples/step-000050-0.png"])).pixels[0] == 9)
    try place.expectFailure(
      ["export", file.path, "--for", "diffusers", "--thumbnail", "shown.png"],
      ["--thumbnail is for --for comfyui"], code: 64)
    try place.expectFailure(
      ["export", file.path, "--for", "comfyui", "--thumbnail", "run/concept.safetensors"],
      ["concept.safetensors"])
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
