import Foundation
import Imaging
import TestSupport
import Testing

/// With `NETI_SHEETS` set to a folder, the sheets and charts of these tests are written there, to be looked at.
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
    let page = try sheet().draw()
    // Some row of the page holds the first image's first row, enlarged to three times its size.
    let first = try example(1).resized(width: 192, height: 192)
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

  @Test(arguments: [(8, 96), (64, 192), (160, 160)])
  func noTextCoversAnImageOrReachesTheMargin(side: Int, cell: Int) throws {
    // Marks that pile up above and below a letter, for one.
    for text in [
      "ginger", String(repeating: "a\u{301}\u{323}\u{301}\u{323}\u{301}\u{323}", count: 2000),
      String(repeating: "صورة قطة ", count: 400), String(repeating: "猫", count: 3000),
    ] {
      let blue = try Image(width: side, height: side, colour: Colour(0, 0, 250))
      let sheet = Sheet(
        title: text, subtitle: text,
        sections: (0..<2).map { _ in
          Sheet.Section(
            heading: text, columns: [text, text, text],
            rows: (0..<2).map { _ in Sheet.Row(label: text, images: [blue, blue, blue]) })
        })
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

  @Test("Wide images take no more height than they need")
  func wideImages() throws {
    func height(_ imageHeight: Int) throws -> Int {
      let image = try noise(192, imageHeight)
      let section = Sheet.Section(rows: [Sheet.Row(images: [image, image])])
      return try Sheet(title: "x", sections: [section]).draw().height
    }
    #expect(try height(192) - height(96) == 96)
  }

  @Test func aSheetWithoutImagesOrOfImpossibleSizeIsAnError() throws {
    #expect(message { _ = try Sheet(title: "x", sections: []).draw() } != nil)
    let row = try Sheet.Row(images: Array(repeating: example(1), count: 100))
    let large = Sheet(title: "x", sections: [Sheet.Section(rows: Array(repeating: row, count: 100))])
    #expect(message { _ = try large.draw() }?.contains("megapixels") == true)
  }
}

@Suite struct BarChartTests {
  private static let blue = Colour(31, 98, 165)

  @Test func barsStandOnZero() throws {
    let chart = BarChart(title: "importance", yLabel: "norm", values: [1, 2, -1, 4, .nan])
    let page = try chart.draw()
    try keep(page, "bars.png")
    #expect(try chart.draw() == page)
    // The rows of each bar, by the runs of columns that have any.
    let rows = (0..<page.width).map { x in (0..<page.height).filter { page[x, $0] == Self.blue } }
    let bars = rows.split(whereSeparator: \.isEmpty).map { $0[$0.startIndex] }
    try #require(bars.count == 4)
    let zero = bars[0].last.map { $0 + 1 }
    #expect(
      bars[1].last.map { $0 + 1 } == zero && bars[2].first == zero && bars[3].last.map { $0 + 1 } == zero)
    for (bar, value) in zip(bars, [1, 2, 1, 4]) { #expect(abs(bar.count - value * bars[0].count) <= 2) }
  }

  @Test func labelsStandBesideTheirAxes() throws {
    func ink(_ page: Image, _ x: Range<Int>, _ y: Range<Int>) -> Int {
      x.reduce(0) { n, x in n + y.count { page[x, $0] != page[0, 0] } }
    }
    var chart = BarChart(title: "", values: [1, 2, 3])
    let bare = try chart.draw()
    chart.yLabel =
      "mean squared error, a label that has far more words than there is room for beside the axis"
    chart.xLabel = "шаг обучения"
    let page = try chart.draw()
    try keep(page, "labels.png")
    // The left edge and the lower edge were free but for numbers; the new ones are in the middle.
    let middle = 150..<250
    #expect(ink(page, 20..<36, middle) > 100)
    #expect(ink(page, 0..<17, 0..<440) == 0)
    #expect(ink(bare, 300..<500, 428..<440) == 0)
    #expect(ink(page, 300..<500, 400..<424) > 100)
    #expect(ink(page, 0..<760, 428..<440) == 0)
  }

  @Test func oddNumbersDoNoHarm() throws {
    for values in [
      [], [1], [3, 3, 3], [0, 0], [.nan], [1e-300, 2e-300], [-1e200, 1e200], [0, .infinity],
    ]
      as [[Double]]
    {
      _ = try BarChart(title: "odd", values: values).draw()
    }
    #expect(message { _ = try BarChart(title: "x", values: [-1e308, 1e308]).draw() } != nil)
    let many = (0..<50_000).map { Double($0 % 7) }
    let time = try ContinuousClock().measure { _ = try BarChart(title: "many", values: many).draw() }
    #expect(time < .seconds(10))
  }
}
