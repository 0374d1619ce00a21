import CTorch

/// AdamW, libtorch's fused kernel.
///
/// Loshchilov & Hutter, *Decoupled Weight Decay Regularization*; equal to `torch.optim.AdamW`.
public final class AdamW {
  /// The settings of the update, with PyTorch's defaults.
  public struct Options: Sendable, Equatable {
    /// How much of the average of the gradient is kept at each step.
    public var beta1 = 0.9
    /// How much of the average of the squared gradient is kept at each step.
    public var beta2 = 0.999
    /// Added to the root of that average before dividing by it.
    public var epsilon = 1e-8
    /// The share of each parameter, times the learning rate, that a step takes away.
    public var weightDecay = 1e-2
    /// The defaults.
    public init() {}
  }

  /// The settings that it was made with.
  public let options: Options
  /// What is updated, in place.
  public let parameters: [Tensor]
  /// The moving averages of the gradient, in the shapes of `parameters`.
  public let averages: [Tensor]
  /// The moving averages of the squared gradient.
  public let squareAverages: [Tensor]
  private let steps: [Tensor]

  /// Starts with averages of zero; `parameters` are leaves that require gradients.
  public init(_ parameters: [Tensor], _ options: Options = Options()) throws {
    self.options = options
    self.parameters = parameters
    averages = try parameters.map { try .zeros($0.shape, dtype: $0.dtype, device: $0.device) }
    squareAverages = try parameters.map { try .zeros($0.shape, dtype: $0.dtype, device: $0.device) }
    steps = try parameters.map { try .zeros([], dtype: .float32, device: $0.device) }
  }

  /// Updates made so far.
  public func stepCount() throws -> Int { try steps.first.map { Int(try $0.item()) } ?? 0 }

  /// Goes on from a saved state.
  public func setStepCount(_ n: Int) throws {
    for s in steps { try s.copy(from: .full([], Double(n))) }
  }

  /// One update from the gathered gradients; a parameter without one is left alone.
  public func step(learningRate: Double) throws {
    let pairs = parameters.enumerated().compactMap { i, p in p.gradient.map { (i, $0) } }
    guard !pairs.isEmpty else { return }
    let index = pairs.map(\.0)
    let status = withHandles(index.map { parameters[$0] }) { p, n in
      withHandles(pairs.map(\.1)) { g, _ in
        withHandles(index.map { averages[$0] }) { m, _ in
          withHandles(index.map { squareAverages[$0] }) { v, _ in
            withHandles(index.map { steps[$0] }) { s, _ in
              ct_fused_adamw(
                p, g, m, v, s, n, learningRate, options.beta1, options.beta2,
                options.weightDecay, options.epsilon)
            }
          }
        }
      }
    }
    try check(status)
  }

  /// Forgets the gathered gradients of all parameters.
  public func clearGradients() { for p in parameters { p.clearGradient() } }
}
