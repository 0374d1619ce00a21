import Files
public import Imaging

/// `preprocessor_config.json`: an image as CLIP's vision tower takes it, as transformers' `CLIPImageProcessor`
/// makes it with Pillow: bicubically resized, the square in the middle, minus the mean, over the deviation.
public struct CLIPImageProcessor: Decodable, Sendable {
  /// The side of the square that is left, in pixels.
  public let side: Int
  private let resize: Resize
  /// The value of each of 256 levels, channel by channel.
  private let levels: [[Float]]

  private enum Resize: Sendable {
    /// The shorter side becomes so long.
    case shorterSide(Int)
    case square(Int)

    var shortest: Int {
      switch self {
      case .shorterSide(let n), .square(let n): n
      }
    }
  }

  private enum CodingKeys: String, CodingKey {
    case size, resample
    case crop = "crop_size"
    case mean = "image_mean"
    case deviation = "image_std"
    case factor = "rescale_factor"
    case doResize = "do_resize"
    case doCrop = "do_center_crop"
    case doRescale = "do_rescale"
    case doNormalize = "do_normalize"
  }

  /// One number, or an object that says which sides it is of.
  private enum Size: Decodable {
    case shorterSide(Int)
    case both(height: Int, width: Int)

    private enum Key: String, CodingKey {
      case height, width
      case shorterSide = "shortest_edge"
    }

    init(from decoder: any Decoder) throws {
      if let n = try? decoder.singleValueContainer().decode(Int.self) {
        self = .shorterSide(n)
        return
      }
      let c = try decoder.container(keyedBy: Key.self)
      if let n = try c.decodeIfPresent(Int.self, forKey: .shorterSide) {
        self = .shorterSide(n)
      } else {
        self = .both(
          height: try c.decode(Int.self, forKey: .height), width: try c.decode(Int.self, forKey: .width))
      }
    }

    /// The side of a square; nil when it is none.
    var side: Int? {
      switch self {
      case .shorterSide(let n): n
      case .both(let height, let width): height == width ? height : nil
      }
    }
  }

  public init(from decoder: any Decoder) throws {
    let c = try decoder.container(keyedBy: CodingKeys.self)
    for key in [CodingKeys.doResize, .doCrop, .doRescale, .doNormalize]
    where try c.decodeIfPresent(Bool.self, forKey: key) == false {
      throw EvaluationError("“\(key.rawValue)” is false; CLIP's images are resized, cropped and normalised")
    }
    // Pillow's number of the bicubic filter.
    let filter = try c.decodeIfPresent(Int.self, forKey: .resample) ?? 3
    guard filter == 3 else {
      throw EvaluationError("“resample” is \(filter); only 3, the bicubic filter, is supported")
    }
    let (size, crop) = (
      try c.decodeIfPresent(Size.self, forKey: .size) ?? .shorterSide(224),
      try c.decodeIfPresent(Size.self, forKey: .crop) ?? .shorterSide(224)
    )
    guard let shortest = size.side, let side = crop.side, (1...4096).contains(shortest),
      (1...shortest).contains(side)
    else {
      throw EvaluationError(
        "“size” and “crop_size” must be squares of 1 to 4096 pixels, and the crop not the larger one")
    }
    self.side = side
    resize = if case .both = size { .square(shortest) } else { .shorterSide(shortest) }
    let usual = [[0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_58, 0.275_777_11]]
    let mean = try c.decodeIfPresent([Double].self, forKey: .mean) ?? usual[0]
    let deviation = try c.decodeIfPresent([Double].self, forKey: .deviation) ?? usual[1]
    let factor = try c.decodeIfPresent(Double.self, forKey: .factor) ?? 1 / 255
    guard mean.count == 3, deviation.count == 3, (mean + deviation + [factor]).allSatisfy(\.isFinite),
      deviation.allSatisfy({ $0 > 0 })
    else {
      throw EvaluationError("“image_mean” and “image_std” must be three numbers each, and deviations above 0")
    }
    levels = zip(mean, deviation).map { mean, deviation in
      (0..<256).map { (Float(Double($0) * factor) - Float(mean)) / Float(deviation) }
    }
  }

  /// The pixels of an image, 3 × side × side.
  ///
  /// - Throws: `ImagingError` when the image, resized, would be out of bounds, as a very long one is.
  public func callAsFunction(_ image: Image) throws -> [Float] {
    let resized = try resized(image)
    let square = resized.cropped(x: (resized.width - side) / 2, y: (resized.height - side) / 2, side)
    let area = side * side
    var out = [Float](repeating: 0, count: 3 * area)
    for i in 0..<area {
      for c in 0..<3 { out[c * area + i] = levels[c][Int(square.pixels[3 * i + c])] }
    }
    return out
  }

  private func resized(_ image: Image) throws -> Image {
    switch resize {
    case .square(let side): return try image.resized(width: side, height: side)
    case .shorterSide(let short):
      let longer = short * max(image.width, image.height) / min(image.width, image.height)
      return try image.width <= image.height
        ? image.resized(width: short, height: longer) : image.resized(width: longer, height: short)
    }
  }
}
