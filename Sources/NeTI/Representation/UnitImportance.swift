public import Imaging
import Torch

extension NeTIMapper {
  /// How much each hidden unit contributes to the output: the mean over timesteps and layers of
  /// |h_i| · ‖W₃[:, i]‖, [128] in the order of nested dropout. Ours.
  public func unitImportance() throws -> [Double]? {
    try withoutGradients {
      let times = stride(from: 0, to: 1000, by: 50).map { Float($0) }
      let t = try Tensor(times.flatMap { [Float](repeating: $0, count: layerCount) })
      let l = try Tensor(times.flatMap { _ in (0..<layerCount).map { Float($0) } })
      let size = try hidden(timesteps: t, layers: l).abs().mean([0])
      return try (size * network.output.weight.detached().norm([0])).doubles()
    }
  }
}

extension Concept {
  /// A chart of how much each hidden unit contributes.
  ///
  /// - Throws: a `NeTIError` for a concept that has no hidden units.
  public func importanceChart() throws -> BarChart {
    guard let importance = try representation.unitImportance() else {
      throw NeTIError("a \(representation.kind.rawValue) concept has no hidden units to plot")
    }
    return BarChart(
      title: "\(about.token): contribution of each hidden unit",
      xLabel: "unit, in the order of nested dropout", yLabel: "norm", values: importance)
  }
}
