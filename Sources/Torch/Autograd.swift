import CTorch

/// Runs `body` without recording operations for gradients, on the calling thread.
///
/// The switch belongs to the thread, so `body` is synchronous.
public func withoutGradients<R>(_ body: () throws -> R) rethrows -> R {
  let before = ct_grad_enabled()
  ct_set_grad_enabled(false)
  defer { ct_set_grad_enabled(before) }
  return try body()
}

extension Tensor {
  /// Whether operations on it are recorded.
  public var requiresGradient: Bool { ct_requires_grad(handle) }

  /// Marks a leaf as something to be differentiated by.
  @discardableResult
  public func requireGradient(_ on: Bool = true) throws -> Tensor {
    try check(ct_set_requires_grad(handle, on))
    return self
  }

  /// Adds the gradient of this scalar to `gradient` of every leaf that requires one.
  public func backward() throws { try check(ct_backward(handle)) }

  /// What `backward` has gathered here.
  public var gradient: Tensor? { ct_grad(handle).map(Tensor.init(owning:)) }
  /// Forgets what `backward` has gathered here.
  public func clearGradient() { ct_clear_grad(handle) }

  /// The same memory outside the graph.
  public func detached() throws -> Tensor { try Tensor(ct_detach(handle)) }
}

/// The gradients of `outputs`, weighted by `seeds` (scalars need none), with respect to `inputs`.
public func gradients(of outputs: [Tensor], seeds: [Tensor?] = [], for inputs: [Tensor]) throws
  -> [Tensor]
{
  var o = outputs.map { Optional($0.handle) }
  var s = outputs.indices.map { $0 < seeds.count ? seeds[$0]?.handle : nil }
  var i = inputs.map { Optional($0.handle) }
  var result = [ct_tensor?](repeating: nil, count: inputs.count)
  try withExtendedLifetime((outputs, seeds, inputs)) {
    try check(
      ct_gradients(&o, &s, Int32(o.count), &i, Int32(i.count), &result))
  }
  return result.compactMap { $0.map(Tensor.init(owning:)) }
}
