public import Diffusion

/// Names for the cross-attention layers of a U-Net, the space axis of NeTI.
///
/// A layer is its diffusers path (`mid_block.attentions.0.transformer_blocks.0`). Models with the
/// blocks of Stable Diffusion 1 and 2 also have the short names `IN01 … MID … OUT11`, the community's
/// and the authors', and those of SDXL theirs, `IN04 … MID … OUT05`. A number stands for all layers of that resolution of the latents, in an image
/// of the model's own size; a preset for a group that measurement found useful.
public struct LayerNames: Sendable {
  /// Groups of layers by name.
  public enum Preset: String, CaseIterable, Sendable {
    /// Where the shape is decided: resolutions below the finest, of at most `coarseSide`. On mini-sd
    /// 8, 4 and 2, by measurement (docs/mixing.md); on Stable Diffusion 1.x 16 and 8: IN07 … OUT05; on SDXL 32:
    /// IN07 … OUT02.
    case coarse
    /// All other layers, where the colours and patterns are decided.
    case fine
    /// The parts of the U-Net.
    case down, middle, up
    case all, none
  }

  /// Places on a side of the largest map that `coarse` holds. Shape is a matter of places within the
  /// image, whatever the image's size; 24 is the level of 16 in SD 2.1's larger images. The coarsest level counts
  /// always.
  static let coarseSide = 24

  /// The short names of Stable Diffusion 1 and 2, which are kohya's: numbers of the original code's
  /// input and output blocks that have a cross-attention.
  static let shortNames = [
    "IN01", "IN02", "IN04", "IN05", "IN07", "IN08", "MID", "OUT03", "OUT04", "OUT05", "OUT06", "OUT07",
    "OUT08", "OUT09", "OUT10", "OUT11",
  ]
  /// The same layers by their paths.
  static let pathsOfShortNames =
    (0..<3).flatMap { b in (0..<2).map { "down_blocks.\(b).attentions.\($0).transformer_blocks.0" } }
    + ["mid_block.attentions.0.transformer_blocks.0"]
    + (1..<4).flatMap { b in (0..<3).map { "up_blocks.\(b).attentions.\($0).transformer_blocks.0" } }

  /// The short names of SDXL, by the same rule.
  private static let shortNamesXL = [
    "IN04", "IN05", "IN07", "IN08", "MID", "OUT00", "OUT01", "OUT02", "OUT03", "OUT04", "OUT05",
  ]
  private static let pathsXL =
    (1..<3).flatMap { b in (0..<2).map { "down_blocks.\(b).attentions.\($0)" } } + ["mid_block.attentions.0"]
    + (0..<2).flatMap { b in (0..<3).map { "up_blocks.\(b).attentions.\($0)" } }

  /// The short names of layers; nil where the model has other blocks.
  static func shortNames(of paths: [String]) -> [String]? {
    paths == pathsOfShortNames ? shortNames : paths == pathsXL ? shortNamesXL : nil
  }

  /// diffusers' paths, in execution order.
  public let paths: [String]
  /// The side of the latents that each layer works on.
  public let resolutions: [Int]
  /// Short names, in execution order; nil where the model has other blocks.
  public let aliases: [String]?

  public init(_ configuration: UNetConfiguration) {
    paths = UNet.crossAttentionLayers(configuration)
    aliases = Self.shortNames(of: paths)
    let lowest = configuration.blockOutChannels.count - 1
    resolutions = paths.map { path in
      let parts = path.split(separator: ".")
      let number = parts.count > 1 ? Int(parts[1]) ?? 0 : 0
      let level =
        switch parts.first {
        case "down_blocks": number
        case "up_blocks": lowest - number
        default: lowest
        }
      // Each level halves the side, rounding up as a strided convolution does.
      return (0..<max(0, level)).reduce(configuration.sampleSize) { side, _ in (side + 1) / 2 }
    }
  }

  /// The indices of the layers that `names` name together: presets, resolutions, short names or
  /// paths. Throws, listing what there is, when one is unknown.
  public func indices(_ names: [String]) throws -> Set<Int> {
    var result: Set<Int> = []
    for name in names {
      guard let found = indices(of: name) else {
        throw NeTIError(wrongUsage: "there is no layer “\(name)” in this model. There are \(choices)")
      }
      result.formUnion(found)
    }
    return result
  }

  /// The layers' names, short where there are such.
  public func names(_ indices: Set<Int>) -> [String] { indices.sorted().map { aliases?[$0] ?? paths[$0] } }

  /// Everything that may be named.
  public var choices: String {
    "the groups \(Preset.allCases.map(\.rawValue).joined(separator: ", ")); the resolutions "
      + "\(Set(resolutions).sorted(by: >).map(String.init).joined(separator: ", ")); the layers "
      + (aliases ?? paths).joined(separator: ", ")
      + (aliases == nil ? "" : ", or their diffusers paths such as \(paths.first ?? "")")
  }

  private func indices(of name: String) -> [Int]? {
    if let preset = Preset(rawValue: name.lowercased()) { return indices(preset) }
    if let side = Int(name) {
      let found = paths.indices.filter { resolutions[$0] == side }
      return found.isEmpty ? nil : found
    }
    if let i = aliases?.firstIndex(of: name.uppercased()) ?? paths.firstIndex(of: name) { return [i] }
    return nil
  }

  private func indices(_ preset: Preset) -> [Int] {
    let finest = resolutions.max() ?? 0
    let most = max(Self.coarseSide, resolutions.min() ?? 0)
    func isCoarse(_ side: Int) -> Bool { side < finest && side <= most }
    return paths.indices.filter {
      switch preset {
      case .coarse: isCoarse(resolutions[$0])
      case .fine: !isCoarse(resolutions[$0])
      case .down: paths[$0].hasPrefix("down_blocks")
      case .middle: paths[$0].hasPrefix("mid_block")
      case .up: paths[$0].hasPrefix("up_blocks")
      case .all: true
      case .none: false
      }
    }
  }
}
