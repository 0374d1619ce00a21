import Torch

/// The mapper's layers by name and in the order of their files: each one's shapes, or its tensors.
struct MapperNetwork<Value> {
  struct Layer {
    let weight: Value
    let bias: Value
  }

  /// The anchors; nil without positional encoding.
  let input: Layer?
  let hidden1: Layer
  let norm1: Layer
  let hidden2: Layer
  let norm2: Layer
  let output: Layer

  func map<Other>(
    _ change: (_ name: String, Layer) throws -> MapperNetwork<Other>.Layer
  ) rethrows -> MapperNetwork<Other> {
    try MapperNetwork<Other>(
      input: input.map { try change("input", $0) },
      hidden1: change("hidden1", hidden1), norm1: change("norm1", norm1),
      hidden2: change("hidden2", hidden2), norm2: change("norm2", norm2),
      output: change("output", output))
  }

  /// “input.weight”, “input.bias”, “hidden1.weight” and so on.
  var parameters: [(name: String, value: Value)] {
    var all: [(name: String, value: Value)] = []
    _ = map { name, layer in
      all += [("\(name).weight", layer.weight), ("\(name).bias", layer.bias)]
      return layer
    }
    return all
  }
}

extension MapperNetwork where Value == [Int] {
  /// - Parameters:
  ///   - frequencies: of the positional encoding; nil without one.
  ///   - width: what the first hidden layer takes, the anchors or the two scaled coordinates.
  ///   - hidden: units of a hidden layer.
  init(frequencies: Int?, width: Int, hidden: Int, output: Int) {
    func linear(_ from: Int, _ to: Int) -> Layer { Layer(weight: [to, from], bias: [to]) }
    let norm = Layer(weight: [hidden], bias: [hidden])
    self.init(
      input: frequencies.map { linear(2 * $0, width) }, hidden1: linear(width, hidden), norm1: norm,
      hidden2: linear(hidden, hidden), norm2: norm, output: linear(hidden, output))
  }
}

extension MapperNetwork<Tensor>.Layer {
  func linear(_ x: Tensor) throws -> Tensor { try x.linear(weight, bias) }
  func norm(_ x: Tensor) throws -> Tensor { try x.layerNorm(weight, bias, eps: 1e-5) }
}
