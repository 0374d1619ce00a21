public import Torch

/// A part of the image, and what is shown there: how several things share an image, each with
/// conditioning of its own.
///
/// At every denoising step the U-Net looks at each region by itself and predicts it, guidance included,
/// as if it were the whole image; where regions overlap, their predictions are blended. The overlaps
/// are what makes one scene of them. MultiDiffusion (Bar-Tal et al. 2023,
/// https://arxiv.org/abs/2302.08113), with weights that fall off towards the edges, as in Mixture of
/// Diffusers (Jiménez 2023, https://arxiv.org/abs/2302.02412).
public struct Region {
  /// Columns of the latents, and how much this region counts in each; at every column, the shares of all
  /// regions sum to 1.
  public struct Place: Sendable, Equatable {
    public let columns: Range<Int>
    /// One for each column.
    public let shares: [Float]

    public init(columns: Range<Int>, shares: [Float]) {
      self.columns = columns
      self.shares = shares
    }
  }

  /// For all layers, or one per layer; of one row that all images share, or of one row per image.
  public let contexts: [CrossAttentionContext]
  /// The pooled output of the text encoder, of one row or of one per image; nil where the U-Net takes none.
  public let pooled: Tensor?
  /// Nil is the whole image.
  public let place: Place?

  public init(_ contexts: [CrossAttentionContext], pooled: Tensor? = nil, place: Place? = nil) {
    self.contexts = contexts
    self.pooled = pooled
    self.place = place
  }
}

extension Region.Place {
  /// The part of a region's width that it has in common with its neighbour.
  static let overlap = 0.375

  /// The width of `count` regions of `each` columns or pixels in a row.
  public static func rowWidth(_ count: Int, each: Int) -> Int {
    Int((Double(each) * (Double(count) - Double(count - 1) * overlap)).rounded(.down))
  }

  /// `count` regions of one width, from left to right, each with three eighths of it in common with its
  /// neighbour. Within those they are blended linearly.
  public static func row(_ count: Int, width: Int) throws -> [Self] {
    guard count > 0, width >= 2 * count else {
      throw DiffusionError("\(count) regions in \(width) columns of latents; each needs two or more")
    }
    let exact = Double(width) / (Double(count) - Double(count - 1) * overlap)
    let each = min(width, Int(exact.rounded(.up)))
    let starts = (0..<count).map { $0 * (width - each) / max(1, count - 1) }
    return between((1..<count).map { starts[$0]..<starts[$0 - 1] + each }, width: width)
  }

  /// Regions of widths that are in the proportion of `parts`, from left to right. At each border the part that both
  /// have in common is as large, beside the narrower of the two, as it is between regions of one width; there they are
  /// blended linearly.
  ///
  /// - Throws: when there is no region, a part is not above 0, or one has no room.
  public static func row(parts: [Double], width: Int) throws -> [Self] {
    guard !parts.isEmpty, parts.allSatisfy({ $0.isFinite && $0 > 0 }) else {
      throw DiffusionError("the parts of regions must be numbers above 0")
    }
    let unit = Double(width) / parts.reduce(0, +)
    let widths = parts.map { $0 * unit }
    guard widths.allSatisfy({ $0 >= 2 }) else {
      throw DiffusionError("\(parts.count) regions in \(width) columns of latents; each needs two or more")
    }
    // Two of one width share `overlap` of each.
    let share = Self.overlap / (2 - Self.overlap)
    var borders: [Range<Int>] = []
    var edge = 0.0
    for (left, right) in zip(widths, widths.dropFirst()) {
      edge += left
      let half = max(0.5, share * min(left, right))
      borders.append(Int((edge - half).rounded())..<Int((edge + half).rounded()))
    }
    return between(borders, width: width)
  }

  /// The regions on both sides of `borders`, which are the columns that two neighbours have in common; there they are
  /// blended linearly.
  private static func between(_ borders: [Range<Int>], width: Int) -> [Self] {
    (0...borders.count).map { i in
      let left = i == 0 ? nil : borders[i - 1]
      let right = i == borders.count ? nil : borders[i]
      let columns = (left?.lowerBound ?? 0)..<(right?.upperBound ?? width)
      return Self(
        columns: columns,
        shares: columns.map { c in
          if let left, left.contains(c) { return rise(c, left) }
          if let right, right.contains(c) { return 1 - rise(c, right) }
          return 1
        })
    }
  }

  /// From 0 to 1 within `columns`, at the middle of column c.
  private static func rise(_ c: Int, _ columns: Range<Int>) -> Float {
    (Float(c - columns.lowerBound) + 0.5) / Float(columns.count)
  }
}
