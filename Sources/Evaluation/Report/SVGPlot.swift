import Foundation

/// A plot as SVG whose colours are the page's (`HTMLPage`), light or dark.
package struct SVGPlot {
  package struct Point {
    let x: Double
    let y: Double
    /// Written beside it.
    let label: String
    let xInterval: ClosedRange<Double>?
    let yInterval: ClosedRange<Double>?

    package init(
      x: Double, y: Double, label: String = "", xInterval: ClosedRange<Double>? = nil,
      yInterval: ClosedRange<Double>? = nil
    ) {
      (self.x, self.y, self.label, self.xInterval, self.yInterval) = (x, y, label, xInterval, yInterval)
    }
  }

  /// Points that are joined by a line, in their order.
  package struct Series {
    let name: String
    let points: [Point]
    /// Of the page's colours, from 0.
    let colour: Int

    package init(name: String, points: [Point], colour: Int) {
      (self.name, self.points, self.colour) = (name, points, colour)
    }
  }

  private let title: String
  private let xLabel: String
  private let yLabel: String
  private let series: [Series]
  /// Each doubling as wide as the one before, with a tick at every value that there is.
  private let isLogarithmic: Bool
  /// Whether the series are named below: not where the points are labelled with their names.
  private let hasLegend: Bool

  package init(
    title: String, xLabel: String, yLabel: String, series: [Series], isLogarithmic: Bool = false,
    hasLegend: Bool = true
  ) {
    (self.title, self.xLabel, self.yLabel, self.series) = (title, xLabel, yLabel, series)
    (self.isLogarithmic, self.hasLegend) = (isLogarithmic, hasLegend)
  }

  private static let size = (width: 470.0, height: 330.0)
  private static let frame = (left: 58.0, right: 452.0, top: 34.0, bottom: 282.0)

  /// Nothing when there is no point.
  package func svg() -> String {
    let points = series.flatMap(\.points).filter { $0.x.isFinite && $0.y.isFinite }
    guard !points.isEmpty else { return "" }
    let (f, size) = (Self.frame, Self.size)
    let xs = points.flatMap { [$0.x] + Self.ends($0.xInterval) }.map(place)
    let ys = points.flatMap { [$0.y] + Self.ends($0.yInterval) }
    let x = Axis(xs, from: f.left, to: f.right)
    let y = Axis(ys, from: f.bottom, to: f.top)
    let xTicks =
      isLogarithmic
      ? Set(points.map(\.x)).sorted().map { (value: place($0), text: Self.short($0)) }
      : x.ticks.map { (value: $0, text: x.text($0)) }
    var out = """
      <svg viewBox="0 0 \(Int(size.width)) \(Int(size.height))" role="img" aria-label="\(title.html)">
      <text class="plot-title" x="\(f.left)" y="18">\(title.html)</text>\n
      """
    for tick in y.ticks {
      let at = Self.digits(y.position(tick))
      out += "<line class=\"rule\" x1=\"\(f.left)\" x2=\"\(f.right)\" y1=\"\(at)\" y2=\"\(at)\"/>"
      out +=
        "<text class=\"tick\" x=\"\(f.left - 6)\" y=\"\(at)\" dy=\"4\" text-anchor=\"end\">\(y.text(tick))</text>\n"
    }
    for tick in xTicks {
      let at = Self.digits(x.position(tick.value))
      out += "<line class=\"rule\" y1=\"\(f.top)\" y2=\"\(f.bottom)\" x1=\"\(at)\" x2=\"\(at)\"/>"
      out +=
        "<text class=\"tick\" x=\"\(at)\" y=\"\(f.bottom + 16)\" text-anchor=\"middle\">\(tick.text)</text>\n"
    }
    out += """
      <text class="axis" x="\((f.left + f.right) / 2)" y="\(size.height - 10)" text-anchor="middle">\(xLabel.html)</text>
      <text class="axis" transform="translate(14 \((f.top + f.bottom) / 2)) rotate(-90)" text-anchor="middle">\(yLabel.html)</text>\n
      """
    for one in series { out += drawing(one, x, y) }
    return "<figure>\n\(out)</svg>\n\(hasLegend ? legend : "")</figure>\n"
  }

  private func drawing(_ one: Series, _ x: Axis, _ y: Axis) -> String {
    let at = one.points.filter { $0.x.isFinite && $0.y.isFinite }.map { point in
      (point, Self.digits(x.position(place(point.x))), Self.digits(y.position(point.y)))
    }
    var out = "<g class=\"c\(one.colour % HTMLPage.colours)\">"
    if at.count > 1 {
      let path = at.map { "\($0.1),\($0.2)" }.joined(separator: " ")
      out += "<polyline points=\"\(path)\"/>"
    }
    for (point, px, py) in at {
      if let i = point.xInterval {
        let (a, b) = (x.position(place(i.lowerBound)), x.position(place(i.upperBound)))
        out += "<line x1=\"\(Self.digits(a))\" x2=\"\(Self.digits(b))\" y1=\"\(py)\" y2=\"\(py)\"/>"
      }
      if let i = point.yInterval {
        let (a, b) = (y.position(i.lowerBound), y.position(i.upperBound))
        out += "<line x1=\"\(px)\" x2=\"\(px)\" y1=\"\(Self.digits(a))\" y2=\"\(Self.digits(b))\"/>"
      }
      out += "<circle cx=\"\(px)\" cy=\"\(py)\" r=\"4\"/>"
      guard !point.label.isEmpty else { continue }
      let isRight = x.position(place(point.x)) > (Self.frame.left + Self.frame.right * 2) / 3
      out +=
        "<text class=\"label\" x=\"\(px)\" y=\"\(py)\" dx=\"\(isRight ? -8 : 8)\" dy=\"-7\""
        + " text-anchor=\"\(isRight ? "end" : "start")\">\(point.label.html)</text>"
    }
    return out + "</g>\n"
  }

  private var legend: String {
    let entries = series.map { one in
      "<span class=\"c\(one.colour % HTMLPage.colours)\"><svg viewBox=\"0 0 22 10\"><line x1=\"0\" x2=\"22\" y1=\"5\" y2=\"5\"/></svg>\(one.name.html)</span>"
    }
    return "<figcaption>\(entries.joined(separator: " "))</figcaption>\n"
  }

  /// Where a value of x stands before it is scaled.
  private func place(_ x: Double) -> Double { isLogarithmic ? log2(max(x, 0.5)) : x }

  private static func ends(_ interval: ClosedRange<Double>?) -> [Double] {
    interval.map { [$0.lowerBound, $0.upperBound] } ?? []
  }

  private static func digits(_ value: Double) -> String { String(format: "%.1f", value) }
  private static func short(_ value: Double) -> String { String(format: "%g", value) }
}

/// Values to a side of the drawing, and round values on it.
private struct Axis {
  let ticks: [Double]
  private let low: Double
  private let high: Double
  private let from: Double
  private let to: Double
  private let step: Double

  init(_ values: [Double], from: Double, to: Double) {
    let (least, most) = (values.min() ?? 0, values.max() ?? 1)
    let room = max((most - least) * 0.08, abs(most) * 1e-3, 1e-6)
    (low, high) = (least - room, most + room)
    (self.from, self.to) = (from, to)
    let rough = (high - low) / 5
    let power = pow(10, floor(log10(rough)))
    let step = ([1, 2, 5, 10].first { $0 * power >= rough } ?? 10) * power
    self.step = step
    let (first, last) = (Int((low / step).rounded(.up)), Int((high / step).rounded(.down)))
    ticks = first <= last ? (first...last).map { Double($0) * step } : []
  }

  func position(_ value: Double) -> Double { from + (value - low) / (high - low) * (to - from) }

  /// With the digits that tell the ticks apart.
  func text(_ value: Double) -> String {
    String(format: "%.\(max(0, min(6, Int((-log10(step)).rounded(.up)))))f", value)
  }
}
