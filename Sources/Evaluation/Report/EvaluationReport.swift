import Files
public import Foundation
import Imaging
import NeTI

/// What an evaluation found, as files: `report.html`, `summary.csv` and `images.csv`.
public struct EvaluationReport {
  public static let pageName = "report.html"
  private static let (summaryName, imagesName) = ("summary.csv", "images.csv")
  static let fileNames = [pageName, summaryName, imagesName]
  /// Sides of images on the page, in pixels.
  private static let generatedSide = 192
  private static let referenceSide = 128

  private let evaluation: Evaluation
  public let summary: EvaluationSummary

  /// Of what was measured until now, by whichever process.
  public init(_ evaluation: Evaluation) throws {
    self.evaluation = evaluation
    summary = try EvaluationSummary(evaluation)
  }

  /// Writes all three into the folder of the evaluation.
  ///
  /// - Returns: the page.
  @discardableResult
  public func write() throws -> URL {
    let page = evaluation.output.appending(path: Self.pageName)
    try AtomicFile.write(
      Data(summaryTable().utf8), to: evaluation.output.appending(path: Self.summaryName))
    try AtomicFile.write(Data(imageTable().utf8), to: evaluation.output.appending(path: Self.imagesName))
    try AtomicFile.write(
      Data(HTMLPage.page(title: "Evaluation on \(evaluation.settings.base)", body: body()).utf8), to: page)
    return page
  }

  private func body() throws -> String {
    try protocolText() + planes() + methodTable() + differenceTable() + truncations() + steps()
      + conceptTable()
      + sheets()
  }

  // MARK: Words and tables

  private func protocolText() -> String {
    let s = summary
    var out = "<p><strong>\(EvaluationProtocol.caution.html)</strong></p>\n"
    if s.imagesDone < s.imagesWanted {
      out += "<p><strong>Not finished: \(s.imagesDone) of \(s.imagesWanted) images.</strong></p>\n"
    }
    out += EvaluationProtocol.explanation.map { "<p>\($0.html)</p>\n" }.joined()
    let facts =
      [
        ("protocol", "neti evaluation \(EvaluationProtocol.version)"), ("concepts", "\(s.tokens.count)"),
        ("prompts", "\(evaluation.prompts.count)"), ("seeds", "\(evaluation.seeds.count)"),
        ("images", "\(s.imagesDone)"),
      ] + evaluation.settings.facts.map { ($0.name, $0.value) }
    return out
      + "<p class=\"quiet\">\(facts.map { "\($0.0): \($0.1)".html }.joined(separator: " · "))</p>\n"
  }

  private func methodTable() throws -> String {
    let rows = try summary.methods.map { method in
      [method.html] + (try Metric.allCases.map { Self.cell(try summary.estimate($0, method)) })
        + [Self.percent(try summary.heldOutLoss(method))]
    }
    var out =
      "<h2>Methods</h2>\n<p class=\"quiet\">Means over concepts with 95 % bootstrap intervals over concepts."
    out += " The loss is that of denoising held-out images, against the category's word.</p>\n"
    out += HTMLPage.table(
      ["method"] + Metric.allCases.map(\.title.html) + ["held-out loss"], rows)
    if let ceiling = try summary.ceiling() {
      out +=
        "<p class=\"quiet\">Real images of one concept, held out and trained on, have the image similarity \(Self.cell(ceiling)): as much as can be hoped for.</p>\n"
    }
    if summary.tokens.count < 5 {
      out +=
        "<p class=\"quiet\">With \(summary.tokens.count) concept\(summary.tokens.count == 1 ? " there is no interval" : "s the intervals are rough; take five or more").</p>\n"
    }
    return out
  }

  private func differenceTable() throws -> String {
    let differences = try summary.differences()
    guard !differences.isEmpty else { return "" }
    let rows = differences.map { d in
      ["\(d.method.html) − \(d.other.html)"]
        + Metric.allCases.map { metric in
          guard let e = d.estimates[metric] else { return "–" }
          return
            "\(Self.signed(e))\(e.interval == nil ? "" : e.isBeyondNoise ? "" : "<br><span class=\"quiet\">within noise</span>")"
        }
    }
    return
      "<h2>Differences</h2>\n<p class=\"quiet\">Paired: images of one prompt and seed, then over concepts.</p>\n"
      + HTMLPage.table(["difference"] + Metric.allCases.map(\.title.html), rows)
  }

  private func conceptTable() -> String {
    let rows = summary.groups.map { g in
      [
        g.token.html, g.method.html, "\(g.steps)", g.truncation.map(String.init) ?? "all",
        "\(summary.count(g))",
      ] + Metric.allCases.map { Self.number(summary.mean($0, g)) }
        + [summary.relativeLoss(g).map { String(format: "%+.1f %%", 100 * $0) } ?? "–"]
    }
    return "<h2>Concepts</h2>\n"
      + HTMLPage.table(
        ["concept", "method", "steps", "kept units", "images"] + Metric.allCases.map(\.title.html)
          + ["held-out loss"],
        rows)
  }

  // MARK: Plots

  /// Image similarities that there are references for.
  private var imageMetrics: [Metric] {
    [.heldOut, .trained].filter { metric in summary.groups.contains { summary.mean(metric, $0) != nil } }
  }

  private func planes() throws -> String {
    let plots = try imageMetrics.map { metric in
      let series = try summary.methods.enumerated().compactMap { i, method -> SVGPlot.Series? in
        guard let x = try summary.estimate(.category, method), let y = try summary.estimate(metric, method)
        else {
          return nil
        }
        let point = SVGPlot.Point(
          x: x.mean, y: y.mean, label: method, xInterval: x.interval, yInterval: y.interval)
        return .init(name: method, points: [point], colour: i)
      }
      return SVGPlot(
        title: metric == .heldOut ? "Held-out images" : "Images that were trained on",
        xLabel: "text similarity (category's word)", yLabel: "image similarity", series: series,
        hasLegend: false
      ).svg()
    }
    return "<h2>Text against image similarity</h2>\n<div class=\"plots\">\n\(plots.joined())</div>\n"
  }

  /// A curve for each concept and method that has several truncations.
  private func truncations() -> String {
    let lines = curves {
      $0.truncation != nil
    } along: { group in
      summary.groups.filter { ($0.token, $0.method, $0.steps) == (group.token, group.method, group.steps) }
    }
    guard !lines.isEmpty else { return "" }
    let plots = imageMetrics.map { metric in
      SVGPlot(
        title: metric == .heldOut ? "Held-out images" : "Images that were trained on",
        xLabel: "text similarity (category's word)", yLabel: "image similarity",
        series: lines.map { curve in
          .init(
            name: curve.name,
            points: curve.groups.compactMap { g in
              guard let x = summary.mean(.category, g), let y = summary.mean(metric, g) else { return nil }
              return .init(x: x, y: y, label: g.truncation.map(String.init) ?? "all")
            }, colour: curve.colour)
        }
      ).svg()
    }
    return
      "<h2>Truncation</h2>\n<p class=\"quiet\">Each curve is one concept; the numbers are hidden units that are kept.</p>\n"
      + "<div class=\"plots\">\n\(plots.joined())</div>\n"
  }

  /// Curves over training steps, where a method has several checkpoints of a concept.
  private func steps() -> String {
    let lines = curves { g in
      g.truncation == nil
        && summary.groups.contains { ($0.token, $0.method) == (g.token, g.method) && $0.steps != g.steps }
    } along: { group in
      summary.groups.filter {
        ($0.token, $0.method) == (group.token, group.method) && $0.truncation == nil
      }
    }
    guard !lines.isEmpty else { return "" }
    func plot(_ title: String, _ yLabel: String, _ value: (EvaluationSummary.Group) -> Double?) -> String {
      SVGPlot(
        title: title, xLabel: "training steps", yLabel: yLabel,
        series: lines.map { curve in
          .init(
            name: curve.name,
            points: curve.groups.compactMap { g in value(g).map { .init(x: Double(g.steps), y: $0) } },
            colour: curve.colour)
        }, isLogarithmic: true
      ).svg()
    }
    let plots =
      imageMetrics.map { m in plot(m.title, "similarity") { summary.mean(m, $0) } }
      + [
        plot(Metric.category.title, "similarity") { summary.mean(.category, $0) },
        plot("held-out loss", "against the word, %") { summary.relativeLoss($0).map { 100 * $0 } },
      ]
    return "<h2>Training steps</h2>\n<div class=\"plots\">\n\(plots.joined())</div>\n"
  }

  /// Groups that are joined by a line.
  private struct Curve {
    let name: String
    let groups: [EvaluationSummary.Group]
    let colour: Int
  }

  private func curves(
    where isStart: (EvaluationSummary.Group) -> Bool,
    along: (EvaluationSummary.Group) -> [EvaluationSummary.Group]
  ) -> [Curve] {
    var found: [[EvaluationSummary.Group]] = []
    for group in summary.groups where isStart(group) {
      let groups = along(group)
      if groups.count > 1, !found.contains(groups) { found.append(groups) }
    }
    return found.enumerated().map { i, groups in
      Curve(
        name: "\(groups[0].token) \(groups[0].method)"
          + (Set(groups.map(\.steps)).count > 1 || found.allSatisfy { $0[0].steps == groups[0].steps }
            ? "" : ", \(groups[0].steps) steps"),
        groups: groups, colour: i)
    }
  }

  // MARK: Sheets

  /// The images of the first seed, a table for each concept.
  private func sheets() throws -> String {
    try "<h2>Images</h2>\n<p class=\"quiet\">Of the seed \(evaluation.seeds.first ?? 0).</p>\n"
      + summary.tokens.map { try sheet($0) }.joined()
  }

  private func sheet(_ token: String) throws -> String {
    let subjects = evaluation.subjects.filter { $0.token == token }
    guard let references = subjects.first?.references else { return "" }
    var out = "<h3>\(token.html)</h3>\n"
    for (title, files) in [("trained on", references.trained), ("held out", references.heldOut)]
    where !files.isEmpty {
      let shown = try files.prefix(6).map {
        try HTMLPage.image(Image.load($0), side: Self.referenceSide, alternative: title)
      }
      out += "<p class=\"row\"><span class=\"quiet\">\(title)</span><br>\(shown.joined())</p>\n"
    }
    let columns = try subjects.flatMap { subject in
      let images = try evaluation.contents(of: subject).images
      return evaluation.truncations(of: subject).map { (subject, $0, images) }
    }
    let rows = try evaluation.prompts.map { prompt in
      [prompt.html]
        + (try columns.map { subject, k, images in
          try generated(
            subject, images[.init(prompt: prompt, seed: evaluation.seeds.first ?? 0, truncation: k)])
        })
    }
    let heads = columns.map { subject, k, _ in
      let steps = subjects.contains { $0.method == subject.method && $0.steps != subject.steps }
      return ([subject.method] + (steps ? ["\(subject.steps) steps"] : []) + (k.map { ["keep \($0)"] } ?? []))
        .joined(separator: ", ").html
    }
    return out + HTMLPage.table([""] + heads, rows, kind: "sheet")
  }

  /// An image that was written, or nothing where it is gone.
  private func generated(_ subject: EvaluationSubject, _ score: ImageScore?) throws -> String {
    guard let score else { return "" }
    let url = evaluation.folder(of: subject).appending(path: score.file)
    guard let image = try? Image.load(url) else { return "" }
    return try HTMLPage.image(image, side: Self.generatedSide, alternative: score.key.prompt)
  }

  // MARK: Numbers

  static func number(_ value: Double?) -> String { value.map { String(format: "%.3f", $0) } ?? "–" }

  /// 0.712 (0.690 to 0.731)
  static func cell(_ e: Estimate?) -> String {
    guard let e else { return "–" }
    return number(e.mean)
      + (e.interval.map { String(format: " (%.3f to %.3f)", $0.lowerBound, $0.upperBound) } ?? "")
  }

  static func signed(_ e: Estimate) -> String {
    String(format: "%+.3f", e.mean)
      + (e.interval.map { String(format: " (%+.3f to %+.3f)", $0.lowerBound, $0.upperBound) } ?? "")
  }

  static func percent(_ e: Estimate?) -> String {
    guard let e else { return "–" }
    return String(format: "%+.1f %%", 100 * e.mean)
      + (e.interval.map {
        String(format: " (%+.1f to %+.1f)", 100 * $0.lowerBound, 100 * $0.upperBound)
      } ?? "")
  }
}

// MARK: - CSV

extension EvaluationReport {
  private var shared: [String] {
    [evaluation.settings.name, evaluation.settings.clipIdentity, evaluation.settings.base]
  }

  private func imageTable() throws -> String {
    var rows = [
      [
        "protocol", "clip_hash", "base", "concept", "category", "method", "steps", "truncation", "prompt",
        "seed",
      ]
        + Metric.allCases.map(\.rawValue) + ["file"]
    ]
    for subject in evaluation.subjects {
      let images = try evaluation.contents(of: subject).images
      for key in evaluation.keys(of: subject) {
        guard let score = images[key] else { continue }
        rows.append(
          shared + [subject.token, subject.category, subject.method, "\(subject.steps)"]
            + [key.truncation.map(String.init) ?? "", key.prompt, "\(key.seed)"]
            + Metric.allCases.map { Self.exact($0.value(score)) }
            + ["concepts/\(subject.folderName)/\(score.file)"])
      }
    }
    return Self.csv(rows)
  }

  private func summaryTable() -> String {
    let head =
      ["protocol", "clip_hash", "base", "concept", "method", "steps", "truncation", "images"]
      + Metric.allCases.map(\.rawValue) + ["held_out_loss_change"]
    let rows = summary.groups.map { g in
      shared + [g.token, g.method, "\(g.steps)", g.truncation.map(String.init) ?? "", "\(summary.count(g))"]
        + Metric.allCases.map { Self.exact(summary.mean($0, g)) } + [Self.exact(summary.relativeLoss(g))]
    }
    return Self.csv([head] + rows)
  }

  private static func exact(_ value: Double?) -> String { value.map { String(format: "%.6f", $0) } ?? "" }

  /// RFC 4180.
  package static func csv(_ rows: [[String]]) -> String {
    func field(_ text: String) -> String {
      let isPlain = !text.contains { "\",".contains($0) || $0.isNewline }
      return isPlain ? text : "\"" + text.replacing("\"", with: "\"\"") + "\""
    }
    return rows.map { $0.map(field).joined(separator: ",") + "\r\n" }.joined()
  }
}
