import Foundation
import TestSupport
import Testing
import Torch

@Suite struct TensorTests {
  @Test("Values come back as they went in, in every element type")
  func roundTrip() throws {
    let values: [Float] = [-1.5, 0, 2, 0.25, 1024, -3]
    let t = try Tensor(values, [2, 3])
    #expect(t.shape == [2, 3])
    #expect(t.strides == [3, 1])
    #expect(t.rank == 2)
    #expect(t.count == 6)
    #expect(t.size(-1) == 3)
    #expect(t.device == .cpu)
    for type in [DType.float16, .bfloat16, .float32, .float64] {
      let converted = try t.to(type)
      #expect(converted.dtype == type)
      #expect(try converted.floats() == values)
      #expect(try converted.rawBytes().count == 6 * type.size)
    }
    #expect(try Tensor([1, -2, 3]).integers() == [1, -2, 3])
    #expect(try Tensor([1, 200] as [UInt8]).bytes() == [1, 200])
    #expect(try Tensor([0.1, 0.2] as [Double]).doubles() == [0.1, 0.2])
    #expect(try Tensor([7.0] as [Float], []).item() == 7)
  }

  @Test("Tensors without elements are allowed")
  func empty() throws {
    let t = try Tensor([] as [Float])
    #expect(t.shape == [0])
    #expect(try t.floats() == [])
    #expect(try Tensor.zeros([2, 0, 3]).sum().item() == 0)
  }

  @Test("A transposed tensor is read in row-major order")
  func rowMajor() throws {
    let t = try Tensor([1, 2, 3, 4, 5, 6] as [Float], [2, 3]).transposed(0, 1)
    #expect(!t.isContiguous)
    #expect(try t.floats() == [1, 4, 2, 5, 3, 6])
    #expect(try t.contiguous().isContiguous)
  }

  @Test("A conversion that changes nothing copies nothing, unless asked to")
  func conversionShares() throws {
    let t = try Tensor([1, 2] as [Float])
    let same = try t.to(.float32)
    let copy = try t.to(.float32, copy: true)
    try t.multiply(by: 10)
    #expect(try same.floats() == [10, 20])
    #expect(try copy.floats() == [1, 2])
  }

  @Test("Channels-last changes the strides and not the values")
  func channelsLast() throws {
    let t = try Tensor.range(to: 24).reshaped([1, 2, 3, 4])
    let c = try t.contiguous(.channelsLast)
    #expect(c.strides == [24, 1, 8, 2])
    #expect(try c.floats() == t.floats())
  }

  @Test("Views and copies of shapes give the hand-made values")
  func shapes() throws {
    let t = try Tensor.range(to: 6).reshaped([2, 3])
    #expect(try t.reshaped([3, -1]).shape == [3, 2])
    #expect(try t.permuted([1, 0]).shape == [3, 2])
    #expect(try t.unsqueezed(0).squeezed(0).shape == [2, 3])
    #expect(try t.unsqueezed(1).expanded([2, 4, 3]).sum().item() == 60)
    #expect(try t.sliced(1, 1..<3).floats() == [1, 2, 4, 5])
    #expect(try t.sliced(1, 0..<3, by: 2).floats() == [0, 2, 3, 5])
    #expect(try t.selected(0, 1).floats() == [3, 4, 5])
    #expect(try t.indexSelected(1, Tensor([2, 0])).floats() == [2, 0, 5, 3])
    #expect(
      try t.indexCopied(0, Tensor([1]), Tensor([7, 8, 9] as [Float], [1, 3])).floats() == [0, 1, 2, 7, 8, 9])
    #expect(try t.gathered(1, Tensor([2, 0], [2, 1])).floats() == [2, 3])
    #expect(
      try t.scattered(1, Tensor([2, 0], [2, 1]), Tensor([8, 9] as [Float], [2, 1])).floats() == [
        0, 1, 8, 9, 4, 5,
      ])
    #expect(try Tensor([1, 2]).repeatInterleaved(2, 0).integers() == [1, 1, 2, 2])
    #expect(try t.flipped(1).floats() == [2, 1, 0, 5, 4, 3])
    #expect(try Tensor([1] as [Float]).padded([1, 2], value: 5).floats() == [5, 1, 5, 5])
    #expect(try Tensor.concatenated([t, t], 1).shape == [2, 6])
    #expect(try Tensor.stacked([t, t, t], 0).shape == [3, 2, 3])
    #expect(try Tensor.range(1, to: 2, by: 0.25).floats() == [1, 1.25, 1.5, 1.75])
    #expect(try Tensor.full([2], 3, dtype: .int64).integers() == [3, 3])
    let copy = try t.clone()
    try copy.copy(from: Tensor.ones([2, 3]))
    #expect(try copy.sum().item() == 6)
    #expect(try t.sum().item() == 15)
    try copy.zero()
    #expect(try copy.max().item() == 0)
  }

  @Test("Devices are read from their names")
  func devices() {
    #expect(Device("cpu") == .cpu)
    #expect(Device("cuda") == .cuda(0))
    #expect(Device("cuda:3") == .cuda(3))
    #expect(Device("mps") == .mps)
    for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:1000", "CPU"] { #expect(Device(name) == nil) }
    #expect(Device.cuda(2).description == "cuda:2")
    #expect(Device.available.contains(.cpu))
    #expect(!Device.cuda(127).isAvailable)
    #expect(!Device.cuda(-1).isAvailable)
  }

  @Test("libtorch is 2.11 or newer, and told where it is not one of the versions that the set-up fetches")
  func version() throws {
    let parts = Runtime.version.split(separator: ".").prefix(2).compactMap { Int($0) }
    #expect(parts.count == 2 && !parts.lexicographicallyPrecedes([2, 11]))
    let file = Fixtures.repository.appending(path: "scripts/setup.py")
    let setUp = try String(contentsOf: file, encoding: .utf8)
    let list = try #require(setUp.firstMatch(of: /\nTESTED = \((.*)\)\n/)).1
    let versions = list.matches(of: /"([^"]+)"/).map { String($0.1) }
    #expect(!versions.isEmpty && Runtime.testedVersions == versions)
    #expect(Runtime.untestedVersion == (versions.contains(Runtime.version) ? nil : Runtime.version))
  }

  @Test("A number of threads out of range throws", arguments: [0, -1, 100_000, Int.max])
  func threads(n: Int) {
    #expect(throws: TorchError.self) { try Runtime.setThreads(n) }
  }
}

/// Observes when what it lends is given back.
private final class Owner {
  let memory = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
  let gone: () -> Void
  init(_ gone: @escaping () -> Void) {
    self.gone = gone
    memory.initializeMemory(as: Float.self, repeating: 2, count: 16)
  }
  deinit {
    memory.deallocate()
    gone()
  }
}

@Suite struct MemoryOwnershipTests {
  @Test("Memory is given back when the last tensor that uses it goes, and not before")
  func deterministic() throws {
    var freed = 0
    var view: Tensor?
    do {
      let owner = Owner { freed += 1 }
      let t = try Tensor(borrowing: owner.memory, shape: [4, 4], dtype: .float32, owner: owner)
      #expect(try t.sum().item() == 32)
      view = try t.sliced(0, 1..<3)
    }
    #expect(freed == 0)
    #expect(try view?.sum().item() == 16)
    view = nil
    #expect(freed == 1)
  }

  @Test("A graph keeps what its backward pass needs, and lets it go with the result")
  func graph() throws {
    var freed = 0
    var result: Tensor?
    let w = try Tensor.ones([4]).requireGradient()
    do {
      let owner = Owner { freed += 1 }
      let x = try Tensor(borrowing: owner.memory, shape: [4], dtype: .float32, owner: owner)
      result = try (x * w).sum()
    }
    #expect(freed == 0)
    try result?.backward()
    // The backward pass frees what it used.
    #expect(freed == 1)
    #expect(try w.gradient?.floats() == [2, 2, 2, 2])
    result = nil
    #expect(freed == 1)
  }

  @Test(
    "Memory lent for a shape that is refused is given back once",
    arguments: [[-1], [1 << 62, 4], [Int.max, 3]])
  func refused(shape: [Int]) {
    var freed = 0
    #expect(throws: TorchError.self) {
      let owner = Owner { freed += 1 }
      _ = try Tensor(borrowing: owner.memory, shape: shape, dtype: .float32, owner: owner)
    }
    #expect(freed == 1)
  }
}
