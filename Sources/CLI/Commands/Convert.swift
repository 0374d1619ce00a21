import ArgumentParser
import Foundation
import NeTI

/// `neti convert`: concept files of other programs into ours, and back.
struct Convert: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Turn a concept of the authors' code into ours, or ours into theirs.",
    discussion: """
        neti convert mapper-steps-1000.pt toy.safetensors

      reads mapper-steps-1000.pt and, beside it, learned_embeds-steps-1000.bin, without executing anything in
      them. When the output is a folder, the concept is written as the authors' two files:

        neti convert toy.safetensors theirs/
      """)

  @Argument(help: ArgumentHelp("mapper-….pt of the authors, or a concept of ours.", valueName: "in"))
  var input: String

  @Argument(
    help: ArgumentHelp(
      "A new .safetensors file, or a folder (ending in /) for the authors' format.", valueName: "out"))
  var output: String

  func validate() throws {
    if !output.hasSuffix("/"), !output.hasSuffix(".safetensors"), !isFolder(output) {
      throw ValidationError(
        "\(output): name a .safetensors file, or a folder ending in / for the authors' format")
    }
  }

  func run() throws {
    let concept = try Concept.open(URL(filePath: input))
    if output.hasSuffix(".safetensors") {
      let url = URL(filePath: output)
      guard !FileManager.default.fileExists(atPath: url.path) else {
        throw NeTIError("\(output) exists already; choose another name or remove it")
      }
      try concept.write(to: url)
      print(output)
    } else {
      let folder = URL(filePath: output, directoryHint: .isDirectory)
      let authors = try concept.authorsCheckpoint()
      try authors.checkSizes()
      let made = try PictureOutput(folder).folder
      let stem = authors.steps.map { "steps-\($0)" } ?? "final"
      for name in ["mapper-\(stem).pt", "learned_embeds-\(stem).bin"]
      where FileManager.default.fileExists(atPath: made.appending(path: name).path) {
        throw NeTIError("\(name) exists already in \(output); choose another folder")
      }
      let files = try authors.write(into: made)
      print(files.mapper.relativePath)
      print(files.embeddings.relativePath)
    }
  }

  private func isFolder(_ path: String) -> Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
  }
}
