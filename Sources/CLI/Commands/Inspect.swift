import ArgumentParser
import Diffusion
import Files
import Foundation
import Imaging
import NeTI
import Torch

/// `neti inspect`: what a concept file holds.
struct Inspect: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what a concept file or checkpoint holds.",
    discussion: """
        neti inspect toy-run/concept.safetensors
        neti inspect toy-run/concept.safetensors --plot importance.png

      The plot shows how much each hidden unit contributes, over timesteps and layers: nested dropout puts \
      the important ones first.
      """)

  @Argument(help: ArgumentHelp("A concept or checkpoint.", valueName: "file"))
  var file: String

  @Option(help: ArgumentHelp("Draw the importance of the hidden units to this PNG.", valueName: "file"))
  var plot: String?

  @Flag(help: "Print it as JSON.")
  var json = false

  func run() throws {
    // So little is computed that waking other threads takes longer.
    try Runtime.setThreads(1)
    let concept = try Concept.open(place(file))
    let importance = try concept.representation.unitImportance()
    if let plot {
      let url = try newFile(plot, choose: "name with --plot")
      guard url.pathExtension.lowercased() == "png" else {
        throw NeTIError(wrongUsage: "--plot \(plot): the plot is a PNG; its name must end in .png")
      }
      try AtomicFile.write(Data(concept.importanceChart().draw().png()), to: url)
    }
    let a = concept.about
    let r = concept.representation
    let count = r.parameters.reduce(0) { $0 + $1.tensor.count }
    if json {
      struct Report: Encodable {
        let file: String, about: Concept.About, representation: String, vectors: Int,
          parameters: Int, mapper: Settings?, importance: [Double]?
      }
      try tellJSON(
        Report(
          file: URL(filePath: file).lastPathComponent, about: a, representation: r.kind.rawValue,
          vectors: r.vectorCount, parameters: count, mapper: r.storedSettings.map(Settings.init),
          importance: importance))
      return
    }
    tell(
      """
      token           \(a.token.oneLine)
      category        \(a.category.isEmpty ? "unknown" : a.category.oneLine)
      representation  \(r.kind.rawValue), \(count) parameters
      base model      \(a.base.name.oneLine), hidden size \(a.base.shownSizes), \(a.base.layers.count) cross-attention layers
      trained         \(a.steps) steps
      """)
    if r.vectorCount > 1 {
      tell("vectors         \(r.vectorCount), which take \(r.vectorCount) places of words in a prompt")
    }
    if let loras = a.base.loras { tell("with LoRAs      \(loras.joined(separator: ", ").oneLine)") }
    for (name, value) in r.facts { tell(name.padding(toLength: 16, withPad: " ", startingAt: 0) + value) }
    if let importance {
      let total = max(importance.reduce(0, +), 1e-30)
      let shares = [8, 16, 32, 64].map { k in
        "\(k): \(Int((importance.prefix(k).reduce(0, +) / total * 100).rounded())) %"
      }
      tell("first units     \(shares.joined(separator: ", ")) of the contribution")
    }
    if let plot { tell("plot            \(plot)") }
  }

  /// A representation's settings, whatever they are.
  private struct Settings: Encodable {
    let value: any Encodable
    func encode(to encoder: any Encoder) throws { try value.encode(to: encoder) }
  }
}
