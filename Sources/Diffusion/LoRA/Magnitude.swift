package import Files
package import Torch

/// DoRA's magnitudes: the length that the weights of each output have after the change, m · V / ‖V‖ with V the changed
/// weight (Liu et al. 2024, https://arxiv.org/abs/2402.09353).
///
/// PEFT has a length for each output, [out] or [1, out, 1, 1]. LyCORIS, whose names are kohya's, has the same as [out, 1]
/// or [out, 1, 1, 1]; in older files it has one for each input, [1, in] or [1, in, 1, 1].
package struct Magnitude {
  /// The tensor's.
  let name: String
  /// Over which side of the weight the lengths go on: 0 for one of each output, 1 for one of each input.
  let axis: Int

  /// Nil when the tensor has the shape of neither.
  package init?(_ name: String, _ shape: [Int], outputs: Int, inputs: Int) {
    let long = shape.filter { $0 != 1 }
    guard (1...4).contains(shape.count), long.count <= 1, !shape.contains(0) else { return nil }
    let count = long.first ?? 1
    let isOfInputs = name.hasSuffix(".dora_scale") && shape.count > 1 && shape[0] != outputs
    guard count == (isOfInputs ? inputs : outputs) else { return nil }
    self.name = name
    axis = isOfInputs ? 1 : 0
  }

  /// A weight [out, in] or [out, in, k, k] in fp32, with these lengths.
  package func applied(to weight: Tensor, _ file: any TensorFile) throws -> Tensor {
    let others = weight.shape.indices.filter { $0 != axis }
    var side = weight.shape.map { _ in 1 }
    side[axis] = -1
    let wanted = try file.tensor(name).to(.float32).reshaped(side)
    return try weight * (wanted / weight.norm(others, keep: true))
  }
}
