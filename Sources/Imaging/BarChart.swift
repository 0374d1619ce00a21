import Foundation

/// Bars that stand on zero, one for each number, with axes and ticks: the importance of each unit, for one.
public struct BarChart: Sendable {
  static let width = 760
  static let height = 440

  public var title: String
  public var xLabel: String
  public var yLabel: String
  /// Of the bars at x = 0, 1, 2, …; those that are not finite are left out.
  public var values: [Double]

  public init(title: String, xLabel: String = "", yLabel: String = "", values: [Double]) {
    self.title = title
    self.xLabel = xLabel
    self.yLabel = yLabel
    self.values = values
  }

  /// Draws the chart, 760×440 pixels.
  ///
  /// - Throws: `ImagingError` when a value is too large to draw.
  public func draw() throws -> Image {
    var page = try Image(width: Self.width, height: Self.height, colour: Palette.paper)
    let frame = try Frame(self)
    drawAxes(frame, on: &page)
    drawBars(frame, on: &page)
    return page
  }

  private func drawAxes(_ f: Frame, on page: inout Image) {
    let middle = (f.left + f.right) / 2
    f.title.draw(on: &page, x: Frame.margin, y: Frame.margin - 4, Palette.ink)
    f.yLabel.drawUpwards(
      on: &page, x: Frame.margin, y: (f.top + f.bottom - f.yLabel.width) / 2, Palette.quiet)
    f.xLabel.draw(
      on: &page, x: middle - f.xLabel.width / 2, y: Self.height - Frame.margin + 4 - f.xLabel.height,
      Palette.quiet)
    // Labels that would run into the one before are left out.
    var free = Self.height
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

  private func drawBars(_ f: Frame, on page: inout Image) {
    let zero = f.row(0)
    for (i, value) in values.enumerated() where value.isFinite {
      let from = f.column(Double(i) - 0.4)
      let tip = f.row(value)
      page.fill(
        x: from, y: min(tip, zero), width: max(1, f.column(Double(i) + 0.4) - from), height: abs(tip - zero),
        Palette.bar)
    }
  }
}

/// The area of a chart's bars: which numbers it shows, and where.
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

  init(_ chart: BarChart) throws {
    let values = chart.values.filter(\.isFinite)
    x = -0.5...Double(max(1, chart.values.count)) - 0.5
    y = try Frame.range(min(0, values.min() ?? 0), max(0, values.max() ?? 1), chart.title)
    let widest = BarChart.width / 3
    yTicks = Frame.ticks(y, widest)
    xTicks = Frame.ticks(x, widest)
    let tickHeight = (xTicks + yTicks).map(\.label.height).max() ?? 0
    let tickWidth = yTicks.map(\.label.width).max() ?? 0

    title = Text(chart.title, .title, width: BarChart.width - 2 * Frame.margin)
    xLabel = Text(chart.xLabel, width: BarChart.width - 2 * Frame.margin)
    top = Frame.margin + title.height + 12
    // A frame has room, however tall the system's letters are.
    bottom = max(
      top + 1,
      BarChart.height - Frame.margin - tickHeight - (xLabel.height == 0 ? 0 : xLabel.height + 4))
    yLabel = Text(chart.yLabel, width: bottom - top)
    left = Frame.margin + (yLabel.height == 0 ? 0 : yLabel.height + 8) + tickWidth + 8
    right = BarChart.width - 28
  }

  /// The nearest column of pixels.
  func column(_ value: Double) -> Int {
    left + Int(((value - x.lowerBound) / (x.upperBound - x.lowerBound) * Double(right - left - 1)).rounded())
  }
  /// The nearest row of pixels.
  func row(_ value: Double) -> Int {
    bottom - Int(((value - y.lowerBound) / (y.upperBound - y.lowerBound) * Double(bottom - top)).rounded())
  }

  /// Whole steps that bound the values; neither empty nor too large to compute with.
  private static func range(_ low: Double, _ high: Double, _ title: String) throws -> ClosedRange<Double> {
    guard max(abs(low), abs(high)) < 1e300 else {
      throw ImagingError("chart \"\(title)\": the numbers are too large to draw; leave such values out")
    }
    guard high - low > 1e-290 else { return 0...1 }
    let step = step(low...high)
    let rounded = (floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step)
    return rounded.0 < rounded.1 ? rounded.0...rounded.1 : low...high
  }

  /// 1, 2 or 5 times a power of ten, for about five ticks.
  private static func step(_ range: ClosedRange<Double>) -> Double {
    let raw = (range.upperBound - range.lowerBound) / 5
    let power = pow(10, floor(log10(raw)))
    let nice = [1.0, 2, 5].first { $0 * power >= raw * 0.8 } ?? 10
    return nice * power
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
