import Diffusion
import Files
import Foundation
public import Torch

/// The neural mapper M(t, l): a small network from a point of space-time to the concept's embedding.
///
///     x = e(t, l)                                   positional encoding, 2048
///     a = W₀ x + b₀                                 anchors: W₀ starts as encodings of 10 · L anchors
///     h = LeakyReLU(LN(W₂ LeakyReLU(LN(W₁ a + b₁)) + b₂))      128, ordered by nested dropout
///     y = W₃ h + b₃                                 2d with the textual bypass, else d
///     y ← norm · y / ‖y‖₂                           when the output is normalised (`OutputNorm`)
///     (v_base, v_bypass) = split(y)
///
/// For a model of several text encoders W₃ h is a pair (v_base, v_bypass) for each, and each pair is normalised to the
/// category's norm in its encoder. Where n vectors stand for the concept (ours), W₃ gives n such y, one after another,
/// and each is normalised and split by itself.
///
/// NeTI, sections 3.2–3.4 (https://arxiv.org/abs/2305.15391). Without the encoding, x is (t, l)
/// scaled to [−1, 1] and there is no anchor layer. fp32 throughout, whatever the model runs in.
public final class NeTIMapper: ConceptRepresentation {
  public struct Settings: Codable, Sendable, Equatable {
    public var kind: RepresentationKind = .neti
    /// d, the hidden size of the text encoder; of several together.
    public var hiddenSize: Int
    /// What each of several text encoders gets; nil for one.
    public var parts: [Part]?
    /// L, the cross-attention layers of the U-Net.
    public var layerCount: Int
    /// n, the vectors that stand for the concept; the file has it elsewhere, for every representation.
    public var vectorCount = 1
    public var usesPositionalEncoding = true
    public var timeAnchors = 10
    public var sigmaTime = 0.03
    public var sigmaLayer = 2.0
    public var outputBypass = true
    /// The L2 norm of the whole output; nil leaves it as it comes.
    public var targetNorm: Double?
    /// Whether nested dropout ordered the hidden units: without it there is no truncation.
    public var usesNestedDropout = true
    public var nestedDropoutProbability = 0.5

    /// The part of one text encoder.
    public struct Part: Codable, Sendable, Equatable {
      public var hiddenSize: Int
      /// The L2 norm of this encoder's output; nil leaves it as it comes.
      public var targetNorm: Double?

      public init(hiddenSize: Int, targetNorm: Double?) {
        self.hiddenSize = hiddenSize
        self.targetNorm = targetNorm
      }
    }

    /// One part for each text encoder.
    var allParts: [Part] { parts ?? [Part(hiddenSize: hiddenSize, targetNorm: targetNorm)] }

    public init(hiddenSize: Int, layerCount: Int) {
      self.hiddenSize = hiddenSize
      self.layerCount = layerCount
    }

    private enum CodingKeys: String, CodingKey {
      case kind, hiddenSize, layerCount, usesPositionalEncoding, timeAnchors, sigmaTime, sigmaLayer,
        outputBypass
      case parts, targetNorm, usesNestedDropout, nestedDropoutProbability
    }

    /// Refuses what no mapper can have.
    public func validate() throws {
      guard kind.type == NeTIMapper.self else {
        throw NeTIError("representation \(kind.rawValue) has no mapper")
      }
      guard (1...16_384).contains(hiddenSize), (1...1_024).contains(layerCount) else {
        throw NeTIError("a mapper for hidden size \(hiddenSize) and \(layerCount) layers is out of range")
      }
      guard RepresentationSettings.vectorCounts.contains(vectorCount) else {
        throw NeTIError(
          "a mapper for \(vectorCount) vectors is out of range; 1 to 16 can stand for a concept")
      }
      if usesPositionalEncoding { _ = try PositionalEncoding.anchorTimesteps(timeAnchors) }
      if let parts {
        guard (2...4).contains(parts.count), targetNorm == nil,
          parts.allSatisfy({ (1...hiddenSize).contains($0.hiddenSize) }),
          parts.reduce(0, { $0 + $1.hiddenSize }) == hiddenSize
        else { throw NeTIError("the mapper's parts do not add up to its hidden size \(hiddenSize)") }
      }
      for case let n? in allParts.map(\.targetNorm) where !(n.isFinite && n > 0) {
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
  let network: MapperNetwork<Tensor>

  public convenience init(
    startingAs asked: RepresentationSettings, rows: [Tensor], layerCount: Int, keys: RandomKeys
  ) throws {
    let parts = try rows.map {
      Settings.Part(hiddenSize: $0.count, targetNorm: asked.normalizesOutput ? try $0.norm().item() : nil)
    }
    var settings = Settings(
      asked, hiddenSize: parts.reduce(0) { $0 + $1.hiddenSize }, layerCount: layerCount,
      targetNorm: parts.count == 1 ? parts[0].targetNorm : nil)
    if parts.count > 1 { settings.parts = parts }
    try self.init(settings, keys: keys)
  }

  public convenience init(_ stored: StoredRepresentation) throws {
    var tensors = stored.tensors
    let frequencies = tensors.removeValue(forKey: "frequencies")
    var settings = try stored.settings(Settings.self)
    settings.vectorCount = stored.vectorCount
    try self.init(settings, tensors: tensors, frequencies: frequencies)
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
    let network = try settings.shapes(encoding).map { name, shapes -> MapperNetwork<Tensor>.Layer in
      guard shapes.weight.count == 2 else {
        return .init(weight: try .ones(shapes.weight), bias: try .zeros(shapes.bias))
      }
      // PyTorch's nn.Linear: U(−1/√in, 1/√in) for weight and bias alike.
      let bound = 1 / Double(shapes.weight[1]).squareRoot()
      let weight = try random.uniform(shapes.weight) * (2 * bound) - bound
      let bias = try random.uniform(shapes.bias) * (2 * bound) - bound
      guard name == "input", let encoding else { return .init(weight: weight, bias: bias) }
      // The weight was sampled all the same: what a seed gives afterwards depends on it.
      return .init(
        weight: try encoding.anchors(timeAnchors: settings.timeAnchors, layerCount: settings.layerCount),
        bias: bias)
    }
    self.init(settings, encoding, network)
  }

  /// A mapper from its tensors; refuses missing, misshapen and unknown ones, by name.
  public convenience init(_ settings: Settings, tensors: [String: Tensor], frequencies: Tensor?) throws {
    try settings.validate()
    var encoding: PositionalEncoding?
    if settings.usesPositionalEncoding {
      guard let frequencies else { throw NeTIError("the tensor frequencies is missing") }
      encoding = try PositionalEncoding(frequencies: frequencies)
    }
    var unknown = Set(tensors.keys)
    func tensor(_ name: String, _ shape: [Int]) throws -> Tensor {
      guard let t = tensors[name] else { throw NeTIError("the tensor \(name) is missing") }
      guard t.shape == shape else {
        throw NeTIError("the tensor \(name) has shape \(t.shape); expected \(shape)")
      }
      unknown.remove(name)
      return try t.to(.float32, copy: true)
    }
    let network = try settings.shapes(encoding).map { name, shapes in
      MapperNetwork<Tensor>.Layer(
        weight: try tensor("\(name).weight", shapes.weight), bias: try tensor("\(name).bias", shapes.bias))
    }
    if let extra = unknown.min() {
      throw NeTIError("the tensor \(quoted(extra)) is not part of a mapper with these settings")
    }
    self.init(settings, encoding, network)
  }

  private init(_ settings: Settings, _ encoding: PositionalEncoding?, _ network: MapperNetwork<Tensor>) {
    self.settings = settings
    self.encoding = encoding
    self.network = network
  }

  public static func dependsOnLayer(_ kind: RepresentationKind) -> Bool { kind != .time }

  public var kind: RepresentationKind { settings.kind }
  public var hiddenSize: Int { settings.hiddenSize }
  public var encoderSizes: [Int]? { settings.allParts.map(\.hiddenSize) }
  public var layerCount: Int { settings.layerCount }
  public var vectorCount: Int { settings.vectorCount }
  public var dependsOnTime: Bool { settings.kind != .space }
  public var truncationWidth: Int? { settings.usesNestedDropout ? Self.hiddenWidth : nil }
  public var parameters: [(name: String, tensor: Tensor)] { network.parameters.map { ($0.name, $0.value) } }
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
      (
        "output norm",
        s.allParts.map { $0.targetNorm.map { String(format: "%.4f", $0) } ?? "free" }.joined(separator: ", ")
      ),
      (
        "truncation",
        s.usesNestedDropout
          ? "1 to \(Self.hiddenWidth) hidden units" : "none: trained without nested dropout"
      ),
    ]
  }

  public func embeddings(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> ConceptEmbedding {
    let y = try output(timesteps: timesteps, layers: layers, mask: mask)
      .reshaped([layers.count, vectorCount, -1])
    guard settings.outputBypass else { return ConceptEmbedding(base: y, bypass: nil) }
    func joined(_ halves: [Range<Int>]) throws -> Tensor {
      let all = try halves.map { try y.sliced(2, $0) }
      return all.count == 1 ? all[0] : try .concatenated(all, 2)
    }
    let parts = settings.outputParts
    return ConceptEmbedding(
      base: try joined(parts.map { $0.lowerBound..<$0.lowerBound + $0.count / 2 }),
      bypass: try joined(parts.map { $0.lowerBound + $0.count / 2..<$0.upperBound }))
  }

  /// M(t, l) before it is split, [N, n · 2d] (or [N, n · d] without the bypass): for each vector (v_base, v_bypass) of
  /// each text encoder in turn.
  public func output(timesteps: Tensor, layers: Tensor, mask: Tensor?) throws -> Tensor {
    var h = try hidden(timesteps: timesteps, layers: layers)
    if let mask { h = try h * mask }
    let y = try network.output.linear(h)
    let parts = settings.allParts
    let rows = try y.reshaped([-1, settings.vectorSize])
    guard parts.count > 1 else {
      return try OutputNorm.apply(rows, norm: parts[0].targetNorm).reshaped(y.shape)
    }
    return try Tensor.concatenated(
      zip(settings.outputParts, parts).map { try OutputNorm.apply(rows.sliced(1, $0), norm: $1.targetNorm) },
      1
    ).reshaped(y.shape)
  }

  /// h, [N, 128], all units kept.
  public func hidden(timesteps: Tensor, layers: Tensor) throws -> Tensor {
    let t = try dependsOnTime ? timesteps.to(.float32) : timesteps.to(.float32) * 0
    let l = try dependsOnLayer ? layers.to(.float32) : layers.to(.float32) * 0
    var x: Tensor
    if let encoding, let anchors = network.input {
      x = try anchors.linear(encoding.encode(timesteps: t, layers: l))
    } else {
      let scaledT = try t.floor() / Double(Self.timestepCount - 1) * 2 - 1
      let scaledL = try l.floor() / Double(max(layerCount - 1, 1)) * 2 - 1
      x = try Tensor.stacked([scaledT, scaledL], 1)
    }
    x = try network.norm1.norm(network.hidden1.linear(x)).leakyReLU(0.01)
    return try network.norm2.norm(network.hidden2.linear(x)).leakyReLU(0.01)
  }
}

extension NeTIMapper.Settings {
  /// What a run chose, for a model of this size.
  init(_ asked: RepresentationSettings, hiddenSize: Int, layerCount: Int, targetNorm: Double?) {
    self.init(hiddenSize: hiddenSize, layerCount: layerCount)
    kind = asked.kind
    vectorCount = asked.vectorCount
    usesPositionalEncoding = asked.usesPositionalEncoding
    timeAnchors = asked.timeAnchors
    sigmaTime = asked.sigmaTime
    sigmaLayer = asked.sigmaLayer
    outputBypass = asked.outputBypass
    self.targetNorm = targetNorm
    usesNestedDropout = asked.usesNestedDropout
    nestedDropoutProbability = asked.nestedDropoutProbability
  }

  /// Where the output of each text encoder stands.
  fileprivate var outputParts: [Range<Int>] {
    var start = 0
    return allParts.map { part in
      let width = part.hiddenSize * (outputBypass ? 2 : 1)
      defer { start += width }
      return start..<start + width
    }
  }

  /// What the first hidden layer takes: the anchors, or the two scaled coordinates.
  private var firstWidth: Int { usesPositionalEncoding ? timeAnchors * layerCount : 2 }

  /// What is given for each vector: 2d, or d without the bypass.
  fileprivate var vectorSize: Int { outputBypass ? 2 * hiddenSize : hiddenSize }

  fileprivate func shapes(_ encoding: PositionalEncoding?) -> MapperNetwork<[Int]> {
    MapperNetwork(
      frequencies: encoding?.frequencies.size(0), width: firstWidth, hidden: NeTIMapper.hiddenWidth,
      output: vectorCount * vectorSize)
  }
}
