public import Torch

/// What a pickle holds, as plain data. Nothing in it was executed, and nothing in it contains itself.
public enum PickleValue: Sendable {
  case none
  case bool(Bool)
  case int(Int)
  case float(Double)
  case string(String)
  case bytes([UInt8])
  case tuple([PickleValue])
  case list([PickleValue])
  case set([PickleValue])
  /// A `dict`, or an `OrderedDict` when `ordered`.
  case dictionary([PickleEntry], ordered: Bool)
  /// An instance of an allowed class, such as `models.positional_encoding NeTIPositionalEncoding`,
  /// with its attributes.
  case object(String, [PickleEntry])
  case tensor(TorchTensor)
  case array(NumPyArray)
}

/// One key and its value.
public struct PickleEntry: Sendable {
  public let key: PickleValue
  public let value: PickleValue

  public init(_ key: PickleValue, _ value: PickleValue) {
    self.key = key
    self.value = value
  }

  public init(_ key: String, _ value: PickleValue) { self.init(.string(key), value) }
}

extension PickleValue {
  /// The value of `key` in a dictionary, or an object's attribute; the last one, as in Python.
  public subscript(key: String) -> PickleValue? {
    let entries: [PickleEntry]
    switch self {
    case .dictionary(let members, _): entries = members
    case .object(_, let attributes): entries = attributes
    default: return nil
    }
    return entries.last { entry in
      if case .string(key) = entry.key { true } else { false }
    }?.value
  }

  /// The kind of value, for messages.
  public var kind: String {
    switch self {
    case .none: "None"
    case .bool: "a bool"
    case .int: "an int"
    case .float: "a float"
    case .string: "a str"
    case .bytes: "bytes"
    case .tuple: "a tuple"
    case .list: "a list"
    case .set: "a set"
    case .dictionary: "a dict"
    case .object(let name, _): "an object \(name)"
    case .tensor: "a tensor"
    case .array: "an array"
    }
  }
}

/// The memory that one or more tensors of a `torch.save` file look at.
public struct TorchStorage: Sendable, Hashable {
  /// The name of its entry under `data/` in the archive.
  public let key: String
  public let dtype: DType
  /// How many elements it has.
  public let count: Int

  public init(key: String, dtype: DType, count: Int) {
    self.key = key
    self.dtype = dtype
    self.count = count
  }
}

/// A tensor of a `torch.save` file: a view of a storage, in elements. `TorchFile.tensor` reads it.
public struct TorchTensor: Sendable, Hashable {
  public let storage: TorchStorage
  public let offset: Int
  public let shape: [Int]
  public let strides: [Int]

  public init(storage: TorchStorage, offset: Int, shape: [Int], strides: [Int]) {
    self.storage = storage
    self.offset = offset
    self.shape = shape
    self.strides = strides
  }
}
