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

  @Argument(help: ArgumentHelp("A concept or checkpoint.", valueName: "file"))
  var file: String

  @Option(
    name: .customLong("for"),
    help: ArgumentHelp(
      "The program: \(ExportFolder.Program.allCases.map(\.rawValue).joined(separator: " or ")).",
      valueName: "program"))
  var program: ExportFolder.Program

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
    let made = try ExportFolder(
      concept, for: program, thumbnail: program == .comfyui ? image(besides: url) : nil,
      resource: Installation.resource)
    let folder = try place(output ?? made.name, isFolder: true)
    guard !FileManager.default.fileExists(atPath: folder.path) else {
      throw NeTIError(
        "\(folder.relativePath) exists already; choose another folder with `output`, or remove it")
    }
    let partial = folder.deletingLastPathComponent().appending(path: ".neti-\(UUID().uuidString).tmp")
    do {
      try FileManager.default.createDirectory(at: partial, withIntermediateDirectories: true)
      for file in made.files {
        let path = partial.appending(path: file.path)
        try FileManager.default.createDirectory(
          at: path.deletingLastPathComponent(), withIntermediateDirectories: true)
        try AtomicFile.write(file.data, to: path)
      }
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

  /// The thumbnail: the image that was asked for, else the last one of the run's `samples`.
  private func image(besides concept: URL) throws -> Image? {
    let last = ExportFolder.lastSample(besides: concept)
    return try (thumbnail.map { try place($0) } ?? last).map {
      try ExportFolder.thumbnail(of: Image.load($0))
    }
  }
}

extension ExportFolder.Program: ExpressibleByArgument {}
