import Files
import Diffusion
import Torch

/// The processes that share one training run: each computes its part of every step's samples.
///
/// Draws are keyed by the sample's number in the run, so that the shared run is the run of one process
/// whose batch is as large as theirs together, to rounding.
public protocol TrainingProcesses: AnyObject {
  /// This process's number, from 0; the first keeps the run's folder.
  var rank: Int { get }
  /// How many processes there are.
  var count: Int { get }
  /// Replaces the values by their sums over all processes, the same to the last bit on each.
  ///
  /// - Throws: `LostProcess` when another process does not take part.
  func sum(_ values: inout [Float]) throws
}

/// Another process of the run ended, or was not heard of for too long.
public struct LostProcess: Error {
  public let reason: String
  public init(_ reason: String) { self.reason = reason }
}

extension TrainingProcesses {
  var isFirst: Bool { rank == 0 }

  /// Gives the first process's values to all.
  func broadcast(_ tensors: [Tensor]) throws {
    // Adding zeros changes no bit of a number.
    var values = try tensors.flatMap { isFirst ? try $0.floats() : [Float](repeating: 0, count: $0.count) }
    try sum(&values)
    guard !isFirst else { return }
    try Self.write(values[...], into: tensors)
  }

  /// Throws on every process when not all give the same text.
  func requireSame(_ text: String) throws {
    // 24 bits are exact in a Float.
    let hash = Array(SHA256.hexadecimal(Array(text.utf8)).utf8.prefix(8)).map { Float($0) }
    var theirs = isFirst ? hash : [Float](repeating: 0, count: hash.count)
    try sum(&theirs)
    var differ: [Float] = [theirs == hash ? 0 : 1]
    try sum(&differ)
    guard differ[0] == 0 else {
      throw NeTIError(
        "\(Int(differ[0])) of \(count) processes have other settings, pictures, captions or masks than the first: "
          + "start all with the same command, on the same files")
    }
  }

  /// The sums of all gradients, in place, and of the `others`.
  func sumGradients(_ parameters: [Tensor], others: [Float]) throws -> [Float] {
    var values = try parameters.flatMap {
      try $0.gradient?.floats() ?? [Float](repeating: 0, count: $0.count)
    }
    let count = values.count
    values += others
    try sum(&values)
    let gradients = parameters.compactMap(\.gradient)
    if gradients.count == parameters.count { try Self.write(values[..<count], into: gradients) }
    return Array(values[count...])
  }

  private static func write(_ values: ArraySlice<Float>, into tensors: [Tensor]) throws {
    var rest = values
    for t in tensors {
      try t.copy(from: Tensor(Array(rest.prefix(t.count)), t.shape))
      rest = rest.dropFirst(t.count)
    }
  }
}
