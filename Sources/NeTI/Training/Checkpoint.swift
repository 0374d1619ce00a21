import Files
import Diffusion
public import Foundation
import Torch

/// A concept together with the optimiser's state: what `--resume` continues from.
///
/// Random draws are keyed by step and sample, so that no generator's state is needed.
public struct Checkpoint {
  public let concept: Concept
  /// AdamW's moving averages, in the order of the representation's parameters.
  let averages: [Tensor]
  let squareAverages: [Tensor]

  private static let average = Concept.optimizerPrefix + "exp_avg."
  private static let squareAverage = Concept.optimizerPrefix + "exp_avg_sq."

  /// The file's bytes; `tensors` are the representation's as they were when the averages were so.
  static func encode(
    _ concept: Concept, tensors: [(String, Tensor)], averages: [Tensor], squareAverages: [Tensor]
  ) throws -> Data {
    let names = concept.representation.parameters.map(\.name)
    return try concept.encoded(
      tensors,
      extra: zip(names, averages).map { (average + $0, $1) }
        + zip(names, squareAverages).map { (squareAverage + $0, $1) })
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
}
