import Diffusion

/// Floating-point operations of each stage, counted from the configurations: two for every
/// multiplication with its addition, in convolutions, matrices and attention. The rest is too little
/// to matter.
///
/// "Backward" is what a frozen network needs: gradients of activations only. A convolution or matrix
/// costs once more what it did forward, attention (two products, four gradients) twice.
struct Operations {
  private(set) var forward = 0.0
  private(set) var backward = 0.0
  /// Whether anything so far depends on what is learned: nothing before it needs a gradient.
  private var isDifferentiated = false

  private mutating func linear(_ rows: Int, _ inputs: Int, _ outputs: Int, differentiated: Bool? = nil) {
    let n = 2 * Double(rows) * Double(inputs) * Double(outputs)
    forward += n
    if differentiated ?? isDifferentiated { backward += n }
  }

  private mutating func convolution(_ side: Int, _ inputs: Int, _ outputs: Int, kernel: Int = 3) {
    linear(side * side, inputs * kernel * kernel, outputs)
  }

  private mutating func attention(_ queries: Int, _ keys: Int, _ channels: Int) {
    let n = 4 * Double(queries) * Double(keys) * Double(channels)
    forward += n
    if isDifferentiated { backward += 2 * n }
  }

  private mutating func resnet(_ side: Int, _ inputs: Int, _ outputs: Int) {
    convolution(side, inputs, outputs)
    convolution(side, outputs, outputs)
    if inputs != outputs { convolution(side, inputs, outputs, kernel: 1) }
  }

  private mutating func transformer(_ side: Int, _ channels: Int, depth: Int, context: Int, tokens: Int) {
    let positions = side * side
    linear(positions, channels, channels)
    for _ in 0..<depth {
      for _ in 0..<4 { linear(positions, channels, channels) }
      attention(positions, positions, channels)
      linear(positions, channels, channels)
      // What is learned enters here.
      for _ in 0..<2 { linear(tokens, context, channels, differentiated: true) }
      isDifferentiated = true
      attention(positions, tokens, channels)
      linear(positions, channels, channels)
      linear(positions, channels, 8 * channels)
      linear(positions, 4 * channels, channels)
    }
    linear(positions, channels, channels)
  }

  /// One sample of latents of `side` × `side` with contexts of `tokens` tokens.
  static func unet(_ c: UNetConfiguration, side: Int, tokens: Int) -> Operations {
    var o = Operations()
    var side = side
    o.convolution(side, c.inChannels, c.blockOutChannels[0])
    for block in c.blocks {
      for (i, r) in block.resnets.enumerated() {
        o.resnet(side, r.inputs, r.outputs)
        if i < block.attentions {
          o.transformer(
            side, block.channels, depth: block.depth, context: c.crossAttentionDim, tokens: tokens)
        }
      }
      guard block.resamples else { continue }
      side = block.direction == .down ? (side + 1) / 2 : side * 2
      o.convolution(side, block.channels, block.channels)
    }
    o.convolution(side, c.blockOutChannels[0], c.outChannels)
    return o
  }

  /// `rows` sequences of which `prefix` tokens are shared and free.
  static func textEncoder(_ c: CLIPTextConfiguration, rows: Int, prefix: Int) -> Operations {
    var o = Operations()
    o.isDifferentiated = true
    let own = c.maxPositions - prefix
    for _ in 0..<c.layers {
      for _ in 0..<4 { o.linear(rows * own, c.hiddenSize, c.hiddenSize) }
      o.attention(rows * own, c.maxPositions, c.hiddenSize)
      o.linear(rows * own, c.hiddenSize, c.intermediateSize)
      o.linear(rows * own, c.intermediateSize, c.hiddenSize)
    }
    return o
  }

  /// An image of `side` × `side` pixels to its latents.
  static func encoder(_ c: VAEConfiguration, side: Int) -> Operations {
    var o = Operations()
    var side = side
    var channels = c.blockOutChannels[0]
    o.convolution(side, c.inChannels, channels)
    for (i, width) in c.blockOutChannels.enumerated() {
      for _ in 0..<c.layersPerBlock {
        o.resnet(side, channels, width)
        channels = width
      }
      guard i < c.blockOutChannels.count - 1 else { continue }
      side /= 2
      o.convolution(side, width, width)
    }
    o.middle(side, channels, c)
    o.convolution(side, channels, 2 * c.latentChannels)
    return o
  }

  /// Latents of `side` × `side` to their image.
  static func decoder(_ c: VAEConfiguration, side: Int) -> Operations {
    var o = Operations()
    var side = side
    let widths = Array(c.blockOutChannels.reversed())
    var channels = widths[0]
    o.convolution(side, c.latentChannels, channels)
    o.middle(side, channels, c)
    for (i, width) in widths.enumerated() {
      for _ in 0...c.layersPerBlock {
        o.resnet(side, channels, width)
        channels = width
      }
      guard i < widths.count - 1 else { continue }
      side *= 2
      o.convolution(side, width, width)
    }
    o.convolution(side, channels, c.outChannels)
    return o
  }

  private mutating func middle(_ side: Int, _ channels: Int, _ c: VAEConfiguration) {
    for _ in 0..<2 { resnet(side, channels, channels) }
    guard c.midBlockAddAttention else { return }
    for _ in 0..<4 { linear(side * side, channels, channels) }
    attention(side * side, side * side, channels)
  }
}
