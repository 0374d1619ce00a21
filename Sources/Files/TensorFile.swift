package import Foundation
package import Torch

/// A file of named tensors that is mapped into memory: safetensors, or what `torch.save` wrote.
package protocol TensorFile: Sendable {
  var url: URL { get }
  /// Strings beside the tensors.
  var metadata: [String: String] { get }
  var tensorNames: [String] { get }
  /// What a tensor is, without a look at its numbers; nil when there is none of that name.
  func declaration(_ name: String) -> TensorDeclaration?
  /// The tensor on the CPU in the file's dtype. Its memory is the mapping, read-only, where that is possible.
  func tensor(_ name: String) throws -> Tensor
  /// Lets the system have the memory of a tensor that was copied and is not needed here again.
  func forget(_ name: String)
}

/// An element type and a shape.
package struct TensorDeclaration: Sendable, Equatable {
  package let dtype: DType
  package let shape: [Int]

  package init(dtype: DType, shape: [Int]) {
    self.dtype = dtype
    self.shape = shape
  }
}

extension SafetensorsFile: TensorFile {
  package var tensorNames: [String] { Array(entries.keys) }

  package func declaration(_ name: String) -> TensorDeclaration? {
    entries[name].map { TensorDeclaration(dtype: $0.dtype, shape: $0.shape) }
  }
}

/// The weights in a file that `torch.save` wrote: the dictionary itself, or what it has under `state_dict` (embeddings:
/// `string_to_param`).
package struct TorchWeights: TensorFile {
  package let url: URL
  package let metadata: [String: String] = [:]
  private let file: TorchFile
  private let tensors: [String: TorchTensor]

  /// What the first textual inversion keeps its vectors in.
  private static let parameters = "torch.nn.modules.container ParameterDict"

  /// - Throws: `FileError` that names the file and what is wrong with it.
  package init(_ url: URL) throws {
    self.url = url
    file = try TorchFile(url, classes: [Self.parameters])
    let whole = file.root
    var weights = whole["state_dict"] ?? whole["string_to_param"] ?? whole
    if case .object = weights { weights = weights["_parameters"] ?? weights }
    guard case .dictionary(let entries, _) = weights else {
      throw FileError(
        "cannot read \(url.path): it holds \(file.root.kind) instead of a dictionary of weights")
    }
    var tensors: [String: TorchTensor] = [:]
    for entry in entries {
      guard case .string(let name) = entry.key, case .tensor(let tensor) = entry.value else { continue }
      guard name.utf8.count <= ZipArchive.maximumNameBytes else {
        throw FileError("cannot read \(url.path): a tensor's name has \(name.utf8.count) bytes")
      }
      try file.check(tensor)
      tensors[name] = tensor
    }
    let inner = entries.compactMap { entry -> String? in
      guard case .string(let name) = entry.key, case .dictionary = entry.value else { return nil }
      return name
    }
    guard !tensors.isEmpty || inner.isEmpty else {
      throw FileError(
        "cannot read \(url.path): its weights lie under \(inner.prefix(3).map(quoted).joined(separator: ", ")), and are "
          + "looked for at the top or under “state_dict”; save them so")
    }
    self.tensors = tensors
  }

  package var tensorNames: [String] { Array(tensors.keys) }

  package func declaration(_ name: String) -> TensorDeclaration? {
    tensors[name].map { TensorDeclaration(dtype: $0.storage.dtype, shape: $0.shape) }
  }

  package func tensor(_ name: String) throws -> Tensor {
    guard let tensor = tensors[name] else { throw FileError("\(url.path) has no tensor \(quoted(name))") }
    return try file.tensor(tensor, inPlace: true)
  }

  package func forget(_ name: String) {
    if let tensor = tensors[name] { file.forget(tensor) }
  }
}
