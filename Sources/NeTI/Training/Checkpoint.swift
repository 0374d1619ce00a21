import Diffusion
import Files
public import Foundation
import Torch

/// A concept together with the optimiser's state: what `--resume` continues from.
///
/// Random numbers are keyed by step and sample, so that no generator's state is needed.
public struct Checkpoint {
  public let concept: Concept
  /// AdamW's moving averages, in the order of the representation's parameters.
  private let averages: [Tensor]
  private let squareAverages: [Tensor]

  private static let average = Concept.optimizerPrefix + "exp_avg."
  private static let squareAverage = Concept.optimizerPrefix + "exp_avg_sq."

  /// Copies a concept and its optimiser as they are now; what it returns encodes the copy.
  static func copy(_ concept: Concept, _ optimizer: AdamW) throws -> () throws -> Data {
    try withoutGradients {
      let tensors = try concept.tensors.map { ($0, try $1.clone()) }
      let names = concept.representation.parameters.map(\.name)
      let state =
        try zip(names, optimizer.averages).map { (average + $0, try $1.clone()) }
        + zip(names, optimizer.squareAverages).map { (squareAverage + $0, try $1.clone()) }
      return { try concept.encoded(tensors, extra: state) }
    }
  }

  /// Reads a checkpoint; throws when it is a concept only, or broken.
  public init(contentsOf url: URL) throws {
    let file = try SafetensorsFile(url)
    let name = url.lastPathComponent
    let concept = try Concept(file, name: name)
    func state(_ prefix: String) throws -> [Tensor] {
      try concept.representation.parameters.map { p in
        guard file.entries[prefix + p.name] != nil else {
          throw NeTIError(
            "\(name): it has no \(prefix + p.name): this is a concept, not a checkpoint to resume from")
        }
        let t = try file.tensor(prefix + p.name)
        guard t.shape == p.tensor.shape, t.dtype == .float32 else {
          throw NeTIError("\(name): the tensor \(prefix + p.name) does not fit the mapper")
        }
        return try t.clone()
      }
    }
    self.concept = concept
    averages = try state(Self.average)
    squareAverages = try state(Self.squareAverage)
  }

  /// Gives an optimiser the averages.
  func restore(_ optimizer: AdamW) throws {
    for (a, b) in zip(optimizer.averages, averages) { try a.copy(from: b) }
    for (a, b) in zip(optimizer.squareAverages, squareAverages) { try a.copy(from: b) }
  }
}
