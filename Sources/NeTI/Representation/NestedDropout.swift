import Torch

/// Nested dropout: units of the last hidden layer ordered by importance.
///
/// While training, one coin is tossed per call of the mapper, which is once per layer and
/// micro-batch; when it falls, each sample of the call gets k ~ U{0 … width−1} and h[k:] = 0.
/// Early units so learn what matters most, which is what `Truncation` uses at inference. NeTI, section 3.4;
/// Rippel et al., *Learning Ordered
/// Representations with Nested Dropout* (https://arxiv.org/abs/1402.0915).
public enum NestedDropout {
  /// How many units each (layer, sample) keeps in a training step; row l · samples + s.
  ///
  /// `microBatch` is the number of samples that share a coin; `samples` are their global numbers.
  public static func sample(
    keys: RandomKeys, step: Int, samples: [Int], microBatch: Int, layers: Int,
    width: Int, probability: Double
  ) throws -> [Int?] {
    func call(_ s: Int) -> Int { s / microBatch }
    var coins: [Int: [Double]] = [:]
    for c in Set(samples.map(call)) {
      coins[c] = try keys.source(.dropoutCoin, step: step, index: c).uniform([layers], dtype: .float64)
        .doubles()
    }
    let indices = try samples.map { s in
      try keys.source(.dropoutIndex, step: step, index: s)
        .integers(in: 0..<width, [layers]).integers()
    }
    return (0..<layers).flatMap { l in
      zip(samples, indices).map { s, index in (coins[call(s)]?[l] ?? 1) < probability ? index[l] : nil }
    }
  }
}
