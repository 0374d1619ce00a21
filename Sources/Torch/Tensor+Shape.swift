import CTorch

extension Tensor {
  /// The same elements as `dtype` on `device`; itself when nothing changes, unless `copy`.
  public func to(
    _ dtype: DType? = nil, device: Device? = nil, format: MemoryFormat = .preserve,
    copy: Bool = false
  ) throws -> Tensor {
    let d = (device ?? self.device).code
    return try Tensor(
      ct_to(handle, (dtype ?? self.dtype).rawValue, d.type, d.index, format.rawValue, copy))
  }

  /// The same elements laid out as `format`; itself when they are already.
  public func contiguous(_ format: MemoryFormat = .contiguous) throws -> Tensor {
    try Tensor(ct_contiguous(handle, format.rawValue))
  }

  /// A copy with memory of its own, inside the graph.
  public func clone() throws -> Tensor { try Tensor(ct_clone(handle)) }

  /// Overwrites the elements with those of `source`, outside the graph.
  public func copy(from source: Tensor) throws { try check(ct_copy_into(handle, source.handle)) }

  /// −1 stands for what is left.
  public func reshaped(_ shape: [Int]) throws -> Tensor {
    let s = shape.map(Int64.init)
    return try Tensor(ct_reshape(handle, s, Int32(s.count)))
  }

  /// A view whose dimension i is dimension `dims[i]` of this.
  public func permuted(_ dims: [Int]) throws -> Tensor {
    let s = dims.map(Int64.init)
    return try Tensor(ct_permute(handle, s, Int32(s.count)))
  }

  /// A view with two dimensions exchanged.
  public func transposed(_ a: Int, _ b: Int) throws -> Tensor {
    try Tensor(ct_transpose(handle, Int64(a), Int64(b)))
  }

  /// A view with a dimension of size 1 put in at `dim`.
  public func unsqueezed(_ dim: Int) throws -> Tensor {
    try Tensor(ct_unsqueeze(handle, Int64(dim)))
  }

  /// A view without dimension `dim`, where that has size 1.
  public func squeezed(_ dim: Int) throws -> Tensor { try Tensor(ct_squeeze(handle, Int64(dim))) }

  /// A view in which dimensions of size 1 repeat up to `shape`.
  public func expanded(_ shape: [Int]) throws -> Tensor {
    let s = shape.map(Int64.init)
    return try Tensor(ct_expand(handle, s, Int32(s.count)))
  }

  /// A view of `range` along `dim`.
  public func sliced(_ dim: Int, _ range: Range<Int>, by step: Int = 1) throws -> Tensor {
    try Tensor(
      ct_slice(handle, Int64(dim), Int64(range.lowerBound), Int64(range.upperBound), Int64(step)))
  }

  /// A view of one index along `dim`, without that dimension.
  public func selected(_ dim: Int, _ index: Int) throws -> Tensor {
    try Tensor(ct_select(handle, Int64(dim), Int64(index)))
  }

  /// The slices along `dim` at int64 `index`, copied.
  public func indexSelected(_ dim: Int, _ index: Tensor) throws -> Tensor {
    try Tensor(ct_index_select(handle, Int64(dim), index.handle))
  }

  /// A copy whose `index`-th slices along `dim` are those of `source`.
  public func indexCopied(_ dim: Int, _ index: Tensor, _ source: Tensor) throws -> Tensor {
    try Tensor(ct_index_copy(handle, Int64(dim), index.handle, source.handle))
  }

  /// The elements that `index` names along `dim`, in the shape of `index`.
  public func gathered(_ dim: Int, _ index: Tensor) throws -> Tensor {
    try Tensor(ct_gather(handle, Int64(dim), index.handle))
  }

  /// A copy with the elements that `index` names along `dim` taken from `source`.
  public func scattered(_ dim: Int, _ index: Tensor, _ source: Tensor) throws -> Tensor {
    try Tensor(ct_scatter(handle, Int64(dim), index.handle, source.handle))
  }

  /// Each slice along `dim`, `n` times in a row.
  public func repeatInterleaved(_ n: Int, _ dim: Int) throws -> Tensor {
    try Tensor(ct_repeat_interleave(handle, Int64(n), Int64(dim)))
  }

  /// A copy in reverse order along `dim`.
  public func flipped(_ dim: Int) throws -> Tensor { try Tensor(ct_flip(handle, Int64(dim))) }

  /// Pads with `value`; `amounts` are before/after pairs from the last dimension on.
  public func padded(_ amounts: [Int], value: Double = 0) throws -> Tensor {
    let s = amounts.map(Int64.init)
    return try Tensor(ct_pad(handle, s, Int32(s.count), value))
  }

  /// One after another along `dim`.
  public static func concatenated(_ tensors: [Tensor], _ dim: Int) throws -> Tensor {
    try withHandles(tensors) { try Tensor(ct_cat($0, $1, Int64(dim))) }
  }

  /// Side by side along a new dimension `dim`.
  public static func stacked(_ tensors: [Tensor], _ dim: Int) throws -> Tensor {
    try withHandles(tensors) { try Tensor(ct_stack($0, $1, Int64(dim))) }
  }
}

/// Lends the handles of `tensors` to `body`.
func withHandles<R>(
  _ tensors: [Tensor], _ body: (UnsafePointer<ct_tensor?>?, Int32) throws -> R
) rethrows -> R {
  let handles = tensors.map { Optional($0.handle) }
  return try withExtendedLifetime(tensors) {
    try handles.withUnsafeBufferPointer { try body($0.baseAddress, Int32($0.count)) }
  }
}
