import CPango
import Foundation

/// A plot of lines or bars with axes, ticks and a legend: loss curves, importance by layer or timestep.
public struct Plot: Sendable {
  /// Points that are drawn as one line, or as bars standing on zero. Points that are not finite are left out, and
  /// a line is interrupted there.
  public struct Series: Sendable {
    public enum Style: Sendable { case line, bars }
    public var name: String
    public var x: [Double]
    public var y: [Double]
    public var style: Style
    /// `nil`: the next of the palette.
    public var colour: Colour?

    /// `x` left out: 0, 1, 2, …
    public init(_ name: String, x: [Double]? = nil, y: [Double], style: Style = .line, colour: Colour? = nil)
    {
      self.name = name
      self.x = x ?? y.indices.map(Double.init)
      self.y = y
      self.style = style
      self.colour = colour
    }
  }

  public var title: String
  public var xLabel: String
  public var yLabel: String
  public var series: [Series]
  /// Names for x = 0, 1, 2, … in place of numbers.
  public var categories: [String] = []
  /// What the vertical axis shows; `nil`: what the points need.
  public var yRange: ClosedRange<Double>?
  public var width = 760
  public var height = 440

  public init(title: String, xLabel: String = "", yLabel: String = "", series: [Series]) {
    self.title = title
    self.xLabel = xLabel
    self.yLabel = yLabel
    self.series = series
  }

  /// Draws the plot. Throws when the size is not in 200…8192 or the points' range is too large for a number.
  public func draw() throws -> Image {
    guard 200...8192 ~= width, 200...8192 ~= height else {
      throw ImagingError("plot \"\(title)\": \(width)×\(height) pixels; use 200 to 8192 each way")
    }
    var page = try Image(width: width, height: height, colour: Palette.paper)
    let frame = try Frame(self)
    drawAxes(frame, on: &page)
    for (i, one) in series.enumerated() {
      let colour = one.colour ?? Palette.series[i % Palette.series.count]
      switch one.style {
      case .line: drawLine(one, frame, colour, on: &page)
      case .bars: drawBars(i, frame, colour, on: &page)
      }
    }
    drawLegend(frame, on: &page)
    return page
  }

  private func drawAxes(_ f: Frame, on page: inout Image) {
    let middle = (f.left + f.right) / 2
    f.title.draw(on: &page, x: Frame.margin, y: Frame.margin - 4, Palette.ink)
    f.yLabel.drawUpwards(
      on: &page, x: Frame.margin, y: (f.top + f.bottom - f.yLabel.width) / 2, Palette.quiet)
    f.xLabel.draw(
      on: &page, x: middle - f.xLabel.width / 2, y: height - Frame.margin + 4 - f.xLabel.height, Palette.quiet
    )
    // Labels that would run into the one before are left out.
    var free = height
    for tick in f.yTicks {
      let y = f.row(tick.value)
      page.fill(x: f.left, y: y, width: f.right - f.left, height: 1, Palette.rule)
      let top = y - tick.label.height / 2
      guard top + tick.label.height <= free else { continue }
      tick.label.draw(on: &page, x: f.left - 8 - tick.label.width, y: top, Palette.quiet)
      free = top
    }
    free = 0
    for tick in f.xTicks {
      let x = f.column(tick.value)
      let left = x - tick.label.width / 2
      guard left >= free else { continue }
      page.fill(x: x, y: f.bottom, width: 1, height: 6, Palette.quiet)
      tick.label.draw(on: &page, x: left, y: f.bottom + 8, Palette.quiet)
      free = left + tick.label.width + 12
    }
    page.fill(x: f.left, y: f.bottom, width: f.right - f.left, height: 1, Palette.quiet)
  }

  private func drawLine(_ one: Series, _ f: Frame, _ colour: Colour, on page: inout Image) {
    page.paint(x: f.left, y: f.top, width: f.right - f.left, height: f.bottom + 1 - f.top, colour) { cairo in
      cairo_set_line_width(cairo, 2.4)
      cairo_set_line_cap(cairo, CAIRO_LINE_CAP_ROUND)
      cairo_set_line_join(cairo, CAIRO_LINE_JOIN_ROUND)
      var isInLine = false
      for (i, (x, y)) in zip(one.x, one.y).enumerated() {
        guard x.isFinite, y.isFinite else {
          isInLine = false
          continue
        }
        // In the middle of a pixel.
        let across = Frame.drawable(f.horizontal(x)) - Double(f.left) + 0.5
        let down = Frame.drawable(f.vertical(y)) - Double(f.top) + 0.5
        // A point alone is a dot: a line of no length with round ends.
        if !isInLine { cairo_move_to(cairo, across, down) }
        cairo_line_to(cairo, across, down)
        isInLine = true
        // Cairo's time grows with the square of a line's points.
        if i % 32 == 31 {
          cairo_stroke(cairo)
          cairo_move_to(cairo, across, down)
        }
      }
      cairo_stroke(cairo)
    }
  }

  private func drawBars(_ index: Int, _ f: Frame, _ colour: Colour, on page: inout Image) {
    let bars = series.indices.filter { series[$0].style == .bars }
    let place = bars.firstIndex(of: index) ?? 0
    let group = f.barSpacing * 0.8
    let zero = f.row(max(f.y.lowerBound, min(f.y.upperBound, 0)))
    for (x, y) in zip(series[index].x, series[index].y) where x.isFinite && y.isFinite {
      let start = f.horizontal(x) - group / 2 + group * Double(place) / Double(bars.count)
      let from = Frame.pixel(start)
      let to = Frame.pixel(start + group / Double(bars.count))
      let tip = f.row(max(f.y.lowerBound, min(f.y.upperBound, y)))
      page.fill(x: from, y: min(tip, zero), width: max(1, to - from), height: abs(tip - zero), colour)
    }
  }

  /// On the line above the frame, from the right.
  private func drawLegend(_ f: Frame, on page: inout Image) {
    guard hasLegend else { return }
    let room = (f.right - Frame.margin) / series.count - 50
    var x = f.right
    for (i, one) in series.enumerated().reversed() where !one.name.isEmpty {
      let name = Text(one.name, width: room)
      let y = f.top - 12 - name.height
      x -= name.width
      name.draw(on: &page, x: x, y: y, Palette.quiet)
      x -= 30
      let colour = one.colour ?? Palette.series[i % Palette.series.count]
      page.fill(x: x, y: y + name.height / 2 - 2, width: 22, height: 5, colour)
      x -= 20
    }
  }

  fileprivate var hasLegend: Bool { series.count > 1 && series.contains { !$0.name.isEmpty } }
}

/// The area of a plot's points: which numbers it shows, and where.
private struct Frame {
  struct Tick {
    let value: Double
    let label: Text
  }

  /// Around everything.
  static let margin = 20

  let title: Text
  let xLabel: Text
  let yLabel: Text
  let left: Int
  let right: Int
  let top: Int
  let bottom: Int
  let x: ClosedRange<Double>
  let y: ClosedRange<Double>
  let xTicks: [Tick]
  let yTicks: [Tick]
  /// Pixels between neighbouring bars.
  let barSpacing: Double

  init(_ plot: Plot) throws {
    let bars = plot.series.filter { $0.style == .bars }
    let points = plot.series.flatMap { Array(zip($0.x, $0.y)) }.filter { $0.0.isFinite && $0.1.isFinite }
    let xs = points.map(\.0).sorted()
    let gaps = zip(xs, xs.dropFirst()).map { $1 - $0 }.filter { $0 > 0 }
    let step = gaps.min() ?? 1
    let room = bars.isEmpty ? 0 : step / 2
    let ys = points.map(\.1) + (bars.isEmpty ? [] : [0])

    x = try Frame.range((xs.first ?? 0) - room, (xs.last ?? 1) + room, plot.title)
    let needed = try Frame.range(ys.min() ?? 0, ys.max() ?? 1, plot.title)
    // Whole steps, so that the first and last lines bound the points.
    let given = plot.yRange.flatMap { try? Frame.range($0.lowerBound, $0.upperBound, plot.title) }
    y = given ?? Frame.rounded(needed)
    let widest = plot.width / 3
    yTicks = Frame.ticks(y, widest)
    xTicks =
      plot.categories.isEmpty
      ? Frame.ticks(x, widest)
      : plot.categories.enumerated().map {
        Tick(value: Double($0.offset), label: Text($0.element, width: widest))
      }
    let tickHeight = (xTicks + yTicks).map(\.label.height).max() ?? 0
    let tickWidth = yTicks.map(\.label.width).max() ?? 0

    title = Text(plot.title, .title, width: plot.width - 2 * Frame.margin)
    xLabel = Text(plot.xLabel, width: plot.width - 2 * Frame.margin)
    let legend = plot.hasLegend ? 12 + tickHeight : 0
    top = Frame.margin + title.height + legend + 12
    // A frame has room, however tall the system's letters are.
    bottom = max(
      top + 1, plot.height - Frame.margin - tickHeight - (xLabel.height == 0 ? 0 : xLabel.height + 4))
    yLabel = Text(plot.yLabel, width: bottom - top)
    left = Frame.margin + (yLabel.height == 0 ? 0 : yLabel.height + 8) + tickWidth + 8
    right = plot.width - 28
    barSpacing = Double(right - left) * step / (x.upperBound - x.lowerBound)
  }

  func horizontal(_ value: Double) -> Double {
    Double(left) + (value - x.lowerBound) / (x.upperBound - x.lowerBound) * Double(right - left - 1)
  }
  func vertical(_ value: Double) -> Double {
    Double(bottom) - (value - y.lowerBound) / (y.upperBound - y.lowerBound) * Double(bottom - top)
  }
  func column(_ value: Double) -> Int { Frame.pixel(horizontal(value)) }
  func row(_ value: Double) -> Int { Frame.pixel(vertical(value)) }

  /// The nearest pixel, for any number.
  static func pixel(_ position: Double) -> Int { Int(drawable(position).rounded()) }

  /// Cairo's numbers, too, are bounded.
  static func drawable(_ position: Double) -> Double {
    position.isFinite ? max(-100_000, min(100_000, position)) : 0
  }

  /// A range that is neither empty nor too large to compute with.
  private static func range(_ low: Double, _ high: Double, _ title: String) throws -> ClosedRange<Double> {
    guard low.isFinite, high.isFinite, max(abs(low), abs(high)) < 1e300 else {
      throw ImagingError("plot \"\(title)\": the numbers are too large to draw; leave such points out")
    }
    let least = max(abs(low), abs(high), 1e-290) * 1e-9
    return high - low > least
      ? low...high : (low - max(least, abs(low) / 2))...(high + max(least, abs(high) / 2))
  }

  /// 1, 2 or 5 times a power of ten, for about five ticks.
  private static func step(_ range: ClosedRange<Double>) -> Double {
    let raw = (range.upperBound - range.lowerBound) / 5
    let power = pow(10, floor(log10(raw)))
    let nice = [1.0, 2, 5].first { $0 * power >= raw * 0.8 } ?? 10
    return nice * power
  }

  private static func rounded(_ range: ClosedRange<Double>) -> ClosedRange<Double> {
    let step = step(range)
    let low = floor(range.lowerBound / step + 1e-9) * step
    let high = ceil(range.upperBound / step - 1e-9) * step
    return low < high ? low...high : range
  }

  private static func ticks(_ range: ClosedRange<Double>, _ widest: Int) -> [Tick] {
    let step = step(range)
    let first = ceil(range.lowerBound / step - 1e-9)
    let decimals = max(0, Int(-floor(log10(step) + 1e-9)))
    return (0..<12).map { (first + Double($0)) * step }.filter { $0 <= range.upperBound + step * 1e-6 }.map {
      let plain = max(abs($0), step) < 1e6 && decimals <= 5
      let value = abs($0) < step * 1e-6 ? 0 : $0
      let label = plain ? String(format: "%.\(decimals)f", value) : String(format: "%.3g", value)
      return Tick(value: $0, label: Text(label, width: widest))
    }
  }
}
