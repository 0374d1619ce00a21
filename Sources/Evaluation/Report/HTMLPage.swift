import Foundation
import Imaging

/// The frame of a page that needs nothing beside itself: no script, no other file, light and dark.
enum HTMLPage {
  /// Colours of series.
  static let colours = 8

  static func page(title: String, body: String) -> String {
    """
    <!DOCTYPE html>
    <html lang="en">
    <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
    <title>\(title.html)</title>
    <style>
    \(style)</style>
    </head>
    <body>
    <h1>\(title.html)</h1>
    \(body)</body>
    </html>

    """
  }

  private static let light = [
    "#0067a8", "#c04d00", "#00805c", "#b0437f", "#7a6200", "#2f86c5", "#7b4fb5", "#5d6670",
  ]
  private static let dark = [
    "#5ab4ee", "#ff9c57", "#38d0a1", "#f29ac6", "#e0c34c", "#9fd2ff", "#c2a3f0", "#b4bdc7",
  ]

  private static var style: String {
    func variables(_ colours: [String]) -> String {
      colours.enumerated().map { "--c\($0.offset): \($0.element);" }.joined(separator: " ")
    }
    let classes = (0..<colours).map { ".c\($0) { --own: var(--c\($0)); }" }.joined(separator: "\n")
    return """
      :root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --quiet: #59636e; --rule: #dfe3e8;
        \(variables(light)) }
      @media (prefers-color-scheme: dark) { :root { --paper: #12161b; --ink: #e8ecf1; --quiet: #9aa5b1;
        --rule: #2c333b; \(variables(dark)) } }
      body { background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 2em auto;
        max-width: 1000px; padding: 0 1em; }
      h1 { font-size: 1.5em; } h2 { font-size: 1.15em; margin-top: 2em; }
      p { max-width: 75ch; } .quiet, figcaption { color: var(--quiet); font-size: 13px; }
      .scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: 14px; }
      th, td { border-bottom: 1px solid var(--rule); padding: 4px 10px; text-align: right; vertical-align: middle; }
      th:first-child, td:first-child { text-align: left; } th { font-weight: 600; }
      td img { display: block; height: 112px; width: auto; } .sheet td { border: 0; padding: 2px; }
      .sheet td:first-child { max-width: 180px; padding-right: 10px; }
      .row img { height: 80px; width: auto; margin: 0 4px 4px 0; }
      .plots { display: flex; flex-wrap: wrap; gap: 16px; } figure { margin: 0; width: 470px; max-width: 100%; }
      figcaption span { margin-right: 14px; white-space: nowrap; }
      figcaption svg { display: inline-block; width: 22px; height: 10px; margin-right: 5px; }
      figure > svg { display: block; width: 100%; } text { fill: var(--ink); font: 12px system-ui, sans-serif; }
      .plot-title { font-weight: 600; font-size: 13px; } .tick, .axis { fill: var(--quiet); } .tick { font-size: 11px; }
      .rule { stroke: var(--rule); stroke-width: 1; }
      g line, g polyline, figcaption line { stroke: var(--own); stroke-width: 1.6; fill: none; }
      g circle { fill: var(--own); } g .label { fill: var(--own); }
      \(classes)

      """
  }

  /// Rows under a head; cells are HTML.
  static func table(_ head: [String], _ rows: [[String]], kind: String = "") -> String {
    func row(_ cells: [String], _ tag: String) -> String {
      "<tr>\(cells.map { "<\(tag)>\($0)</\(tag)>" }.joined())</tr>\n"
    }
    let start = kind.isEmpty ? "<table>" : "<table class=\"\(kind)\">"
    return
      "<div class=\"scroll\">\(start)\n\(row(head, "th"))\(rows.map { row($0, "td") }.joined())</table></div>\n"
  }

  /// An image in the page itself, no larger than `side` pixels.
  static func image(_ image: Image, side: Int, alternative: String) throws -> String {
    let size = image.size(fitting: min(side, max(image.width, image.height)))
    let shown = try image.resized(width: size.width, height: size.height)
    let data = Data(try shown.png()).base64EncodedString()
    return "<img alt=\"\(alternative.html)\" src=\"data:image/png;base64,\(data)\">"
  }
}

extension String {
  /// As text of a page, whatever is in it.
  package var html: String {
    var out = ""
    for scalar in unicodeScalars {
      switch scalar {
      case "&": out += "&amp;"
      case "<": out += "&lt;"
      case ">": out += "&gt;"
      case "\"": out += "&quot;"
      case "'": out += "&#39;"
      default:
        if scalar.properties.generalCategory == .control || scalar.properties.isBidiControl {
          out += "\u{FFFD}"
        } else {
          out.unicodeScalars.append(scalar)
        }
      }
    }
    return out
  }
}
