import ArgumentParser
import Diffusion
import Files
import Foundation
import Imaging
import NeTI

/// `neti export`: a concept, and what another program needs to draw it, in one folder.
struct Export: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Put a concept and what another program needs to draw it into one folder.",
    discussion: """
      Whoever gets the folder needs nothing of neti. The concept keeps everything that it has: time, layers, \
      bypass and truncation.

        neti export toy-run/concept.safetensors --for diffusers
        neti export toy-run/concept.safetensors --for comfyui --thumbnail toy.png

      README.md in the folder says how to use it.
      """)

  enum Program: String, CaseIterable, ExpressibleByArgument {
    case diffusers, comfyui
  }

  @Argument(help: ArgumentHelp("A concept or checkpoint.", valueName: "file"))
  var file: String

  @Option(
    name: .customLong("for"),
    help: ArgumentHelp(
      "The program: \(Program.allCases.map(\.rawValue).joined(separator: " or ")).", valueName: "program"))
  var program: Program

  @Option(
    help: ArgumentHelp(
      "A new folder; the concept's name and the program's when left out.", valueName: "folder"))
  var output: String?

  @Option(
    help: ArgumentHelp(
      "An image that ComfyUI lists the concept with; the run's last validation image when left out.",
      valueName: "file"))
  var thumbnail: String?

  func validate() throws {
    if thumbnail != nil, program != .comfyui {
      throw ValidationError("--thumbnail is for --for comfyui: \(program.rawValue) lists no concepts")
    }
  }

  func run() throws {
    let url = try place(file)
    let concept = try Concept.open(url)
    guard concept.about.base.hiddenSizes == nil else {
      throw NeTIError(
        "\(file) is a concept for SDXL, which the modules for other programs do not draw; convert it to vectors "
          + "(`convert`, `format a1111`), or generate with neti")
    }
    let shown = try program == .comfyui ? image(besides: url) : nil
    let name = Self.fileName(concept.about.token)
    let folder = try place(output ?? "\(name)-\(program.rawValue)", isFolder: true)
    guard !FileManager.default.fileExists(atPath: folder.path) else {
      throw NeTIError(
        "\(folder.relativePath) exists already; choose another folder with `output`, or remove it")
    }
    let partial = folder.deletingLastPathComponent().appending(path: ".neti-\(UUID().uuidString)")
    do {
      try FileManager.default.createDirectory(at: partial, withIntermediateDirectories: true)
      try write(concept, shown, name: name, to: partial)
      try FileManager.default.moveItem(at: partial, to: folder)
    } catch let error as any CommandFailure {
      try? FileManager.default.removeItem(at: partial)
      throw error
    } catch {
      try? FileManager.default.removeItem(at: partial)
      throw NeTIError(
        "\(folder.relativePath): the folder cannot be made; check the path and its permissions, or choose another "
          + "with `output`")
    }
    tell(folder.relativePath)
  }

  private static let thumbnailSide = 128

  /// The thumbnail: the image that was asked for, else the last one of the run's `samples`.
  private func image(besides concept: URL) throws -> Image? {
    let samples = concept.deletingLastPathComponent().appending(path: "samples")
    let last = try? FileManager.default.contentsOfDirectory(at: samples, includingPropertiesForKeys: nil)
      .filter { $0.pathExtension == "png" }.max { $0.lastPathComponent < $1.lastPathComponent }
    guard let url = try thumbnail.map({ try place($0) }) ?? last else { return nil }
    let image = try Image.load(url)
    let scale = min(1, Double(Self.thumbnailSide) / Double(max(image.width, image.height)))
    let side = { (length: Int) in max(1, Int((Double(length) * scale).rounded())) }
    return try image.resized(width: side(image.width), height: side(image.height))
  }

  private func write(_ concept: Concept, _ thumbnail: Image?, name: String, to folder: URL) throws {
    let source = try Installation.resource("Integrations/\(program.rawValue)")
    try copy(source, ["py", "toml"], to: folder)
    let page = source.appending(path: "web")
    if FileManager.default.fileExists(atPath: page.path) {
      let web = folder.appending(path: "web")
      try FileManager.default.createDirectory(at: web, withIntermediateDirectories: false)
      try copy(page, ["js"], to: web)
    }
    let license = try Installation.resource("LICENSE")
    try AtomicFile.write(Data(contentsOf: license), to: folder.appending(path: "LICENSE"))
    var place = folder
    if program == .comfyui {
      place = folder.appending(path: "concepts")
      try FileManager.default.createDirectory(at: place, withIntermediateDirectories: false)
    }
    try concept.write(to: place.appending(path: "\(name).safetensors"), thumbnail: thumbnail)
    try AtomicFile.write(
      Data(readme(concept, name: name).utf8), to: folder.appending(path: "README.md"))
  }

  /// Copies a module's files, without those that check it.
  private func copy(_ source: URL, _ kinds: Set<String>, to folder: URL) throws {
    for file in try FileManager.default.contentsOfDirectory(at: source, includingPropertiesForKeys: nil)
    where kinds.contains(file.pathExtension) && !file.lastPathComponent.hasPrefix("check") {
      // Through its data: a link becomes a file.
      try AtomicFile.write(Data(contentsOf: file), to: folder.appending(path: file.lastPathComponent))
    }
  }

  private func readme(_ concept: Concept, name: String) -> String {
    let about = concept.about
    let width = concept.representation.truncationWidth
    let skip = about.clipSkip
    let names = (about.base.loras ?? []).map(\.escaped).joined(separator: ", ")
    let loras = names.isEmpty ? "" : "It was learned with \(names): load that, too.\n"
    let title =
      "The concept \(about.token.escaped) for \(about.base.name.escaped), made with neti (Apache-2.0)."
    switch program {
    case .diffusers:
      return """
        \(title)
        Install: pip install .
        Use: from neti_diffusers import NeTIConcepts; concepts = NeTIConcepts(pipe); concepts.load(\
        "\(name).safetensors", token="<\(name)>"\(width == nil ? "" : ", truncation=None"))
        Draw: pipe("a photo of <\(name)> on a beach"\(skip == 1 ? "" : ", clip_skip=\(skip - 1)")).images[0]

        """ + loras + dial("A truncation of", width)
    case .comfyui:
      return """
        \(title)
        Install: put this folder into ComfyUI's custom_nodes, and start ComfyUI anew.
        Use: Load NeTI Concept (\(name).safetensors), NeTI Prompt between checkpoint and KSampler: its MODEL and \
        CONDITIONING go to the KSampler.
        Draw: write \(about.token.escaped) in the text where the concept belongs.\(
          skip == 1 ? "" : " CLIP Set Last Layer goes before NeTI Prompt, with \(-skip).")

        """ + loras + dial("NeTI Truncation,", width)
    }
  }

  /// The line about truncation; empty for a concept that cannot be truncated.
  private func dial(_ name: String, _ width: Int?) -> String {
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
