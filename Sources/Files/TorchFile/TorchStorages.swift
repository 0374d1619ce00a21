package import Foundation
package import Torch

/// The tensors of a `torch.save` file that is being made.
package struct TorchStorages {
  private var contents: [Data] = []

  package init() {}

  /// Adds a tensor as float32 with a storage of its own, and returns what stands for it in the pickle.
  package mutating func add(_ tensor: Tensor) throws -> PickleValue {
    let storage = TorchStorage(key: String(contents.count), dtype: .float32, count: tensor.count)
    contents.append(Data(try tensor.to(.float32, device: .cpu).rawBytes()))
    var strides: [Int] = []
    var stride = 1
    for n in tensor.shape.reversed() {
      strides.insert(stride, at: 0)
      stride *= max(n, 1)
    }
    return .tensor(TorchTensor(storage: storage, offset: 0, shape: tensor.shape, strides: strides))
  }

  /// The bytes of the file `name` whose pickle is `root`.
  package func archive(_ name: String, _ root: PickleValue) throws -> Data {
    var zip = ZipWriter()
    try zip.add("\(name)/data.pkl", Data(try Pickler.encode(root)))
    try zip.add("\(name)/byteorder", Data("little".utf8))
    for (key, bytes) in contents.enumerated() { try zip.add("\(name)/data/\(key)", bytes) }
    try zip.add("\(name)/version", Data("3\n".utf8))
    return try zip.finish()
  }
}
