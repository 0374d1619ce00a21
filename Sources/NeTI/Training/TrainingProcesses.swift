import Diffusion
import Files
import Torch

/// The processes that share one training run: each computes its part of every step's samples.
///
/// What is random is keyed by the sample's number in the run, so that the shared run is the run of one process
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

/// A run that nobody shares: nothing below does anything for it.
public final class SingleProcess: TrainingProcesses {
  public let rank = 0
  public let count = 1
  public init() {}
  public func sum(_ values: inout [Float]) {}
}

/// Another process of the run ended, or was not heard of for too long.
public struct LostProcess: Error, CustomStringConvertible {
  public let reason: String
  public var description: String { "another process of this run was lost (\(reason))" }
  public init(_ reason: String) { self.reason = reason }
}

extension TrainingProcesses {
  public var isFirst: Bool { rank == 0 }

  // MARK: Before the first step

  /// Throws when a step's samples cannot be shared equally, or the processes do not train the same.
  func requireSame(_ configuration: RunConfiguration, _ examples: [TrainingExample]) throws {
    guard count > 1 else { return }
    let samples = configuration.optim.samplesPerStep
    guard samples % count == 0 else {
      throw NeTIError(
        "a step's \(samples) samples (batch × accumulation of the run) cannot be shared equally by "
          + "\(count) processes; choose a number of processes that divides them")
    }
    try requireSame(configuration.identity + TrainingExample.fingerprint(examples, sizes: true))
  }

  /// Throws on every process when not all give the same text.
  private func requireSame(_ text: String) throws {
    // 24 bits are exact in a Float.
    let hash = Array(SHA256.hexadecimal(Array(text.utf8)).utf8.prefix(8)).map { Float($0) }
    var theirs = isFirst ? hash : [Float](repeating: 0, count: hash.count)
    try sum(&theirs)
    var differ: [Float] = [theirs == hash ? 0 : 1]
    try sum(&differ)
    guard differ[0] == 0 else {
      throw NeTIError(
        "\(Int(differ[0])) of \(count) processes have other settings, images, captions or masks than the first: "
          + "start all with the same command, on the same files")
    }
  }

  /// Gives the first process's values to all, and returns its step: every process begins where it is.
  func takeOver(step: Int, _ tensors: [Tensor]) throws -> Int {
    guard count > 1 else { return step }
    // Two numbers, each exact in a Float.
    let large = 1 << 16
    let parts = try Tensor([Float(step / large), Float(step % large)])
    try withoutGradients { try broadcast([parts] + tensors) }
    let numbers = try parts.integers()
    return numbers[0] * large + numbers[1]
  }

  /// Gives the first process's values to all.
  private func broadcast(_ tensors: [Tensor]) throws {
    // Adding zeros changes no bit of a number.
    var values = try tensors.flatMap { isFirst ? try $0.floats() : [Float](repeating: 0, count: $0.count) }
    try sum(&values)
    guard !isFirst else { return }
    try Self.write(values[...], into: tensors)
  }

  // MARK: In a step

  /// This process's part of a step's samples.
  func part(of samples: Int) -> Range<Int> {
    let each = samples / count
    return each * rank..<each * (rank + 1)
  }

  /// Sums the gradients and the loss over all, and finds out whether any is asked to stop, since all stop after
  /// the same step.
  func sumGradients(of parameters: [Tensor], loss: Double, stop: Bool) throws -> (loss: Double, stop: Bool) {
    guard count > 1 else { return (loss, stop) }
    var values = try parameters.flatMap {
      try $0.gradient?.floats() ?? [Float](repeating: 0, count: $0.count)
    }
    values += [Float(loss), stop ? 1 : 0]
    try sum(&values)
    let gradients = parameters.compactMap(\.gradient)
    if gradients.count == parameters.count { try Self.write(values.dropLast(2), into: gradients) }
    return (Double(values[values.count - 2]), values[values.count - 1] > 0)
  }

  private static func write(_ values: ArraySlice<Float>, into tensors: [Tensor]) throws {
    var rest = values
    for t in tensors {
      try t.copy(from: Tensor(Array(rest.prefix(t.count)), t.shape))
      rest = rest.dropFirst(t.count)
    }
  }

  // MARK: After the last step

  /// Nobody leaves while another may still be receiving the last sums; nothing is lost if one does.
  func leave() {
    var none: [Float] = [0]
    try? sum(&none)
  }
}

extension Trainer {
  /// Does the part of another process than the first: it saves, generates and tells nothing.
  public func assist() throws -> Concept {
    try run(
      save: { _, _ in throw NeTIError("only the first process of a run saves it") }, listener: { _ in })
  }
}
