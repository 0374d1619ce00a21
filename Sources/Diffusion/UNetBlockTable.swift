/// One block of a U-Net as data: everything that its weights' names and shapes follow from.
package struct UNetBlockPlan: Equatable {
  package enum Direction { case down, middle, up }

  package let direction: Direction
  /// `down_blocks.0`, `mid_block`.
  package let path: String
  /// Channels in and out of each residual block.
  package let resnets: [(inputs: Int, outputs: Int)]
  /// How many of them a spatial transformer follows.
  package let attentions: Int
  /// Transformer blocks in each spatial transformer.
  package let depth: Int
  package let heads: Int
  package let channels: Int
  /// Whether the block ends by changing the resolution.
  package let resamples: Bool

  /// diffusers' paths of the spatial transformers, in execution order; of the one block where each has one.
  var crossAttentionLayers: [String] {
    (0..<attentions).map { "\(path).attentions.\($0)" + (depth == 1 ? ".transformer_blocks.0" : "") }
  }

  package static func == (a: UNetBlockPlan, b: UNetBlockPlan) -> Bool {
    a.path == b.path && a.resnets.elementsEqual(b.resnets, by: ==) && a.attentions == b.attentions
      && a.depth == b.depth && a.heads == b.heads && a.resamples == b.resamples
  }
}

extension UNetConfiguration {
  /// Size of the timestep's embedding.
  package var timeChannels: Int { timeEmbeddingDim ?? blockOutChannels[0] * 4 }

  /// The blocks in execution order. The channels that the way up receives over the skip connections
  /// are those that the way down has left, last first.
  package var blocks: [UNetBlockPlan] {
    var skips = [blockOutChannels[0]]
    var plans: [UNetBlockPlan] = []
    var channels = blockOutChannels[0]
    let last = blockOutChannels.count - 1
    for (i, width) in blockOutChannels.enumerated() {
      let resnets = (0..<layersPerBlock[i]).map { (inputs: $0 == 0 ? channels : width, outputs: width) }
      skips += resnets.map(\.outputs) + (i < last ? [width] : [])
      channels = width
      plans.append(
        UNetBlockPlan(
          direction: .down, path: "down_blocks.\(i)", resnets: resnets,
          attentions: downBlockTypes[i] == .crossAttention ? resnets.count : 0,
          depth: transformerLayersPerBlock[i], heads: attentionHeads[i], channels: width,
          resamples: i < last))
    }
    if midBlockType == .crossAttention {
      plans.append(
        UNetBlockPlan(
          direction: .middle, path: "mid_block", resnets: [(channels, channels), (channels, channels)],
          attentions: 1, depth: transformerLayersPerBlock[last], heads: attentionHeads[last],
          channels: channels, resamples: false))
    }
    for (i, level) in (0...last).reversed().enumerated() {
      let width = blockOutChannels[level]
      var resnets: [(inputs: Int, outputs: Int)] = []
      for _ in 0...layersPerBlock[level] {
        resnets.append((channels + (skips.popLast() ?? 0), width))
        channels = width
      }
      plans.append(
        UNetBlockPlan(
          direction: .up, path: "up_blocks.\(i)", resnets: resnets,
          attentions: upBlockTypes[i] == .crossAttention ? resnets.count : 0,
          depth: transformerLayersPerBlock[level], heads: attentionHeads[level], channels: width,
          resamples: level > 0))
    }
    return plans
  }
}
