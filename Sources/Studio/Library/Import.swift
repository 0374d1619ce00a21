import Diffusion
import Files
import Foundation
import Imaging
import NeTI

/// Concepts that come as files: ours, NeTI's authors', embeddings of other programs.
enum Import {
  /// Bytes of a file; a concept is a few megabytes.
  static let mostBytes = 64 << 20
}

extension Studio {
  /// Keeps a concept that came as a file.
  ///
  /// What it is its content tells, as for `neti convert`; nothing in a pickle is executed.
  func importConcept(_ data: Data, name: String) throws -> ID {
    let shown = PreparedPicture.shown(name, else: "the concept")
    let stem = URL(filePath: shown).deletingPathExtension().lastPathComponent
    let (scratch, identity) = (library.folder.scratch(), facts.identity)
    defer { try? FileManager.default.removeItem(at: scratch) }
    try AtomicFile.write(data, to: scratch)
    let made: Imported
    do {
      made = try errands {
        let concept = try Concept.open(scratch, token: nil, base: { identity })
        let note = try concept.check(against: identity)
        return Imported(
          token: concept.about.token, kind: concept.about.category, steps: concept.about.steps,
          baseName: concept.about.base.name, data: try concept.encoded(), note: note)
      }
    } catch let e as any DescribedError where !(e is StudioError) {
      // Messages name the file that was read.
      throw StudioError(
        e.message.replacing(scratch.path, with: shown).replacing(scratch.lastPathComponent, with: shown))
    }
    // An embedding without a name takes that of its file, which is not the person's here.
    let token = made.token == scratch.deletingPathExtension().lastPathComponent ? stem : made.token
    let words = token.filter { $0.isLetter || $0.isNumber || " -_.".contains($0) }
    let title = words.isEmpty ? "Imported" : String(words.prefix(LearnRequest.longestTitle))
    let concept = try library.create(title: title, kind: String(made.kind.escaped.prefix(40))) {
      concept, place in
      let plan = StudioConcept.Plan(
        name: library.freeName(for: title), steps: made.steps, base: facts.base, words: [],
        baseName: String(made.baseName.escaped.prefix(80)), isImported: true)
      let run = place.appending(path: plan.name, directoryHint: .isDirectory)
      try StudioFolder.make(run)
      try AtomicFile.write(made.data, to: run.appending(path: "concept.safetensors"))
      concept.plan = plan
    }
    library.setProgress(concept.id) { $0.problem = made.note }
    return concept.id
  }

  private struct Imported: Sendable {
    let token: String, kind: String, steps: Int, baseName: String, data: Data, note: String?
  }

  /// A concept's file for another program, and what it is called.
  func exported(_ id: ID, _ format: ConceptFormat, timestep: Double?) throws -> (data: Data, name: String) {
    let name = try library.concept(id).plan?.name ?? "concept"
    let file = try library.file(of: id)
    guard format.holdsVectors else {
      return (try readFile(file, limit: Import.mostBytes, name: "the concept"), "\(name).safetensors")
    }
    let data = try errands {
      let concept = try Concept(contentsOf: file)
      // One that does not change with time has none to choose.
      let timestep = concept.representation.dependsOnTime ? timestep ?? 500 : nil
      return try concept.exported(format, timestep: timestep).data
    }
    return (data, "\(name)-\(format.rawValue).safetensors")
  }

  /// What `neti export` puts into a folder for another program, as a zip archive, and what it is called.
  func exported(_ id: ID, for program: ExportFolder.Program) throws -> (data: Data, name: String) {
    let file = try library.file(of: id)
    let resource = settings.resource
    return try errands {
      let sample = program == .comfyui ? ExportFolder.lastSample(besides: file) : nil
      let folder = try ExportFolder(
        Concept(contentsOf: file), for: program,
        // An image that cannot be read costs the folder nothing but that.
        thumbnail: sample.flatMap { try? ExportFolder.thumbnail(of: Image.load($0)) }, resource: resource)
      return (try folder.zipped(), folder.name + ".zip")
    }
  }

  /// How much each hidden unit of a concept contributes, as `neti inspect --plot` draws it.
  func importance(of id: ID) throws -> Data {
    let file = try library.file(of: id)
    return try errands { Data(try Concept(contentsOf: file).importanceChart().draw().png()) }
  }
}
