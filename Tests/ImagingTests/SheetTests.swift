import Foundation
import Imaging
import TestSupport
import Testing

/// With `NETI_SHEETS` set to a folder, the sheets and plots of these tests are written there, to be looked at.
private func keep(_ image: Image, _ name: String) throws {
  guard let folder = ProcessInfo.processInfo.environment["NETI_SHEETS"] else { return }
  try Data(image.png()).write(to: URL(filePath: folder).appending(path: name))
}

@Suite struct SheetTests {
  private func example(_ i: Int) throws -> Image {
    try Image.load(Fixtures.examples.appending(path: "ginger/\(i).jpg")).resized(width: 64, height: 64)
  }

  private func sheet() throws -> Sheet {
    let training = try (1...4).map(example)
    return Sheet(
      title: "ginger", subtitle: "mini-sd, 300 steps, guidance 3, DPM-Solver++ 25 steps",
      sections: [
        Sheet.Section(heading: "training images", rows: [Sheet.Row(images: training)]),
        Sheet.Section(
          heading: "what was learned", columns: ["seed 0", "seed 1", "seed 2", "seed 3"],
          rows: [
            Sheet.Row(label: "a photo of {} on a beach", images: training),
            Sheet.Row(
              label: String(repeating: "a watercolor painting of {} with a very long label ", count: 8),
              images: [training[1], nil, training[0]]),
          ]),
      ])
  }

  @Test func aSheetShowsEveryImageInItsCell() throws {
    var sheet = try sheet()
    sheet.enlargement = .pixels
    let page = try sheet.draw()
    try keep(page, "sheet-pixels.png")
    // Some row of the page holds the first image's first row, each pixel three times.
    let first = try example(1).enlarged(3)
    let wanted = Array(first.pixels[..<(64 * 9)])
    let found = (0..<page.height).contains { y in
      let row = page.pixels[(y * page.width * 3)..<((y + 1) * page.width * 3)]
      return (0..<page.width - 192).contains { x in
        row[(row.startIndex + 3 * x)...].prefix(wanted.count).elementsEqual(wanted)
      }
    }
    #expect(found)
  }

  @Test func aSheetHasMarginsAndIsTheSameEachTime() throws {
    let page = try sheet().draw()
    try keep(page, "sheet.png")
    let paper = try #require(page[0, 0])
    for x in 0..<page.width {
      for y in [0, 20, page.height - 20, page.height - 1] { #expect(page[x, y] == paper) }
    }
    #expect(try sheet().draw() == page)
  }

  @Test func everyCharacterCanBeDrawn() throws {
    let ascii = String(String.UnicodeScalarView((32...126).compactMap { Unicode.Scalar($0) }))
    let dot = try noise(32, 32)
    var sheet = Sheet(
      title: "ABCDEFGHIJKLMNOPQRSTUVWXYZ abcdefghijklmnopqrstuvwxyz", subtitle: ascii + " кот 🐈 “quoted”",
      sections: [Sheet.Section(rows: [Sheet.Row(label: ascii, images: Array(repeating: dot, count: 8))])])
    try keep(sheet.draw(), "font.png")
    let before = try sheet.draw()
    sheet.subtitle = ascii + " кит"
    #expect(try sheet.draw() != before)
  }

  @Test(arguments: [8, 64, 160]) func noTextCoversAImageOrReachesTheMargin(cell: Int) throws {
    // Marks that pile up above and below a letter, for one.
    for text in [
      "ginger", String(repeating: "a\u{301}\u{323}\u{301}\u{323}\u{301}\u{323}", count: 2000),
      String(repeating: "صورة قطة ", count: 400), String(repeating: "猫", count: 3000),
    ] {
      let blue = try Image(width: cell, height: cell, colour: Colour(0, 0, 250))
      var sheet = Sheet(
        title: text, subtitle: text,
        sections: (0..<2).map { _ in
          Sheet.Section(
            heading: text, columns: [text, text, text],
            rows: (0..<2).map { _ in Sheet.Row(label: text, images: [blue, blue, blue]) })
        })
      sheet.cell = cell
      let page = try sheet.draw()
      try keep(page, "texts-\(cell).png")
      var count = 0
      var marginIsFree = true
      for y in 0..<page.height {
        for x in 0..<page.width {
          count += page[x, y] == Colour(0, 0, 250) ? 1 : 0
          // Letters may reach 3 pixels out of their line.
          let isMargin = min(x, page.width - 1 - x) < 25 || min(y, page.height - 1 - y) < 28
          marginIsFree = marginIsFree && (!isMargin || page[x, y] == page[0, 0])
        }
      }
      #expect(count == 12 * cell * cell)
      #expect(marginIsFree)
    }
  }

  @Test func aSheetWithoutImagesOrOfImpossibleSizeIsAnError() throws {
    #expect(message { _ = try Sheet(title: "x", sections: []).draw() } != nil)
    var sheet = try sheet()
    sheet.cell = 1_000_000
    #expect(message { _ = try sheet.draw() } != nil)
    sheet.cell = 4096
    #expect(message { _ = try sheet.draw() }?.contains("megapixels") == true)
  }
}

@Suite struct PlotTests {
  @Test func lossCurvesAreDrawn() throws {
    var random = SplitMix64(seed: 3)
    let noisy = (0..<300).map {
      0.2 + 0.6 * exp(-Double($0) / 60) + Double.random(in: -0.1...0.1, using: &random)
    }
    let smooth = (0..<300).map { 0.2 + 0.6 * exp(-Double($0) / 60) }
    let plot = Plot(
      title: "loss", xLabel: "step", yLabel: "mean squared error",
      series: [
        .init("each step", y: noisy, colour: Colour(170, 190, 215)), .init("average", y: smooth),
        .init("with a gap", x: [0, 100, 150, 200, 290], y: [0.5, 0.6, .nan, 0.7, .infinity]),
      ])
    let page = try plot.draw()
    try keep(page, "plot.png")
    #expect(try plot.draw() == page)
    // The second series is there in its colour.
    #expect(
      (0..<page.width).contains { x in (0..<page.height).contains { page[x, $0] == Colour(213, 94, 0) } })
  }

  @Test func barsStandOnZero() throws {
    var plot = Plot(
      title: "importance by layer", yLabel: "change of the image",
      series: [
        .init("geometry", y: [1, 2, -1, 4, 0.5], style: .bars),
        .init("appearance", y: [2, 1, 1, 3, 2], style: .bars),
      ])
    plot.categories = ["IN01", "IN02", "MID", "OUT03", "OUT04"]
    let page = try plot.draw()
    try keep(page, "bars.png")
    #expect(
      (0..<page.width).contains { x in (0..<page.height).contains { page[x, $0] == Colour(31, 98, 165) } })
  }

  @Test func labelsStandBesideTheirAxes() throws {
    func ink(_ page: Image, _ x: Range<Int>, _ y: Range<Int>) -> Int {
      x.reduce(0) { n, x in n + y.count { page[x, $0] != page[0, 0] } }
    }
    var plot = Plot(title: "", series: [.init("", y: [1, 2, 3])])
    let bare = try plot.draw()
    plot.yLabel = "mean squared error, a label that has far more words than there is room for beside the axis"
    plot.xLabel = "шаг обучения"
    let page = try plot.draw()
    try keep(page, "labels.png")
    // The left edge and the lower edge were free but for numbers; the new ones are in the middle.
    let middle = 150..<250
    #expect(ink(page, 20..<36, middle) > 100)
    #expect(ink(page, 0..<17, 0..<440) == 0)
    #expect(ink(bare, 300..<500, 428..<440) == 0)
    #expect(ink(page, 300..<500, 400..<424) > 100)
    #expect(ink(page, 0..<760, 428..<440) == 0)
  }

  @Test func aLineIsBrokenAtAGapAndALongOneIsDrawnInTime() throws {
    var gap = Plot(title: "", series: [.init("", y: [1, 1, .nan, 1, 1])])
    gap.yRange = 0...2
    let page = try gap.draw()
    let isLine = (0..<page.width).map { x in
      (0..<page.height).contains { page[x, $0] == Colour(31, 98, 165) }
    }
    let first = try #require(isLine.firstIndex(of: true))
    let last = try #require(isLine.lastIndex(of: true))
    let width = last - first
    for (part, isDrawn) in [(0.1, true), (0.2, true), (0.3, false), (0.5, false), (0.7, false), (0.9, true)] {
      #expect(isLine[first + Int(Double(width) * part)] == isDrawn)
    }
    var random = SplitMix64(seed: 4)
    let long = (0..<50_000).map { _ in Double.random(in: 0...1, using: &random) }
    let time = try ContinuousClock().measure {
      _ = try Plot(title: "", series: [.init("", y: long)]).draw()
    }
    #expect(time < .seconds(10))
  }

  @Test func oddNumbersDoNoHarm() throws {
    for values in [[], [1], [3, 3, 3], [.nan], [1e-300, 2e-300], [-1e200, 1e200], [0, .infinity]]
      as [[Double]]
    {
      for style in [Plot.Series.Style.line, .bars] {
        _ = try Plot(title: "odd", series: [.init("", y: values, style: style)]).draw()
      }
    }
    #expect(message { _ = try Plot(title: "x", series: [.init("", y: [-1e308, 1e308])]).draw() } != nil)
    var plot = Plot(title: "small", series: [])
    plot.width = 10
    #expect(message { _ = try plot.draw() } != nil)
  }
}
