public import Torch

/// max|a − b| / max|b|, the error that every golden test states; infinite when the shapes differ.
public func relativeError(_ a: Tensor, _ b: Tensor) throws -> Double {
  guard a.shape == b.shape else { return .infinity }
  let x = try a.doubles()
  let y = try b.doubles()
  var worst = 0.0
  var scale = 0.0
  for (p, q) in zip(x, y) {
    guard p.isFinite else { return .infinity }
    worst = max(worst, abs(p - q))
    scale = max(scale, abs(q))
  }
  return worst / max(scale, 1e-30)
}
