public import ArgumentParser
import Diffusion
import Files
import Foundation
public import NeTI

/// `neti convert`: concept files of other programs into ours, and back.
struct Convert: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Turn concepts and embeddings of other programs into ours, or ours into theirs.",
    discussion: """
      What the input is, its content tells: a concept of ours, NeTI's authors' mapper-….pt, or an embedding \
      of diffusers, A1111 (stable-diffusion-webui), kohya, OneTrainer or prompt-plus-pytorch, as safetensors, \
      .pt or .bin, or of A1111 inside a PNG. Nothing in a pickle is executed.

        neti convert learned_embeds.bin toy.safetensors --model my-sd-1.5
        neti convert mapper-steps-1000.pt toy.safetensors

      Embeddings are written as safetensors. They hold plain vectors, so of a neti concept they keep an \
      approximation: one timestep, and one vector for all layers (kohya: one for each).

        neti convert toy.safetensors a1111.safetensors --format a1111 --timestep 500
        neti convert toy.safetensors xti.safetensors --format kohya --timestep 500

      The authors' format is a folder with their two files:

        neti convert toy.safetensors theirs/
      """)

  @Argument(help: ArgumentHelp("A concept or embedding.", valueName: "in"))
  var input: String

  @Argument(
    help: ArgumentHelp(
      "A new .safetensors file, or a folder (ending in /) for the authors' format.", valueName: "out"))
  var output: String

  @Option(
    help: ArgumentHelp(
      "What to write. When left out: authors for a folder, diffusers for a file called learned_embeds….safetensors, else neti.",
      valueName: "format"))
  var format: ConceptFormat?

  @Option(
    help: ArgumentHelp("Where in time to take a concept that changes with it, 0 to 999.", valueName: "number")
  )
  var timestep: Double?

  @Option(help: "Take this layer, as IN07, instead of all.")
  var layer: String?

  @Option(
    help: ArgumentHelp("What the concept is called; when left out, what the file says.", valueName: "token"))
  var token: String?

  @Option(
    help: ArgumentHelp(
      "The kind of thing that a concept shows; when left out, what the file says.", valueName: "word"))
  var category: String = ""

  @Option(
    help: ArgumentHelp(
      "The model that an embedding is for, as for neti train; mini-sd when left out.",
      valueName: "file, folder or name"))
  var model: String?

  @Flag(help: "Download the model when it is not here; on a terminal that is asked.")
  var download = false

  func validate() throws {
    guard !output.isEmpty else {
      throw ValidationError(
        "the output's path is empty: name a .safetensors file, or a folder ending in / for the authors' format"
      )
    }
    if let token, token.isEmpty || token.contains(where: { $0.isWhitespace || "{}".contains($0) }) {
      throw ValidationError("--token \(quoted(token)): one word, without spaces and braces, such as <toy>")
    }
    if !output.hasSuffix("/"), !isFolder((try? place(output).path) ?? output),
      !output.hasSuffix(".safetensors")
    {
      throw ValidationError(
        "\(output): name a .safetensors file, or a folder ending in / for the authors' format; pickles (.pt, .bin) are read, not written"
      )
    }
    if (wanted == .authors) == output.hasSuffix(".safetensors") {
      throw ValidationError(
        wanted == .authors
          ? "--format authors writes two files: name a folder ending in /"
          : "\(output): --format \(wanted.rawValue) writes one file; name it ….safetensors")
    }
    if !wanted.holdsVectors, timestep != nil || layer != nil {
      throw ValidationError(
        "--timestep and --layer are for embeddings (--format diffusers, a1111 or kohya); \(wanted.rawValue) keeps them all"
      )
    }
  }

  private var wanted: ConceptFormat {
    if let format { return format }
    guard output.hasSuffix(".safetensors") else { return .authors }
    return URL(filePath: output).lastPathComponent.hasPrefix("learned_embeds") ? .diffusers : .neti
  }

  func run() throws {
    let options = try ModelOptions.parse(
      (model.map { ["--model", $0] } ?? []) + (download ? ["--download"] : []))
    var isModelUsed = false
    var concept = try Concept.open(place(input), token: token, category: category) {
      isModelUsed = true
      return try options.open(options.folder()).baseIdentity
    }
    if !isModelUsed, model != nil {
      warn("--model has no effect: \(input) says itself what it was learned on")
    }
    if let token { concept.about.token = token }
    if !category.isEmpty { concept.about.category = category }
    if wanted == .authors { return try writeAuthors(concept) }
    let url = try newFile(output, choose: "name")
    if wanted == .neti {
      try concept.write(to: url)
    } else if let loss = try concept.export(
      wanted, to: url, timestep: timestep, layer: layer.map { try concept.layer(named: $0) })
    {
      warn("\(output) is \(loss)")
    }
    tell(output)
  }

  private func writeAuthors(_ concept: Concept) throws {
    let folder = try place(output, isFolder: true)
    let authors = try concept.authorsCheckpoint()
    try authors.checkSizes()
    let made = try ImageOutput(folder).folder
    let stem = authors.steps.map { "steps-\($0)" } ?? "final"
    for name in ["mapper-\(stem).pt", "learned_embeds-\(stem).bin"]
    where FileManager.default.fileExists(atPath: made.appending(path: name).path) {
      throw NeTIError("\(name) exists already in \(output); choose another folder")
    }
    let files = try authors.write(into: made)
    tell(files.mapper.relativePath)
    tell(files.embeddings.relativePath)
  }

  private func isFolder(_ path: String) -> Bool {
    var isFolder: ObjCBool = false
    return FileManager.default.fileExists(atPath: path, isDirectory: &isFolder) && isFolder.boolValue
  }
}

extension ConceptFormat: ExpressibleByArgument {}
