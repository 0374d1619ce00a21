import Files
import Diffusion
import Foundation
public import Torch

/// The neural mapper M(t, l): a small network from a point of space-time to the concept's embedding.
///
///     x = e(t, l)                                   positional encoding, 2048
///     a = W₀ x + b₀                                 anchors: W₀ starts as encodings of 10 · L anchors
///     h = LeakyReLU(LN(W₂ LeakyReLU(LN(W₁ a + b₁)) + b₂))      128, ordered by nested dropout
///     y = W₃ h + b₃                                 2d with the textual bypass, else d
///     y ← norm · y / ‖y‖₂                           when the output is normalised
///     (v_base, v_bypass) = split(y)
///
/// NeTI, sections 3.2–3.4 (https://arxiv.org/abs/2305.15391). Without the encoding, x is (t, l)
/// scaled to [−1, 1] and there is no anchor layer. fp32 throughout, whatever the model runs in.
public final class NeTIMapper: ConceptRepresentation {
  public struct Settings: Codable, Sendable, Equatable {
    public var kind: RepresentationKind = .neti
    /// d, the hidden size of the text encoder.
    public var hiddenSize: Int
    /// L, the cross-attention layers of the U-Net.
    public var layerCount: Int
    public var usesPositionalEncoding = true
    public var timeAnchors = 10
    public var sigmaTime = 0.03
    public var sigmaLayer = 2.0
    public var outputBypass = true
    /// The L2 norm of the whole output; nil leaves it as it comes.
    public var targetNorm: Double?
    /// Whether nested dropout ordered the hidden units: without it there is no dial.
    public var usesNestedDropout = true
    public var nestedDropoutProbability = 0.5

    public init(hiddenSize: Int, layerCount: Int) {
      self.hiddenSize = hiddenSize
      self.layerCount = layerCount
    }

    /// Refuses what no mapper can have.
    public func validate() throws {
      guard kind.type == NeTIMapper.self else {
        throw NeTIError("representation \(kind.rawValue) has no mapper")
      }
      guard (1...16_384).contains(hiddenSize), (1...1_024).contains(layerCount) else {
        throw NeTIError("a mapper for hidden size \(hiddenSize) and \(layerCount) layers is out of range")
      }
      if usesPositionalEncoding { _ = try PositionalEncoding.anchorTimesteps(timeAnchors) }
      if let n = targetNorm, !(n.isFinite && n > 0) {
        throw NeTIError("the target norm is \(n); it must be a positive number")
      }
    }
  }

  /// Units of the hidden layers, in the paper and in every published concept.
  public static let hiddenWidth = 128
  /// Training timesteps of the diffusion model, which the variant without encoding scales by.
  static let timestepCount = 1000

  public let settings: Settings
  public let encoding: PositionalEncoding?
  private let layers: [String: Tensor]
  private let order: [String]

  public convenience init(
    startingAs model: RunConfiguration.Model, row: Tensor, layerCount: Int, keys: RandomKeys
  ) throws {
    var s = Settings(hiddenSize: row.count, layerCount: layerCount)
    s.kind = model.representation
    s.usesPositionalEncoding = model.usePositionalEncoding
    s.timeAnchors = model.numPeTimeAnchors
    s.sigmaTime = model.peSigmas.sigmaT
    s.sigmaLayer = model.peSigmas.sigmaL
    s.outputBypass = model.outputBypass
    s.targetNorm = model.normalizeMapperOutput ? try row.norm().item() : nil
    s.usesNestedDropout = model.useNestedDropout
    s.nestedDropoutProbability = model.nestedDropoutProb
    try self.init(s, keys: keys)
  }

  public convenience init(_ stored: StoredRepresentation) throws {
    var tensors = stored.tensors
    let frequencies = tensors.removeValue(forKey: "frequencies")
    try self.init(stored.settings(Settings.self), tensors: tensors, frequencies: frequencies)
  }

  /// A mapper at its start; `keys` give frequencies and weights.
  public convenience init(_ settings: Settings, keys: RandomKeys) throws {
    try settings.validate()
    let encoding =
      try settings.usesPositionalEncoding
      ? PositionalEncoding(
        sigmaTime: settings.sigmaTime, sigmaLayer: settings.sigmaLayer,
        random: keys.source(.frequencies)) : nil
    let random = try keys.source(.initialisation)
    let encodingSize = encoding?.size ?? 2
    var tensors: [String: Tensor] = [:]
    for (name, shape) in Self.shapes(settings, encodingSize: encodingSize) {
      let layer = String(name.split(separator: ".")[0])
      if layer.hasPrefix("norm") {
        tensors[name] = name.hasSuffix("weight") ? try .ones(shape) : try .zeros(shape)
      } else {
        // PyTorch's nn.Linear: U(−1/√in, 1/√in) for weight and bias alike.
        let fanIn = ["input": encodingSize, "hidden1": settings.firstWidth][layer] ?? Self.hiddenWidth
        let bound = 1 / Double(fanIn).squareRoot()
        tensors[name] = try random.uniform(shape) * (2 * bound) - bound
      }
    }
    if let encoding {
      tensors["input.weight"] = try encoding.anchors(
        timeAnchors: settings.timeAnchors, layerCount: settings.layerCount)
    }
    try self.init(settings, tensors: tensors, frequencies: encoding?.frequencies)
  }

  /// A mapper from its tensors; refuses missing, misshapen and unknown ones, by name.
  public init(_ settings: Settings, tensors: [String: Tensor], frequencies: Tensor?) throws {
    try settings.validate()
    self.settings = settings
    if settings.usesPositionalEncoding {
      guard let frequencies else { throw NeTIError("the tensor frequencies is missing") }
      encoding = try PositionalEncoding(frequencies: frequencies)
    } else {
      encoding = nil
    }
    let shapes = Self.shapes(settings, encodingSize: encoding?.size ?? 2)
    var kept: [String: Tensor] = [:]
    for (name, shape) in shapes {
      guard let t = tensors[name] else { throw NeTIError("the tensor \(name) is missing") }
      guard t.shape == shape else {
        throw NeTIError("the tensor \(name) has shape \(t.shape); expected \(shape)")
      }
      kept[name] = try t.to(.float32, copy: true)
    }
    if let extra = tensors.keys.filter({ kept[$0] == nil }).min() {
      throw NeTIError("the tensor \(quoted(extra)) is not part of a mapper with these settings")
    }
    layers = kept
    order = shapes.map(\.0)
  }

  private static func shapes(_ s: Settings, encodingSize: Int) -> [(String, [Int])] {
    let w = hiddenWidth
    let output = s.outputBypass ? 2 * s.hiddenSize : s.hiddenSize
    let anchors =
      s.usesPositionalEncoding
      ? [("input.weight", [s.firstWidth, encodingSize]), ("input.bias", [s.firstWidth])] : []
    return anchors + [
      ("hidden1.weight", [w, s.firstWidth]), ("hidden1.bias", [w]),
      ("norm1.weight", [w]), ("norm1.bias", [w]),
      ("hidden2.weight", [w, w]), ("hidden2.bias", [w]),
      ("norm2.weight", [w]), ("norm2.bias", [w]),
      ("output.weight", [output, w]), ("output.bias", [output]),
    ]
  }

  public static func dependsOnLayer(_ kind: RepresentationKind) -> Bool { kind != .time }
  public static func learningRate(of kind: RepresentationKind, in recipe: Recipe) -> Double? {
    recipe.learningRate
  }

  public var kind: RepresentationKind { settings.kind }
  public var hiddenSize: Int { settings.hiddenSize }
  public var layerCount: Int { settings.layerCount }
  public var dependsOnTime: Bool { settings.kind != .space }
  public var truncationWidth: Int? { settings.usesNestedDropout ? Self.hiddenWidth : nil }
  public var parameters: [(name: String, tensor: Tensor)] {
    order.compactMap { name in layers[name].map { (name, $0) } }
  }
  public var buffers: [(name: String, tensor: Tensor)] {
    encoding.map { [("frequencies", $0.frequencies)] } ?? []
  }

  public var storedSettings: (any Encodable)? { settings }
  public var facts: [(name: String, value: String)] {
    let s = settings
    return [
      (
        "encoding",
        s.usesPositionalEncoding
          ? "σ_t \(s.sigmaTime), σ_l \(s.sigmaLayer), \(s.timeAnchors) time anchors" : "none"
      ),
      ("bypass", s.outputBypass ? "yes" : "no"),
      ("output norm", s.targetNorm.map { String(format: "%.4f", $0) } ?? "free"),
      (
        "dial",
        s.usesNestedDropout
          ? "1 to \(Self.hiddenWidth) hidden units (--truncation)" : "none: trained without nested dropout"
      ),
    ]
  }

  public func embeddings(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> ConceptEmbedding {
    let y = try output(timesteps: timesteps, layers: layers, mask: mask)
    guard settings.outputBypass else { return ConceptEmbedding(base: y, bypass: nil) }
    let d = settings.hiddenSize
    return ConceptEmbedding(base: try y.sliced(1, 0..<d), bypass: try y.sliced(1, d..<2 * d))
  }

  /// M(t, l) before it is split, [N, 2d] (or [N, d] without the bypass).
  public func output(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> Tensor {
    var h = try hidden(timesteps: timesteps, layers: layers)
    if let mask { h = try h * mask }
    let y = try linear(h, "output")
    guard let norm = settings.targetNorm else { return y }
    return try y / y.norm([1], keep: true).clamped(1e-12, .infinity) * norm
  }

  /// h, [N, 128], all units kept.
  public func hidden(timesteps: Tensor, layers: Tensor) throws -> Tensor {
    let t = try dependsOnTime ? timesteps.to(.float32) : timesteps.to(.float32) * 0
    let l = try dependsOnLayer ? layers.to(.float32) : layers.to(.float32) * 0
    var x: Tensor
    if let encoding {
      x = try linear(encoding.encode(timesteps: t, layers: l), "input")
    } else {
      let scaledT = try t.floor() / Double(Self.timestepCount - 1) * 2 - 1
      let scaledL = try l.floor() / Double(max(layerCount - 1, 1)) * 2 - 1
      x = try Tensor.stacked([scaledT, scaledL], 1)
    }
    for i in 1...2 {
      x = try norm(linear(x, "hidden\(i)"), "norm\(i)").leakyReLU(0.01)
    }
    return x
  }

  private func tensor(_ name: String) throws -> Tensor {
    guard let t = layers[name] else { throw NeTIError("the tensor \(name) is missing") }
    return t
  }

  private func linear(_ x: Tensor, _ name: String) throws -> Tensor {
    try x.linear(tensor("\(name).weight"), tensor("\(name).bias"))
  }

  private func norm(_ x: Tensor, _ name: String) throws -> Tensor {
    try x.layerNorm(tensor("\(name).weight"), tensor("\(name).bias"), eps: 1e-5)
  }
}

extension NeTIMapper.Settings {
  /// What the first hidden layer takes: the anchors, or the two scaled coordinates.
  var firstWidth: Int { usesPositionalEncoding ? timeAnchors * layerCount : 2 }
}
