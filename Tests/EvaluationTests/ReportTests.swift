import Evaluation
import Foundation
import Testing

#if canImport(FoundationXML)
  import FoundationXML
#endif

@Suite struct ReportTests {
  private static let hostile = "<script>alert('&\u{1B}[2J\u{202E}\"')</script>"

  @Test("A plot is well-formed XML, whatever the names in it, and has what was drawn")
  func plot() throws {
    let series = [
      SVGPlot.Series(
        name: Self.hostile,
        points: [
          .init(x: 0.2, y: 0.7, label: Self.hostile, xInterval: 0.1...0.3, yInterval: 0.6...0.8),
          .init(x: 0.25, y: 0.72), .init(x: .nan, y: 1),
        ], colour: 9)
    ]
    for isLogarithmic in [false, true] {
      let svg = SVGPlot(
        title: Self.hostile, xLabel: "x", yLabel: "y", series: series, isLogarithmic: isLogarithmic
      ).svg()
      let parser = XMLParser(data: Data(svg.utf8))
      #expect(parser.parse(), "\(String(describing: parser.parserError))")
      #expect(svg.components(separatedBy: "<circle").count == 3)
      #expect(!svg.contains("<script"))
      #expect(!svg.contains("nan"))
    }
    #expect(SVGPlot(title: "", xLabel: "", yLabel: "", series: []).svg().isEmpty)
  }

  @Test("Ticks are round numbers inside the frame, also for one point")
  func onePoint() throws {
    let svg = SVGPlot(
      title: "t", xLabel: "", yLabel: "",
      series: [.init(name: "a", points: [.init(x: 0.5, y: 0.25)], colour: 0)]
    ).svg()
    #expect(svg.contains(">0.5000<") && svg.contains(">0.2500<"), "\(svg)")
  }

  @Test("CSV has quotes where they are needed")
  func csv() {
    #expect(
      EvaluationReport.csv([["a", "b, c", "d \"e\"", "f\ng"]]) == "a,\"b, c\",\"d \"\"e\"\"\",\"f\ng\"\r\n")
  }

  @Test("Text of a page has no markup and no control characters")
  func html() {
    #expect(
      Self.hostile.html == "&lt;script&gt;alert(&#39;&amp;\u{FFFD}[2J\u{FFFD}&quot;&#39;)&lt;/script&gt;")
  }
}
