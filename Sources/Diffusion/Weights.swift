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
  ///   - files: one safetensors file, or all of a sharded model.
  ///   - dtype: what floating tensors are converted to.
  ///   - rename: a name in the file to the name it is asked for by (current diffusers names); nil
  ///     drops the tensor, for what real files hold and no model uses (`position_ids`). Names come
  ///     without the `_orig_mod.` of compiled models.
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
    store.places[full(name)].flatMap { $0.file.entries[$0.name]?.shape }
  }

  /// The shape of every tensor, by its name from the top; counts as no use.
  var shapes: [String: [Int]] { store.places.compactMapValues { $0.file.entries[$0.name]?.shape } }

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
    let file = JSONFile.displayName(place.url)
    guard let entry = place.file.entries[place.name], entry.shape == shape else {
      let found = place.file.entries[place.name]?.shape ?? []
      throw DiffusionError("\(file): tensor “\(place.name)” has shape \(found), expected \(shape)")
    }
    guard entry.dtype.isFloating else {
      throw DiffusionError("\(file): tensor “\(place.name)” is \(entry.dtype), not a floating type")
    }
    store.unused.remove(key)
    let stored = try store.changes.applied(to: place.file.tensor(place.name), key)
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
      guard parts.count == 2, let n = Int(parts[0]), n >= count else { return true }
      let first = start + "0." + parts[1]
      return store.places[first] == nil || store.unused.contains(first)
    }
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
}

extension Weights {
  /// What all paths into one model share.
  private final class Store {
    /// Where a tensor is: its name in that file may be an older one.
    struct Place {
      let file: SafetensorsFile
      let url: URL
      let name: String
    }

    /// What PyTorch puts before every name when a model is saved after `torch.compile`.
    private static let compiled = "_orig_mod."

    let dtype: DType
    let device: Device
    /// The file, or the folder of several, for errors.
    let title: String
    let places: [String: Place]
    var unused: Set<String>
    var changes = WeightChanges()

    init(files: [URL], dtype: DType, device: Device, rename: ((String) -> String?)?) throws {
      guard let first = files.first else { throw DiffusionError("a model without weight files") }
      self.dtype = dtype
      self.device = device
      title = JSONFile.displayName(files.count == 1 ? first : first.deletingLastPathComponent())
      var places: [String: Place] = [:]
      for url in files {
        let file = try SafetensorsFile(url)
        for name in file.entries.keys {
          let plain = name.hasPrefix(Self.compiled) ? String(name.dropFirst(Self.compiled.count)) : name
          guard let key = rename == nil ? plain : rename?(plain) else { continue }
          guard places.updateValue(Place(file: file, url: url, name: name), forKey: key) == nil else {
            throw DiffusionError("\(JSONFile.displayName(url)): the tensor “\(key)” occurs twice")
          }
        }
      }
      self.places = places
      unused = Set(places.keys)
    }
  }
}
