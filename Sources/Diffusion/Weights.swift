import Files
public import Foundation
public import Torch

/// A path into the tensors of one model, read strictly: `weights / "down_blocks" / 0`.
///
/// Every tensor must be there in the expected shape, and `finish` fails when one was never asked for.
/// The files are memory-mapped and converted tensor by tensor: a tensor whose dtype and device are
/// right already stays in the mapping, which lives as long as the tensors do.
///
/// A cheap value; copies share the record of what was used. Not `Sendable`, as tensors are not.
public struct Weights {
  private let store: Store
  /// Where this value stands, `down_blocks.0`; empty at the top.
  public let path: String

  /// Maps the files of one model.
  ///
  /// - Parameters:
  ///   - files: one file (safetensors, or `.bin` of PyTorch's), or all of a sharded model.
  ///   - dtype: what floating tensors are converted to.
  ///   - rename: a name in the file to the name it is asked for by (current diffusers names); nil
  ///     drops the tensor, for what real files hold and no model uses (`position_ids`). Names come
  ///     without the `_orig_mod.` of compiled models and the `module.` of shared ones.
  /// - Throws: `FileError` for a file that is missing or broken; `DiffusionError` for a name that occurs twice.
  public init(
    files: [URL], dtype: DType, device: Device, rename: ((String) -> String?)? = nil
  ) throws {
    try self.init(files: files, dtype: dtype, device: device, rename: rename, changes: WeightChanges())
  }

  /// The same, with changes that are merged into the tensors as they are read.
  init(
    files: [URL], dtype: DType, device: Device, rename: ((String) -> String?)?, changes: WeightChanges
  ) throws {
    store = try Store(files: files, dtype: dtype, device: device, rename: rename)
    store.changes = changes
    path = ""
  }

  /// - Parameter tensors: where they are, by the names that they are asked for by.
  init(
    _ tensors: [String: StoredTensor], title: String, dtype: DType, device: Device, changes: WeightChanges
  ) {
    store = Store(tensors, title: title, dtype: dtype, device: device)
    store.changes = changes
    path = ""
  }

  private init(store: Store, path: String) {
    self.store = store
    self.path = path
  }

  public static func / (weights: Weights, name: String) -> Weights {
    Weights(store: weights.store, path: weights.full(name))
  }

  public static func / (weights: Weights, index: Int) -> Weights { weights / String(index) }

  public var dtype: DType { store.dtype }
  public var device: Device { store.device }

  /// Whether there is a tensor of exactly this name under the path.
  public func has(_ name: String) -> Bool { store.places[full(name)] != nil }

  /// The shape of a tensor, nil when there is none; counts as no use.
  public func shape(_ name: String) -> [Int]? {
    store.places[full(name)]?.shape
  }

  /// What the tensors are called.
  package var names: Set<String> { Set(store.places.keys) }

  /// The shape of every tensor, by its name from the top; counts as no use.
  package var shapes: [String: [Int]] { store.places.mapValues(\.shape) }

  /// Numbers in all tensors.
  var count: Int { store.places.values.reduce(0) { $0 + $1.count } }

  /// Bytes of all tensors as they are stored.
  package var byteCount: Int { store.places.values.reduce(0) { $0 + $1.count * $1.dtype.size } }

  /// The tensor `name` under the path, in the wanted dtype and on the wanted device.
  ///
  /// - Parameters:
  ///   - shape: what it must be.
  ///   - format: how a 4-dimensional tensor shall lie in memory; others are left as they are.
  ///   - asStored: leave the dtype as the file has it, and so on the CPU the tensor in the mapping.
  /// - Throws: `DiffusionError` naming file and key when it is missing, misshapen or not floating;
  ///   `FileError` or `TorchError` when it cannot be read or converted.
  public func tensor(
    _ name: String, _ shape: [Int], format: MemoryFormat = .preserve, asStored: Bool = false
  ) throws -> Tensor {
    let key = full(name)
    guard let place = store.places[key] else {
      throw DiffusionError("\(store.title): there is no tensor “\(key)” (expected shape \(shape))")
    }
    let file = JSONFile.displayName(place.file.url)
    guard place.shape == shape else {
      throw DiffusionError("\(file): tensor “\(place.name)” has shape \(place.shape), expected \(shape)")
    }
    guard place.dtype.isFloating else {
      throw DiffusionError("\(file): tensor “\(place.name)” is \(place.dtype), not a floating type")
    }
    store.unused.remove(key)
    let stored = try store.changes.applied(to: place.tensor(), key)
    let layout = shape.count == 4 ? format : .preserve
    let dtype = asStored ? stored.dtype : store.dtype
    let converted = try stored.to(dtype, device: store.device, format: layout)
    // A copy was made: without this, the file would count as this process's memory until the last
    // tensor is read.
    if (stored.dtype, stored.device, layout) != (dtype, store.device, .preserve) {
      place.file.forget(place.name)
    }
    return converted
  }

  /// Lets `finish` pass over items past those that are used: `N.rest` under the path with N ≥ `count`,
  /// where `0.rest` was asked for.
  func leaveOutItems(from count: Int) {
    let start = full("")
    store.unused = store.unused.filter { name in
      guard name.hasPrefix(start) else { return true }
      let parts = name.dropFirst(start.count).split(separator: ".", maxSplits: 1)
      guard parts.count == 2, let n = Int(parts[0]), String(n) == parts[0], n >= count else { return true }
      let first = start + "0." + parts[1]
      return store.places[first] == nil || store.unused.contains(first)
    }
  }

  /// Lets `finish` pass over everything under the path.
  func leaveOut() {
    let start = full("")
    store.unused = store.unused.filter { !$0.hasPrefix(start) }
  }

  /// - Throws: `DiffusionError` that names the tensors that were never asked for.
  public func finish() throws {
    guard !store.unused.isEmpty else { return }
    let names = store.unused.sorted()
    let shown = names.prefix(4).map(quoted).joined(separator: ", ")
    let rest = names.count > 4 ? " and \(names.count - 4) more" : ""
    throw DiffusionError(
      "\(store.title): the model has no use for \(shown)\(rest); configuration and weights do not belong together"
    )
  }

  private func full(_ name: String) -> String { path.isEmpty ? name : path + "." + name }

  /// A name without what PyTorch puts before those of a module that is saved after `torch.compile`, or while processes
  /// share it (`DistributedDataParallel`).
  static func plain(_ name: String) -> String {
    let own = name.replacing("_orig_mod.", with: "")
    return String(own.trimmingPrefix("module."))
  }
}

extension Weights {
  /// What all paths into one model share.
  private final class Store {
    let dtype: DType
    let device: Device
    /// The file, or the folder of several, for errors.
    let title: String
    let places: [String: StoredTensor]
    var unused: Set<String>
    var changes = WeightChanges()

    init(_ places: [String: StoredTensor], title: String, dtype: DType, device: Device) {
      self.dtype = dtype
      self.device = device
      self.title = title
      self.places = places
      unused = Set(places.keys)
    }

    convenience init(files: [URL], dtype: DType, device: Device, rename: ((String) -> String?)?) throws {
      guard let first = files.first else { throw DiffusionError("a model without weight files") }
      var places: [String: StoredTensor] = [:]
      for url in files {
        let file = try WeightFile.open(url)
        for name in file.tensorNames {
          let plain = Weights.plain(name)
          guard let key = rename == nil ? plain : rename?(plain), let declared = file.declaration(name) else {
            continue
          }
          let stored = try StoredTensor(file: file, name: name, declared)
          guard places.updateValue(stored, forKey: key) == nil else {
            throw DiffusionError("\(JSONFile.displayName(url)): the tensor “\(key)” occurs twice")
          }
        }
      }
      let title = JSONFile.displayName(files.count == 1 ? first : first.deletingLastPathComponent())
      self.init(places, title: title, dtype: dtype, device: device)
    }
  }
}

/// Where a tensor of a model is: in a file, under a name that may be another there, alone or as a third of the rows,
/// or the other way round.
struct StoredTensor {
  let file: any TensorFile
  let name: String
  let dtype: DType
  let shape: [Int]
  /// The rows of the file's tensor; nil for all.
  private let rows: Range<Int>?
  /// Whether the file's rows are the columns.
  private let isTransposed: Bool

  /// - Parameters:
  ///   - third: 0, 1 or 2; nil for the whole.
  ///   - isTransposed: whether the file has the matrix the other way round.
  /// - Throws: `DiffusionError` when the rows cannot be shared among three, or there is no matrix.
  init(
    file: any TensorFile, name: String, _ declared: TensorDeclaration, third: Int? = nil,
    isTransposed: Bool = false
  ) throws {
    (self.file, self.name, self.isTransposed) = (file, name, isTransposed)
    dtype = declared.dtype
    guard !isTransposed || declared.shape.count == 2 else {
      throw DiffusionError(
        "\(file.url.path): tensor \(quoted(name)) of shape \(declared.shape) is no matrix")
    }
    guard let third else {
      (shape, rows) = (isTransposed ? declared.shape.reversed() : declared.shape, nil)
      return
    }
    guard let all = declared.shape.first, all.isMultiple(of: 3) else {
      throw DiffusionError(
        "\(file.url.path): tensor \(quoted(name)) of shape \(declared.shape) is not three in one")
    }
    shape = [all / 3] + declared.shape.dropFirst()
    rows = all / 3 * third..<all / 3 * (third + 1)
  }

  var count: Int { shape.reduce(1, *) }

  /// As it is stored: where possible memory of the mapping.
  func tensor() throws -> Tensor {
    let whole = try file.tensor(name)
    if isTransposed { return try whole.transposed(0, 1).contiguous() }
    return try rows.map { try whole.sliced(0, $0) } ?? whole
  }
}
