import Diffusion
import Files
package import Foundation
package import Imaging

/// The files of a folder with a concept and what another program needs to draw it. Whoever gets it needs nothing of
/// neti.
package struct ExportFolder {
  /// The programs that there are modules for.
  package enum Program: String, CaseIterable, Sendable { case diffusers, comfyui }

  /// What the folder is called when nobody says: “toy-comfyui”. Letters, digits and hyphens.
  package let name: String
  /// What is in it, by paths below it.
  package let files: [(path: String, data: Data)]

  /// - Parameters:
  ///   - concept: goes in as it is.
  ///   - thumbnail: what ComfyUI lists the concept with; of other programs unused.
  ///   - resource: finds what comes with neti by its path, such as `LICENSE`.
  /// - Throws: for a concept that the modules do not draw, and where they are missing.
  package init(
    _ concept: Concept, for program: Program, thumbnail: Image?, resource: (String) throws -> URL
  ) throws {
    guard concept.about.base.hiddenSizes == nil else {
      throw NeTIError(
        "\(concept.about.token.escaped) is a concept for SDXL, which the modules for other programs do not draw; "
          + "give those its vectors (`convert`, `format a1111`), or generate with neti")
    }
    let stem = Self.fileName(concept.about.token)
    name = "\(stem)-\(program.rawValue)"
    let source = try resource("Integrations/\(program.rawValue)")
    var files = try Self.modules(source, ["py", "toml"])
    let page = source.appending(path: "web")
    if FileManager.default.fileExists(atPath: page.path) {
      files += try Self.modules(page, ["js"]).map { ("web/" + $0.path, $0.data) }
    }
    files.append(("LICENSE", try readFile(resource("LICENSE"), limit: Self.largestFile)))
    let isComfyUI = program == .comfyui
    files.append(
      (
        (isComfyUI ? "concepts/" : "") + stem + ".safetensors",
        try concept.encoded(thumbnail: isComfyUI ? thumbnail : nil)
      ))
    files.append(("README.md", Data(Self.readme(concept, program, file: stem).utf8)))
    self.files = files
  }

  /// All of it as a zip archive, whose entries lie in a folder of its name.
  package func zipped() throws -> Data {
    var archive = ZipWriter()
    for file in files { try archive.add("\(name)/\(file.path)", file.data) }
    return try archive.finish()
  }

  // MARK: The thumbnail

  private static let thumbnailSide = 128

  /// An image, made small.
  package static func thumbnail(of image: Image) throws -> Image {
    let scale = min(1, Double(thumbnailSide) / Double(max(image.width, image.height)))
    let side = { (length: Int) in max(1, Int((Double(length) * scale).rounded())) }
    return try image.resized(width: side(image.width), height: side(image.height))
  }

  /// The last validation image of the run that a concept lies in; nil where there is none.
  package static func lastSample(besides concept: URL) -> URL? {
    let samples = concept.deletingLastPathComponent().appending(path: "samples")
    return try? FileManager.default.contentsOfDirectory(at: samples, includingPropertiesForKeys: nil)
      .filter { $0.pathExtension == "png" }.max { $0.lastPathComponent < $1.lastPathComponent }
  }

  // MARK: The files

  private static let largestFile = 16 << 20

  /// A module's files, without those that check it; a link becomes a file.
  private static func modules(_ source: URL, _ kinds: Set<String>) throws -> [(path: String, data: Data)] {
    guard
      let all = try? FileManager.default.contentsOfDirectory(at: source, includingPropertiesForKeys: nil)
    else { throw NeTIError("\(source.path) cannot be read; install neti again") }
    return
      try all.filter { kinds.contains($0.pathExtension) && !$0.lastPathComponent.hasPrefix("check") }
      .sorted { $0.lastPathComponent < $1.lastPathComponent }
      .map { ($0.lastPathComponent, try readFile($0, limit: largestFile)) }
  }

  private static func readme(_ concept: Concept, _ program: Program, file: String) -> String {
    let about = concept.about
    let width = concept.representation.truncationWidth
    let skip = about.clipSkip ?? 1
    let names = (about.base.loras ?? []).map(\.escaped).joined(separator: ", ")
    let loras = names.isEmpty ? "" : "It was learned with \(names): load that, too.\n"
    let title =
      "The concept \(about.token.escaped) for \(about.base.name.escaped), made with neti (Apache-2.0)."
    switch program {
    case .diffusers:
      return """
        \(title)
        Install: pip install .
        Open the model: \(opening(about.base.name))
        Use: from neti_diffusers import NeTIConcepts; concepts = NeTIConcepts(pipe); concepts.load(\
        "\(file).safetensors", token="<\(file)>"\(width == nil ? "" : ", truncation=None"))
        Draw: pipe("a photo of <\(file)> on a beach"\(skip == 1 ? "" : ", clip_skip=\(skip - 1)")).images[0]

        """ + loras + dial("A truncation of", width)
    case .comfyui:
      return """
        \(title)
        Install: put this folder into ComfyUI's custom_nodes, and start ComfyUI anew.
        Use: Load NeTI Concept (\(file).safetensors), NeTI Prompt between checkpoint and KSampler: its MODEL and \
        CONDITIONING go to the KSampler.
        Draw: write \(about.token.escaped) in the text where the concept belongs.\(
          skip == 1 ? "" : " CLIP Set Last Layer goes before NeTI Prompt, with \(-skip).")

        """ + loras + dial("NeTI Truncation,", width)
    }
  }

  /// How diffusers opens a base model. mini-sd lies in a clone of neti, and its numbers do not fit into fp16.
  private static func opening(_ base: String) -> String {
    let open = "from diffusers import StableDiffusionPipeline; pipe = StableDiffusionPipeline."
    guard base != "mini-sd" else {
      return
        "import torch; \(open)from_pretrained(\"Models/mini-sd\", torch_dtype=torch.float32), which lies in a "
        + "clone of neti and needs float32"
    }
    let isFile = [".safetensors", ".ckpt"].contains { base.hasSuffix($0) }
    return "\(open)\(isFile ? "from_single_file" : "from_pretrained")"
      + "(\"\(base.escaped.replacing("\"", with: "'"))\")"
  }

  /// The line about truncation; empty for a concept that cannot be truncated.
  private static func dial(_ name: String, _ width: Int?) -> String {
    width.map {
      "\(name) 1 to \($0) follows the prompt more (small) or the training images (large).\n"
    } ?? ""
  }

  /// A token as the name of a file: its ASCII letters and digits.
  private static func fileName(_ token: String) -> String {
    let words = token.split { !($0.isASCII && ($0.isLetter || $0.isNumber)) }
    let name = words.joined(separator: "-").prefix(60)
    return name.isEmpty ? "concept" : String(name)
  }
}
