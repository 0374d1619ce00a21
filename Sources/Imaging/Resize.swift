/// Resizing, cropping and mirroring, as Pillow does it.
extension Image {
  /// Resized with an antialiased bicubic filter, equal to Pillow's `Image.resize((width, height), BICUBIC)`:
  /// a = −0.5, the support widened by the factor when shrinking, two passes with 8-bit values between them and
  /// weights of 22 fractional bits. Throws when the size is out of bounds.
  ///
  /// The order of the passes shows only where the first one is clipped to 0…255. Pillow 13 begins with the rows,
  /// or with the columns when the height loses more than twice what the width loses; older versions always begin
  /// with the rows. For squares, as after `centreSquare`, they agree.
  public func resized(width newWidth: Int, height newHeight: Int) throws -> Image {
    _ = try Image.byteCount(width: newWidth, height: newHeight, name: "resizing")
    let columnsFirst = newHeight < height && height - newHeight > 2 * (width - newWidth)
    let between = columnsFirst ? (width, newHeight) : (newWidth, height)
    _ = try Image.byteCount(width: between.0, height: between.1, name: "resizing")

    var image = self
    if columnsFirst { image = image.resizedColumns(to: newHeight) }
    image = image.resizedRows(to: newWidth)
    return image.resizedColumns(to: newHeight)
  }

  /// The largest size in a square of `side` pixels that has the image's proportions.
  package func size(fitting side: Int) -> (width: Int, height: Int) {
    let longer = max(width, height)
    return (max(1, width * side / longer), max(1, height * side / longer))
  }

  private func resizedRows(to newWidth: Int) -> Image {
    guard newWidth != width else { return self }
    let taps = Taps(from: width, to: newWidth)
    var out = [UInt8](repeating: 0, count: newWidth * height * 3)
    pixels.withUnsafeBufferPointer { source in
      for y in 0..<height {
        for x in 0..<newWidth {
          let range = taps.ranges[x]
          var (r, g, b) = (Taps.half, Taps.half, Taps.half)
          var from = (y * width + range.lowerBound) * 3
          var weight = taps.first[x]
          for _ in range {
            let w = taps.weights[weight]
            r += w * Int(source[from])
            g += w * Int(source[from + 1])
            b += w * Int(source[from + 2])
            from += 3
            weight += 1
          }
          let to = (y * newWidth + x) * 3
          out[to] = Taps.clamped(r)
          out[to + 1] = Taps.clamped(g)
          out[to + 2] = Taps.clamped(b)
        }
      }
    }
    return Image(unchecked: newWidth, height, out)
  }

  private func resizedColumns(to newHeight: Int) -> Image {
    guard newHeight != height else { return self }
    let taps = Taps(from: height, to: newHeight)
    let row = width * 3
    var out = [UInt8](repeating: 0, count: newHeight * row)
    var sums = [Int](repeating: 0, count: row)
    pixels.withUnsafeBufferPointer { source in
      for y in 0..<newHeight {
        for i in 0..<row { sums[i] = Taps.half }
        for (n, line) in taps.ranges[y].enumerated() {
          let w = taps.weights[taps.first[y] + n]
          for i in 0..<row { sums[i] += w * Int(source[line * row + i]) }
        }
        for i in 0..<row { out[y * row + i] = Taps.clamped(sums[i]) }
      }
    }
    return Image(unchecked: width, newHeight, out)
  }

  /// The largest square in the middle, as the authors' textual-inversion data set cuts it:
  /// from (side − s) // 2 to (side + s) // 2 in each direction, s = min(width, height).
  public func centreSquare() -> Image { centre(inProportions: (1, 1)) }

  /// The largest part in the middle with the proportions of another size, to the nearest pixel.
  public func centre(inProportions size: (width: Int, height: Int)) -> Image {
    let (w, h) =
      width * size.height > height * size.width
      ? ((height * size.width + size.height / 2) / size.height, height)
      : (width, (width * size.height + size.width / 2) / size.width)
    return cropped(x: (width - w) / 2, y: (height - h) / 2, width: max(1, w), height: max(1, h))
  }

  /// A square of `side` pixels, its upper left corner at (x, y); it lies in the image.
  package func cropped(x: Int, y: Int, _ side: Int) -> Image {
    cropped(x: x, y: y, width: side, height: side)
  }

  private func cropped(x: Int, y: Int, width newWidth: Int, height newHeight: Int) -> Image {
    var out: [UInt8] = []
    out.reserveCapacity(newWidth * newHeight * 3)
    for line in y..<y + newHeight {
      let from = (line * width + x) * 3
      out += pixels[from..<from + newWidth * 3]
    }
    return Image(unchecked: newWidth, newHeight, out)
  }

  /// Mirrored left to right.
  public func flipped() -> Image { turned(Orientation(value: 2)) }
}

/// For each output position of a one-dimensional resize: which inputs, and with what weights.
private struct Taps {
  static let bits = 22
  static let half = 1 << (bits - 1)
  var ranges: [Range<Int>] = []
  /// Where the weights of an output begin in `weights`.
  var first: [Int] = []
  /// Fixed point, `bits` fractional bits.
  var weights: [Int] = []

  init(from inputs: Int, to outputs: Int) {
    let scale = Double(inputs) / Double(outputs)
    let stretch = max(scale, 1)
    let support = 2 * stretch
    for i in 0..<outputs {
      let centre = (Double(i) + 0.5) * scale
      let low = max(Int(centre - support + 0.5), 0)
      let high = min(Int(centre + support + 0.5), inputs)
      let exact = (low..<high).map { Taps.bicubic((Double($0) - centre + 0.5) * (1 / stretch)) }
      let sum = exact.reduce(0, +)
      ranges.append(low..<high)
      first.append(weights.count)
      for w in exact {
        let scaled = (sum == 0 ? w : w / sum) * Double(1 << Taps.bits)
        weights.append(Int(scaled < 0 ? scaled - 0.5 : scaled + 0.5))
      }
    }
  }

  /// Keys' cubic convolution kernel with a = −0.5.
  static func bicubic(_ position: Double) -> Double {
    let x = abs(position)
    let a = -0.5
    if x < 1 { return ((a + 2) * x - (a + 3)) * x * x + 1 }
    if x < 2 { return (((x - 5) * x + 8) * x - 4) * a }
    return 0
  }

  static func clamped(_ sum: Int) -> UInt8 { UInt8(max(0, min(255, sum >> bits))) }
}

// MARK: - Numbers for a model

extension Image {
  /// The values as a model takes them: −1…1, channel by channel (3 × height × width). x / 127.5 − 1 is computed
  /// in double precision and rounded once, as the authors' data set does.
  public func floats() -> [Float] {
    let area = width * height
    var out = [Float](repeating: 0, count: area * 3)
    for i in 0..<area {
      for c in 0..<3 { out[c * area + i] = Image.scaled[Int(pixels[3 * i + c])] }
    }
    return out
  }

  private static let scaled: [Float] = (0..<256).map { Float(Double($0) / 127.5 - 1) }
}
