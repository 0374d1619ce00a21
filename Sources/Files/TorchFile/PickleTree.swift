import Torch

/// A value while its pickle is being read; children are numbers of other nodes.
struct PickleNode {
  enum Kind {
    case leaf(PickleValue)
    case tuple, list, set
    /// Children are keys and values in turn.
    case dictionary(ordered: Bool)
    /// Its only child, when it has one, is the dictionary of its attributes.
    case object(String)
    case global(String, PickleGlobal)
    case storage(TorchStorage)
    /// An element type of NumPy's; nil is one that is not read.
    case arrayType(DType?)
    /// An array of NumPy's; nil before its state was read.
    case array(NumPyArray?)
    /// Made by something whose results play no part here.
    case ignored
  }

  var kind: Kind
  var children: [Int]
}

/// Makes the finished tree of values from the table of nodes, whose children the unpickler has counted. Each
/// node is made once, however often it is used, so that lists of the same lists cannot multiply; circles and
/// deep nesting are refused.
struct PickleTree {
  private enum State {
    case untouched, open
    case done(PickleValue, height: Int)
  }

  private let nodes: [PickleNode]
  private var states: [State]

  init(_ nodes: [PickleNode]) {
    self.nodes = nodes
    self.states = Array(repeating: .untouched, count: nodes.count)
  }

  mutating func value(_ root: Int) throws -> PickleValue { try visit(root, depth: 1).0 }

  /// The value of node `id` and how many levels it has.
  private mutating func visit(_ id: Int, depth: Int) throws -> (PickleValue, height: Int) {
    switch states[id] {
    case .done(let value, let height): return (value, height)
    case .open: throw FileError("its pickle holds a value that contains itself")
    case .untouched: break
    }
    states[id] = .open
    var height = 1
    var children: [PickleValue] = []
    for child in nodes[id].children {
      guard depth < Unpickler.maximumDepth else { throw tooDeep }
      let (value, below) = try visit(child, depth: depth + 1)
      children.append(value)
      height = max(height, below + 1)
    }
    // A node that was made before is not visited again, so its levels count here too.
    guard height <= Unpickler.maximumDepth else { throw tooDeep }
    let value = try assemble(nodes[id].kind, children)
    states[id] = .done(value, height: height)
    return (value, height)
  }

  private func assemble(_ kind: PickleNode.Kind, _ children: [PickleValue]) throws -> PickleValue {
    switch kind {
    case .leaf(let value): return value
    case .tuple: return .tuple(children)
    case .list: return .list(children)
    case .set: return .set(children)
    case .dictionary(let ordered):
      let entries = stride(from: 0, to: children.count - 1, by: 2).map {
        PickleEntry(children[$0], children[$0 + 1])
      }
      return .dictionary(entries, ordered: ordered)
    case .object(let name):
      guard case .dictionary(let attributes, _)? = children.first else { return .object(name, []) }
      return .object(name, attributes)
    case .ignored, .global(_, .ignored): return .none
    case .global(let name, _):
      throw FileError("its pickle keeps \(quoted(name)) itself as a value, where data is expected")
    case .array(let array?): return .array(array)
    case .array: throw FileError("its pickle has an array without numbers")
    case .arrayType: throw FileError("its pickle keeps a type of numbers as a value, where data is expected")
    case .storage: throw FileError("its pickle keeps a bare storage, where data is expected")
    }
  }

  private var tooDeep: FileError {
    FileError("its pickle nests values more than \(Unpickler.maximumDepth) levels deep")
  }
}
