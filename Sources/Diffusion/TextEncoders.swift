public import Torch

/// The text encoders of a model, one or two, which read the same prompt.
///
/// The cross-attention gets the states of all, side by side. In a model of two, SDXL, the U-Net is also given the pooled
/// output of the last (Podell et al. 2023, https://arxiv.org/abs/2307.01952).
public struct TextEncoders {
  public let members: [CLIPTextEncoder]
  private let endToken: Int

  /// - Parameter endToken: the pooled output is of the first of these.
  init(_ members: [CLIPTextEncoder], endToken: Int) {
    self.members = members
    self.endToken = endToken
  }

  /// d of each.
  public var sizes: [Int] { members.map(\.configuration.hiddenSize) }

  /// The encoder whose pooled output the model uses, if any.
  public var pooling: CLIPTextEncoder? {
    members.last.flatMap { $0.configuration.output.isPooled ? $0 : nil }
  }

  /// The states of a prompt, side by side, [1, S, d].
  ///
  /// - Parameter ids: as each encoder takes them.
  func encode(_ ids: [[Int]]) throws -> Tensor {
    try .concatenated(zip(members, ids).map { try $0.encode(Tensor($1, [1, $1.count])) }, 2)
  }

  /// The pooled output of a prompt, [1, p]; nil where the model uses none.
  ///
  /// - Parameter ids: as the last encoder takes them.
  public func pooled(_ ids: [Int]) throws -> Tensor? {
    try pooling.map { try $0.pooled($0.embed(Tensor(ids, [1, ids.count])), ends: [end(of: ids)]) }
  }

  /// Where the first end token stands.
  public func end(of ids: [Int]) -> Int { ids.firstIndex(of: endToken) ?? ids.count - 1 }
}
