import Foundation
import Testing
import Torch

@Suite struct AutogradTests {
  @Test("Gradients of a sum of products are the other factors, and gather until they are cleared")
  func backward() throws {
    let x = try Tensor([1, 2, 3] as [Float]).requireGradient()
    let y = try Tensor([4, 5, 6] as [Float])
    #expect(x.requiresGradient)
    #expect(x.gradient == nil)
    try (x * y).sum().backward()
    #expect(try x.gradient?.floats() == [4, 5, 6])
    try (x * y).sum().backward()
    #expect(try x.gradient?.floats() == [8, 10, 12])
    #expect(y.gradient == nil)
    x.clearGradient()
    #expect(x.gradient == nil)
  }

  @Test("Nothing is recorded without gradients, also after an error, and only on that thread")
  func scope() throws {
    let x = try Tensor([1, 2] as [Float]).requireGradient()
    struct Stop: Error {}
    let y = try withoutGradients {
      #expect(throws: Stop.self) { try withoutGradients { throw Stop() } }
      return try x * 2
    }
    #expect(!y.requiresGradient)
    #expect(try (x * 2).requiresGradient)
    #expect(throws: TorchError.self) { try y.sum().backward() }
    let elsewhere = withoutGradients {
      nonisolated(unsafe) var recorded = false
      let thread = Thread {
        recorded = (try? (Tensor([1] as [Float]).requireGradient() * 2).requiresGradient) ?? false
      }
      thread.start()
      while !thread.isFinished { Thread.sleep(forTimeInterval: 0.001) }
      return recorded
    }
    #expect(elsewhere)
  }

  @Test("Gradients for chosen inputs leave the leaves alone")
  func functional() throws {
    let x = try Tensor([1, 2] as [Float]).requireGradient()
    let w = try Tensor([3, 4] as [Float]).requireGradient()
    let found = try gradients(of: [x * w], seeds: [Tensor([1, 10] as [Float])], for: [w, x])
    #expect(try found.map { try $0.floats() } == [[1, 20], [3, 40]])
    #expect(x.gradient == nil)
    let scalar = try gradients(of: [x.square().sum()], for: [x])
    #expect(try scalar[0].floats() == [2, 4])
  }

  @Test("What cannot be differentiated throws")
  func refused() throws {
    let x = try Tensor([1, 2] as [Float]).requireGradient()
    let other = try Tensor([1] as [Float]).requireGradient()
    #expect(throws: TorchError.self) { try (x * 2).backward() }
    #expect(throws: TorchError.self) { try gradients(of: [x.sum()], for: [other]) }
    #expect(throws: TorchError.self) { try gradients(of: [x * 2], for: [x]) }
    #expect(throws: TorchError.self) { try Tensor([1, 2]).requireGradient() }
    #expect(throws: TorchError.self) { try x.multiply(by: 2) }
    let loss = try x.square().sum()
    try loss.backward()
    #expect(throws: TorchError.self) { try loss.backward() }
  }

  @Test("A detached tensor shares memory and stops gradients")
  func detached() throws {
    let x = try Tensor([1, 2] as [Float]).requireGradient()
    let d = try x.detached()
    #expect(!d.requiresGradient)
    try d.multiply(by: 3)
    #expect(try x.floats() == [3, 6])
  }
}
